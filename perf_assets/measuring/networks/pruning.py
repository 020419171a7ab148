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

from perf_assets.measuring.networks import loading, tracing
from perf_assets.measuring.networks.inputs import Inputs, loss, tensors_in
from perf_assets.measuring.networks.names import LARGEST_RATIO, PRUNING_METHODS, pruned_model_name
from perf_assets.measuring.networks.pruning_methods import prune_model
from perf_assets.measuring.networks.request import NetworkRequest
from perf_assets.workspace.validation import one_of

FORMAT = "perf_assets_pruned_model"
VERSION = 1

_OUTPUT_TOLERANCE = (
    1e-5  # of a reloaded model, relative to the largest output: the same kernels on the same tensors
)


def create(
    folder: str | Path,
    base: str | NetworkRequest,
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
        base: network, by its name or by all that :mod:`perf_assets.measuring.networks.request` can say.
        method: one of :data:`perf_assets.measuring.networks.names.PRUNING_METHODS`.
        ratio: share of channels (structured), of all parameters (global structured, ``random_weighted``) or of
            weights (unstructured) to remove, 0 to 0.95.
        seed: seed of random weights and of random importance.
        input_size: height = width of the images (or length of the sequences) it is traced and verified with;
            default is the network's own.
        weights: local state-dict file of the base, where the request names none.
        aux_heads: keep googlenet's and inception_v3's auxiliary heads.
        time_limit_s: seconds of wall time for all of it.

    Returns:
        The spec: ``status`` ``ok`` with the realised numbers, or ``unsupported`` with ``reason``.

    Raises:
        ValueError: unknown method, or a ratio outside 0 to 0.95.
    """
    one_of("pruning method", method, PRUNING_METHODS)
    if not 0 <= ratio <= LARGEST_RATIO:
        raise ValueError(f"pruning ratio {ratio} is outside 0 to {LARGEST_RATIO}")
    folder = Path(folder)
    network = base if isinstance(base, NetworkRequest) else NetworkRequest(network=base)
    if weights is not None:
        network = network.model_copy(update={"weights": str(Path(weights).resolve())})
    request = {
        "format": FORMAT,
        "version": VERSION,
        "name": pruned_model_name(network.network, method, ratio, seed, network.variant),
        "base": network.network,
        "request": network.model_dump(),
        "method": method,
        "ratio": ratio,
        "seed": seed,
        "input_size": input_size,
        "aux_heads": aux_heads,
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


def request_of(spec: dict[str, Any]) -> NetworkRequest:
    """What the base of a pruned model was built from; its weights are in the pruned model."""
    # Directories of earlier versions hold the base's name alone.
    fields = spec.get("request") or {"network": spec["base"]}
    return NetworkRequest(**{**fields, "weights": None})


def rebuild(spec: dict[str, Any]) -> nn.Module:
    """Model of a spec's shapes on the meta device: enough for its features, or to load its state dict
    into."""
    model = loading.build(request_of(spec), aux_heads=spec["aux_heads"], device="meta")
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
    network, size = NetworkRequest(**request["request"]), request["input_size"]
    model = loading.build(network, aux_heads=request["aux_heads"], seed=request["seed"])
    inputs = loading.make_inputs(network, model, tracing.TRACED_BATCH, size)
    base_params = sum(p.numel() for p in model.parameters())
    base_macs = sum(row["macs"] for row in tracing.layer_table(model, inputs=inputs))
    engine = prune_model(
        model,
        request["method"],
        request["ratio"],
        seed=request["seed"],
        inputs=inputs,
    )
    model.eval()
    shapes_only = loading.build(network, aux_heads=request["aux_heads"], device="meta")
    sizes, shapes = _changes(model, shapes_only)
    layers = list(_layer_sparsities(model))
    params = sum(p.numel() for p in model.parameters())
    zeros = sum(layer["zeros"] for layer in layers)
    spec = request | {
        "status": "ok",
        "in_channels": loading.in_channels(network, model),
        "input_size": size or loading.own_input_size(network, model),
        "engine": engine,
        "architecture_key": tracing.architecture_key(model),
        "params": params,
        "macs": sum(row["macs"] for row in tracing.layer_table(model, inputs=inputs)),
        "bytes": sum(t.numel() * t.element_size() for t in model.state_dict().values()),
        "sparsity": zeros / params,
        "base_params": base_params,
        "base_macs": base_macs,
        "layers": layers,
        "sizes": sizes,
        "shapes": shapes,
    }
    with torch.no_grad():
        outputs = _answer(model, inputs)
    torch.save(model.state_dict(), work / "state_dict.pt")
    (work / "spec.json").write_text(json.dumps(spec))
    _check_training_step(model, inputs)
    with torch.no_grad():
        reloaded = _answer(load(work)[0], inputs)
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


def _answer(model: nn.Module, inputs: Inputs) -> torch.Tensor:
    """All floating numbers that a network answers, in one row."""
    answers = [found.flatten() for found in tensors_in(inputs.call(model)) if found.is_floating_point()]
    return torch.cat(answers)


def _check_training_step(model: nn.Module, inputs: Inputs) -> None:
    model.train()
    lost = loss(inputs.call(model), torch.zeros(tracing.TRACED_BATCH, dtype=torch.long))
    lost.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    if not gradients or not math.isfinite(lost.item()) or not all(torch.isfinite(g).all() for g in gradients):
        raise ArithmeticError("the pruned network's loss or gradients are not finite")
    model.eval()


if __name__ == "__main__":
    _create_in_child(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
