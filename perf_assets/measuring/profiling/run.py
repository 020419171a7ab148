"""Measure one configuration and write its log: what ``python -m perf_assets.measuring.profiling`` runs.

The order of things stands here; what each pass does stands in ``passes``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import re
import resource
import time
import traceback
import uuid
from collections.abc import Generator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from perf_assets.measuring.devices import energy, host
from perf_assets.measuring.devices.lock import device_lock
from perf_assets.measuring.devices.nvml import NvmlReader
from perf_assets.measuring.devices.power import PowerReader, PowerUnavailableError
from perf_assets.measuring.networks import loading, pruning, tracing
from perf_assets.measuring.networks.inputs import Inputs
from perf_assets.measuring.profiling import (
    accuracy,
    algorithms,
    arithmetic,
    cudnn,
    host_series,
    kernels,
    passes,
)
from perf_assets.measuring.profiling.layer_energy import layer_energies
from perf_assets.measuring.profiling.spec import ProfileSpec, parse_spec
from perf_assets.measuring.profiling.timers import CudaTimer, HostTimer
from perf_assets.measuring.profiling.torch_device import (
    check_label,
    device_facts,
    free_mib,
    is_out_of_memory,
    lock_name,
    torch_device,
    used_mib,
    uuid_of,
)
from perf_assets.measuring.recording.log import LogWriter


class PredictedOutOfMemoryError(RuntimeError):
    """The estimate says that this run would not fit."""


def profile(spec: ProfileSpec, out: str | Path) -> tuple[Path, dict[str, Any]]:
    """Measure one configuration on this machine, alone on its device.

    Whatever happens to the network is a result: out of memory, an impossible algorithm, an error inside a
    layer.

    Args:
        spec: the configuration.
        out: folder that the log is written to.

    Returns:
        The log's path and its result line.

    Raises:
        perf_assets.measuring.devices.lock.DeviceBusyError: another process keeps measuring on the device.
        ValueError: the device does not exist here.
    """
    device = torch_device(spec.device)
    if spec.device == "auto":
        spec = parse_spec(spec.to_json() | {"device": device.type})
    facts = device_facts(device)
    check_label(spec.device_label, facts)
    with device_lock(lock_name(device), spec.lock_timeout_s), arithmetic.settings(spec, device) as settings:
        # In this order: a pause between them must not make start + duration reach beyond the lock.
        started_at = datetime.datetime.now(datetime.UTC)
        started_s = time.monotonic()
        run = uuid.uuid4().hex[:12]
        header = {
            "run": run,
            "started_at": started_at.isoformat(timespec="milliseconds"),
            "key": spec.key,
            "spec": spec.to_json(),
            "pid": os.getpid(),
            "environment": host.environment(),
            "host": host.host_facts(),
            "device": facts,
            "engine": host.engine_facts(),
            "settings": settings,
        }
        path = Path(out) / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', spec.name)}-{run}.jsonl"
        with LogWriter(path, header) as log:
            numbers: dict[str, Any] = {}
            try:
                _measure(spec, device, log, numbers)
                outcome = {"status": "ok", "reason": None}
            except PredictedOutOfMemoryError as error:
                outcome = {"status": "predicted_oom", "reason": str(error)}
            except (algorithms.UnsupportedError, algorithms.WrongOutputError) as error:
                outcome = {"status": "unsupported", "reason": str(error)}
            except Exception as error:  # noqa: BLE001 - whatever a network raises is this run's result
                if is_out_of_memory(error):
                    outcome = {
                        "status": "oom",
                        "reason": (str(error) or "out of memory").splitlines()[0][:500],
                    }
                elif isinstance(error, cudnn.CudnnError) and error.unsupported:
                    outcome = {"status": "unsupported", "reason": str(error)}
                else:
                    outcome = {
                        "status": "failed",
                        "reason": f"{type(error).__name__}: {error}"[:500],
                        "traceback": traceback.format_exc()[-4000:],
                    }
            result = {**outcome, "duration_s": time.monotonic() - started_s, **numbers}
            log.write("result", **result)
    return path, result


def load_network(spec: ProfileSpec) -> tuple[nn.Module, dict[str, Any]]:
    """Network of a spec on the processor, in evaluation mode, and what a pruned one's spec says of it."""
    if spec.pruned_model is None:
        return loading.build(spec, seed=spec.seed), {}
    if not (Path(spec.pruned_model) / "spec.json").exists():
        _make_pruned(spec)
    pruned = pruning.read_spec(spec.pruned_model)
    if pruned["status"] != "ok":
        raise algorithms.UnsupportedError(f"{pruned['name']} cannot be pruned: {pruned['reason']}")
    model, pruned = pruning.load(spec.pruned_model)
    if pruned["base"] != spec.network:
        raise ValueError(f"{spec.pruned_model} is a pruned {pruned['base']}, the spec says {spec.network}")
    return model, {name: pruned[name] for name in ("name", "method", "ratio", "sparsity", "engine")}


def _make_pruned(spec: ProfileSpec) -> None:
    if spec.pruning_method is None or spec.pruning_ratio is None:
        raise ValueError(
            f"pruned_model {spec.pruned_model} is not there: name a directory that is, or say how to make it by"
            " pruning_method and pruning_ratio"
        )
    pruning.create(
        spec.pruned_model, spec.request(), spec.pruning_method, spec.pruning_ratio, seed=spec.pruning_seed
    )


def _measure(spec: ProfileSpec, device: torch.device, log: LogWriter, numbers: dict[str, Any]) -> None:
    idle_mib = used_mib(device)
    model, pruned = load_network(spec)
    numbers |= _describe(spec, model, pruned, device, log)
    with _memory_limit(spec):
        inputs = loading.make_inputs(spec, model, spec.batch_size, spec.input_size, seed=spec.seed)
        model, inputs = arithmetic.placed(spec, model, inputs, device)
        forced = algorithms.force(
            model,
            spec.algorithm,
            inputs,
            stage=spec.stage,
            precision=spec.precision,
            provider=spec.algorithm_provider,
            incompatible=spec.incompatible_layers,
        )
        log.write("algorithm", **dataclasses.asdict(forced))
        if forced.provider == "cudnn":
            found = kernels.kernels_by_layer(model, inputs, kernels.cuda_kernels)
            log.write("kernels", **kernels.judged(spec.algorithm, found))
        step, phases = passes.steps(spec, model, inputs, device)
        if spec.stage == "inference":
            passes.check_outputs(step, log)
        nvml, reader_reason = None, None
        try:
            reader: PowerReader | None = energy.open_reader(device.type, uuid_of(device))
            nvml = reader if isinstance(reader, NvmlReader) else None
        except PowerUnavailableError as error:
            reader, reader_reason = None, str(error)
        timer = CudaTimer(device, nvml) if device.type == "cuda" else HostTimer()
        phases_ms: dict[str, float] = {}
        if "latency" in spec.passes:
            numbers |= passes.time_hot(spec, step, timer, log)
        phases_ms = passes.time_phases(phases, timer, log)
        if "cold" in spec.passes:
            numbers |= passes.time_cold(spec, step, timer, device, log)
        if "layers" in spec.passes and (spec.compile_mode is not None or spec.runtime != "torch"):
            reason = "a compiled or exported network has no layers of its own"
            log.write("layers", explained_share=None, reason=reason)
        elif "layers" in spec.passes:
            forward_ms = phases_ms.get("forward", numbers.get("latency_ms"))
            energies_j = None
            if "layer_energy" in spec.passes and reader is not None:
                energies_j = layer_energies(model, step, reader, timer.synchronize)
            numbers |= passes.time_layers(
                model, step, timer, device, numbers.get("latency_ms"), forward_ms, log, energies_j
            )
        if "memory" in spec.passes:
            numbers |= passes.peak_memory(step, timer, device, idle_mib, log)
        if "counters" in spec.passes:
            passes.count_events(step, timer, log)
        if "energy" in spec.passes:
            numbers |= passes.measure_energy(step, timer, reader, reader_reason, log)
        if "accuracy" in spec.passes:
            shape = tuple(inputs.tensors()[0].shape[1:])
            numbers |= accuracy.measure_accuracy(spec, model, shape, device, log)
        if "host" in spec.passes:
            host_series.sample_host(step, timer, reader, log)
    if nvml:
        others = nvml.other_processes(os.getpid())
        if others and numbers.get("verdict") in ("stable", "unstable", "too_short", "host_bound"):
            numbers |= {"verdict": "contended", "verdict_reason": f"{others} other processes on the GPU"}


def _describe(
    spec: ProfileSpec, model: nn.Module, pruned: dict[str, Any], device: torch.device, log: LogWriter
) -> dict[str, Any]:
    few = loading.make_inputs(spec, model, tracing.TRACED_BATCH, spec.input_size, seed=spec.seed)
    table = tracing.layer_table(model, training=spec.stage == "training", inputs=few)
    facts = {
        "architecture_key": tracing.architecture_key(model),
        "input_size": spec.input_size or loading.own_input_size(spec, model),
        "params": sum(p.numel() for p in model.parameters()),
        "macs": sum(row["macs"] for row in table),
        "weight_mib": sum(t.numel() * t.element_size() for t in model.state_dict().values()) / 2**20,
    }
    budget_mib = spec.memory_budget_mib or free_mib(device)
    estimate_mib = _estimated_mib(spec, model) if spec.skip_predicted_oom else None
    log.write(
        "model", **facts, pruned=pruned or None, estimated_peak_mib=estimate_mib, memory_budget_mib=budget_mib
    )
    if estimate_mib is not None and budget_mib is not None and estimate_mib > budget_mib:
        raise PredictedOutOfMemoryError(
            f"estimated peak {estimate_mib:.0f} MiB, {budget_mib:.0f} MiB to be had"
        )
    return {name: facts[name] for name in ("architecture_key", "params", "macs")} | {
        "estimated_peak_mib": estimate_mib
    }


def _estimated_mib(spec: ProfileSpec, model: nn.Module) -> float | None:
    """Estimated peak memory of a step; None for a network of a person's own whose code needs real tensors."""
    inputs = _shapes_of_batch(spec, model)
    try:
        found = tracing.estimate_peak_memory(model, spec.batch_size, stage=spec.stage, inputs=inputs)
    except Exception:
        if ":" in spec.network:
            return None
        raise
    # The estimate is for four-byte elements.
    return found["peak_mib"] * arithmetic.stored_type(spec.precision).itemsize / 4


def _shapes_of_batch(spec: ProfileSpec, model: nn.Module) -> Inputs:
    """The batch without memory, from that of few samples: a batch that will not fit must not be made."""
    few = loading.make_inputs(spec, model, tracing.TRACED_BATCH, spec.input_size, seed=spec.seed)

    def grown(tensor: torch.Tensor) -> torch.Tensor:
        is_batch = tensor.dim() > 0 and len(tensor) == tracing.TRACED_BATCH
        shape = (spec.batch_size, *tensor.shape[1:]) if is_batch else tensor.shape
        return torch.empty(shape, dtype=tensor.dtype, device="meta")

    return few.mapped(grown)


@contextlib.contextmanager
def _memory_limit(spec: ProfileSpec) -> Generator[None]:
    """Let the process grow by no more than the limit, so that running out is an error and not the end of the
    host."""
    if spec.memory_limit_mib is None:
        yield
        return
    old = resource.getrlimit(resource.RLIMIT_AS)
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + int(spec.memory_limit_mib * 2**20), old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, old)
