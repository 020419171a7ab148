"""Simulated memory of a step against what torch keeps, and the allocator's rules by hand."""

import numpy as np
import pandas as pd
import pytest
import torch

from perf_assets.models import analytic, features, zoo
from perf_assets.models.step_memory import (
    MIB,
    STEADY,
    CachingAllocator,
    Operation,
    Protocol,
    Wiring,
    operations,
    step_memory,
    step_memory_curve,
)
from perf_assets.predictors.terms.memory import memory_terms
from perf_assets_tests.support import SAMPLES, needs_samples


def _arrays(network: str, input_size: int = 64, *, training: bool = True) -> dict[str, np.ndarray]:
    model = zoo.build(network, device="meta")
    return analytic.layer_arrays(features.layer_table(model, input_size, 3, training=training))


def _kept_by_torch_mib(network: str, input_size: int = 64, batch_size: int = 2) -> float:
    """Distinct storages that autograd keeps in one forward pass on the CPU, without parameters and buffers."""
    model = zoo.build(network).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    own = {tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = model(torch.randn(batch_size, 3, input_size, input_size))
    assert result is not None
    return sum(kept.values()) / batch_size / MIB


@pytest.mark.parametrize("network", ["vgg16", "resnet18", "squeezenet1_0", "mnasnet1_0", "densenet121"])
def test_keeps_what_torch_keeps(network: str):
    wiring = operations(_arrays(network))
    tensors = {tensor for operation in wiring.operations for tensor in operation.keeps}
    elements = sum(wiring.elements[tensor] for tensor in tensors)
    elements += sum(operation.extra for operation in wiring.operations)
    assert elements * 4 / MIB == pytest.approx(_kept_by_torch_mib(network), rel=0.03)


@pytest.mark.parametrize("network", ["vgg16", "resnet18", "resnet50", "mnasnet1_0", "googlenet"])
def test_shapes_alone_give_the_same_peak(network: str):
    full = _arrays(network)
    rows = np.isin(full["kind"], ["conv", "batchnorm", "maxpool", "avgpool", "linear"])
    bare = {name: column[rows] for name, column in full.items()}
    params = full["params"].sum()
    assert step_memory(operations(bare), params, 32, "training") == pytest.approx(
        step_memory(operations(full), params, 32, "training"), rel=0.05
    )


def test_branches_are_joined_by_sum_or_concatenation():
    residual = operations(_arrays("resnet18"))
    assert sum(operation.kind == "sum" for operation in residual.operations) == 8
    concatenated = operations(_arrays("squeezenet1_0"))
    joins = [operation for operation in concatenated.operations if operation.kind == "concat"]
    assert [len(join.reads) for join in joins] == [2] * 8


def test_inference_needs_less_than_training():
    arrays = _arrays("resnet18")
    wiring, params = operations(arrays), arrays["params"].sum()
    training, _ = step_memory(wiring, params, 64, "training")
    inference, _ = step_memory(wiring, params, 64, "inference")
    assert params * 4 / MIB < inference < training / 3


def test_curve_grows_with_the_batch_and_meets_the_simulation():
    arrays = _arrays("squeezenet1_0")
    wiring, params = operations(arrays), arrays["params"].sum()
    allocated, reserved = step_memory_curve(wiring, params, np.array([8.0, 12.0, 16.0]), "training")
    assert allocated[0] < allocated[1] < allocated[2]
    assert (reserved >= allocated).all()
    assert (allocated[2], reserved[2]) == step_memory(wiring, params, 16, "training")


class TestStep:
    """One operation with parameters of 16 MiB, at a batch of 4 images of 4 MiB that become 8 MiB each."""

    PARAMS = 4 * MIB

    def _peaks(
        self, protocol: Protocol = STEADY, stage: str = "training", **operation
    ) -> tuple[float, float]:
        convolution = Operation("conv", (0,), 1, keeps=(0,), params=self.PARAMS, **operation)
        return step_memory(Wiring([convolution], [MIB, 2 * MIB]), self.PARAMS, 4, stage, protocol)

    def test_inference_holds_parameters_input_and_output(self):
        assert self._peaks(stage="inference") == (16 + 16 + 32, 64)

    def test_gradients_and_momenta_come_with_the_first_step(self):
        # Parameters, input, gradients of output and parameters; the momentum follows when the output's has gone.
        assert self._peaks(Protocol((1.0,), empties_cache=False)) == (16 + 16 + 32 + 16, 80)
        # Gradients and momenta stay, and a new gradient is added to the first. The momentum sits in what was the
        # output's block, so that the next output needs another.
        assert self._peaks() == (3 * 16 + 16 + 32 + 16, 80 + 32)

    def test_readings_are_averaged_by_weight(self):
        assert self._peaks(Protocol((2.0, 3.0), empties_cache=True))[0] == pytest.approx(
            (2 * 80 + 3 * 112) / 5
        )

    def test_filter_gradients_may_take_either_workspace(self):
        plain, _ = self._peaks()
        needed, _ = self._peaks(workspaces=((0.0, 1 * MIB), (MIB, 2 * MIB)))
        # 4 MiB, or 4 an image and 8 besides.
        assert needed == plain + (4 + 24) / 2

    def test_only_dense_convolutions_of_3x3_and_stride_1_have_workspaces(self):
        arrays = _arrays("mobilenet_v2")
        assert not any(operation.workspaces for operation in operations(arrays).operations)
        wiring = operations(_arrays("resnet18"))
        assert sum(bool(operation.workspaces) for operation in wiring.operations) == 13
        first = next(operation for operation in wiring.operations if operation.workspaces)
        # 64 → 64 channels on 16 x 16: 8 x 8 tiles of 16 points, or 4 x 4 of 36.
        assert first.workspaces == ((16 * 64 * 128, 16 * 64 * 64), (36 * 16 * 128, 36 * 64 * 64))


class TestCachingAllocator:
    def test_sizes_are_rounded_and_segments_are_large(self):
        allocator = CachingAllocator()
        allocator.allocate(1)
        assert (allocator.allocated_bytes, allocator.reserved_bytes) == (512, 2 * MIB)
        allocator.allocate(3 * MIB)
        assert allocator.reserved_bytes == 22 * MIB
        allocator.allocate(11 * MIB)
        # It fits into the 17 MiB that are left of that segment; the next does not.
        assert allocator.reserved_bytes == 22 * MIB
        allocator.allocate(10 * MIB + 1)
        assert allocator.reserved_bytes == 34 * MIB

    def test_freed_neighbours_merge_and_are_used_again(self):
        allocator = CachingAllocator()
        blocks = [allocator.allocate(5 * MIB) for _ in range(4)]
        assert allocator.reserved_bytes == 20 * MIB
        for block in (blocks[1], blocks[2]):
            allocator.release(block)
        allocator.allocate(10 * MIB)
        assert allocator.reserved_bytes == 20 * MIB
        assert allocator.peak_bytes == 20 * MIB

    def test_fragments_do_not_serve_a_larger_request(self):
        allocator = CachingAllocator()
        blocks = [allocator.allocate(5 * MIB) for _ in range(4)]
        for block in blocks[::2]:
            allocator.release(block)
        allocator.allocate(10 * MIB)
        assert allocator.allocated_bytes == 20 * MIB
        assert allocator.reserved_bytes == 30 * MIB

    def test_empty_cache_gives_back_segments_with_nothing_in_use(self):
        allocator = CachingAllocator()
        small, large = allocator.allocate(5 * MIB), allocator.allocate(30 * MIB)
        allocator.release(large)
        kept = allocator.allocate(16 * MIB)
        allocator.release(small)
        # 20 MiB are free as a whole; of 30 MiB, 16 are in use.
        allocator.empty_cache()
        assert allocator.reserved_bytes == 30 * MIB
        allocator.release(kept)
        allocator.empty_cache()
        assert (allocator.reserved_bytes, allocator.allocated_bytes) == (0, 0)
        assert allocator.peak_reserved_bytes == 50 * MIB
        allocator.reset_peaks()
        assert (allocator.peak_bytes, allocator.peak_reserved_bytes) == (0, 0)
        allocator.allocate(12 * MIB)
        assert allocator.reserved_bytes == 12 * MIB


@needs_samples("predictors")
@pytest.mark.parametrize("network", ["resnet50", "mobilenetv2", "squeezenet"])
def test_unpruned_networks_measured_on_a_device(network: str):
    """Nothing is fitted, and yet both are close to what was measured."""
    shapes = pd.read_csv(SAMPLES / "predictors/tx2/layer_tables.csv")
    shapes = shapes[(shapes["net"] == network) & (shapes["level"] == 0)]
    shapes = shapes.rename(columns={"kernel": "kernel_size"})
    kinds = shapes["type"].map(analytic.KIND_OF_MODULE)
    table = {name: shapes[name].tolist() for name in shapes} | {"kind": kinds.tolist()}
    arrays = analytic.layer_arrays(table)
    measured = pd.read_csv(SAMPLES / f"predictors/tx2/memory/{network}_0.csv", sep="|")
    measured = measured[measured["passed"].astype(str) == "True"]
    batch = measured["params"].str.extract(r"'bs': (\d+)")[0].astype(float).to_numpy()
    wiring, params = operations(arrays), float(arrays["params"].sum())
    terms = memory_terms(wiring, params, batch, "training", "perf4sight")
    for column, name, most in (("mem_alloc", "allocated_mib", 0.03), ("mem_reserved", "reserved_mib", 0.06)):
        errors = np.abs(terms[name] / measured[column].astype(float).to_numpy() - 1)[batch >= 8]
        assert np.median(errors) < most, column
