"""The test behind every comparison of two groups: how far apart they lie, and whether that could be chance.

Values come as logarithms in strata (one a configuration, so that only like is compared with like). Which runs are
compared, and what the answer is called, stands elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import ndtri, stdtr, stdtrit  # scipy.stats has them too, and takes a second to load
from scipy.stats import rankdata

Stratum = tuple[np.ndarray, np.ndarray]
"""Logarithms of the values of the first and of the second group in one configuration."""

POWER = 0.95
"""A change counts as detectable where it would be found this often."""
EXACT_VALUES = 80
"""Strata up to this size have exact probabilities; larger ones are near enough to normal."""
THINNED_VALUES = 2000
"""Larger groups are stood for by this many of their quantiles where all pairs are formed."""
SMALLEST_SPREAD = 1e-3
"""Few values that agree better than this agree by luck, or because the log rounds them."""


@dataclass(frozen=True)
class Shift:
    """How many times the first group's values the second's are."""

    ratio: float
    low: float
    high: float
    p_value: float
    detectable: float
    """Smallest relative change that would be found in 95 of 100 such comparisons; infinite where none would."""
    method: str
    """``ranks``, ``t of logs``, or ``none`` where nothing can be tested."""


def find_shift(strata: Sequence[Stratum], level: float) -> Shift:
    """Estimate by what factor the second group differs, with the interval of confidence 1 - ``level``.

    The test is Mann and Whitney's within each stratum, added up: one stratum gives their test, pairs give the sign
    test. Its probabilities are those of shuffling, whatever the noise. The estimate and interval are Hodges and
    Lehmann's, from all differences within strata. Where groups are so small that no order of theirs is rarer than
    ``level``, the t test of an additive model of the logarithms stands in.

    Raises:
        ValueError: no stratum has values of both groups.
    """
    strata = [(first, second) for first, second in strata if len(first) and len(second)]
    if not strata:
        raise ValueError("no configuration has values of both groups")
    model = _Additive.fit(strata)
    differences = _differences(strata)
    null = _null_of_pairs(tuple((len(first), len(second)) for first, second in strata))
    beyond = null.largest_below(level / 2)
    if beyond is not None:
        cut = round(beyond * len(differences) / null.pairs)  # as many, but for thinned groups
        low, high = differences[cut], differences[len(differences) - 1 - cut]
        p_value, method = _rank_p_value(strata), "ranks"
        middle = float(np.median(differences))
    elif model.freedom > 0:
        low, high = model.interval(level)
        p_value, method, middle = model.p_value(), "t of logs", model.shift
    else:
        middle = float(np.median(differences))
        return Shift(math.exp(middle), 0.0, math.inf, 1.0, math.inf, "none")
    ratio, lower, upper = (math.exp(min(value, 700.0)) for value in (middle, low, high))
    return Shift(ratio, lower, upper, p_value, model.detectable(strata, level, method), method)


@dataclass(frozen=True)
class _Additive:
    """Each stratum has a level of its own, and the second group is off by the same ``shift`` in all."""

    shift: float
    spread: float
    """Standard deviation of what the model leaves."""
    freedom: int
    weight: float

    @classmethod
    def fit(cls, strata: Sequence[Stratum]) -> _Additive:
        weights = np.array([len(a) * len(b) / (len(a) + len(b)) for a, b in strata])
        gaps = np.array([b.mean() - a.mean() for a, b in strata])
        shift = float(weights @ gaps / weights.sum())
        total = sum(float(np.square(c - c.mean()).sum()) for c in (np.concatenate(pair) for pair in strata))
        freedom = sum(len(a) + len(b) for a, b in strata) - len(strata) - 1
        left = max(0.0, total - shift**2 * float(weights.sum()))
        spread = max(math.sqrt(left / freedom), SMALLEST_SPREAD) if freedom else math.nan
        return cls(shift, spread, freedom, float(weights.sum()))

    def interval(self, level: float) -> tuple[float, float]:
        half = float(stdtrit(self.freedom, 1 - level / 2)) * self.spread / math.sqrt(self.weight)
        return self.shift - half, self.shift + half

    def p_value(self) -> float:
        return 2 * float(stdtr(self.freedom, -abs(self.shift) * math.sqrt(self.weight) / self.spread))

    def detectable(self, strata: Sequence[Stratum], level: float, method: str) -> float:
        """The change, as a share, that is found with :data:`POWER` where noise is normal with this spread."""
        if self.freedom < 1:
            return math.inf
        quantiles = float(stdtrit(self.freedom, 1 - level / 2) + stdtrit(self.freedom, POWER))
        if method == "ranks":
            # Standard deviation of the statistic over its slope at no shift: the density of a difference of
            # two normal values at zero is 1 / (2 √π spread).
            pairs = sum(len(a) * len(b) for a, b in strata)
            variance = sum(len(a) * len(b) * (len(a) + len(b) + 1) / 12 for a, b in strata)
            error = math.sqrt(variance) * 2 * math.sqrt(math.pi) * self.spread / pairs
        else:
            error = self.spread / math.sqrt(self.weight)
        # Both fall short in small groups: by simulation 15 % in 5 against 5, 7 % in 10 against 10.
        smallest = min(sum(len(pair[side]) for pair in strata) for side in (0, 1))
        return math.expm1(min(quantiles * error * (1 + 0.75 / smallest), 700.0))


@dataclass(frozen=True)
class _Null:
    """Distribution, by chance alone, of in how many pairs the second value is the larger one."""

    pairs: int
    deviation: float
    cumulated: np.ndarray | None
    """P(at most so many); None where it is taken as normal."""

    def largest_below(self, probability: float) -> int | None:
        """The largest count that chance falls to or below with no more than this probability; None: none."""
        if self.cumulated is not None:
            count = int(np.searchsorted(self.cumulated, probability * (1 + 1e-12), side="right")) - 1
        else:
            count = math.floor(self.pairs / 2 + float(ndtri(probability)) * self.deviation - 0.5)
        return count if count >= 0 else None


@lru_cache(maxsize=512)
def _null_of_pairs(sizes: tuple[tuple[int, int], ...]) -> _Null:
    pairs = sum(n * m for n, m in sizes)
    deviation = math.sqrt(sum(n * m * (n + m + 1) / 12 for n, m in sizes))
    if max(n + m for n, m in sizes) > EXACT_VALUES or len(sizes) > EXACT_VALUES:
        return _Null(pairs, deviation, None)
    chances = np.ones(1)
    for n, m in sizes:
        sums = _rank_sums(tuple(range(1, n + m + 1)), m)
        smallest = m * (m + 1) // 2
        chances = np.convolve(chances, sums[smallest : smallest + n * m + 1])
    return _Null(pairs, deviation, np.cumsum(chances))


def _rank_p_value(strata: Sequence[Stratum]) -> float:
    """Two-sided probability of rank sums at least as far off, over all ways to shuffle within strata."""
    doubled = [np.rint(2 * rankdata(np.concatenate(pair))).astype(int) for pair in strata]  # ties: halves
    seen = sum(int(ranks[len(first) :].sum()) for ranks, (first, _) in zip(doubled, strata, strict=True))
    if len(strata) > EXACT_VALUES or max(len(ranks) for ranks in doubled) > EXACT_VALUES:
        mean = variance = 0.0
        for ranks, (first, second) in zip(doubled, strata, strict=True):
            n, m = len(first), len(second)
            mean += m * float(ranks.mean())
            variance += n * m / (n + m - 1) * float(ranks.var()) if n + m > 1 else 0.0
        if variance == 0:
            return 1.0
        off = max(0.0, abs(seen - mean) - 1) / math.sqrt(variance)
        return 2 * float(0.5 * math.erfc(off / math.sqrt(2)))
    chances = np.ones(1)
    for ranks, (_, second) in zip(doubled, strata, strict=True):
        chances = np.convolve(chances, _rank_sums(tuple(sorted(ranks.tolist())), len(second)))
    return float(min(1.0, 2 * min(chances[: seen + 1].sum(), chances[seen:].sum())))


@lru_cache(maxsize=512)
def _rank_sums(ranks: tuple[int, ...], chosen: int) -> np.ndarray:
    """Probability of each sum of ``chosen`` of these ranks, drawn without return. Shape (sum of ranks + 1,)."""
    sums = np.zeros((chosen + 1, sum(ranks) + 1))
    sums[0, 0] = 1.0
    for rank in ranks:
        sums[1:, rank:] += sums[:-1, : sums.shape[1] - rank].copy()
    return sums[chosen] / sums[chosen].sum()


def _differences(strata: Sequence[Stratum]) -> np.ndarray:
    """All differences, second minus first, within strata, in order."""
    parts = [np.subtract.outer(_thinned(second), _thinned(first)).ravel() for first, second in strata]
    return np.sort(np.concatenate(parts))


def _thinned(values: np.ndarray) -> np.ndarray:
    if len(values) <= THINNED_VALUES:
        return values
    return np.quantile(values, (np.arange(THINNED_VALUES) + 0.5) / THINNED_VALUES)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p values so that a level on them bounds the chance of any false call among all (Holm 1979)."""
    order = np.argsort(p_values)
    adjusted = np.zeros(len(p_values))
    largest = 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - place) * float(p_values[index])))
        adjusted[index] = largest
    return adjusted.tolist()
