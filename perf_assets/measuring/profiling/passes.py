"""What is measured of one step, a function a pass: latency hot and cold, phases, layers, memory, counters,
energy.

Each pass writes its own lines to the log and returns the numbers that go into the result.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from perf_assets.measuring.devices import counters, energy, host
from perf_assets.measuring.devices.power import PowerReader
from perf_assets.measuring.networks.inputs import Inputs, loss, tensors_in
from perf_assets.measuring.profiling import arithmetic, layers, protocol
from perf_assets.measuring.profiling.exported import exported
from perf_assets.measuring.profiling.spec import ProfileSpec
from perf_assets.measuring.profiling.torch_device import used_mib
from perf_assets.measuring.recording.log import LogWriter

LAYER_PASSES = 15
EXPLAINED_SHARES = (0.95, 1.10)
"""Sum of the layers' times over the forward pass: outside, launch gaps or a neighbour were timed with the layers."""
COUNTED_STEPS = 5
COLD_BLOCKS = 20
MIN_FLUSH_MIB = 256
"""Memory written before a cold step, as triton's do_bench does; more where the last cache is larger."""


def steps(
    spec: ProfileSpec, model: nn.Module, inputs: Inputs, device: torch.device
) -> tuple[Callable[[], object], dict[str, Callable[[], object]]]:
    """One step, and of training its phases by name, in order."""
    model.train(spec.stage == "training")
    network = (
        arithmetic.compiled(spec, model)
        if spec.runtime == "torch"
        else exported(spec.runtime, model, inputs, device, spec.precision)
    )

    def answer() -> Any:
        return network(*inputs.positional, **inputs.named)

    def cast_answer() -> Any:
        with arithmetic.autocast(spec, device):
            return answer()

    run = cast_answer if spec.precision == "autocast" else answer
    if spec.stage == "inference":

        def infer() -> Any:
            with torch.inference_mode():
                return run()

        return infer, {}
    labels = torch.zeros(spec.batch_size, dtype=torch.long, device=device)
    # Momentum makes the optimizer's memory real; the rate is too small for weights to run away in many steps.
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6, momentum=0.9, weight_decay=5e-4)
    # Half precision's small gradients vanish without it: who trains so scales the loss.
    scaled = spec.precision == "autocast" and torch.get_autocast_dtype(device.type) == torch.float16
    scaler = torch.amp.GradScaler(device.type, enabled=scaled)
    pending: list[torch.Tensor] = []

    def forward() -> None:
        pending[:] = [loss(run(), labels)]

    def backward() -> None:
        scaler.scale(pending.pop()).backward()

    def update() -> None:
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()

    def train() -> None:
        forward()
        backward()
        update()

    return train, {"forward": forward, "backward": backward, "optimizer": update}


def check_outputs(step: Callable[[], object], log: LogWriter) -> None:
    """Run one step and write down whether its answer is finite: a network that computes NaN may run faster."""
    answers = [answer for answer in tensors_in(step()) if answer.is_floating_point()]
    finite = all(bool(torch.isfinite(answer).all()) for answer in answers)
    log.write("outputs", finite=finite, quality=[] if finite else ["outputs_not_finite"])


def time_hot(spec: ProfileSpec, step: Callable[[], object], timer: Any, log: LogWriter) -> dict[str, Any]:
    """Time blocks of steps until the protocol is satisfied; the median, its interval and the verdict."""
    measured = protocol.measure(
        step, timer, spec.protocol, on_block=lambda index, block: _write_block(log, "hot", index, block)
    )
    log.write(
        "warmup",
        blocks=measured.warmup_blocks,
        steady=measured.steady,
        duration_s=measured.warmup_s,
        block_size=measured.blocks[0].steps,
        timer_cost_ms=timer.resolution_s * 1e3,
    )
    verdict = {"verdict": measured.verdict, "verdict_reason": measured.verdict_reason}
    log.write("latency", cache="hot", **measured.summary, **verdict, stop_reason=measured.stop_reason)
    kept = ("latency_ms", "latency_low_ms", "latency_high_ms", "latency_mean_ms", "latency_std_ms", "blocks")
    return {name: measured.summary[name] for name in kept} | {
        **verdict,
        "throughput_per_s": spec.batch_size / measured.summary["latency_ms"] * 1e3,
    }


def time_phases(phases: dict[str, Callable[[], object]], timer: Any, log: LogWriter) -> dict[str, float]:
    """Median time of each phase of a step, in turn."""
    times_ms: dict[str, list[float]] = {name: [] for name in phases}
    for _ in range(LAYER_PASSES):
        for name, phase in phases.items():
            times_ms[name].append(timer.time_block(phase, 1).latency_ms)
    medians_ms = {name: float(np.median(times)) for name, times in times_ms.items()}
    for name, median_ms in medians_ms.items():
        log.write("phase", phase=name, latency_ms=median_ms, passes=LAYER_PASSES)
    return medians_ms


def time_cold(
    spec: ProfileSpec, step: Callable[[], object], timer: Any, device: torch.device, log: LogWriter
) -> dict[str, Any]:
    """Time single steps after the caches were overwritten; the median."""
    flush = torch.empty(MIN_FLUSH_MIB * 2**20, dtype=torch.uint8, device=device)
    blocks = []
    for index in range(COLD_BLOCKS):
        flush.zero_()
        blocks.append(timer.time_block(step, 1))
        _write_block(log, "cold", index, blocks[-1])
    summary = protocol.summarise(blocks, spec.protocol.confidence)
    log.write(
        "latency", cache="cold", **summary, verdict=None, verdict_reason=None, stop_reason="block_limit"
    )
    return {"cold_latency_ms": summary["latency_ms"]}


def _write_block(log: LogWriter, cache: str, index: int, block: protocol.Block) -> None:
    log.write(
        "sample",
        cache=cache,
        block=index,
        steps=block.steps,
        latency_ms=block.latency_ms,
        cpu_ms=None if block.cpu_s is None else block.cpu_s / block.steps * 1e3,
        involuntary_switches=block.involuntary_switches,
        other_cpu_share=block.other_cpu_share,
        sm_clock_share=block.sm_clock_share,
        throttled=block.throttled,
        queued_ms=None if block.queued_s is None else block.queued_s * 1e3,
    )


def time_layers(
    model: nn.Module,
    step: Callable[[], object],
    timer: Any,
    device: torch.device,
    total_ms: float | None,
    forward_ms: float | None,
    log: LogWriter,
    energies_j: Mapping[str, float | None] | None = None,
) -> dict[str, Any]:
    """Time each layer by hooks; the share of the forward pass that they explain together.

    ``energies_j`` are the energies of layers by name, where they were measured.
    """
    clock = layers.CudaStamps() if device.type == "cuda" else layers.HostStamps()
    rows = layers.time_layers(model, step, LAYER_PASSES, clock, timer.synchronize)
    for row in rows:
        share_pct = row["median_ms"] / total_ms * 100 if total_ms else None
        log.write("layer", **row, share_pct=share_pct, energy_j=(energies_j or {}).get(row["layer"]))
    if not forward_ms:
        return {}
    share = sum(row["median_ms"] for row in rows) / forward_ms
    low, high = EXPLAINED_SHARES
    log.write(
        "layers",
        explained_share=share,
        passes=LAYER_PASSES,
        quality=[] if low <= share <= high else ["layers_do_not_add_up"],
    )
    return {"layers_explained_share": share}


def peak_memory(
    step: Callable[[], object], timer: Any, device: torch.device, idle_mib: float | None, log: LogWriter
) -> dict[str, Any]:
    """Run two steps and read the peaks: framework allocated and reserved, device or system used, process.

    ``idle_mib`` was in use before the network came; the peak without it is the network's own.
    """
    step()
    timer.synchronize()
    on_gpu = device.type == "cuda"
    if on_gpu:
        # What the cold pass overwrote the caches with is still kept, and is not the network's.
        torch.cuda.empty_cache()
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
        "memory_idle_mib": idle_mib,
        "memory_net_mib": None if watch.peak_mib is None or idle_mib is None else watch.peak_mib - idle_mib,
    }
    log.write(
        "memory",
        **peaks,
        process_rss_before_mib=rss_before_mib,
        memory_allocated_reason=None if on_gpu else "the framework counts allocations on GPUs only",
        process_rss_reason=None if resets else "peak since the process started: it could not be reset",
    )
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
            now_mib = used_mib(self._device)
            if now_mib is not None:
                self.peak_mib = max(now_mib, self.peak_mib or 0.0)
            if self._stop.wait(0.005):
                return


def count_events(step: Callable[[], object], timer: Any, log: LogWriter) -> None:
    """Count hardware events over a few steps, where the machine allows it."""

    def work() -> None:
        for _ in range(COUNTED_STEPS):
            step()
        timer.synchronize()

    rows, reason = counters.count(work)
    for row in rows:
        log.write("counter", **row, steps=COUNTED_STEPS)
    if reason:
        log.write("counter", source="perf", scope="process", counter=None, value=None, reason=reason)


def measure_energy(
    step: Callable[[], object],
    timer: Any,
    reader: PowerReader | None,
    reason: str | None,
    log: LogWriter,
) -> dict[str, Any]:
    """Measure the energy of a step in joules, idle power and mean power, where a reader was found."""
    if reader is None:
        log.write("energy", energy_j=None, energy_reason=reason)
        return {"energy_j": None, "mean_power_w": None, "energy_reason": reason}
    found = energy.measure_energy(
        step,
        reader,
        synchronize=timer.synchronize,
        on_reading=lambda r: log.write(
            "power",
            power_w=r.power_w,
            energy_counter_j=r.counter_j,
            sm_clock_mhz=r.sm_clock_mhz,
            temperature_c=r.temperature_c,
            throttle_reasons=list(r.throttle_reasons),
        ),
    )
    log.write("energy", **found)
    kept = ("energy_j", "net_energy_j", "mean_power_w", "idle_power_w", "energy_source", "energy_reason")
    return {name: found[name] for name in kept}
