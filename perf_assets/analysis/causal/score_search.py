"""Tiered score search: for every column the few earlier columns that explain it best, in the best order of its tier.

The score of a quantity given causes is the Gaussian log-likelihood of a linear fit with bends; of a flag it is that of
a logistic fit. Each cause has a price: the likelihood-ratio test at ``level`` for as many coefficients as it has, so
that wide categories pay for no more than chance, and a floor, so that more rows do not mean more edges: it must
lower a quantity's log residual variance by ``floor``, or a flag's deviance by that share. Causes that are not needed
once the others may act together (a slope that differs by device) are dropped. Within a tier the best order is found
exactly, by dynamic programming over subsets (Silander and Myllymäki 2006). Other searches and their repetition do
not belong here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import combinations

import numpy as np
from scipy.stats import chi2

from perf_assets.analysis.causal.encoding import Encoded
from perf_assets.analysis.causal.orientation import oriented

_RIDGE = 1e-6
_TINY = 1e-9
_GAIN = 1e-9
# Of the logistic fit: a weak prior that keeps coefficients finite where causes decide the outcome completely.
_PRIOR = 0.1
_MOST_STEPS = 12
_CLOSE = 1e-2
_FAR = 30.0
_FITS_A_STEP = 3


def score_search(encoded: Encoded, floor: float, level: float) -> np.ndarray:
    """Search the graph.

    Args:
        encoded: columns as blocks.
        floor: least drop of the log residual variance that a cause must bring.
        level: significance level that it must pass as well.

    Returns:
        columns x columns, true at [i, j] for i → j; an edge whose direction the data cannot tell is true both ways.
    """
    p = len(encoded.names)
    edges = np.zeros((p, p), dtype=bool)
    tables: dict[bytes, _Rows] = {}
    explained: dict[int, _Explained] = {}
    for j in range(p):
        if encoded.effects[j] is not None:
            key = np.packbits(encoded.used[j]).tobytes()
            if key not in tables:
                tables[key] = _Rows(encoded, encoded.used[j])
            kind = _ExplainedFlag if encoded.causes[j].shape[1] == 1 else _ExplainedQuantity
            explained[j] = kind(tables[key], j, floor, level)
    for tier in range(1, int(encoded.tiers.max(initial=0)) + 1):
        for j, causes in _best_order(encoded, explained, [j for j in explained if encoded.tiers[j] == tier]):
            edges[list(causes), j] = True
    return oriented(edges, encoded.tiers)


class _Rows:
    """Blocks on some rows, centred and scaled to length 1, and the correlations between them and all effects."""

    def __init__(self, encoded: Encoded, used: np.ndarray) -> None:
        rows = np.flatnonzero(used)
        self.n = len(rows)
        self.cause, self.slope, parts = [], [], []
        start = 0
        for j, block in enumerate(encoded.causes):
            parts.append(block[rows])
            self.cause.append(np.arange(start, start + block.shape[1]))
            # What acts together with other causes: all levels of a setting, but a quantity as a straight line.
            self.slope.append(self.cause[-1] if encoded.effects[j] is None else self.cause[-1][:1])
            start += block.shape[1]
        self.effect = {}
        for j, effect in enumerate(encoded.effects):
            if effect is not None:
                parts.append(effect[rows, None])
                self.effect[j] = start
                start += 1
        # Columns with unknown values on these rows are no candidates here: zeros keep them out of the way.
        table = np.nan_to_num(np.column_stack(parts))
        table = table - table.mean(axis=0) if self.n else table
        spread = np.sqrt((table**2).sum(axis=0))
        self.table = table / np.where(spread > 0, spread, 1.0)
        self.correlations = self.table.T @ self.table
        self.correlations[np.diag_indices(start)] += _RIDGE
        self.varies = spread > 0


class _Explained:
    """Scores of sets of causes of one column; how a column is fitted is its subclass's matter."""

    def __init__(self, rows: _Rows, column: int, floor: float, level: float) -> None:
        self._rows = rows
        self._effect = rows.effect[column]
        self._scores: dict[frozenset[int], float] = {}
        self._level = level
        least = floor * self._floor_unit()
        self._prices = [_chance(level, len(columns)) + least for columns in rows.cause]

    def _floor_unit(self) -> float:
        """What a floor of 1 is in log-likelihood."""
        raise NotImplementedError

    def _log_likelihood(self, columns: np.ndarray) -> float:
        """Of the best fit with these columns of the table, up to a constant."""
        raise NotImplementedError

    def _linear(self, columns: np.ndarray) -> float:
        """Log-likelihood of a linear fit: all that it takes is the correlations."""
        correlations = self._rows.correlations
        with_effect = np.append(columns, self._effect)
        residual = _log_determinant(correlations, with_effect) - _log_determinant(correlations, columns)
        return -self._rows.n / 2 * residual

    def _columns(self, causes: frozenset[int]) -> np.ndarray:
        return np.concatenate([np.empty(0, int), *(self._rows.cause[i] for i in sorted(causes))])

    def score(self, causes: frozenset[int]) -> float:
        if causes not in self._scores:
            likelihood = self._log_likelihood(self._columns(causes))
            self._scores[causes] = likelihood - sum(self._prices[i] for i in causes)
        return self._scores[causes]

    def best(self, candidates: list[int]) -> tuple[float, frozenset[int]]:
        """Grow by the best cause, drop those no longer needed, until nothing gains."""
        causes: frozenset[int] = frozenset()
        if not self._rows.varies[self._effect]:
            return 0.0, causes
        score = self.score(causes)
        while left := self._promising(causes, [i for i in candidates if i not in causes]):
            gained, added = max((self.score(causes | {i}), i) for i in left)
            if gained <= score + _GAIN:
                break
            score, causes = _shrunk(self.score, gained, causes | {added})
        return score, causes

    def _promising(self, causes: frozenset[int], candidates: list[int]) -> list[int]:
        """Those of the candidates that are worth a fit beside ``causes``."""
        return candidates


class _ExplainedQuantity(_Explained):
    """A linear fit, at the end with products."""

    def _floor_unit(self) -> float:
        return self._rows.n / 2

    def _log_likelihood(self, columns: np.ndarray) -> float:
        return self._linear(columns)

    def best(self, candidates: list[int]) -> tuple[float, frozenset[int]]:
        score, causes = super().best(candidates)
        if len(causes) < 2:
            return score, causes
        together = _Together(self._rows, self._effect, sorted(causes), self._level)

        def rich(some: frozenset[int]) -> float:
            return together.log_likelihood(some) - sum(self._prices[i] for i in some)

        return _shrunk(rich, rich(causes), causes)


class _Together:
    """Linear fits in which causes may act together: products of two causes, where they pay for themselves."""

    def __init__(self, rows: _Rows, effect: int, causes: list[int], level: float) -> None:
        self._n, self._level = rows.n, level
        parts, start = [], 0
        self._alone: dict[int, np.ndarray] = {}
        self._products: dict[tuple[int, int], np.ndarray] = {}
        for i in causes:
            parts.append(rows.table[:, rows.cause[i]])
            self._alone[i] = np.arange(start, start + len(rows.cause[i]))
            start += len(rows.cause[i])
        for a, b in combinations(causes, 2):
            left, right = rows.table[:, rows.slope[a]], rows.table[:, rows.slope[b]]
            product = (left[:, :, None] * right[:, None, :]).reshape(rows.n, -1)
            product -= product.mean(axis=0)
            length = np.sqrt((product**2).sum(axis=0))
            product = product[:, length > _TINY] / length[length > _TINY]
            if product.shape[1]:
                parts.append(product)
                self._products[a, b] = np.arange(start, start + product.shape[1])
                start += product.shape[1]
        self._effect = start
        table = np.column_stack([*parts, rows.table[:, effect]])
        self._correlations = table.T @ table
        self._correlations[np.diag_indices(start + 1)] += _RIDGE

    def log_likelihood(self, causes: frozenset[int]) -> float:
        """Of the fit with some of the causes, less what the products in it cost."""
        columns = np.concatenate([np.empty(0, int), *(self._alone[i] for i in sorted(causes))])
        likelihood = self._fit(columns)
        left = {pair: at for pair, at in self._products.items() if causes.issuperset(pair)}
        while left:
            gained, pair = max(
                (self._fit(np.append(columns, at)) - likelihood - _chance(self._level, len(at)), pair)
                for pair, at in left.items()
            )
            if gained <= _GAIN:
                break
            columns, likelihood = np.append(columns, left.pop(pair)), likelihood + gained
        return likelihood

    def _fit(self, columns: np.ndarray) -> float:
        with_effect = np.append(columns, self._effect)
        residual = _log_determinant(self._correlations, with_effect)
        return -self._n / 2 * (residual - _log_determinant(self._correlations, columns))


class _ExplainedFlag(_Explained):
    """A logistic fit by Newton's method: what decides whether a run dies adds up in the odds, not in the share."""

    def _floor_unit(self) -> float:
        self._y = self._rows.table[:, self._effect] > 0
        share = self._y.mean() if self._rows.n else 0.0
        self._start = np.log(share / (1 - share)) if 0 < share < 1 else 0.0
        return -self._log_likelihood(np.empty(0, int))

    def _log_likelihood(self, columns: np.ndarray) -> float:
        n = self._rows.n
        design = np.column_stack([np.ones(n), self._rows.table[:, columns] * np.sqrt(n)])
        weights = np.zeros(design.shape[1])
        weights[0] = self._start
        penalty = np.full(len(weights), _PRIOR)
        penalty[0] = 0.0
        best = -np.inf
        for _ in range(_MOST_STEPS):
            odds = design @ weights
            # log(1 + exp(odds)), without overflow
            likelihood = float((odds[self._y]).sum() - np.logaddexp(0.0, odds).sum())
            if likelihood < best + _CLOSE:
                break
            best = likelihood
            share = 1 / (1 + np.exp(-np.clip(odds, -_FAR, _FAR)))
            gradient = design.T @ (self._y - share) - penalty * weights
            curvature = (design * (share * (1 - share))[:, None]).T @ design + np.diag(penalty + _RIDGE)
            weights = weights + np.linalg.solve(curvature, gradient)
        return max(best, likelihood)

    def _promising(self, causes: frozenset[int], candidates: list[int]) -> list[int]:
        """A linear fit, which is cheap, tells which few are worth a logistic one."""

        def gain(i: int) -> float:
            return self._linear(self._columns(causes | {i})) - self._prices[i]

        return sorted(candidates, key=gain)[-_FITS_A_STEP:]


def _shrunk(
    score_of: Callable[[frozenset[int]], float], score: float, causes: frozenset[int]
) -> tuple[float, frozenset[int]]:
    """Drop the least needed cause while that gains."""
    while causes:
        gained, dropped = max((score_of(causes - {i}), i) for i in causes)
        if gained <= score + _GAIN:
            break
        score, causes = gained, causes - {dropped}
    return score, causes


@cache
def _chance(level: float, coefficients: int) -> float:
    """What so many coefficients gain in log-likelihood by chance, with probability ``level``."""
    return float(chi2.isf(level, coefficients)) / 2


def _log_determinant(matrix: np.ndarray, at: np.ndarray) -> float:
    return float(np.linalg.slogdet(matrix[np.ix_(at, at)])[1]) if len(at) else 0.0


def _best_order(
    encoded: Encoded, explained: dict[int, _Explained], nodes: list[int]
) -> list[tuple[int, frozenset[int]]]:
    """The columns of a tier with their causes, in the order whose scores sum to the most."""
    k = len(nodes)
    everyone = (1 << k) - 1
    known: dict[tuple[int, int], tuple[float, frozenset[int]]] = {}

    def best_causes(i: int, before: int) -> tuple[float, frozenset[int]]:
        """Best causes of node i among earlier tiers and the tier's nodes in the bit set ``before``."""
        if (i, before) in known:
            return known[i, before]
        found = None
        for other in range(k):
            bit = 1 << other
            if other != i and not before & bit:
                wider = best_causes(i, before | bit)
                if nodes[other] not in wider[1]:
                    # What is best of more candidates, and does not use the additional one, is best of these too.
                    found = wider
                    break
        if found is None:
            usable = {nodes[other] for other in range(k) if before >> other & 1}
            node = nodes[i]
            candidates = [
                c for c in encoded.tried[node] if encoded.tiers[c] < encoded.tiers[node] or c in usable
            ]
            found = explained[node].best(candidates)
        known[i, before] = found
        return found

    best: list[tuple[float, int]] = [(0.0, -1)] * (everyone + 1)
    for members in range(1, everyone + 1):
        best[members] = max(
            (best[members ^ (1 << i)][0] + best_causes(i, members ^ (1 << i))[0], i)
            for i in range(k)
            if members >> i & 1
        )
    order, members = [], everyone
    while members:
        last = best[members][1]
        members ^= 1 << last
        order.append((nodes[last], best_causes(last, members)[1]))
    return order[::-1]
