"""Timers of the measurement protocol: the host's clock with its signs of contention, and CUDA events."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Sequence

import torch

from perf_assets.measuring.devices import host
from perf_assets.measuring.devices.nvml import NvmlReader
from perf_assets.measuring.profiling.protocol import Block

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_TICK_WINDOW_S = 0.2
"""Processor time is counted in ticks of 10 ms; over shorter windows the share of others is mostly
rounding."""


class HostTimer:
    """Times blocks on the processor: wall time, CPU time, involuntary switches, and what others used."""

    def __init__(self) -> None:
        self._cpus = os.cpu_count() or 1
        self._window: tuple[float, tuple[int, int] | None, float] | None = None
        self._other_share: float | None = None
        self.resolution_s = _cost_s(lambda: self.time_block(lambda: None, 1))

    def time_block(self, step: Callable[[], object], steps: int) -> Block:
        """Run and time a block; see :class:`perf_assets.measuring.profiling.protocol.Timer`."""
        switches = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
        cpu_s = time.process_time()
        start_s = time.perf_counter()
        for _ in range(steps):
            step()
        wall_s = time.perf_counter() - start_s
        cpu_s = time.process_time() - cpu_s
        switches = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw - switches
        return Block(steps, wall_s, cpu_s, switches, self._others())

    def synchronize(self) -> None:
        """The processor has finished when the call returns."""

    def _others(self) -> float | None:
        """Share of the machine that other processes (and the hypervisor) used in the last window of ticks."""
        now_s = time.perf_counter()
        if self._window and now_s - self._window[0] < _TICK_WINDOW_S:
            return self._other_share
        ticks, own_s = host.busy_ticks(), time.process_time()
        if self._window and ticks and self._window[1]:
            busy_s = (sum(ticks) - sum(self._window[1])) / _TICKS_PER_S
            capacity_s = self._cpus * (now_s - self._window[0])
            self._other_share = max(0.0, (busy_s - (own_s - self._window[2])) / capacity_s)
        self._window = (now_s, ticks, own_s)
        return self._other_share


class CudaTimer:
    """Times blocks on a GPU by events, one synchronisation per block; clock and throttling from NVML if
    given."""

    def __init__(self, device: torch.device, nvml: NvmlReader | None = None) -> None:
        self._device = device
        self._nvml = nvml
        self.resolution_s = _cost_s(lambda: self._events(lambda: None, 1))

    def time_block(self, step: Callable[[], object], steps: int) -> Block:
        """Run and time a block; see :class:`perf_assets.measuring.profiling.protocol.Timer`."""
        cpu_s = time.process_time()
        wall_s, queued_s = self._events(step, steps)
        cpu_s = time.process_time() - cpu_s
        if self._nvml is None:
            return Block(steps, wall_s, cpu_s, queued_s=queued_s)
        reading = self._nvml.read(time.perf_counter())
        highest_mhz = self._nvml.highest_sm_clock_mhz
        share = reading.sm_clock_mhz / highest_mhz if reading.sm_clock_mhz and highest_mhz else None
        return Block(
            steps,
            wall_s,
            cpu_s,
            sm_clock_share=share,
            throttled=is_throttled(reading.throttle_reasons),
            queued_s=queued_s,
        )

    def synchronize(self) -> None:
        """Wait for the GPU."""
        torch.cuda.synchronize(self._device)

    def _events(self, step: Callable[[], object], steps: int) -> tuple[float, float]:
        """Time on the device, and how much of it was left when the host had handed over everything."""
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(self._device)
        start.record()
        for _ in range(steps):
            step()
        end.record()
        handed_over_s = time.perf_counter()
        torch.cuda.synchronize(self._device)
        return start.elapsed_time(end) / 1e3, time.perf_counter() - handed_over_s


def is_throttled(reasons: Sequence[str]) -> bool:
    """Did heat or hardware slow the GPU down? A cap of power alone is how large cards always run under load; one
    that costs speed shows in the clock."""
    return bool(set(reasons) - {"sw_power_cap"})


def _cost_s(empty_block: Callable[[], object]) -> float:
    """Typical cost of timing nothing: the median of many, because the first ones warm up."""
    costs_s = []
    for _ in range(51):
        start_s = time.perf_counter()
        empty_block()
        costs_s.append(time.perf_counter() - start_s)
    return sorted(costs_s)[len(costs_s) // 2]
