"""How sure a prediction is: conformal intervals, and the hull of what was learnt from.

An interval is the prediction times and divided by one factor: the 90 % quantile of how far a model that had seen
nothing of a row's group was off on it. A new network is a new group, so that is what its error is drawn from; the
rows' own residuals would be far too small. Networks are few, so each weighs the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

COVERAGE = 0.9
MARGIN = 0.25
LOG_MARGIN = 0.35
"""How far outside the training rows is still known: a quarter of their range, or a factor of 1.4 in a size."""


@dataclass
class Conformal:
    """``log_half_width`` of the interval around the prediction's logarithm; NaN where it could not be calibrated."""

    log_half_width: float

    @classmethod
    def calibrate(cls, predicted: np.ndarray, y: np.ndarray, groups: np.ndarray) -> Conformal:
        """From out-of-group predictions of training rows; all of shape (n,). Rows without a prediction do not count."""
        known = np.isfinite(predicted) & (predicted > 0)
        if known.sum() < 10:
            return cls(np.nan)
        scores = np.abs(np.log(y[known] / predicted[known]))
        groups = groups[known].astype(str)
        _, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
        order = np.argsort(scores)
        mass = np.cumsum((1 / counts[inverse] / len(counts))[order])
        level = min(1.0, COVERAGE * (1 + 1 / len(scores)))
        return cls(float(scores[order][min(np.searchsorted(mass, level), len(scores) - 1)]))

    def interval(self, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper end, shape (n,) each."""
        return predicted * np.exp(-self.log_half_width), predicted * np.exp(self.log_half_width)


@dataclass
class Hull:
    """Ranges of the scale-free features of the rows that were learnt from, and the categories among them."""

    features: list[str]
    low: np.ndarray
    high: np.ndarray
    algorithms: list[str]

    @classmethod
    def of(cls, shape: pd.DataFrame, algorithms: pd.Series) -> Hull:
        """The hull of training rows."""
        values = shape.to_numpy(float)
        return cls(
            list(shape.columns), values.min(axis=0), values.max(axis=0), sorted(set(algorithms.astype(str)))
        )

    def outside(self, shape: pd.DataFrame, algorithms: pd.Series) -> list[str]:
        """Why each row lies outside: a text a row, empty for rows inside."""
        values = shape[self.features].to_numpy(float)
        is_log = np.array([name.startswith("log_") for name in self.features])
        margin = np.where(
            is_log,
            np.maximum(LOG_MARGIN, MARGIN * (self.high - self.low)),
            MARGIN * np.maximum(self.high - self.low, 0.05),
        )
        below, above = values < self.low - margin, values > self.high + margin
        names = np.array(self.features)
        reasons = []
        for row, algorithm in enumerate(algorithms.astype(str)):
            parts = [f"{name} below" for name in names[below[row]]] + [
                f"{name} above" for name in names[above[row]]
            ]
            if algorithm not in self.algorithms:
                parts.insert(0, f"algorithm {algorithm!r} was never measured")
            reasons.append(
                ", ".join(parts[:3]) + (" what was learnt from" if parts and "never" not in parts[-1] else "")
            )
        return reasons
