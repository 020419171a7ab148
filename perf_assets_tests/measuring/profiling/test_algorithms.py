"""Forced convolutions: right for every shape they accept, honest about those they do not."""

import ctypes
import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from perf_assets.measuring.networks import zoo
from perf_assets.measuring.profiling import algorithms, cudnn, explicit
from perf_assets.measuring.profiling.algorithms import ForcedConv2d, UnsupportedError, WrongOutputError, force
from perf_assets.schema.vocabularies import CUDNN_ALGORITHMS

EVERYWHERE = {**explicit.EXPLICIT, "onednn": explicit.onednn}


@pytest.mark.parametrize("name", EVERYWHERE)
@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 3),
    channels=st.sampled_from([1, 2, 6]),
    kernel=st.sampled_from([(1, 1), (2, 2), (3, 3), (5, 5), (1, 7), (3, 1)]),
    stride=st.integers(1, 3),
    padding=st.one_of(st.integers(0, 4), st.just("same")),
    dilation=st.integers(1, 2),
    grouped=st.booleans(),
    mode=st.sampled_from(["zeros", "reflect"]),
    size=st.integers(12, 40),
    bias=st.booleans(),
)
def test_same_result_as_the_framework(
    name, batch, channels, kernel, stride, padding, dilation, grouped, mode, size, bias
):
    if padding == "same":
        stride = 1
    torch.manual_seed(0)
    conv = nn.Conv2d(
        channels, 2 * channels, kernel, stride, padding, dilation, channels if grouped else 1, bias, mode
    )
    if algorithms._why_not(name, conv) is not None:
        return
    images = torch.randn(batch, channels, size, size + 3)
    expected = conv(images)
    found = ForcedConv2d(conv, EVERYWHERE[name])(images)
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, atol=1e-5 * float(expected.detach().abs().max()))


@pytest.mark.parametrize("name", EVERYWHERE)
def test_gradients_flow(name):
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3, padding=1)
    images = torch.randn(2, 3, 12, 12)
    gradients = []
    for module in (conv, ForcedConv2d(conv, EVERYWHERE[name])):
        conv.zero_grad()
        module(images).square().sum().backward()
        gradients.append(conv.weight.grad.clone())
    assert torch.allclose(*gradients, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", EVERYWHERE)
def test_every_layer_of_a_network_is_forced_and_checked(name):
    network, layers, channels = ("vgg16", 13, 3) if name == "winograd" else ("lenet5", 2, 1)
    model = zoo.build(network)
    images = torch.randn(1, channels, 32, 32)
    before = model(images)
    forced = force(model, name, images)
    assert (forced.layers, forced.layers_forced, forced.incompatible) == (layers, layers, {})
    assert 0 <= forced.largest_error <= forced.tolerance == 1e-4
    # No convolution is computed by the framework any more.
    assert sum(isinstance(m, ForcedConv2d) for m in model.modules()) == layers
    assert torch.allclose(model(images), before, atol=1e-3 * float(before.detach().abs().max()))


def test_incompatible_layers_are_named_with_the_reason():
    images = torch.randn(1, 3, 32, 32)
    with pytest.raises(
        UnsupportedError, match="7 of 20 layers, first conv1: Winograd is for 3x3 kernels, this one is 7x7"
    ):
        force(zoo.build("resnet18"), "winograd", images)
    model = zoo.build("resnet18")
    forced = force(model, "winograd", images, incompatible="guess")
    assert forced.layers_forced == 13
    assert forced.incompatible["layer2.0.conv1"] == "Winograd needs stride 1, this one has 2"
    assert forced.incompatible["layer2.0.downsample.0"].startswith("Winograd is for 3x3 kernels")
    assert type(model.conv1) is nn.Conv2d


@pytest.mark.parametrize("name", ["implicit gemm", "implicit precomp gemm", "winograd nonfused"])
def test_what_only_cudnn_has_is_not_pretended_on_the_processor(name):
    with pytest.raises(UnsupportedError, match="exists in cuDNN only: on the processor use one of direct"):
        force(zoo.build("lenet5"), name, torch.randn(1, 1, 32, 32))


def test_a_wrong_algorithm_is_caught(monkeypatch):
    def wrong(images, weight, bias, **sizes):
        return explicit.gemm(images, weight, bias, **sizes) * 1.01

    monkeypatch.setitem(explicit.EXPLICIT, "gemm", wrong)
    with pytest.raises(
        WrongOutputError, match=r"layer features\.[03] differs from the framework by \d\.\de-0[23]"
    ):
        force(zoo.build("lenet5"), "gemm", torch.randn(1, 1, 32, 32))


def test_guess_changes_nothing_and_unknown_names_are_refused():
    model = zoo.build("lenet5")
    forced = force(model, "guess", torch.randn(1, 1, 32, 32))
    assert (forced.provider, forced.layers_forced) == ("framework", 2)
    assert not any(isinstance(module, ForcedConv2d) for module in model.modules())
    with pytest.raises(ValueError, match="unknown algorithm 'magic': use one of guess, "):
        force(model, "magic", torch.randn(1, 1, 32, 32))


def test_ai3_is_used_only_where_it_is_installed():
    with pytest.raises(UnsupportedError, match="aithree"):
        force(zoo.build("lenet5"), "direct", torch.randn(1, 1, 32, 32), provider="ai3")


def cudnn_or_skip():
    try:
        return cudnn.library()
    except cudnn.CudnnError as error:
        pytest.skip(str(error))


def test_cudnn_calls_are_there_and_fail_in_words():
    library = cudnn_or_skip()
    assert all(
        hasattr(library, name)
        for name in (
            "cudnnConvolutionForward",
            "cudnnGetConvolutionForwardWorkspaceSize",
            "cudnnSetConvolutionGroupCount",
            "cudnnSetConvolution2dDescriptor",
            "cudnnSetFilter4dDescriptor",
            "cudnnSetConvolutionMathType",
        )
    )
    descriptor = ctypes.c_void_p()
    cudnn._call("cudnnCreateTensorDescriptor", ctypes.byref(descriptor))
    with pytest.raises(cudnn.CudnnError, match="cudnnSetTensor4dDescriptor: CUDNN_STATUS_BAD_PARAM"):
        cudnn._call("cudnnSetTensor4dDescriptor", descriptor, 0, 0, -1, 3, 8, 8)
    cudnn._call("cudnnDestroyTensorDescriptor", descriptor)
    with pytest.raises(ValueError, match="needs float32, float16 or bfloat16 on a GPU"):
        cudnn.convolve(
            torch.zeros(1, 1, 4, 4),
            torch.zeros(1, 1, 3, 3),
            None,
            stride=(1, 1),
            padding=(1, 1),
            dilation=(1, 1),
            groups=1,
            algorithm="gemm",
        )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("name", CUDNN_ALGORITHMS)
def test_cudnn_algorithms_agree_or_say_that_they_cannot(name):
    torch.backends.cudnn.allow_tf32 = False
    conv = nn.Conv2d(16, 32, 3, padding=1).cuda()
    images = torch.randn(4, 16, 28, 28, device="cuda")
    compute = functools.partial(cudnn.convolve, algorithm=name)
    with torch.no_grad():
        expected = conv(images)
        try:
            error, found = None, ForcedConv2d(conv, compute)(images)
        except cudnn.CudnnError as refusal:
            error, found = refusal, expected
    assert error is None or error.unsupported
    assert torch.allclose(found, expected, atol=1e-3)
