"""A budget of hours: what measuring a stage has cost so far, what part of it fits, and when to stop."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from perf_assets.measuring.recording.log import read_log
from perf_assets.measuring.sweeps.grid import Sweep, points

START_S = 8.0
"""Of a point's process before its log begins: the imports of torch."""
_PASS_S = {"cold": 2.0, "layers": 2.0, "memory": 1.0, "energy": 8.0, "counters": 2.0}
"""Of the passes that the protocol does not bound, where nothing was measured yet."""


class HoursBudget:
    """The hours that a stage of a sweep may take over all its runs: earlier ones count by their logs."""

    def __init__(self, sweep: Sweep, sweep_stage: str, out: str | Path) -> None:
        hours = sweep.budget.hours if sweep.budget else None
        self._limit_s = None if hours is None else hours * 3600
        self._begun_s = time.monotonic()
        if self._limit_s is None:
            return
        durations_s = _durations_s(sweep, sweep_stage, Path(out))
        self._spent_s = sum(durations_s) + START_S * len(durations_s)
        self._assumed = not durations_s
        self._point_s = START_S + (
            statistics.fmean(durations_s) if durations_s else _guess_s(sweep, sweep_stage)
        )

    def is_spent(self) -> bool:
        """Have the stage's runs together taken so long?"""
        if self._limit_s is None:
            return False
        return self._spent_s + time.monotonic() - self._begun_s >= self._limit_s

    def coverage(self, pending: int) -> str | None:
        """What part of the points that are left the budget will cover, in one line; None without a budget."""
        if self._limit_s is None or not pending:
            return None
        left_s = max(0.0, self._limit_s - self._spent_s)
        covered = min(pending, int(left_s / self._point_s))
        source = "assumed" if self._assumed else "measured"
        return (
            f"budget: {left_s / 3600:.2g} of {self._limit_s / 3600:.2g} h are left, for about {covered} of {pending}"
            f" points ({covered / pending:.0%}) at {self._point_s:.0f} s a point ({source})"
        )


def _durations_s(sweep: Sweep, sweep_stage: str, out: Path) -> list[float]:
    found = []
    for path in out.glob("*.jsonl"):
        try:
            log = read_log(path)
        except ValueError:
            continue
        spec = log["header"].get("spec", {})
        if (spec.get("sweep"), spec.get("sweep_stage")) == (sweep.name, sweep_stage) and log["result"]:
            found.append(float(log["result"].get("duration_s") or 0.0))
    return found


def _guess_s(sweep: Sweep, sweep_stage: str) -> float:
    """Of one point, before any was measured: the bounds of its protocol."""
    spec = points(sweep, sweep_stage)[0]
    protocol = spec.protocol
    latency_s = (protocol.warmup_max_s + protocol.max_time_s) / 2 if "latency" in spec.passes else 0.0
    return latency_s + sum(_PASS_S.get(name, 0.0) for name in spec.passes)
