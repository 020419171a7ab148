"""How much a setting or a quantity changes what comes later: by adjustment, with bootstrap intervals and a placebo.

The effect of a setting is a contrast of two of its levels: the mean outcome if every run had the one, less that if
every run had the other, all other settings as they are (standardisation; Robins 1986). A regression of its own per
level lets the effect differ between, say, networks. It is claimed only for runs whose other settings were tried with
both levels. Searching graphs does not belong here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from perf_assets.analysis.causal.encoding import bent_line, dummies
from perf_assets.analysis.causal.frame import FLAG, NOT_STATED, RARE, SETTING, CausalFrame

ADJUSTMENT, DOUBLE_ML, PLACEBO, RANDOMISED = "adjustment", "double_ml", "placebo", "randomised"

FEWEST_OF_A_LEVEL = 10
INTERVAL = (2.5, 97.5)
_RIDGE = 1e-6


@dataclass(frozen=True)
class Effect:
    """A change of ``target`` that comes with a change of ``source``, in ``unit``; None where it cannot be told."""

    source: str
    target: str
    contrast: str
    method: str
    effect: float | None
    lower: float | None
    upper: float | None
    n: int
    verdict: str = ""


@dataclass
class Comparison:
    """Two levels of a setting on the runs that can tell them apart."""

    source: str
    high: str
    low: str
    rows: np.ndarray
    """Indices of all runs, of any level, whose other settings occur with both levels; the target is known."""
    treated: np.ndarray
    """Of those: 1 with the high level, 0 with the low one, -1 with another."""
    covariates: np.ndarray
    """Of those: dummies of the other settings."""

    @property
    def contrast(self) -> str:
        """In words."""
        return f"{self.high} against {self.low}"


def contrasts(frame: CausalFrame, source: str) -> list[tuple[str, str]]:
    """Pairs of levels worth comparing: of numbers the highest with the lowest, else each with the most frequent."""
    levels = [level for level in frame.levels[source] if level not in (NOT_STATED, RARE)]
    if len(levels) < 2:
        return []
    if source in frame.numeric:
        return [(levels[-1], levels[0])]
    counts = frame.rows[source].value_counts()
    base = max(levels, key=lambda level: counts[level])
    return [(level, base) for level in levels if level != base]


def comparison(frame: CausalFrame, source: str, target: str, high: str, low: str) -> Comparison:
    """Find the runs on which two levels of a setting can be compared."""
    values = frame.rows[source].to_numpy()
    known = frame.rows[target].notna().to_numpy()
    others = [name for name in frame.settings if name != source]
    usable = known.copy()
    for name in others:
        column = frame.rows[name].to_numpy()
        both = set(column[known & (values == high)]) & set(column[known & (values == low)])
        usable &= np.array([value in both for value in column], dtype=bool)
    rows = np.flatnonzero(usable)
    treated = np.where(values[rows] == high, 1, np.where(values[rows] == low, 0, -1))
    parts = [np.empty((len(rows), 0))]
    for name in others:
        column = frame.rows[name].iloc[rows]
        present = [level for level in frame.levels[name] if (column == level).any()]
        parts.append(dummies(column, present))
    return Comparison(source, high, low, rows, treated, np.hstack(parts))


def can_tell(compared: Comparison) -> bool:
    """Has either level enough runs?"""
    return min((compared.treated == 1).sum(), (compared.treated == 0).sum()) >= FEWEST_OF_A_LEVEL


def adjusted(frame: CausalFrame, target: str, compared: Comparison, bootstraps: int, seed: int) -> Effect:
    """The effect by standardisation, with a bootstrap interval over runs."""
    empty = Effect(
        compared.source, target, compared.contrast, ADJUSTMENT, None, None, None, len(compared.rows)
    )
    if not can_tell(compared):
        return replace(
            empty, verdict="cannot tell: too few runs differ in nothing that was tried with one level only"
        )
    y = frame.rows[target].to_numpy(dtype=float)[compared.rows]
    design = np.column_stack([np.ones(len(y)), compared.covariates])
    estimate = standardised(design, y, compared.treated, np.ones(len(y)))
    rng = np.random.default_rng(seed)
    draws = [
        standardised(design, y, compared.treated, rng.multinomial(len(y), np.full(len(y), 1 / len(y))))
        for _ in range(bootstraps)
    ]
    return _with_interval(empty, frame, estimate, np.array(draws))


def placebo(frame: CausalFrame, target: str, compared: Comparison, permutations: int, seed: int) -> Effect:
    """The same estimate after the levels were dealt out at random: its interval must cover 0."""
    empty = Effect(compared.source, target, compared.contrast, PLACEBO, None, None, None, len(compared.rows))
    if not can_tell(compared):
        return replace(empty, verdict="cannot tell")
    y = frame.rows[target].to_numpy(dtype=float)[compared.rows]
    design = np.column_stack([np.ones(len(y)), compared.covariates])
    rng = np.random.default_rng(seed)
    draws = np.array(
        [
            standardised(design, y, rng.permutation(compared.treated), np.ones(len(y)))
            for _ in range(permutations)
        ]
    )
    lower, upper = np.percentile(draws, INTERVAL)
    word = "covers 0" if lower <= 0 <= upper else "does not cover 0"
    return replace(_with_interval(empty, frame, float(draws.mean()), draws), verdict=word)


def standardised(design: np.ndarray, y: np.ndarray, treated: np.ndarray, weights: np.ndarray) -> float:
    """Mean prediction with the high level less that with the low one, over all rows.

    Args:
        design: a column of ones and the covariates, n x k.
        y: outcome, n.
        treated: 1, 0, or -1 for rows of other levels, which count in the mean only.
        weights: of the rows, n.
    """
    used = weights > 0
    means = np.average(design[used], axis=0, weights=weights[used])
    predicted = []
    for level in (1, 0):
        rows = used & (treated == level)
        x, w = design[rows], weights[rows]
        gram = (x * w[:, None]).T @ x + _RIDGE * np.eye(x.shape[1])
        predicted.append(means @ np.linalg.solve(gram, x.T @ (w * y[rows])))
    return float(predicted[0] - predicted[1])


def of_quantity(
    frame: CausalFrame, source: str, target: str, causes: list[str], bootstraps: int, seed: int
) -> Effect:
    """The change of ``target`` with one standard deviation more of ``source``, all settings and causes of it equal.

    Args:
        frame: the columns.
        source: a quantity or flag.
        target: a later column.
        causes: what the graph says causes ``source``.
        bootstraps: draws of the interval.
        seed: of the draws.
    """
    contrast = "yes against no" if frame.kinds[source] == FLAG else "one standard deviation more"
    names = [source, target, *(name for name in causes if frame.kinds[name] != SETTING)]
    known = frame.rows[names].notna().all(axis=1).to_numpy()
    rows = frame.rows[known]
    empty = Effect(source, target, contrast, ADJUSTMENT, None, None, None, len(rows))
    parts = [np.ones((len(rows), 1))]
    for name in frame.settings:
        parts.append(
            dummies(rows[name], [level for level in frame.levels[name] if (rows[name] == level).any()])
        )
    parts += [bent_line(rows[name].to_numpy(dtype=float)) for name in names[2:]]
    x = rows[source].to_numpy(dtype=float)
    x = x if frame.kinds[source] == FLAG else x / x.std()
    design = np.column_stack([x, *parts])
    if len(rows) < 2 * design.shape[1]:
        return replace(empty, verdict="cannot tell: too few runs")
    y = rows[target].to_numpy(dtype=float)
    rng = np.random.default_rng(seed)
    draws = [
        _slope(design, y, rng.multinomial(len(y), np.full(len(y), 1 / len(y)))) for _ in range(bootstraps)
    ]
    return _with_interval(empty, frame, _slope(design, y, np.ones(len(y))), np.array(draws))


def _slope(design: np.ndarray, y: np.ndarray, weights: np.ndarray) -> float:
    gram = (design * weights[:, None]).T @ design
    gram += _RIDGE * np.eye(len(gram))
    return float(np.linalg.solve(gram, design.T @ (weights * y))[0])


def _with_interval(empty: Effect, frame: CausalFrame, estimate: float, draws: np.ndarray) -> Effect:
    lower, upper = np.percentile(draws, INTERVAL)
    return in_unit(empty, frame, estimate, float(lower), float(upper))


def in_unit(empty: Effect, frame: CausalFrame, estimate: float, lower: float, upper: float) -> Effect:
    """Fill an effect in the unit of its target: logs become percent, flags percentage points."""
    if empty.target in frame.logs:
        estimate, lower, upper = (100 * float(np.expm1(value)) for value in (estimate, lower, upper))
    elif frame.kinds[empty.target] == FLAG:
        estimate, lower, upper = 100 * estimate, 100 * lower, 100 * upper
    return replace(empty, effect=estimate, lower=lower, upper=upper)


def unit_of(frame: CausalFrame, target: str, units: dict[str, str]) -> str:
    """Unit of an effect on ``target``; ``units`` are those of the columns themselves."""
    if target in frame.logs:
        return "%"
    if frame.kinds[target] == FLAG or units.get(target) == "%":
        return "percentage points"
    return units.get(target, "")
