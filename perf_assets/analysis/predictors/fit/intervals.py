"""How sure a prediction is, and what a few measured points of something new teach.

What is new about a configuration decides what its error is drawn from: another size of something measured,
another pruning level or algorithm of a known network, a network, a device. For each kind, left-out groups of
the training rows say how the logarithm of measured / predicted deviates. A group deviates as a whole, and
besides by what
neighbouring sizes share, and by noise: a Gaussian process with one offset a group. Before anything of a new
group was measured, its variance is the interval; measured points then condition it (Rasmussen and Williams,
Gaussian Processes for Machine Learning, chapter 2).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import product

import numpy as np
from scipy import stats

COVERAGE = 0.9
MOST_POINTS = 40
"""Rows of a group that the process is fitted to: neighbours repeat each other."""
MOST_GROUPS = 24
MIN_CALIBRATION = 10


@dataclass
class Deviation:
    """How the logarithm of measured / predicted deviates in a group that nothing was learnt from.

    ``offset``, ``local`` and ``noise`` are variances: of whole groups, of what sizes within ``length`` (in
    units of their logarithm) share, and of single rows. ``half_width`` of the 90 % interval is in that
    logarithm; when points of a group were measured, it is ``spread_factor`` standard deviations of what they
    leave open.
    """

    half_width: float
    spread_factor: float
    offset: float
    local: float
    noise: float
    length: float
    gap: float = 0.0
    """Of left-out pruning levels, how loosely others held them on average (see ``novelty.level_gaps``); 0
    where none were."""
    x: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))
    ratios: np.ndarray = field(default_factory=lambda: np.empty(0))
    groups: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=str))
    """Points measured since: logarithms of their sizes (k, sizes), of measured / predicted (k,), their groups
    (k,)."""

    @classmethod
    def calibrate(
        cls, x: np.ndarray, ratios: np.ndarray, groups: np.ndarray, told: np.ndarray
    ) -> Deviation | None:
        """From rows that were predicted without their group.

        Args:
            x: logarithms of sizes, shape (n, sizes).
            ratios: logarithms of measured / predicted, shape (n,).
            groups: shape (n,).
            told: rows whose deviation is that of the cost and not of a cap, shape (n,).

        Returns:
            None where there are fewer than two groups or ten rows: nothing says how groups differ.
        """
        names = np.unique(groups)
        if len(names) < 2 or len(ratios) < MIN_CALIBRATION:
            return None
        chosen = []
        for name in names[np.linspace(0, len(names) - 1, min(len(names), MOST_GROUPS)).astype(int)]:
            own = np.flatnonzero((groups == name) & told)
            chosen.append(own[np.linspace(0, len(own) - 1, min(len(own), MOST_POINTS)).astype(int)])
        scale, shares, length = _most_likely([(x[own], ratios[own]) for own in chosen])
        offset, local, noise = (scale * share for share in shares)
        own = cls(half_width_of(ratios, groups), 1.0, offset, local, noise, length)
        factor = own._spread_factor([(x[part], ratios[part]) for part in chosen])
        return replace(own, spread_factor=factor * few_groups_factor(ratios, groups))

    def widened(self, factor: float) -> Deviation:
        """The deviation with intervals that are ``factor`` times as wide."""
        return replace(self, half_width=self.half_width * factor, spread_factor=self.spread_factor * factor)

    def _spread_factor(self, parts: list[tuple[np.ndarray, np.ndarray]]) -> float:
        """The 90 % quantile of what is left over the standard deviation expected, after a few points of
        left-out groups."""
        scores, weights = [], []
        random = np.random.default_rng(0)
        for x, ratios in parts:
            for count in (1, 3, 5, 10):
                if count >= len(ratios):
                    continue
                given, rest = np.split(random.permutation(len(ratios)), [count])
                same, name = np.zeros(len(rest), dtype="<U1"), np.zeros(count, dtype="<U1")
                shift, spread = self.given(x[given], ratios[given], name).at(x[rest], same)
                scores.append(np.abs(ratios[rest] - shift) / spread)
                weights.append(np.full(len(rest), 1 / len(rest)))
        if not scores:
            return self.half_width / np.sqrt(self.offset + self.local + self.noise)
        return _quantile(np.concatenate(scores), np.concatenate(weights))

    def given(self, x: np.ndarray, ratios: np.ndarray, groups: np.ndarray) -> Deviation:
        """The deviation when these points have been measured too; arguments as for :meth:`calibrate`."""
        if not len(ratios):
            return self
        x_all = np.vstack([self.x, x]) if len(self.x) else x
        return replace(
            self,
            x=x_all,
            ratios=np.append(self.ratios, ratios),
            groups=np.append(self.groups, groups.astype(str)),
        )

    def at(self, x: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Expected logarithm of measured / predicted, and half width of the interval around it, shape (n,)
        each."""
        if not len(self.ratios):
            return np.zeros(len(x)), np.full(len(x), self.half_width)
        prior = self.offset + self.local
        known = self._kernel(self.x, self.x, self.groups, self.groups) + self.noise * np.eye(len(self.x))
        across = self._kernel(x, self.x, groups.astype(str), self.groups)
        weights = np.linalg.solve(known, across.T)
        left = np.maximum(prior - (across * weights.T).sum(axis=1), 0) + self.noise
        narrowed = np.minimum(self.half_width, self.spread_factor * np.sqrt(left))
        told = np.isin(groups.astype(str), self.groups)
        return self.ratios @ weights, np.where(told, narrowed, self.half_width)

    def _kernel(
        self, x: np.ndarray, other: np.ndarray, groups: np.ndarray, other_groups: np.ndarray
    ) -> np.ndarray:
        same = groups[:, None] == other_groups[None, :]
        return same * (self.offset + self.local * _near(x, other, self.length))


def half_width_of(ratios: np.ndarray, groups: np.ndarray) -> float:
    """Half width of the 90 % interval of a row of a new group.

    The quantile of the rows' absolute deviations, each group weighing the same (a conformal interval), made
    wider by :func:`few_groups_factor`.

    Args:
        ratios: logarithms of measured / predicted, without their group, shape (n,).
        groups: shape (n,), two or more.
    """
    _, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
    return _quantile(np.abs(ratios), 1 / counts[inverse]) * few_groups_factor(ratios, groups)


def few_groups_factor(ratios: np.ndarray, groups: np.ndarray) -> float:
    """How much wider intervals must be for how few groups they were learnt from; arguments as above.

    Student's t over the normal quantile, with the degrees of freedom of a variance between few groups plus
    one within many rows (Satterthwaite 1946).
    """
    _, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
    means = np.bincount(inverse, ratios) / counts
    freedom = max(len(ratios) - len(counts), 1)
    within = float(((ratios - means[inverse]) ** 2).sum() / freedom)
    between = max(float((means**2).mean() - (within / counts).mean()), 0.0)
    total = max(between + within, 1e-12)
    degrees = total**2 / max(between**2 / len(counts) + within**2 / freedom, 1e-24)
    level = (1 + COVERAGE) / 2
    return float(stats.t.ppf(level, degrees) / stats.norm.ppf(level))


def _quantile(scores: np.ndarray, weights: np.ndarray) -> float:
    """The weighted 90 % quantile."""
    order = np.argsort(scores)
    place = np.searchsorted(np.cumsum(weights[order]) / weights.sum(), COVERAGE)
    return float(scores[order][min(place, len(scores) - 1)])


def _near(x: np.ndarray, other: np.ndarray, length: float) -> np.ndarray:
    squares = (x**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)[None, :] - 2 * x @ other.T
    return np.exp(-np.maximum(squares, 0) / (2 * length**2))


def _most_likely(
    parts: list[tuple[np.ndarray, np.ndarray]],
) -> tuple[float, tuple[float, float, float], float]:
    """Scale, shares of offset, local and noise, and length under which the groups' deviations are most
    likely."""
    count = sum(len(ratios) for _, ratios in parts)
    best = (-np.inf, 1.0, (1.0, 0.0, 0.0), 1.0)
    for noise, offset, length in product(
        (0.03, 0.1, 0.3, 0.6, 0.95), (0.1, 0.3, 0.5, 0.7, 0.9), (0.5, 1.5, 4.0)
    ):
        shares = ((1 - noise) * offset, (1 - noise) * (1 - offset), noise)
        fit, log_determinant = 0.0, 0.0
        for x, ratios in parts:
            kernel = shares[0] + shares[1] * _near(x, x, length) + noise * np.eye(len(x))
            lower = np.linalg.cholesky(kernel)
            fit += float((np.linalg.solve(lower, ratios) ** 2).sum())
            log_determinant += 2 * float(np.log(np.diag(lower)).sum())
        scale = max(fit / count, 1e-8)
        likelihood = -0.5 * (count * np.log(scale) + log_determinant)
        if likelihood > best[0]:
            best = (likelihood, scale, shares, length)
    return best[1:]
