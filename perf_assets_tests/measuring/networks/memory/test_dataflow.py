"""What operations keep, against what torch keeps; how branches are joined; workspaces."""

import numpy as np
import pytest
import torch

from perf_assets.measuring.networks import zoo
from perf_assets.measuring.networks.memory.allocator import MIB
from perf_assets.measuring.networks.memory.dataflow import Dataflow, operations
from perf_assets_tests.measuring.networks.layers import arrays_of


def _kept_by_torch_mib(network: str, input_size: int = 64, batch_size: int = 2) -> float:
    """Distinct storages that autograd keeps in one forward pass on the CPU, without parameters and
    buffers."""
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
    elements = _kept_elements(operations(arrays_of(network)))
    assert elements * 4 / MIB == pytest.approx(_kept_by_torch_mib(network), rel=0.03)


def test_branches_are_joined_by_sum_or_concatenation():
    residual = operations(arrays_of("resnet18"))
    assert sum(operation.kind == "sum" for operation in residual.operations) == 8
    concatenated = operations(arrays_of("squeezenet1_0"))
    joins = [operation for operation in concatenated.operations if operation.kind == "concat"]
    assert [len(join.reads) for join in joins] == [2] * 8


@pytest.mark.parametrize(
    ("network", "sums", "concatenations"),
    [
        # Additions of what a block began with are not told by shapes, and need no memory: projections' are.
        ("resnet18", 3, 0),
        # Branches with as many channels as another one, or together as the block's input.
        ("googlenet", 0, 9),
        # Branches that fork again: ten joins of blocks instead of 15.
        ("inception_v3", 0, 10),
        ("densenet121", 0, 57),
    ],
)
def test_shapes_alone_tell_what_is_joined_and_kept(network: str, sums: int, concatenations: int):
    """Tables of convolutions, normalisations, pooling and linear layers only."""
    whole = arrays_of(network, 224)
    modules = np.isin(whole["kind"], ["conv", "batchnorm", "maxpool", "avgpool", "linear"])
    reduced = operations({name: column[modules] for name, column in whole.items()})
    kinds = [operation.kind for operation in reduced.operations]
    assert (kinds.count("sum"), kinds.count("concat")) == (sums, concatenations)
    assert _kept_elements(reduced) == pytest.approx(_kept_elements(operations(whole)), rel=0.015)


def _kept_elements(dataflow: Dataflow) -> float:
    tensors = {tensor for operation in dataflow.operations for tensor in operation.keeps}
    return sum(dataflow.elements[tensor] for tensor in tensors) + sum(
        operation.extra for operation in dataflow.operations
    )


def test_only_dense_convolutions_of_3x3_and_stride_1_have_workspaces():
    arrays = arrays_of("mobilenet_v2")
    assert not any(operation.workspaces for operation in operations(arrays).operations)
    dataflow = operations(arrays_of("resnet18"))
    assert sum(bool(operation.workspaces) for operation in dataflow.operations) == 13
    first = next(operation for operation in dataflow.operations if operation.workspaces)
    # 64 → 64 channels on 16 x 16: 8 x 8 tiles of 16 points, or 4 x 4 of 36.
    assert first.workspaces == ((16 * 64 * 128, 16 * 64 * 64), (36 * 16 * 128, 36 * 64 * 64))
