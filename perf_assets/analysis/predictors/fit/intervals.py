"""How sure a prediction is, and what a few measured points of something new teach.

Groups (networks, variants, devices) that were left out of a fit say how the logarithm r of measured /
predicted deviates there. The next group is one draw more, so it is groups that count, not rows: r is the
group's offset plus what its sizes share plus noise, and the half width of the 90 % interval is

    t * sqrt(variance between * (1 + 1/G) + variance within),

with G groups and Student's t at the degrees of freedom of that sum (Satterthwaite 1946). Two groups say little
of a variance, so it starts from what is usual of new networks and devices (a scaled inverse chi-squared prior). Points measured of a
new group condition the same Gaussian process (Rasmussen and Williams, Gaussian Processes for Machine Learning,
chapter 2).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from scipy import stats

from perf_assets.analysis.predictors import constants as known


@dataclass
class Deviation:
    """How the logarithm of measured / predicted deviates in a group that nothing was learnt from.

    ``between`` and ``within`` are variances of whole groups and of rows in them, ``quantile`` the number of
    standard deviations to either end of the 90 % interval, ``groups_behind`` how many groups say so.
    """

    between: float
    within: float
    quantile: float
    groups_behind: int
    x: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))
    ratios: np.ndarray = field(default_factory=lambda: np.empty(0))
    groups: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=str))
    """Points measured since: logarithms of their sizes (k, sizes), of measured / predicted (k,), their groups
    (k,)."""

    @classmethod
    def usual(cls) -> Deviation:
        """What is usual of something new, where one group alone was measured: it tells how far measured points
        reach, but no interval."""
        variance = known.USUAL_DEVIATION**2
        return cls(variance, variance, float(stats.t.ppf((1 + known.COVERAGE) / 2, known.USUAL_GROUPS)), 1)

    @classmethod
    def calibrate(cls, ratios: np.ndarray, groups: np.ndarray, kind: str = "network") -> Deviation:
        """From rows that were predicted without their group.

        Args:
            ratios: logarithms of measured / predicted, shape (n,).
            groups: shape (n,).
            kind: what is new about a group. Variants of one network deviate less than is usual of networks.

        Returns:
            :meth:`usual` where there are fewer than two groups: nothing says how groups differ.
        """
        _, inverse, counts = np.unique(groups.astype(str), return_inverse=True, return_counts=True)
        many = len(counts)
        if many < 2:
            return cls.usual()
        means = np.bincount(inverse, ratios) / counts
        # Each group weighs the same, however many rows it has.
        within = float((np.bincount(inverse, (ratios - means[inverse]) ** 2) / counts).mean())
        observed = max(float((means**2).mean()) - float((within / counts).mean()), 0.0)
        evidence = many + known.USUAL_GROUPS
        usual = known.USUAL_DEVIATION**2 if kind != "variant" else observed
        between = (many * observed + known.USUAL_GROUPS * usual) / evidence * (1 + 1 / many)
        freedom = (between + within) ** 2 / max(
            between**2 / evidence + within**2 / max(len(ratios) - many, 1), 1e-24
        )
        quantile = float(stats.t.ppf((1 + known.COVERAGE) / 2, freedom))
        return cls(between, within, quantile, many)

    @property
    def half_width(self) -> float:
        """Of the 90 % interval of a row of a new group, in the logarithm; NaN where one group says nothing of
        others."""
        if self.groups_behind < 2:
            return np.nan
        return self.quantile * float(np.sqrt(self.between + self.within))

    def given(self, x: np.ndarray, ratios: np.ndarray, groups: np.ndarray) -> Deviation:
        """The deviation when points have been measured: logarithms of sizes (k, sizes), of measured / predicted
        (k,), and their groups (k,)."""
        if not len(ratios):
            return self
        return replace(
            self,
            x=np.vstack([self.x, x]) if len(self.x) else x,
            ratios=np.append(self.ratios, ratios),
            groups=np.append(self.groups, groups.astype(str)),
        )

    def at(self, x: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Expected logarithm of measured / predicted, and half width of the interval around it, shape (n,)
        each."""
        half_widths = np.full(len(x), self.half_width)
        if not len(self.ratios):
            return np.zeros(len(x)), half_widths
        across, weights = self._weights(x, groups)
        left = self.between + known.LOCAL_SHARE * self.within - (across * weights.T).sum(axis=1)
        narrowed = self.quantile * np.sqrt(np.maximum(left, 0) + self.noise)
        told = np.isin(groups.astype(str), self.groups)
        return self.ratios @ weights, np.where(told, np.fmin(half_widths, narrowed), half_widths)

    @property
    def noise(self) -> float:
        """Variance of one row that no other row shares."""
        return (1 - known.LOCAL_SHARE) * self.within + 1e-12

    def covariance(self, x: np.ndarray, groups: np.ndarray) -> np.ndarray:
        """What rows share of their logarithms of measured / predicted, given the points measured since, without
        :attr:`noise`: shape (n, n)."""
        shared = self._kernel(x, x, groups.astype(str), groups.astype(str))
        if not len(self.ratios):
            return shared
        across, weights = self._weights(x, groups)
        return shared - across @ weights

    def _weights(self, x: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What rows share with the measured points, shape (n, k), and what that weighs, shape (k, n)."""
        known_points = self._kernel(self.x, self.x, self.groups, self.groups)
        across = self._kernel(x, self.x, groups.astype(str), self.groups)
        return across, np.linalg.solve(known_points + self.noise * np.eye(len(self.x)), across.T)

    def _kernel(
        self, x: np.ndarray, other: np.ndarray, groups: np.ndarray, other_groups: np.ndarray
    ) -> np.ndarray:
        squares = (x**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)[None, :] - 2 * x @ other.T
        near = np.exp(-np.maximum(squares, 0) / (2 * known.LOCAL_LENGTH**2))
        same = groups[:, None] == other_groups[None, :]
        return same * (self.between + known.LOCAL_SHARE * self.within * near)
