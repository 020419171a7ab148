"""The path to cuDNN against a stub of it, built here: what it is told, how often, and what its refusals mean."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from torch import nn

from perf_assets.measuring.networks.inputs import as_inputs
from perf_assets.measuring.profiling import algorithms, cudnn, kernels, timers, torch_device
from perf_assets.measuring.profiling.algorithms import ForcedConv2d, force
from perf_assets.measuring.profiling.protocol import Block, Settings, judge

COMPILER = shutil.which("cc") or shutil.which("gcc")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    if COMPILER is None:
        pytest.skip("no C compiler here")
    library = tmp_path_factory.mktemp("stub") / "libcudnn.so"
    source = Path(__file__).parent / "cudnn_stub.c"
    subprocess.run([COMPILER, "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    loaded = ctypes.CDLL(str(library))
    loaded.cudnnGetErrorString.restype = ctypes.c_char_p
    return loaded


@pytest.fixture
def stub(built, monkeypatch):
    monkeypatch.setattr(cudnn, "library", lambda: built)
    cudnn.plan_of.cache_clear()
    cudnn._handle.cache_clear()
    yield built
    cudnn.plan_of.cache_clear()
    cudnn._handle.cache_clear()


def plan(algorithm="gemm", dtype=torch.float32, kernel=3, tf32=True, groups=1):
    return cudnn.plan_of(
        *(
            0,
            dtype,
            (2, 4, 8, 8),
            (6, 4 // groups, kernel, kernel),
            (2, 2),
            (1, 1),
            (1, 1),
            groups,
            algorithm,
        ),
        tf32=tf32,
    )


def test_what_is_known_of_a_layer_is_asked_once(stub):
    images, weight = torch.randn(2, 4, 8, 8), torch.randn(6, 4, 3, 3)
    before = (stub.stub_planned(), stub.stub_created(), stub.stub_forwarded())
    for _ in range(5):
        assert plan().run(images, weight, 0).shape == (2, 6, 4, 4)
    after = (stub.stub_planned(), stub.stub_created(), stub.stub_forwarded())
    assert tuple(b - a for a, b in zip(before, after, strict=True)) == (1, 4, 5)
    plan(groups=2)
    assert stub.stub_planned() == after[0] + 1


@pytest.mark.parametrize(
    ("dtype", "tf32", "number", "math"),
    [
        (torch.float32, True, 0, 0),
        (torch.float32, False, 0, 3),
        (torch.float16, True, 2, 1),
        (torch.bfloat16, False, 9, 1),
    ],
)
def test_types_and_tensor_cores(stub, dtype, tf32, number, math):
    plan(dtype=dtype, tf32=tf32).run(
        torch.zeros(2, 4, 8, 8, dtype=dtype), torch.zeros(6, 4, 3, 3, dtype=dtype), 0
    )
    assert (stub.stub_last_type(), stub.stub_last_math()) == (number, math)


@pytest.mark.parametrize(
    "refused", [{"algorithm": "winograd", "kernel": 1}, {"algorithm": "fft", "dtype": torch.bfloat16}]
)
def test_a_refusal_is_unsupported_and_leaves_nothing_behind(stub, refused):
    before = stub.stub_created()
    with pytest.raises(cudnn.CudnnError, match="CUDNN_STATUS_NOT_SUPPORTED") as caught:
        plan(**refused)
    assert caught.value.unsupported
    assert stub.stub_created() == before


def test_cudnn_decides_what_it_supports(monkeypatch):
    """The limits of the processor's implementations are not cuDNN's: FFT tiling with stride 2 is asked for."""
    asked = []

    def compute(images, weight, bias, **sizes):
        asked.append(sizes["stride"])
        return torch.nn.functional.conv2d(images, weight, bias, **sizes)

    monkeypatch.setattr(algorithms, "_implementation", lambda *_: (compute, "cudnn"))
    model = nn.Sequential(nn.Conv2d(3, 4, 7, stride=2))
    assert force(model, "fft tiling", torch.randn(2, 3, 32, 32)).layers_forced == 1
    assert asked == [(2, 2)]


def test_the_check_needs_no_memory_of_its_own(monkeypatch):
    """A check that runs out of memory says nothing of the algorithm: it is repeated with one sample."""
    batches = []

    def compute(images, weight, bias, **sizes):
        batches.append(len(images))
        if len(images) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return torch.nn.functional.conv2d(images, weight, bias, **sizes)

    monkeypatch.setattr(algorithms, "_implementation", lambda *_: (compute, "cudnn"))
    forced = force(nn.Sequential(nn.Conv2d(3, 4, 3)), "gemm", torch.randn(8, 3, 16, 16))
    assert (batches, forced.checked_samples, forced.layers_forced) == ([8, 1], 1, 1)


@pytest.mark.parametrize(
    ("algorithm", "names", "substituted"),
    [
        ("gemm", ["void cudnn::cnn::conv2d_grouped_direct_kernel<float>"], True),
        ("gemm", ["im2col4d_kernel", "ampere_sgemm_128x64_nn"], False),
        ("fft tiling", ["implicit_convolve_sgemm"], True),
        ("fft tiling", ["fft2d_r2c_32x32", "flip_filter"], False),
        ("winograd", ["cudnn::winograd::generateWinogradTilesKernel"], False),
        ("implicit precomp gemm", ["ampere_scudnn_winograd_128x128"], True),
        ("direct", ["anything"], False),
    ],
)
def test_kernels_that_contradict_the_name(algorithm, names, substituted):
    line = kernels.judged(algorithm, {"conv1": names, "not seen": []})
    assert (line["quality"] == ["algorithm_substituted"]) == substituted
    assert list(line["substituted"]) == (["conv1"] if substituted else [])


def test_kernels_are_told_by_layer():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1))
    images = torch.randn(1, 3, 8, 8)
    force(model, "gemm", images)

    def names_of(work):
        return [f"kernel of {tuple(work().shape)}"]

    found = kernels.kernels_by_layer(model, as_inputs(images), names_of)
    assert found == {"0": ["kernel of (1, 4, 6, 6)"], "2": ["kernel of (1, 4, 6, 6)"]}
    assert all(isinstance(model[index], ForcedConv2d) for index in (0, 2))


def test_a_queue_that_runs_dry_is_the_hosts_time():
    def verdict(queued_s):
        blocks = [Block(2, 0.02, cpu_s=0.02, queued_s=queued_s)] * 60
        return judge(blocks, steady=True, settings=Settings())[0]

    assert [verdict(queued_s) for queued_s in (None, 0.0001, 0.005)] == ["stable", "host_bound", "stable"]


def test_a_power_limit_alone_is_no_throttling():
    assert not timers.is_throttled(("sw_power_cap",))
    assert timers.is_throttled(("sw_power_cap", "hw_thermal"))


@pytest.mark.parametrize(
    "words",
    [
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling",
        "unable to find an engine to execute",
        "x (4004)",
    ],
)
def test_words_of_running_out_of_memory(words):
    assert torch_device.is_out_of_memory(RuntimeError(words))
    assert not torch_device.is_out_of_memory(ValueError(words))


def test_a_gpu_that_is_not_there_is_one_line(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    with pytest.raises(ValueError, match=r"device cuda:7: the last one here is cuda:1: use one of"):
        torch_device.torch_device("cuda:7")
