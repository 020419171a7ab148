"""Which configurations it would help most to measure next, and how much.

Points measured of a network condition a Gaussian process (``fit.intervals``), and how much they narrow its intervals
does not depend on what they will turn out to be. So they are chosen one after another, each the one that narrows the
intervals of latency most, given those before it.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from perf_assets.analysis.predictors.features.shapes import canonical
from perf_assets.analysis.predictors.fit.intervals import Deviation
from perf_assets.analysis.predictors.serve.predictor_set import Predictor

MOST_ROWS = 1000
"""More configurations of one group are thinned evenly: neighbours narrow the same intervals."""
_SAME = ("model", "pruning_ratio", "batch_size", "input_size", "algorithm")


class _Group:
    """Configurations that deviate together, and what measured ones of them would tell of the others."""

    def __init__(
        self, deviation: Deviation, rows: np.ndarray, places: np.ndarray, groups: np.ndarray
    ) -> None:
        self.rows = rows
        self._shared = deviation.covariance(places, groups)
        self._noise, self._quantile = deviation.noise, deviation.quantile

    def half_width(self) -> float:
        """Mean over the configurations of what their intervals reach to either side, in logarithms."""
        return float(self._half_widths(self._shared.diagonal()).mean())

    def best(self, may: np.ndarray) -> tuple[float, int]:
        """How much the intervals narrow, summed over the configurations, by the one that narrows them most, and its
        position; ``may`` says which may be measured, shape (n,)."""
        variance = self._shared.diagonal()
        told = self._shared**2 / (variance + self._noise)[:, None]
        narrowed = self._half_widths(variance - told).sum(axis=1)
        gain = np.where(may, self._half_widths(variance).sum() - narrowed, -np.inf)
        position = int(gain.argmax())
        return float(gain[position]), position

    def measure(self, position: int) -> None:
        """Take one of the configurations as measured."""
        column = self._shared[:, position]
        self._shared = self._shared - np.outer(column, column) / (column[position] + self._noise)

    def _half_widths(self, variance: np.ndarray) -> np.ndarray:
        return self._quantile * np.sqrt(np.maximum(variance, 0) + self._noise)


def next_points(
    predictor: Predictor, predictions: pd.DataFrame, measured: pd.DataFrame, count: int
) -> pd.DataFrame:
    """The configurations that it would help most to measure next, at most ``count``, the most telling first.

    Args:
        predictor: of one device and stage.
        predictions: what it says of the configurations that matter.
        measured: the configurations measured on that device and in that stage, which it does not ask for again.
        count: how many are asked for.

    Returns:
        Their rows of ``predictions`` with ``reach_now`` and ``reach_after``: how far the intervals of latency of
        all configurations that deviate together reach, on average, as a factor above 1, before it and after it.
    """
    predictions = predictions.reset_index(drop=True)
    fitted = predictor.fitted["latency"]
    outlook = fitted.outlook(predictor.design(predictions[list(_SAME)]))
    # A configuration without an input size has the network's own, which runs tell.
    known = {*_names(measured), *_names(measured.assign(input_size=0))}
    may = np.array([name not in known for name in _names(predictions)], dtype=bool)
    groups = []
    for kind, deviation in fitted.deviations.items():
        for group in np.unique(outlook.groups[outlook.kinds == kind]):
            rows = np.flatnonzero((outlook.kinds == kind) & (outlook.groups == group))
            rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), MOST_ROWS)).astype(int)]
            groups.append(_Group(deviation, rows, outlook.places[rows], outlook.groups[rows]))
    best = [group.best(may[group.rows]) for group in groups]
    chosen = []
    for _ in range(min(count, int(may.sum()))):
        number = max(range(len(groups)), key=lambda number: best[number][0])
        group, (gain, position) = groups[number], best[number]
        if not gain > 0:
            break
        now, row = group.half_width(), group.rows[position]
        group.measure(position)
        may[row] = False
        best[number] = group.best(may[group.rows])
        told = predictions.loc[row].to_dict()
        chosen.append(told | {"reach_now": np.exp(now), "reach_after": np.exp(group.half_width())})
    return pd.DataFrame(chosen, columns=[*predictions, "reach_now", "reach_after"])


def _names(frame: pd.DataFrame) -> list[tuple]:
    models = frame["model"].astype(str).map(canonical)
    return [
        *zip(models, frame["pruning_ratio"].round(4), frame["batch_size"], frame["input_size"], strict=True)
    ]
