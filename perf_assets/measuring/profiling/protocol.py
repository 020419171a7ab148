"""How a duration is measured: warm up until steady, time blocks, keep every sample, say how far to trust it.

Nothing here knows torch or the real clock: a :class:`Timer` times blocks of steps. The rules are those that
trusted tools share: blocks so long that reading the clock costs less than 0.1 % (torch.utils.benchmark),
warm-up until three successive blocks agree within 10 % (perf_analyzer), a stop rule that is stored with the
result (nvbench), throttled blocks set aside and counted (nvbench), a median with an interval from order
statistics, and a verdict instead of silence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from perf_assets.measuring.profiling.settings import Settings
from perf_assets.workspace.statistics import autocorrelation, median_interval


@dataclass(frozen=True)
class Block:
    """One timed block of equal steps. None where the machine cannot tell."""

    steps: int
    wall_s: float
    cpu_s: float | None = None
    involuntary_switches: int | None = None
    other_cpu_share: float | None = None
    """Share of the machine's processor time that others used meanwhile, 0-1, with the hypervisor's steal."""
    sm_clock_share: float | None = None
    """Device clock over its highest, 0-1."""
    throttled: bool | None = None
    """The device says that heat or hardware slowed it down."""
    queued_s: float | None = None
    """Time for which the device still worked when the host had handed over the last step."""

    @property
    def latency_ms(self) -> float:
        """Wall time of one step."""
        return self.wall_s / self.steps * 1e3


class Timer(Protocol):
    """Times a block of steps on one device."""

    resolution_s: float
    """Cost of timing one block."""

    def time_block(self, step: Callable[[], object], steps: int) -> Block:
        """Run ``step`` that many times and wait for the device to finish."""


@dataclass(frozen=True)
class Measurement:
    """All blocks of a measurement, what they say, and whether to believe it."""

    blocks: tuple[Block, ...]
    warmup_blocks: int
    warmup_s: float
    steady: bool
    stop_reason: str
    summary: dict[str, Any]
    verdict: str
    verdict_reason: str


def measure(
    step: Callable[[], object],
    timer: Timer,
    settings: Settings | None = None,
    on_block: Callable[[int, Block], None] | None = None,
) -> Measurement:
    """Measure the duration of a step.

    Args:
        step: what is timed.
        timer: times blocks of it.
        settings: limits.
        on_block: told of each block as soon as it is timed (not in warm-up).

    Returns:
        The measurement; ``stop_reason`` is ``converged`` (the interval is narrow enough), ``time_limit``,
        ``block_limit``, or ``counted`` where the settings say how many steps are measured.
    """
    settings = settings or Settings()
    steps, warmup = _warm_up(step, timer, settings)
    blocks: list[Block] = []
    spent_s = 0.0
    next_look = settings.min_blocks
    while True:
        block = timer.time_block(step, steps)
        if on_block:
            on_block(len(blocks), block)
        blocks.append(block)
        spent_s += block.wall_s
        if settings.measured_steps is not None:
            if len(blocks) < settings.measured_steps:
                continue
            stop_reason = "counted"
            break
        # Looking at the interval after every block would stop at its luckiest moment and make it too narrow.
        if len(blocks) >= next_look and spent_s >= settings.min_time_s:
            next_look *= 2
            if _relative_half_width(blocks, settings.confidence) < settings.target_width:
                stop_reason = "converged"
                break
        if len(blocks) >= settings.max_blocks:
            stop_reason = "block_limit"
            break
        if spent_s >= settings.max_time_s:
            stop_reason = "time_limit"
            break
    # Who counts the warm-up has decided that it is enough.
    steady = settings.warmup_steps is not None or _agree(warmup[-settings.steady_blocks :], settings)
    verdict, reason = judge(blocks, steady=steady, settings=settings)
    return Measurement(
        tuple(blocks),
        len(warmup),
        sum(b.wall_s for b in warmup),
        steady,
        stop_reason,
        summarise(blocks, settings.confidence),
        verdict,
        reason,
    )


def _warm_up(step: Callable[[], object], timer: Timer, settings: Settings) -> tuple[int, list[Block]]:
    """Steps in a block, and the blocks it took until three in a row agreed or the time was up."""
    if settings.warmup_steps is not None:
        counted = [timer.time_block(step, 1) for _ in range(settings.warmup_steps)]
        if settings.measured_steps is not None or not counted:
            return 1, counted
        typical_s = float(np.median([block.wall_s for block in counted]))
        return max(1, math.ceil(timer.resolution_s / settings.timer_share / max(typical_s, 1e-12))), counted
    steps, spent_s = 1, 0.0
    recent: list[Block] = []
    while spent_s < settings.warmup_max_s:
        block = timer.time_block(step, steps)
        spent_s += block.wall_s
        needed = math.ceil(timer.resolution_s / settings.timer_share / max(block.wall_s / steps, 1e-12))
        if needed > steps and block.wall_s < timer.resolution_s / settings.timer_share:
            steps = max(2 * steps, needed)
            recent = []
            continue
        recent.append(block)
        if _agree(recent[-settings.steady_blocks :], settings):
            break
    return steps if settings.measured_steps is None else 1, recent


def _agree(blocks: Sequence[Block], settings: Settings) -> bool:
    times = [block.wall_s / block.steps for block in blocks]
    return len(times) >= settings.steady_blocks and max(times) <= min(times) * (1 + settings.steady_tolerance)


def usable(blocks: Sequence[Block]) -> list[Block]:
    """Blocks that count: not those during which the device was throttled or below 75 % of its clock."""
    kept = [b for b in blocks if not b.throttled and (b.sm_clock_share is None or b.sm_clock_share >= 0.75)]
    return kept if len(kept) * 2 >= len(blocks) else list(blocks)  # mostly throttled: that is what it does


def summarise(blocks: Sequence[Block], confidence: float = 0.95) -> dict[str, Any]:
    """Median with its interval, mean, standard deviation, extremes (ms, of one step) of the blocks that
    count."""
    kept = usable(blocks)
    times_ms = np.array([block.latency_ms for block in kept])
    low_ms, high_ms = median_interval(times_ms, confidence)
    return {
        "latency_ms": float(np.median(times_ms)),
        "latency_low_ms": low_ms,
        "latency_high_ms": high_ms,
        "latency_mean_ms": float(times_ms.mean()),
        "latency_std_ms": float(times_ms.std(ddof=1)) if len(times_ms) > 1 else None,
        "latency_min_ms": float(times_ms.min()),
        "latency_max_ms": float(times_ms.max()),
        "blocks": len(blocks),
        "blocks_discarded": len(blocks) - len(kept),
        "autocorrelation": autocorrelation(times_ms),
    }


def judge(blocks: Sequence[Block], *, steady: bool, settings: Settings) -> tuple[str, str]:
    """Verdict on a measurement and the reason for it in words.

    In this order: ``throttled``: more than a tenth of the blocks ran below 75 % of the clock or while the
    device said so. ``contended``: others used more than 5 % of the processors, or the process was pushed off
    its processor more often than 60 times per second of CPU time (a quiet Linux does so about 20 times, for
    its own threads).
    ``too_short``: too few blocks or too little time. ``unstable``: never steady in warm-up, an interquartile
    range above 10 % of the median, or an interval wider than ±2.5 %. ``host_bound``: in most blocks the device
    had run out of work; the time is the host's, which people who run the network so wait for, and not the
    device's.
    """
    times_ms = np.array([block.latency_ms for block in blocks])
    spent_s = sum(block.wall_s for block in blocks)
    slow = [b for b in blocks if b.throttled or (b.sm_clock_share is not None and b.sm_clock_share < 0.75)]
    if len(slow) * 10 > len(blocks):
        return "throttled", f"{len(slow)} of {len(blocks)} blocks ran throttled"
    others_s = sum((block.other_cpu_share or 0.0) * block.wall_s for block in blocks)
    if others_s > CONTENDED_CPU_SHARE * spent_s:
        return "contended", f"others used {others_s / spent_s:.0%} of the processors"
    switches = sum(block.involuntary_switches or 0 for block in blocks)
    cpu_s = sum(block.wall_s if block.cpu_s is None else block.cpu_s for block in blocks)
    # The last term lets chance have a few in a very short measurement.
    if switches > CONTENDED_SWITCHES_PER_CPU_S * cpu_s + 5:
        return "contended", f"{switches / cpu_s:.0f} involuntary context switches per second of CPU time"
    fewest = min(settings.min_blocks, settings.measured_steps or settings.min_blocks)
    if len(blocks) < fewest or spent_s < settings.min_time_s / 2:
        return "too_short", f"{len(blocks)} blocks in {spent_s:.3g} s"
    if not steady:
        return "unstable", "warm-up never became steady"
    spread = float(np.subtract(*np.percentile(times_ms, [75, 25])) / np.median(times_ms))
    if spread > 0.10:
        return "unstable", f"interquartile range is {spread:.0%} of the median"
    half_width = _relative_half_width(blocks, settings.confidence)
    if half_width > 0.025:
        return "unstable", f"interval is ±{half_width:.1%} of the median"
    known = [block for block in blocks if block.queued_s is not None]
    # A queue that is all but empty when the last step is handed over has run dry before.
    dry = [block for block in known if block.queued_s < DRY_QUEUE_SHARE * block.wall_s / block.steps]
    if known and len(dry) * 2 > len(known):
        return "host_bound", f"the device waited for the host in {len(dry)} of {len(known)} blocks"
    return "stable", f"interval is ±{half_width:.2%} of the median"


DRY_QUEUE_SHARE = 0.1
"""Of a step: less work than this in the device's queue, and it is the host that was measured."""
CONTENDED_CPU_SHARE = 0.05
CONTENDED_SWITCHES_PER_CPU_S = 60.0


def _relative_half_width(blocks: Sequence[Block], confidence: float) -> float:
    times_ms = [block.latency_ms for block in usable(blocks)]
    low_ms, high_ms = median_interval(times_ms, confidence)
    return (high_ms - low_ms) / 2 / float(np.median(times_ms))
