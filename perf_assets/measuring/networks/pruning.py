"""Pruned networks as directories: ``spec.json`` says what was done and what came out, ``state_dict.pt`` holds
tensors.

A pruned model is verified when it is made: forward and one backward pass are finite, and it loads back from
its directory with the same output. That happens in a child process with a time limit, because tracing some
networks never ends; what cannot be pruned becomes a spec with status ``unsupported`` and the reason.

Nominal ratios are not sparsities: a structured ratio r leaves roughly (1 - r)² of the parameters, and grouped
networks are not even monotone in r. Use the realised ``params``, ``macs``, ``bytes`` and ``sparsity``.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.utils import prune

from perf_assets.measuring.networks import tracing, zoo
from perf_assets.measuring.networks.names import pruned_model_name

FORMAT = "perf_assets_pruned_model"
VERSION = 1

STRUCTURED_METHODS = ("structured_magnitude", "structured_random")
"""Whole channels removed: tensors shrink."""

UNSTRUCTURED_METHODS = ("l1_unstructured", "random_unstructured", "ln_structured", "global_unstructured")
"""Weights set to zero by ``torch.nn.utils.prune``: tensors keep their shapes, and dense kernels their
latency."""

METHODS = STRUCTURED_METHODS + UNSTRUCTURED_METHODS

# torch-pruning 1.6 divides by zero on the channel shuffle and never finishes tracing shifted windows.
_CHAIN_PRUNED = {"ShuffleNetV2", "SwinTransformer"}
_PER_CHANNEL_LAYERS = (
    nn.ReLU,
    nn.ReLU6,
    nn.GELU,
    nn.SiLU,
    nn.Hardswish,
    nn.Dropout,
    nn.Identity,
    nn.BatchNorm2d,
)
_LARGEST_RATIO = 0.95
_OUTPUT_TOLERANCE = (
    1e-5  # of a reloaded model, relative to the largest output: the same kernels on the same tensors
)


def create(
    folder: str | Path,
    base: str,
    method: str,
    ratio: float,
    *,
    seed: int = 0,
    input_size: int | None = None,
    weights: str | Path | None = None,
    aux_heads: bool = False,
    time_limit_s: float = 300.0,
) -> dict[str, Any]:
    """Prune a network, verify it, and leave it in ``folder``; returns its spec.

    The work runs in a child process, which is killed after the time limit. The folder appears whole or not at
    all; one that is there already is replaced.

    Args:
        folder: directory of this pruned model.
        base: network of :mod:`perf_assets.measuring.networks.zoo`.
        method: one of :data:`METHODS`.
        ratio: share of channels (structured) or weights (unstructured) to remove, 0 to 0.95.
        seed: seed of random weights and of random importance.
        input_size: height = width of the images it is traced and verified with; default is the network's own.
        weights: local state-dict file of the base.
        aux_heads: keep googlenet's and inception_v3's auxiliary heads.
        time_limit_s: seconds of wall time for all of it.

    Returns:
        The spec: ``status`` ``ok`` with the realised numbers, or ``unsupported`` with ``reason``.

    Raises:
        ValueError: unknown method, or a ratio outside 0 to 0.95.
    """
    if method not in METHODS:
        raise ValueError(f"unknown pruning method {method!r}: use one of {', '.join(METHODS)}")
    if not 0 <= ratio <= _LARGEST_RATIO:
        raise ValueError(f"pruning ratio {ratio} is outside 0 to {_LARGEST_RATIO}")
    folder = Path(folder)
    channels, own_size = zoo.input_shape(base)
    request = {
        "format": FORMAT,
        "version": VERSION,
        "name": pruned_model_name(base, method, ratio, seed),
        "base": base,
        "method": method,
        "ratio": ratio,
        "seed": seed,
        "in_channels": channels,
        "input_size": input_size or own_size,
        "aux_heads": aux_heads,
        "weights": None if weights is None else str(Path(weights).resolve()),
        "torch_version": torch.__version__,
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".pruning-") as work:
        started = time.monotonic()
        failure = _run_child(request, Path(work), time_limit_s)
        spec_path = Path(work) / "spec.json"
        if failure is not None:
            spec_path.write_text(json.dumps(request | {"status": "unsupported", "reason": failure}, indent=1))
            (Path(work) / "state_dict.pt").unlink(missing_ok=True)
        spec = json.loads(spec_path.read_text()) | {"duration_s": round(time.monotonic() - started, 3)}
        spec_path.write_text(json.dumps(spec, indent=1))
        if folder.exists():
            shutil.rmtree(folder)
        (Path(work) / "request.json").unlink()
        os.replace(work, folder)
        Path(work).mkdir()  # what the context manager expects to remove
    return spec


def load(folder: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """Model (evaluation mode, CPU) and spec of a pruned-model directory.

    Raises:
        FileNotFoundError: no spec there.
        ValueError: not a pruned model of this format, or an ``unsupported`` one.
        RuntimeError: the tensors do not fit the spec.
    """
    spec = read_spec(folder)
    if spec["status"] != "ok":
        raise ValueError(f"{folder}: {spec['name']} is {spec['status']}: {spec['reason']}")
    model = rebuild(spec)
    state = torch.load(Path(folder) / "state_dict.pt", map_location="cpu", weights_only=True)
    model.load_state_dict(state, assign=True)
    return model.eval(), spec


def read_spec(folder: str | Path) -> dict[str, Any]:
    """Spec of a pruned-model directory, ``unsupported`` ones included.

    Raises:
        FileNotFoundError: no spec there.
        ValueError: not a pruned model of this format.
    """
    spec = json.loads((Path(folder) / "spec.json").read_text())
    if spec.get("format") != FORMAT or spec.get("version") != VERSION:
        raise ValueError(f"{folder}: not a pruned model of version {VERSION}: create it again")
    return spec


def rebuild(spec: dict[str, Any]) -> nn.Module:
    """Model of a spec's shapes on the meta device: enough for its features, or to load its state dict
    into."""
    model = zoo.build(spec["base"], aux_heads=spec["aux_heads"], device="meta")
    for name, sizes in spec["sizes"].items():
        module = model.get_submodule(name)
        for attribute, value in sizes.items():
            setattr(module, attribute, tuple(value) if isinstance(value, list) else value)
    for name, shape in spec["shapes"].items():
        owner_name, _, leaf = name.rpartition(".")
        owner = model.get_submodule(owner_name)
        old = getattr(owner, leaf)
        empty = torch.empty(shape, dtype=old.dtype, device="meta")
        setattr(owner, leaf, nn.Parameter(empty) if isinstance(old, nn.Parameter) else empty)
    return model.eval()


def prune_model(
    model: nn.Module, method: str, ratio: float, *, seed: int = 0, input_size: int = 224, in_channels: int = 3
) -> str:
    """Prune a network in place; returns what did it: ``torch_pruning``, ``sequential_chains`` or
    ``torch_prune``.

    Structured methods remove channels with torch-pruning's dependency graph (Fang et al., CVPR 2023,
    arXiv 2301.12900), by the L2 norm of a group or at random, the same ratio in every group; the classifier's
    outputs stay. ShuffleNet and Swin, which it cannot trace, lose inner channels of their sequential blocks
    (:func:`prune_chains`). Unstructured methods set weights of convolutions, linear layers and fused
    attention projections to zero.

    Raises:
        ValueError: unknown method.
    """
    torch.manual_seed(seed)
    if method in UNSTRUCTURED_METHODS:
        _prune_unstructured(model, method, ratio)
        return "torch_prune"
    if method not in STRUCTURED_METHODS:
        raise ValueError(f"unknown pruning method {method!r}: use one of {', '.join(METHODS)}")
    if _CHAIN_PRUNED & {kind.__name__ for kind in type(model).__mro__}:
        prune_chains(model, ratio, random=method == "structured_random")
        return "sequential_chains"
    _prune_graph(model, method, ratio, torch.randn(2, in_channels, input_size, input_size))
    return "torch_pruning"


def prune_chains(model: nn.Module, ratio: float, *, random: bool) -> None:
    """Remove inner channels of sequential blocks, in place: no tracing, and safe for any network.

    Within one ``nn.Sequential``, what a convolution or linear layer hands to the next one through layers that
    act per channel is seen by nobody else, so those channels can go. Block outputs keep their width.
    """
    for block in [module for module in model.modules() if isinstance(module, nn.Sequential)]:
        producer: nn.Module | None = None
        between: list[nn.Module] = []
        for layer in block:
            if isinstance(layer, nn.Conv2d | nn.Linear) and _is_depthwise(layer):
                between.append(layer)
            elif isinstance(layer, nn.Conv2d | nn.Linear) and getattr(layer, "groups", 1) == 1:
                if producer is not None:
                    _shrink_chain(producer, between, layer, ratio, random=random)
                producer, between = layer, []
            elif isinstance(layer, _PER_CHANNEL_LAYERS):
                between.append(layer)
            else:
                producer, between = None, []


def _shrink_chain(
    producer: nn.Module, between: list[nn.Module], consumer: nn.Module, ratio: float, *, random: bool
) -> None:
    width = producer.weight.shape[0]
    scores = torch.rand(width) if random else producer.weight.detach().flatten(1).norm(dim=1)
    kept = scores.topk(max(1, round(width * (1 - ratio)))).indices.sort().values

    def keep(module: nn.Module, name: str, dim: int = 0) -> None:
        old = getattr(module, name)
        if old is not None:
            new = old.detach().index_select(dim, kept).clone()
            setattr(module, name, nn.Parameter(new) if isinstance(old, nn.Parameter) else new)

    for module in (producer, *between):
        depthwise = _is_depthwise(module)
        for name in ("weight", "bias", "running_mean", "running_var"):
            if getattr(module, name, None) is not None:
                keep(module, name)
        for size in ("out_channels", "out_features", "num_features"):
            if hasattr(module, size):
                setattr(module, size, len(kept))
        if depthwise:
            module.in_channels = module.groups = len(kept)
    keep(consumer, "weight", dim=1)
    setattr(consumer, "in_channels" if isinstance(consumer, nn.Conv2d) else "in_features", len(kept))


def _is_depthwise(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels == layer.out_channels > 1


def _prune_graph(model: nn.Module, method: str, ratio: float, images: torch.Tensor) -> None:
    import torch_pruning

    importance = (
        torch_pruning.importance.RandomImportance()
        if method == "structured_random"
        else torch_pruning.importance.MagnitudeImportance(p=2)
    )
    classifiers = list(_classifiers(model))
    pruner = torch_pruning.pruner.BasePruner(
        model,
        images,
        importance=importance,
        pruning_ratio=ratio,
        pruning_ratio_dict=_narrow_layer_ratios(model, ratio, classifiers),
        ignored_layers=classifiers,
        # Without it attention is cut to widths that its heads do not divide; with it only the MLPs shrink.
        num_heads={m: m.num_heads for m in model.modules() if isinstance(m, nn.MultiheadAttention)},
        # Auxiliary heads act in training mode only; traced in evaluation mode they would keep their old
        # width.
        forward_fn=lambda model, images: model.train(_has_aux_heads(model))(images),
        output_transform=lambda outputs: outputs if isinstance(outputs, torch.Tensor) else list(outputs),
    )
    pruner.step()
    model.eval()


def _narrow_layer_ratios(model: nn.Module, ratio: float, ignored: list[nn.Module]) -> dict[nn.Module, float]:
    """Ratios that leave one channel of the layers so narrow that the ratio would leave none.

    torch-pruning skips such layers altogether, so that more pruning would shrink the network less.
    """
    ratios = {}
    for module in model.modules():
        if (
            isinstance(module, nn.Conv2d | nn.Linear)
            and module not in ignored
            and getattr(module, "groups", 1) == 1
        ):
            width = module.weight.shape[0]
            if int(width * (1 - ratio)) < 1:
                ratios[module] = 1 - 1.01 / width  # a little more than one channel, against rounding down
    return ratios


def _has_aux_heads(model: nn.Module) -> bool:
    return bool(getattr(model, "aux_logits", False))


def _classifiers(model: nn.Module) -> Iterator[nn.Module]:
    """The layers that put out the class scores: the last one of the network, and of each auxiliary head."""
    heads = [module for name, module in model.named_children() if name.lower().startswith("aux")]
    for part in (*heads, model):
        layers = [m for m in part.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
        if layers:
            yield layers[-1]


def _prune_unstructured(model: nn.Module, method: str, ratio: float) -> None:
    targets = [(module, "weight") for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    targets += [
        (module, "in_proj_weight")
        for module in model.modules()
        if isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None
    ]
    if method == "global_unstructured":
        prune.global_unstructured(targets, pruning_method=prune.L1Unstructured, amount=ratio)
    for module, name in targets:
        if method == "l1_unstructured":
            prune.l1_unstructured(module, name, amount=ratio)
        elif method == "random_unstructured":
            prune.random_unstructured(module, name, amount=ratio)
        elif method == "ln_structured":
            prune.ln_structured(module, name, amount=ratio, n=2, dim=0)
        # At once: until the mask is folded in, memory holds the weights twice.
        prune.remove(module, name)


def _run_child(request: dict[str, Any], work: Path, time_limit_s: float) -> str | None:
    """Why pruning failed, or None."""
    request_path = work / "request.json"
    request_path.write_text(json.dumps(request))
    # Its own session, so that the time limit ends whatever it started; safe path, so that no folder of the
    # caller's working directory can pass for one of torch-pruning's optional imports.
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "perf_assets.measuring.networks.pruning", str(request_path), str(work)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    try:
        _, errors = child.communicate(timeout=time_limit_s)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        return f"not finished in {time_limit_s:g} s"
    if child.returncode == 0:
        return None
    if child.returncode < 0:
        return f"ended by {signal.Signals(-child.returncode).name}"
    lines = [line for line in errors.splitlines() if line.strip()]
    return lines[-1][:500] if lines else f"ended with exit code {child.returncode}"


def _create_in_child(request: dict[str, Any], work: Path) -> None:
    base, channels, size = request["base"], request["in_channels"], request["input_size"]
    model = zoo.build(base, aux_heads=request["aux_heads"], seed=request["seed"], weights=request["weights"])
    base_params = sum(p.numel() for p in model.parameters())
    base_macs = sum(row["macs"] for row in tracing.layer_table(model, size, channels))
    engine = prune_model(
        model,
        request["method"],
        request["ratio"],
        seed=request["seed"],
        input_size=size,
        in_channels=channels,
    )
    model.eval()
    sizes, shapes = _changes(model, zoo.build(base, aux_heads=request["aux_heads"], device="meta"))
    layers = list(_layer_sparsities(model))
    params = sum(p.numel() for p in model.parameters())
    zeros = sum(layer["zeros"] for layer in layers)
    spec = request | {
        "status": "ok",
        "engine": engine,
        "architecture_key": tracing.architecture_key(model),
        "params": params,
        "macs": sum(row["macs"] for row in tracing.layer_table(model, size, channels)),
        "bytes": sum(t.numel() * t.element_size() for t in model.state_dict().values()),
        "sparsity": zeros / params,
        "base_params": base_params,
        "base_macs": base_macs,
        "layers": layers,
        "sizes": sizes,
        "shapes": shapes,
    }
    images = torch.randn(2, channels, size, size)
    with torch.no_grad():
        outputs = model(images)
    torch.save(model.state_dict(), work / "state_dict.pt")
    (work / "spec.json").write_text(json.dumps(spec))
    _check_training_step(model, images)
    with torch.no_grad():
        reloaded = load(work)[0](images)
    if not torch.isfinite(outputs).all():
        raise ArithmeticError("the pruned network's outputs are not finite")
    difference = (reloaded - outputs).abs().max().item() / max(outputs.abs().max().item(), 1e-30)
    if difference > _OUTPUT_TOLERANCE:
        raise ArithmeticError(f"saved and loaded again, outputs differ by {difference:.1e} of the largest")


def _changes(model: nn.Module, base: nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
    """Sizes by module and shapes by tensor in which a pruned network differs from its base."""
    sizes = {}
    for name, module in model.named_modules():
        old = tracing.size_attributes(base.get_submodule(name))
        changed = {k: v for k, v in tracing.size_attributes(module).items() if old.get(k) != v}
        if changed:
            sizes[name] = changed
    old_shapes = {name: tensor.shape for name, tensor in base.state_dict().items()}
    shapes = {name: list(t.shape) for name, t in model.state_dict().items() if t.shape != old_shapes[name]}
    return sizes, shapes


def _layer_sparsities(model: nn.Module) -> Iterator[dict[str, Any]]:
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            zeros = int((parameter == 0).sum())
            yield {
                "tensor": name,
                "shape": list(parameter.shape),
                "zeros": zeros,
                "sparsity": zeros / parameter.numel(),
            }


def _check_training_step(model: nn.Module, images: torch.Tensor) -> None:
    model.train()
    loss = tracing.loss(model(images), torch.zeros(len(images), dtype=torch.long))
    loss.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    if not gradients or not math.isfinite(loss.item()) or not all(torch.isfinite(g).all() for g in gradients):
        raise ArithmeticError("the pruned network's loss or gradients are not finite")
    model.eval()


if __name__ == "__main__":
    _create_in_child(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
