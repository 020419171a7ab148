"""Measure one configuration and write its log: what ``python -m perf_assets.measuring.profiling`` runs."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import re
import resource
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from perf_assets.measuring.devices import counters, energy, host
from perf_assets.measuring.devices.lock import device_lock
from perf_assets.measuring.networks import pruning, tracing, zoo
from perf_assets.measuring.profiling import algorithms, layers, protocol
from perf_assets.measuring.profiling.spec import ProfileSpec
from perf_assets.measuring.profiling.timers import CudaTimer, HostTimer
from perf_assets.measuring.recording.log import LogWriter

LAYER_PASSES = 15
COUNTED_STEPS = 5
COLD_BLOCKS = 20
MIN_FLUSH_MIB = 256
"""Memory written before a cold step, as triton's do_bench does; more where the last cache is larger."""

_PRECISIONS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class PredictedOutOfMemoryError(RuntimeError):
    """The estimate says that this run would not fit."""


def profile(spec: ProfileSpec, out: str | Path) -> tuple[Path, dict[str, Any]]:
    """Measure one configuration on this machine, alone on its device.

    Whatever happens to the network is a result: out of memory, an impossible algorithm, an error inside a layer.

    Args:
        spec: the configuration.
        out: folder that the log is written to.

    Returns:
        The log's path and its result line.

    Raises:
        perf_assets.measuring.devices.lock.DeviceBusyError: another process keeps measuring on the device.
        ValueError: the device does not exist here.
    """
    device = _device(spec.device)
    with device_lock(_lock_name(device), spec.lock_timeout_s):
        if spec.threads:
            torch.set_num_threads(spec.threads)
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
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
            "device": _device_facts(device),
            "engine": host.engine_facts(),
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
                    outcome = {"status": "oom", "reason": str(error).splitlines()[0][:500]}
                else:
                    outcome = {"status": "failed", "reason": f"{type(error).__name__}: {error}"[:500],
                               "traceback": traceback.format_exc()[-4000:]}  # fmt: skip
            result = {**outcome, "duration_s": time.monotonic() - started_s, **numbers}
            log.write("result", **result)
    return path, result


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, on the device or on the host."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    words = str(error)
    return isinstance(error, RuntimeError) and (
        "can't allocate memory" in words or "not enough memory" in words or "out of memory" in words.lower()
    )


def load_network(spec: ProfileSpec) -> tuple[nn.Module, dict[str, Any]]:
    """Network of a spec on the processor, in evaluation mode, and what a pruned one's spec says of it."""
    if spec.pruned_model is None:
        return zoo.build(spec.network, seed=spec.seed), {}

    model, pruned = pruning.load(spec.pruned_model)
    if pruned["base"] != spec.network:
        raise ValueError(f"{spec.pruned_model} is a pruned {pruned['base']}, the spec says {spec.network}")
    return model, {name: pruned[name] for name in ("name", "method", "ratio", "sparsity", "engine")}


def _measure(spec: ProfileSpec, device: torch.device, log: LogWriter, numbers: dict[str, Any]) -> None:
    model, pruned = load_network(spec)
    channels, own_size = zoo.input_shape(spec.network)
    size = spec.input_size or own_size
    numbers |= _describe(spec, model, size, channels, pruned, device, log)
    with _memory_limit(spec):
        precision = _PRECISIONS[spec.precision]
        model = model.to(device, precision)
        generator = torch.Generator().manual_seed(spec.seed)
        images = torch.randn(spec.batch_size, channels, size, size, generator=generator).to(device, precision)
        forced = algorithms.force(model, spec.algorithm, images, stage=spec.stage, precision=spec.precision,
                                  provider=spec.algorithm_provider, incompatible=spec.incompatible_layers)  # fmt: skip
        log.write("algorithm", **dataclasses.asdict(forced))
        step, phases = _steps(model, images, spec.stage)
        nvml, reader_reason = None, None
        try:
            reader: energy.PowerReader | None = energy.open_reader(device.type, _uuid(device))
            nvml = reader if isinstance(reader, energy.NvmlReader) else None
        except energy.PowerUnavailableError as error:
            reader, reader_reason = None, str(error)
        timer = CudaTimer(device, nvml) if device.type == "cuda" else HostTimer()
        phases_ms: dict[str, float] = {}
        if "latency" in spec.passes:
            numbers |= _time_hot(spec, step, timer, log)
        phases_ms = _time_phases(phases, timer, log)
        if "cold" in spec.passes:
            numbers |= _time_cold(spec, step, timer, device, log)
        if "layers" in spec.passes:
            forward_ms = phases_ms.get("forward", numbers.get("latency_ms"))
            numbers |= _time_layers(model, step, timer, device, numbers.get("latency_ms"), forward_ms, log)
        if "memory" in spec.passes:
            numbers |= _peak_memory(step, timer, device, log)
        if "counters" in spec.passes:
            _count(step, timer, log)
        if "energy" in spec.passes:
            numbers |= _energy(step, timer, reader, reader_reason, log)
    if nvml:
        others = nvml.other_processes(os.getpid())
        if others and numbers.get("verdict") in ("stable", "unstable"):
            numbers |= {"verdict": "contended", "verdict_reason": f"{others} other processes on the GPU"}


def _describe(
    spec: ProfileSpec, model: nn.Module, size: int, channels: int, pruned: dict[str, Any], device: torch.device,
    log: LogWriter,
) -> dict[str, Any]:  # fmt: skip
    table = tracing.layer_table(model, size, channels, training=spec.stage == "training")
    facts = {
        "architecture_key": tracing.architecture_key(model),
        "input_size": size,
        "params": sum(p.numel() for p in model.parameters()),
        "macs": sum(row["macs"] for row in table),
        "weight_mib": sum(t.numel() * t.element_size() for t in model.state_dict().values()) / 2**20,
    }
    budget_mib = spec.memory_budget_mib or _free_mib(device)
    estimate_mib = None
    if spec.skip_predicted_oom:
        estimate_mib = tracing.estimate_peak_memory(model, spec.batch_size, size, channels, stage=spec.stage)[
            "peak_mib"
        ]
        # The estimate is for four-byte elements.
        estimate_mib *= _PRECISIONS[spec.precision].itemsize / 4
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


def _steps(
    model: nn.Module, images: torch.Tensor, stage: str
) -> tuple[Callable[[], object], dict[str, Callable[[], object]]]:
    """One step, and of training its phases by name, in order."""
    if stage == "inference":
        model.eval()

        def infer() -> torch.Tensor:
            with torch.inference_mode():
                return model(images)

        return infer, {}
    model.train()
    labels = torch.zeros(len(images), dtype=torch.long, device=images.device)
    # Momentum makes the optimizer's memory real; the rate is too small for weights to run away in many steps.
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6, momentum=0.9, weight_decay=5e-4)
    pending: list[torch.Tensor] = []

    def forward() -> None:
        pending[:] = [tracing.loss(model(images), labels)]

    def backward() -> None:
        pending.pop().backward()

    def update() -> None:
        optimizer.step()
        optimizer.zero_grad()

    def train() -> None:
        forward()
        backward()
        update()

    return train, {"forward": forward, "backward": backward, "optimizer": update}


def _time_hot(spec: ProfileSpec, step: Callable[[], object], timer: Any, log: LogWriter) -> dict[str, Any]:
    measured = protocol.measure(
        step, timer, spec.settings(), on_block=lambda index, block: _write_block(log, "hot", index, block)
    )
    log.write("warmup", blocks=measured.warmup_blocks, steady=measured.steady, duration_s=measured.warmup_s,
              block_size=measured.blocks[0].steps, timer_cost_ms=timer.resolution_s * 1e3)  # fmt: skip
    verdict = {"verdict": measured.verdict, "verdict_reason": measured.verdict_reason}
    log.write("latency", cache="hot", **measured.summary, **verdict, stop_reason=measured.stop_reason)
    kept = ("latency_ms", "latency_low_ms", "latency_high_ms", "latency_mean_ms", "latency_std_ms", "blocks")
    return {name: measured.summary[name] for name in kept} | {
        **verdict,
        "throughput_per_s": spec.batch_size / measured.summary["latency_ms"] * 1e3,
    }


def _time_phases(phases: dict[str, Callable[[], object]], timer: Any, log: LogWriter) -> dict[str, float]:
    """Median time of each phase of a step, in turn."""
    times_ms: dict[str, list[float]] = {name: [] for name in phases}
    for _ in range(LAYER_PASSES):
        for name, phase in phases.items():
            times_ms[name].append(timer.time_block(phase, 1).latency_ms)
    medians_ms = {name: float(np.median(times)) for name, times in times_ms.items()}
    for name, median_ms in medians_ms.items():
        log.write("phase", phase=name, latency_ms=median_ms, passes=LAYER_PASSES)
    return medians_ms


def _time_cold(
    spec: ProfileSpec, step: Callable[[], object], timer: Any, device: torch.device, log: LogWriter
) -> dict[str, Any]:
    flush = torch.empty(MIN_FLUSH_MIB * 2**20, dtype=torch.uint8, device=device)
    blocks = []
    for index in range(COLD_BLOCKS):
        flush.zero_()
        blocks.append(timer.time_block(step, 1))
        _write_block(log, "cold", index, blocks[-1])
    summary = protocol.summarise(blocks, spec.settings().confidence)
    log.write(
        "latency", cache="cold", **summary, verdict=None, verdict_reason=None, stop_reason="block_limit"
    )
    return {"cold_latency_ms": summary["latency_ms"]}


def _write_block(log: LogWriter, cache: str, index: int, block: protocol.Block) -> None:
    log.write("sample", cache=cache, block=index, steps=block.steps, latency_ms=block.latency_ms,
              cpu_ms=None if block.cpu_s is None else block.cpu_s / block.steps * 1e3,
              involuntary_switches=block.involuntary_switches, other_cpu_share=block.other_cpu_share,
              sm_clock_share=block.sm_clock_share, throttled=block.throttled)  # fmt: skip


def _time_layers(
    model: nn.Module, step: Callable[[], object], timer: Any, device: torch.device, total_ms: float | None,
    forward_ms: float | None, log: LogWriter,
) -> dict[str, Any]:  # fmt: skip
    clock = layers.CudaStamps() if device.type == "cuda" else layers.HostStamps()
    rows = layers.time_layers(model, step, LAYER_PASSES, clock, timer.synchronize)
    for row in rows:
        log.write("layer", **row, share_pct=row["median_ms"] / total_ms * 100 if total_ms else None)
    if not forward_ms:
        return {}
    share = sum(row["median_ms"] for row in rows) / forward_ms
    log.write("layers", explained_share=share, passes=LAYER_PASSES)
    return {"layers_explained_share": share}


def _peak_memory(
    step: Callable[[], object], timer: Any, device: torch.device, log: LogWriter
) -> dict[str, Any]:
    step()
    timer.synchronize()
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    rss_before_mib = host.rss_mib()
    resets = host.reset_peak_rss()
    with _SystemMemoryWatch(device) as watch:
        for _ in range(2):
            step()
            timer.synchronize()
    peaks = {
        "memory_allocated_mib": torch.cuda.max_memory_allocated(device) / 2**20 if on_gpu else None,
        "memory_reserved_mib": torch.cuda.max_memory_reserved(device) / 2**20 if on_gpu else None,
        "memory_used_mib": watch.peak_mib,
        "process_rss_mib": host.peak_rss_mib(),
    }
    log.write("memory", **peaks, process_rss_before_mib=rss_before_mib,
              memory_allocated_reason=None if on_gpu else "the framework counts allocations on GPUs only",
              process_rss_reason=None if resets else "peak since the process started: it could not be reset")  # fmt: skip
    return peaks


class _SystemMemoryWatch:
    """Largest memory in use on the device (of the machine, on the processor) while a block runs."""

    def __init__(self, device: torch.device) -> None:
        self.peak_mib: float | None = None
        self._device = device
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            used_mib = _used_mib(self._device)
            if used_mib is not None:
                self.peak_mib = max(used_mib, self.peak_mib or 0.0)
            if self._stop.wait(0.005):
                return


def _count(step: Callable[[], object], timer: Any, log: LogWriter) -> None:
    def work() -> None:
        for _ in range(COUNTED_STEPS):
            step()
        timer.synchronize()

    rows, reason = counters.count(work)
    for row in rows:
        log.write("counter", **row, steps=COUNTED_STEPS)
    if reason:
        log.write("counter", source="perf", scope="process", counter=None, value=None, reason=reason)


def _energy(
    step: Callable[[], object],
    timer: Any,
    reader: energy.PowerReader | None,
    reason: str | None,
    log: LogWriter,
) -> dict[str, Any]:
    if reader is None:
        log.write("energy", energy_j=None, energy_reason=reason)
        return {"energy_j": None, "mean_power_w": None, "energy_reason": reason}
    found = energy.measure_energy(
        step,
        reader,
        synchronize=timer.synchronize,
        on_reading=lambda r: log.write("power", power_w=r.power_w, energy_counter_j=r.counter_j,
                                       sm_clock_mhz=r.sm_clock_mhz, temperature_c=r.temperature_c,
                                       throttle_reasons=list(r.throttle_reasons)),
    )  # fmt: skip
    log.write("energy", **found)
    kept = ("energy_j", "net_energy_j", "mean_power_w", "idle_power_w", "energy_source", "energy_reason")
    return {name: found[name] for name in kept}


@contextlib.contextmanager
def _memory_limit(spec: ProfileSpec) -> Generator[None]:
    """Let the process grow by no more than the limit, so that running out is an error and not the end of the host."""
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


def _device(name: str) -> torch.device:
    device = torch.device(name)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise ValueError(
                f"device {name}: no CUDA device is visible: use cpu, or look at CUDA_VISIBLE_DEVICES"
            )
        device = torch.device("cuda", device.index or 0)
        torch.cuda.set_device(device)
    elif device.type != "cpu":
        raise ValueError(f"device {name}: only cpu and cuda can be measured")
    return device


def _uuid(device: torch.device) -> str | None:
    return str(torch.cuda.get_device_properties(device).uuid) if device.type == "cuda" else None


def _lock_name(device: torch.device) -> str:
    return _uuid(device) or "cpu"


def _device_facts(device: torch.device) -> dict[str, Any]:
    if device.type == "cpu":
        return {"type": "cpu", "name": host.host_facts()["cpu_model"]}
    facts = torch.cuda.get_device_properties(device)
    return {
        "type": "cuda",
        "name": facts.name,
        "uuid": _uuid(device),
        "memory_total_mib": facts.total_memory / 2**20,
        "multiprocessors": facts.multi_processor_count,
        "compute_capability": f"{facts.major}.{facts.minor}",
    }


def _free_mib(device: torch.device) -> float | None:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] / 2**20
    return host.host_facts()["memory_available_mib"]


def _used_mib(device: torch.device) -> float | None:
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return (total - free) / 2**20
    return host.system_used_mib()
