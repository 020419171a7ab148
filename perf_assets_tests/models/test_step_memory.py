"""Simulated memory of a step against what torch keeps, and the allocator's rules by hand."""

import numpy as np
import pandas as pd
import pytest
import torch

from perf_assets.models import analytic, features, zoo
from perf_assets.models.step_memory import (
    MIB,
    CachingAllocator,
    operations,
    step_memory,
    step_memory_curve,
)
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
    allocated, reserved = step_memory_curve(wiring, params, batch, "training")
    large = batch >= 8
    ratio = {"mem_alloc": allocated, "mem_reserved": reserved}
    for column, simulated in ratio.items():
        errors = np.abs(simulated / measured[column].astype(float).to_numpy() - 1)[large]
        assert np.median(errors) < 0.15, column
