"""Small statistics that several wings need: intervals of medians, correlation of successive values."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def median_interval(values: Sequence[float] | np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of the median from order statistics, free of any assumed distribution.

    Between two ranks it interpolates (Hettmansperger and Sheather 1986), so that coverage is near the asked
    one for small samples too. Where successive values are correlated beyond chance, ranks are spread as if
    there were fewer values, n (1 - ρ) / (1 + ρ) of them.

    Returns:
        Low and high end; the extremes where there are too few values for the confidence.
    """
    from scipy.special import bdtr  # scipy.stats has it too, and takes a second to load

    ordered = np.sort(np.asarray(values, dtype=float))
    n = len(ordered)
    if n < 3:
        return float(ordered[0]), float(ordered[-1])
    correlation = autocorrelation(values)
    effective = n * (1 - correlation) / (1 + correlation) if correlation > 2 / math.sqrt(n) else float(n)
    size = max(3, round(effective))
    # Ranks d and n - d + 1 hold the median with probability 1 - 2 P(fewer than d of n lie below it).
    below = bdtr(np.arange(size), size, 0.5)
    d = int(np.searchsorted(below, (1 - confidence) / 2))
    if d < 1:
        return float(ordered[0]), float(ordered[-1])
    wide, narrow = (1 - 2 * below[k - 1] for k in (d, d + 1))
    share = (wide - confidence) / (wide - narrow)
    weight = (size - d) * share / (d + (size - 2 * d) * share)
    # Distance of the rank from the middle, carried over from the effective size to the real one.
    distance = (size / 2 - d - weight + 0.5) * math.sqrt(n / size) * math.sqrt(n / effective)
    position = max(0.0, n / 2 - distance - 0.5)
    low = np.interp([position, n - 1 - position], np.arange(n), ordered)
    return float(low[0]), float(low[1])


def autocorrelation(values: Sequence[float] | np.ndarray) -> float:
    """Correlation of successive values' ranks, 0 for fewer than four or for constant values."""
    ranks = np.argsort(np.argsort(np.asarray(values, dtype=float), kind="stable"), kind="stable").astype(
        float
    )
    if len(ranks) < 4 or np.ptp(np.asarray(values, dtype=float)) == 0:
        return 0.0
    ranks -= ranks.mean()
    return float((ranks[1:] * ranks[:-1]).sum() / (ranks**2).sum())
