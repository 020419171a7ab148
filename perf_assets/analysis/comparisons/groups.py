"""Is the second group of runs faster, slower or the same? Over frames of runs; how they are chosen and shown stands
elsewhere."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from perf_assets.analysis.comparisons.metrics import (
    CONFIGURATION,
    ENVIRONMENT,
    METRICS,
    ON_DEMAND,
    OTHER_WORK,
    Metric,
)
from perf_assets.analysis.comparisons.paired import SAME_WITHIN
from perf_assets.analysis.comparisons.ranks import Shift, Stratum, find_shift, holm
from perf_assets.workspace.statistics import median_interval

LEVEL = 0.01
"""How often all comparisons of two equal groups together may call one of them different."""
NEEDED_FOR_SAME = 10
"""Fewer values than this in a group do not show their own spread, so they cannot be called the same."""
DISTRUSTED = frozenset(
    {"contended", "throttled", "unstable", "too_short", "algorithm_substituted", "outputs_not_finite"}
)

BAD, UNDECIDED = frozenset({"slower", "worse"}), "cannot tell"


@dataclass(frozen=True)
class MetricComparison:
    """One metric of the second group against the first. ``ratio`` is second to first, interval beside it."""

    metric: str
    unit: str
    verdict: str
    ratio: float
    lower: float
    upper: float
    p_value: float
    p_adjusted: float
    """After control for all metrics of the comparison."""
    detectable: float
    """Smallest relative change that would be found in 95 of 100 such comparisons; infinite where none would."""
    configurations: int
    baseline_n: int
    baseline_median: float
    baseline_interval: tuple[float, float]
    n: int
    median: float
    interval: tuple[float, float]
    method: str
    reason: str


@dataclass
class GroupComparison:
    """What two groups of runs say. ``refused`` tells why nothing was compared."""

    unlike: list[str] = field(default_factory=list)
    """In what the groups differ besides what was measured, one sentence each."""
    notes: list[str] = field(default_factory=list)
    metrics: list[MetricComparison] = field(default_factory=list)
    refused: str | None = None

    @property
    def exit_code(self) -> int:
        """For CI: 0 where all is the same or better, 1 where something is worse, 2 where something is open."""
        verdicts = {metric.verdict for metric in self.metrics}
        if verdicts & BAD:
            return 1
        return 2 if self.refused or not verdicts or UNDECIDED in verdicts else 0


def compare_groups(
    baseline: pd.DataFrame,
    candidate: pd.DataFrame,
    metrics: Sequence[str] | None = None,
    *,
    level: float = LEVEL,
    same_within: float = SAME_WITHIN,
    anyway: bool = False,
) -> GroupComparison:
    """Compare two groups of runs, configuration by configuration.

    Args:
        baseline: rows of :data:`perf_assets.analysis.comparisons.metrics.MEASURED`.
        candidate: rows of the same query; those in both groups raise.
        metrics: names of metrics; by default all that both groups have.
        level: chance of any false call among all metrics together.
        same_within: ratios that lie within this share of 1 are the same for all practical purposes.
        anyway: compare also groups that did different work.

    Raises:
        ValueError: a group is empty, a run is in both, or a metric is unknown.
    """
    _check(baseline, candidate, metrics)
    result = GroupComparison()
    apart, pairs = _counterparts(baseline, candidate)
    other_work = [name for name in apart if name in OTHER_WORK]
    if other_work and not anyway:
        said = "; ".join(_difference(baseline, candidate, name) for name in other_work)
        result.refused = f"not the same work: {said}"
        return result
    if not pairs:
        result.refused = "no configuration is in both groups"
        return result
    used = [pd.concat([pair[side] for pair in pairs]) for side in (0, 1)]
    differing = [name for name in dict.fromkeys((*ENVIRONMENT, *apart)) if _differ(*used, name)]
    result.unlike = [_difference(*used, name) for name in differing]
    for rows, all_rows, which in zip(used, (baseline, candidate), ("first", "second"), strict=True):
        result.notes += _notes(rows, all_rows, which)
    names = list(metrics or _usual_metrics(*used))
    tested = [(METRICS[name], strata) for name in names if (strata := _strata(pairs, name))]
    result.notes += [
        f"{name}: no configuration has it in both groups"
        for name in names
        if name not in {metric.name for metric, _ in tested}
    ]
    result.metrics = judge(tested, level=level, same_within=same_within)
    return result


def judge(
    tested: Sequence[tuple[Metric, list[Stratum]]], *, level: float = LEVEL, same_within: float = SAME_WITHIN
) -> list[MetricComparison]:
    """Verdicts on several metrics, together wrong about equals in a share ``level`` of cases at most.

    Args:
        tested: metrics, each with its strata of logarithms.
        level: of all together (Holm); each interval is for this level alone, so it leaves out 0 where Holm does.
        same_within: see :func:`compare_groups`.
    """
    shifts = [find_shift(strata, level) for _, strata in tested]
    adjusted = holm([shift.p_value for shift in shifts])
    return [
        _comparison(metric, strata, shift, p_adjusted, level, same_within)
        for (metric, strata), shift, p_adjusted in zip(tested, shifts, adjusted, strict=True)
    ]


def _comparison(
    metric: Metric, strata: list[Stratum], shift: Shift, p_adjusted: float, level: float, same_within: float
) -> MetricComparison:
    first, second = (np.concatenate([pair[side] for pair in strata]) for side in (0, 1))
    fewest = min(len(first), len(second))
    if fewest >= NEEDED_FOR_SAME and shift.low >= 1 - same_within and shift.high <= 1 + same_within:
        verdict, reason = "same", f"within {same_within:.1%}"
    elif p_adjusted <= level:
        verdict, reason = metric.verdict(shift.ratio), f"chance does this with p = {p_adjusted:.2g}"
    else:
        verdict, reason = UNDECIDED, _why_open(shift, fewest)
    return MetricComparison(
        metric.name,
        metric.unit,
        verdict,
        shift.ratio,
        shift.low,
        shift.high,
        shift.p_value,
        p_adjusted,
        shift.detectable,
        len(strata),
        len(first),
        _median(first),
        _interval(first),
        len(second),
        _median(second),
        _interval(second),
        shift.method,
        reason,
    )


def _why_open(shift: Shift, fewest: int) -> str:
    if not math.isfinite(shift.detectable):
        return "one value in each group tells nothing of their spread: measure again, 10 times or more"
    more = "" if fewest >= NEEDED_FOR_SAME else f"; {fewest} values are few, measure 10 or more in each"
    return f"a change of {shift.detectable:.1%} would be found in 95 of 100 cases{more}"


def _median(logs: np.ndarray) -> float:
    return _from_log(float(np.median(logs)))


def _interval(logs: np.ndarray) -> tuple[float, float]:
    low, high = median_interval(logs)
    return _from_log(low), _from_log(high)


def _from_log(value: float) -> float:
    return float(f"{math.exp(value):.12g}")  # a value that went there and back is itself again


def _check(baseline: pd.DataFrame, candidate: pd.DataFrame, metrics: Iterable[str] | None) -> None:
    for rows, which in ((baseline, "first"), (candidate, "second")):
        if rows.empty:
            raise ValueError(f"the {which} group has no run")
    if both := set(baseline["run_id"]) & set(candidate["run_id"]):
        raise ValueError(f"{len(both)} runs are in both groups, such as {min(both)}")
    if unknown := [name for name in metrics or () if name not in METRICS]:
        raise ValueError(f"no metric {', '.join(unknown)}: there are {', '.join(METRICS)}")


def _values(rows: pd.DataFrame, name: str) -> set[Any]:
    return {None if pd.isna(value) else value for value in rows[name].unique()}


def _differ(baseline: pd.DataFrame, candidate: pd.DataFrame, name: str) -> bool:
    return _values(baseline, name) != _values(candidate, name)


def _difference(baseline: pd.DataFrame, candidate: pd.DataFrame, name: str) -> str:
    first, second = (_listed(_values(rows, name)) for rows in (baseline, candidate))
    return f"{name} is {first} in the first group and {second} in the second"


def _listed(values: set[Any]) -> str:
    known = sorted(
        f"{value:g}" if isinstance(value, float) else str(value) for value in values if value is not None
    )
    shown = [*known[:3], *(["unknown"] if None in values else [])]
    return " or ".join(shown) + (f" (of {len(known)})" if len(known) > 3 else "")


Pairs = list[tuple[pd.DataFrame, pd.DataFrame]]


def _counterparts(baseline: pd.DataFrame, candidate: pd.DataFrame) -> tuple[list[str], Pairs]:
    """Columns in which the groups have nothing in common, and the rows of both, alike in all other columns.

    That rows of both groups know nothing of a column is a likeness only while it finds counterparts: without it,
    what is known decides.
    """
    values = {name: (_values(baseline, name), _values(candidate, name)) for name in CONFIGURATION}
    apart = [name for name, (first, second) in values.items() if not first & second]
    pairs = _common(baseline, candidate, apart)
    if not pairs:
        apart = [
            name
            for name, (first, second) in values.items()
            if first != second and not first & second - {None}
        ]
        pairs = _common(baseline, candidate, apart)
    return apart, pairs


def _common(baseline: pd.DataFrame, candidate: pd.DataFrame, apart: Sequence[str]) -> Pairs:
    """Rows of both groups, configuration by configuration, where both have some; the columns apart do not count."""
    key = [name for name in CONFIGURATION if name not in apart]
    first, second = (dict(list(rows.groupby(key, dropna=False))) for rows in (baseline, candidate))
    named = [{_plain(values): rows for values, rows in each.items()} for each in (first, second)]
    return [(rows, named[1][values]) for values, rows in named[0].items() if values in named[1]]


def _plain(values: Any) -> tuple:
    """A key in which absent values are equal to one another."""
    return tuple(None if pd.isna(value) else value for value in values)


def _notes(rows: pd.DataFrame, all_rows: pd.DataFrame, which: str) -> list[str]:
    notes = []
    left_out = all_rows["run_id"].nunique() - rows["run_id"].nunique()
    if left_out:
        notes.append(f"{left_out} runs of the {which} group have no counterpart of their configuration")
    flagged = rows[[bool(DISTRUSTED & set(_flags(flags))) for flags in rows["quality"]]]["run_id"].nunique()
    if flagged:
        notes.append(
            f"{flagged} of {rows['run_id'].nunique()} runs of the {which} group were measured badly: see quality"
        )
    return notes


def _flags(flags: Any) -> Iterable[str]:
    return flags if isinstance(flags, (list, tuple, np.ndarray)) else ()


def _usual_metrics(baseline: pd.DataFrame, candidate: pd.DataFrame) -> list[str]:
    names = [
        name
        for name in METRICS
        if name not in ON_DEMAND and baseline[name].gt(0).any() and candidate[name].gt(0).any()
    ]
    if "latency_ms" in names and not _values(baseline, "mode") - {None}:
        return [name for name in names if name != "throughput_per_s"]  # its mirror image, outside load tests
    return names


def _strata(pairs: Sequence[tuple[pd.DataFrame, pd.DataFrame]], name: str) -> list[Stratum]:
    strata = [(log_values(first, name), log_values(second, name)) for first, second in pairs]
    return [(first, second) for first, second in strata if len(first) and len(second)]


def log_values(rows: pd.DataFrame, name: str) -> np.ndarray:
    """Logarithms of a column; what is absent, not finite or not above zero is left out."""
    values = rows[name].to_numpy(dtype=float, na_value=np.nan)
    return np.log(values[np.isfinite(values) & (values > 0)])
