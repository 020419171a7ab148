"""Layer tables and memory estimates of a torch network, from shapes alone: nothing is computed or allocated.

One forward pass runs on the meta device while every operation that reaches the dispatcher is written down, so
functional additions, concatenations and attention products count like modules do. The formulas over the table
are in :mod:`perf_assets.measuring.networks.layer_costs`, which needs no torch.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from perf_assets.measuring.networks import layer_costs
from perf_assets.measuring.networks.inputs import Inputs, loss
from perf_assets.schema.vocabularies import STAGES
from perf_assets.workspace.validation import one_of

_KIND_OF_OPERATION = {
    "convolution": "conv",
    "native_batch_norm": "batchnorm",
    "_native_batch_norm_legit": "batchnorm",
    "_native_batch_norm_legit_no_training": "batchnorm",
    "_batch_norm_with_update": "batchnorm",
    "_batch_norm_no_update": "batchnorm",
    "cudnn_batch_norm": "batchnorm",
    "relu": "relu",
    "relu6": "relu",
    "hardtanh": "relu",
    "max_pool2d_with_indices": "maxpool",
    "avg_pool2d": "avgpool",
    "_adaptive_avg_pool2d": "avgpool",
    "addmm": "linear",
    "mm": "linear",
    "linear": "linear",
    "cat": "concat",
}
# Bookkeeping that computes nothing on the data.
_IGNORED_OPERATIONS = {
    "detach",
    "empty_like",
    "zeros_like",
    "new_empty",
    "fill",
    "_to_copy",
    "copy",
    "_unsafe_view",
}
TRACED_BATCH = (
    2  # batch norm refuses a single value per channel in training mode, so two images, halved afterwards
)


def layer_table(
    model: nn.Module,
    input_size: int = 224,
    in_channels: int = 3,
    *,
    training: bool = False,
    inputs: Inputs | None = None,
) -> list[dict[str, Any]]:
    """Layer table of a network: one row per operation of a forward pass, columns of ``layer_costs.COLUMNS``.

    Args:
        model: any network. It is not changed; its weights are neither read nor copied where the meta device
            can follow it, so a meta-device network will do.
        input_size: input height = width in pixels.
        in_channels: input channels.
        training: trace in training mode (auxiliary heads and dropout take part).
        inputs: :data:`TRACED_BATCH` samples of what it takes; None for images of that size.

    Returns:
        Rows in execution order. Counts are for one image.

    Raises:
        RuntimeError, ValueError: the network does not accept that input.
    """
    if inputs is None:
        images = torch.empty(TRACED_BATCH, in_channels, input_size, input_size, device="meta")
        return _recorded(_shape_copy(model, "meta"), Inputs((images,)), training=training)
    try:
        return _recorded(_shape_copy(model, "meta"), inputs.to("meta"), training=training)
    except Exception as error:  # noqa: BLE001 - a forward that looks at values, or makes tensors elsewhere
        try:
            return _recorded(copy.deepcopy(model), inputs, training=training)
        except Exception:  # noqa: BLE001 - it fails on real tensors too: the first one says why
            raise error from None


def _recorded(model: nn.Module, inputs: Inputs, *, training: bool) -> list[dict[str, Any]]:
    recorder = _OperationRecorder(model.train(training))
    # Attention's fused inference path would hide its products behind one opaque operation.
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), recorder:
            inputs.call(model)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    return recorder.rows


def architecture_key(model: nn.Module) -> str:
    """Hash (16 hex digits) of a realised architecture: module classes, their sizes and tensor shapes.

    Two networks with the same key have the same layer table, whatever their weights; a pruned network has
    another key than its base.
    """
    structure = [
        (name, type(module).__name__, sorted((k, repr(v)) for k, v in size_attributes(module).items()))
        for name, module in model.named_modules()
    ]
    shapes = sorted((name, tuple(t.shape)) for name, t in (*model.named_parameters(), *model.named_buffers()))
    return hashlib.sha256(json.dumps([structure, shapes]).encode()).hexdigest()[:16]


def size_attributes(module: nn.Module) -> dict[str, Any]:
    """Whole numbers and tuples of them among a module's own attributes: channels, kernel, stride, groups,
    heads."""
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and name != "training" and _is_size(value)
    }


def network_features(
    model: nn.Module,
    input_size: int = 224,
    in_channels: int = 3,
    *,
    training: bool = False,
    cache: str | Path | None = None,
    inputs: Inputs | None = None,
) -> dict[str, Any]:
    """Architecture key, layer table and the analytic features of one image, cached by the key.

    Args:
        model: the network.
        input_size: input height = width in pixels.
        in_channels: input channels.
        training: trace in training mode, with auxiliary heads.
        cache: folder that keeps one JSON file per architecture, input and mode.
        inputs: :data:`TRACED_BATCH` samples of what it takes, where that is no images. What an own forward does
            with them the architecture does not tell, so such a table is not kept in the cache.

    Returns:
        ``architecture_key``, ``input_size``, ``in_channels``, ``stage``, ``layers`` (the layer table) and
        ``features`` (name → number at batch size 1, see :func:`layer_costs.network_features`).
    """
    stage = "training" if training else "inference"
    key = architecture_key(model)
    name = f"layers-{key}-{in_channels}x{input_size}-{stage}"

    def compute() -> dict[str, Any]:
        table = layer_table(model, input_size, in_channels, training=training, inputs=inputs)
        features = {name: float(v) for name, v in layer_costs.network_features(table, 1, stage).items()}
        return {
            "architecture_key": key,
            "input_size": input_size,
            "in_channels": in_channels,
            "stage": stage,
            "layers": table,
            "features": features,
        }

    return _cached(cache if inputs is None else None, name, compute)


def estimate_peak_memory(
    model: nn.Module,
    batch_size: int,
    input_size: int = 224,
    in_channels: int = 3,
    *,
    stage: str = "training",
    cache: str | Path | None = None,
    inputs: Inputs | None = None,
) -> dict[str, Any]:
    """Peak memory in MiB of one step by torch's memory tracker on fake tensors: seconds, but no memory.

    A training step is forward, cross entropy, backward and SGD with momentum, the second of two so that the
    optimizer's state is there. The tracker knows tensors' lifetimes and not the allocator: what a device
    reserves is larger, and workspaces of convolution libraries are not in it. ``inputs`` is a batch of what the
    network takes, where that is no images; it is not kept in the cache.

    Returns:
        ``peak_mib`` and its parts at the peak (``param_mib``, ``grad_mib``, ``act_mib``,
        ``temp_mib``, ``opt_mib``, ``buffer_mib``, ``oth_mib``) and ``torch_version`` (the estimate
        depends on what the framework saves for backward).
    """
    one_of("stage", stage, STAGES)
    version = torch.__version__.split("+")[0]
    name = f"memory-{architecture_key(model)}-{batch_size}x{in_channels}x{input_size}-{stage}-torch{version}"
    shaped = inputs or Inputs((torch.empty(batch_size, in_channels, input_size, input_size, device="meta"),))
    return _cached(
        cache if inputs is None else None,
        name,
        lambda: {
            **_tracked_peak(model, shaped, batch_size, stage),
            "torch_version": version,
        },
    )


def _tracked_peak(model: nn.Module, inputs: Inputs, batch_size: int, stage: str) -> dict[str, float]:
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.distributed._tools.mem_tracker import MemTracker

    with FakeTensorMode():
        fake = _shape_copy(model, "cpu").train(stage == "training")
        classes = torch.zeros(batch_size, dtype=torch.long)
        fakes = inputs.mapped(lambda tensor: torch.empty(tensor.shape, dtype=tensor.dtype))
        tracker = MemTracker()
        if stage == "inference":
            tracker.track_external(fake, *fakes.tensors())
            with torch.no_grad(), tracker:
                fakes.call(fake)
        else:
            optimizer = torch.optim.SGD(fake.parameters(), lr=0.1, momentum=0.9, foreach=False)
            tracker.track_external(fake, optimizer, classes, *fakes.tensors())
            for _ in range(2):
                tracker.reset_mod_stats()
                with tracker:
                    loss(fakes.call(fake), classes).backward()
                    optimizer.step()
                    optimizer.zero_grad()
        peak = tracker.get_tracker_snapshot("peak")[torch.device("cpu")]
    total = peak.pop("Total") / 2**20
    return {"peak_mib": total} | {f"{part.name.lower()}_mib": size / 2**20 for part, size in peak.items()}


def _shape_copy(model: nn.Module, device: str) -> nn.Module:
    """Copy of a network with empty tensors of the same shapes; the weights are not read."""
    memo: dict[int, Any] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        empty = torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
        is_parameter = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if is_parameter else empty
    return copy.deepcopy(model, memo)


class _OperationRecorder(TorchDispatchMode):
    """Writes a layer-table row for each operation that reaches the dispatcher, under the module that ran
    it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.rows: list[dict[str, Any]] = []
        self._path = [("", model)]
        # Views of a parameter share its storage, so whatever layer reads one first is known to own it.
        self._unclaimed_params = {p.untyped_storage()._cdata: p.numel() for p in model.parameters()}
        for name, module in model.named_modules():
            if name:
                module.register_forward_pre_hook(
                    lambda module, _, name=name: self._path.append((name, module))
                )
                module.register_forward_hook(lambda *_: self._path.pop() and None)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        operation = func.overloadpacket.__name__
        if _KIND_OF_OPERATION.get(operation) == "batchnorm":
            # On the meta device it is worked out from dozens of operations in Python, half of the time of a
            # pass.
            statistics = [args[0].new_empty(0) for _ in func._schema.returns[1:]]
            output = (torch.empty_like(args[0]), *statistics)
        else:
            output = func(*args, **(kwargs or {}))
        result = output[0] if isinstance(output, tuple | list) and output else output
        if (
            isinstance(result, torch.Tensor)
            and result.is_floating_point()
            and not func.is_view
            and operation.rstrip("_") not in _IGNORED_OPERATIONS
            and any(isinstance(a, torch.Tensor) for a in torch.utils._pytree.tree_leaves(args))
        ):
            self._record(operation, args, result)
        return output

    def _record(self, operation: str, args: Any, result: torch.Tensor) -> None:
        name, module = self._path[-1]
        inplace = operation.endswith("_")
        operation = operation.rstrip("_")
        inputs = [a for a in torch.utils._pytree.tree_leaves(args) if isinstance(a, torch.Tensor)]
        row: dict[str, Any] = dict.fromkeys(layer_costs.COLUMNS)
        leaf = not any(module.children())
        row |= {
            "layer_index": len(self.rows),
            "layer": name if leaf else f"{name}:{operation}".lstrip(":"),
            "kind": _kind(operation, args, inputs),
            "macs": _macs(operation, inputs, result) // TRACED_BATCH,
            "params": sum(self._unclaimed_params.pop(t.untyped_storage()._cdata, 0) for t in inputs),
            "out_elements": result.numel() // TRACED_BATCH,
            "inplace": inplace,
        }
        source = inputs[1] if operation == "addmm" else (inputs[-1] if operation == "cat" else inputs[0])
        row["in_channels"], row["in_hw"] = _channels(source)
        row["out_channels"], row["out_hw"] = _channels(result)
        if operation == "cat":
            row["in_channels"] = row["out_channels"]
        if row["kind"] == "conv":
            weight, stride, padding, dilation = inputs[1], args[3], args[4], args[5]
            height, width = weight.shape[2:]
            row |= {
                "kernel_size": height,
                "kernel_width": width if width != height else None,
                "groups": args[8],
                "stride": max(stride),
                "padding": max(padding),
                "dilation": max(dilation),
            }
        elif row["kind"] in ("maxpool", "avgpool") and operation in ("max_pool2d_with_indices", "avg_pool2d"):
            row |= {
                "kernel_size": args[1][0],
                "stride": (args[2] or args[1])[0] if len(args) > 2 else args[1][0],
                "padding": args[3][0] if len(args) > 3 else 0,
            }
        self.rows.append(row)


def _kind(operation: str, args: Any, inputs: list[torch.Tensor]) -> str:
    if operation == "convolution" and inputs[1].dim() != 4:  # the formulas are for images
        return "other"
    if operation == "mean":  # what adaptive pooling to one pixel becomes
        return "avgpool" if inputs[0].dim() == 4 and sorted(d % 4 for d in args[1]) == [2, 3] else "other"
    if operation == "add":
        return "add" if len(inputs) == 2 and all(tensor.dim() > 1 for tensor in inputs) else "other"
    return _KIND_OF_OPERATION.get(operation, "other")


def _macs(operation: str, inputs: list[torch.Tensor], result: torch.Tensor) -> int:
    if operation == "convolution":
        return result.numel() * inputs[1][0].numel()
    if operation in ("mm", "bmm"):
        return result.numel() * inputs[0].shape[-1]
    if operation in ("addmm", "baddbmm"):
        return result.numel() * inputs[1].shape[-1]
    return 0


def _channels(tensor: torch.Tensor) -> tuple[int, int]:
    """Channels and height of (batch, channels, height, width); features and 1 of anything flatter."""
    if tensor.dim() == 4:
        return tensor.shape[1], tensor.shape[2]
    return (tensor.shape[-1], 1) if tensor.dim() else (1, 1)


def _is_size(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(isinstance(item, int) and not isinstance(item, bool) for item in value)
    return isinstance(value, int) and not isinstance(value, bool)


def _cached(folder: str | Path | None, name: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    if folder is None:
        return compute()
    path = Path(folder) / f"{name}.json"
    with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
        return json.loads(path.read_text())
    value = compute()
    path.parent.mkdir(parents=True, exist_ok=True)
    # A reader must never see half a file, and two writers must not share one temporary name.
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".tmp", delete=False) as file:
        file.write(json.dumps(value))
    os.replace(file.name, path)
    return value
