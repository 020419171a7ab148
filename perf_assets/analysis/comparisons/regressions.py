"""Each run group against its own history: rows of the table ``regressions``. Reading and publishing stand in
``pipeline``."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtr

from perf_assets.analysis.comparisons.change_points import change_points
from perf_assets.analysis.comparisons.groups import LEVEL, NEEDED_FOR_SAME, UNDECIDED, log_values
from perf_assets.analysis.comparisons.metrics import CONFIGURATION, METRICS, ON_DEMAND, VERSIONS, Metric
from perf_assets.analysis.comparisons.paired import SAME_WITHIN
from perf_assets.analysis.comparisons.ranks import Shift, find_shift, holm

WINDOW_GROUPS = 30
OWN_VALUES = 5
"""From so many repeats on a group is tested alone."""
STRETCH_VALUES = 10
"""Groups of fewer repeats are tested together with the nearest before them, up to so many values."""
SHOWN_GROUPS = 60
"""So many of the newest groups of a configuration get a row."""


@dataclass
class _Group:
    name: str
    started_at: datetime
    logs: np.ndarray


@dataclass
class _Test:
    """One row to be: judged only when all tests of its day are known."""

    configuration: str
    metric: Metric
    group: _Group
    tested: np.ndarray
    window: np.ndarray
    window_groups: int
    shift: Shift
    p_value: float
    is_newest: bool
    changed_at: datetime | None
    adjusted: float = field(default=1.0)


def find_regressions(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of ``regressions`` for runs with a start time, oldest first.

    A group's values are tested against the values of up to 30 groups before it, since the last change point. From
    5 repeats on a group stands alone; then also its median must lie outside what the medians of earlier groups
    scatter, since days differ more than repeats. Groups of fewer repeats are tested with those just before them, 10
    values in all: a tenth at a CV of 5 % is found in 95 of 100 cases when 10 new values are there, not before. A
    row's verdict holds after control for all tests of its day.

    Args:
        runs: rows of :data:`perf_assets.analysis.comparisons.metrics.MEASURED`.
    """
    timed = runs[runs["started_at"].notna()]
    if timed.empty:
        return []
    tests: list[_Test] = []
    digest = hashlib.sha256()
    for key, rows in timed.groupby(list(CONFIGURATION), dropna=False, sort=True):
        configuration = _described(key)
        parts = _parts(rows)
        for metric in METRICS.values():
            if metric.name in ON_DEMAND or not rows[metric.name].notna().any():
                continue
            groups = _groups(parts, metric.name)
            for group in groups:
                digest.update(f"{configuration}{metric.name}{group.name}{group.logs.tolist()}".encode())
            tests += _tests(configuration, metric, groups)
    by_day: dict[Any, list[_Test]] = {}
    for test in tests:
        by_day.setdefault(test.group.started_at.date(), []).append(test)
    for together in by_day.values():
        for test, adjusted in zip(together, holm([test.p_value for test in together]), strict=True):
            test.adjusted = adjusted
    return [_row(test, digest.hexdigest()[:16]) for test in tests]


def alarms(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of newest groups that are worse, and those that are better."""
    newest = [row for row in rows if row["is_newest"]]
    return (
        [row for row in newest if row["verdict"] in ("slower", "worse")],
        [row for row in newest if row["verdict"] in ("faster", "better")],
    )


def _parts(rows: pd.DataFrame) -> list[tuple[str, datetime, pd.DataFrame]]:
    """Runs of one day and one set of versions, oldest first, with the name of that group."""
    ordered = rows.sort_values(["started_at", "run_id"])
    days = ordered["started_at"].dt.strftime("%Y-%m-%d")
    names = days.str.cat(
        [
            ordered[name].map(lambda value, name=name: "" if pd.isna(value) else f" {name} {str(value)[:12]}")
            for name in VERSIONS
        ]
    )
    return [
        (str(name), part["started_at"].iloc[0].to_pydatetime(), part)
        for name, part in ordered.groupby(names, sort=False)
    ]


def _groups(parts: list[tuple[str, datetime, pd.DataFrame]], metric: str) -> list[_Group]:
    """The groups' values of a metric; those without one are left out."""
    groups = [_Group(name, started_at, log_values(part, metric)) for name, started_at, part in parts]
    return [group for group in groups if len(group.logs)]


def _tests(configuration: str, metric: Metric, groups: list[_Group]) -> Iterator[_Test]:
    medians = np.array([float(np.median(group.logs)) for group in groups])
    for place in range(max(1, len(groups) - SHOWN_GROUPS), len(groups)):
        first = _first_tested(groups, place)
        jumps = change_points(medians[:first])
        start = max(jumps[-1] if jumps else 0, first - WINDOW_GROUPS)
        window = groups[start:first]
        if not window:
            continue
        tested = np.concatenate([group.logs for group in groups[first : place + 1]])
        before = np.concatenate([group.logs for group in window])
        shift = find_shift([(before, tested)], LEVEL)
        p_value = shift.p_value
        if len(groups[place].logs) > 1 and first == place:
            p_value = max(p_value, _p_among_groups(medians[start:first], medians[place]))
        changed_at = groups[start].started_at if jumps and start == jumps[-1] else None
        yield _Test(
            configuration,
            metric,
            groups[place],
            tested,
            before,
            len(window),
            shift,
            p_value,
            place == len(groups) - 1,
            changed_at,
        )


def _first_tested(groups: list[_Group], place: int) -> int:
    """Where the tested values begin: the group itself, or as many before it as are needed, half of all at most."""
    values, first = len(groups[place].logs), place
    while len(groups[place].logs) < OWN_VALUES and values < STRETCH_VALUES and first - 1 > place - first + 1:
        first -= 1
        values += len(groups[first].logs)
    return first


def _p_among_groups(medians: np.ndarray, median: float) -> float:
    """Chance that one more group's median lies so far off, by the t distribution; 0 where too few are known."""
    if len(medians) < 3:
        return 0.0
    spread = max(float(medians.std(ddof=1)), 1e-6) * math.sqrt(1 + 1 / len(medians))
    return 2 * float(stdtr(len(medians) - 1, -abs(median - float(medians.mean())) / spread))


def _row(test: _Test, snapshot: str) -> dict[str, Any]:
    shift = test.shift
    fewest = min(len(test.tested), len(test.window))
    if fewest >= NEEDED_FOR_SAME and shift.low >= 1 - SAME_WITHIN and shift.high <= 1 + SAME_WITHIN:
        verdict = "same"
    elif test.adjusted <= LEVEL:
        verdict = test.metric.verdict(shift.ratio)
    else:
        verdict = UNDECIDED
    return {
        "configuration": test.configuration,
        "metric": test.metric.name,
        "run_group": test.group.name,
        "started_at": test.group.started_at,
        "n": len(test.tested),
        "baseline_n": len(test.window),
        "baseline_groups": test.window_groups,
        "median": math.exp(float(np.median(test.tested))),
        "baseline_median": math.exp(float(np.median(test.window))),
        "ratio": shift.ratio,
        "lower": shift.low,
        "upper": shift.high if math.isfinite(shift.high) else None,
        "detectable": shift.detectable if math.isfinite(shift.detectable) else None,
        "verdict": verdict,
        "p_value": test.adjusted,
        "is_newest": test.is_newest,
        "changed_at": test.changed_at,
        "snapshot": snapshot,
    }


def _described(key: Any) -> str:
    return ", ".join(
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in zip(CONFIGURATION, key, strict=True)
        if not pd.isna(value)
    )
