"""The cost model: non-negative costs of physical terms, times what trees learn about the remaining factor.

``expected`` costs e of each row follow from data sheets (``features.costs``). Coefficients w >= 0 minimise

    mean over networks of mean over their rows of (e.w / y - 1)^2  +  PRIOR_STRENGTH * sum (w / s - 1)^2

with s the one factor by which everything expected misses y least. So a term that the rows do not tell apart
from others costs what its data sheet says, as much slower as all else is. Trees see the logarithm of y / e.w
and scale-free features only: they cannot extrapolate sizes, and need not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import nnls

from perf_assets.analysis.predictors import constants as known
from perf_assets.analysis.predictors.fit.forest import Forest


@dataclass
class CostModel:
    """A fitted cost model. ``names`` are its terms, ``coefficients`` how many times what is expected each
    costs, ``features`` what the trees see; ``cap`` bounds predictions."""

    names: list[str]
    coefficients: np.ndarray
    features: list[str]
    forest: Forest | None
    cap: float = np.inf

    def physics(self, expected: pd.DataFrame) -> np.ndarray:
        """The sum of costs alone, shape (n,)."""
        return expected[self.names].to_numpy(float) @ self.coefficients

    def cost_shares(self, expected: pd.DataFrame) -> pd.DataFrame:
        """Share of each term in the sum of costs, shape (n, terms)."""
        parts = expected[self.names].to_numpy(float) * self.coefficients
        return pd.DataFrame(parts / np.maximum(parts.sum(axis=1, keepdims=True), 1e-300), columns=self.names)

    def needed(
        self, expected: pd.DataFrame, shape: pd.DataFrame, tree_weights: np.ndarray | float = 1.0
    ) -> np.ndarray:
        """Predictions without the cap, shape (n,): of memory, what would be needed if it had no end.

        Args:
            expected: expected costs of terms, shape (n, terms).
            shape: scale-free features.
            tree_weights: how far trees are believed, 0-1, of each row.
        """
        costs = self.physics(expected)
        if self.forest is None:
            return costs
        return costs * np.exp(tree_weights * self.forest.predict(shape[self.features].to_numpy()))


def fit_cost_model(
    expected: pd.DataFrame,
    shape: pd.DataFrame,
    y: np.ndarray,
    groups: np.ndarray,
    *,
    capped: bool = False,
    trees: int = known.TREES,
    leaf: int = 2,
) -> CostModel:
    """Fit costs and trees.

    Args:
        expected: expected costs of terms, shape (n, terms), each 0 or more.
        shape: scale-free features, shape (n, features).
        y: measured values above 0, shape (n,).
        groups: what each row belongs to (its network); groups weigh the same.
        capped: predict no more than the largest measured value, and take values near it for what there is, not
            for what is needed: memory ends where the device's does.
        trees: number of trees; 0 leaves the costs alone.
        leaf: fewest rows of a leaf; with 1, trees remember each configuration.

    Raises:
        ValueError: nothing to fit on.
    """
    y = np.asarray(y, dtype=float)
    if len(y) == 0 or not (y > 0).all():
        raise ValueError(f"{len(y)} rows to fit on, all values must be above 0")
    cap = float(y.max()) if capped else np.inf
    kept = np.flatnonzero(in_large_groups(groups, known.SMALL_GROUP))
    kept = kept[thinned(groups[kept], known.MOST_ROWS)]
    expected, shape, y, groups = expected.iloc[kept], shape.iloc[kept], y[kept], groups[kept]
    names = [str(name) for name in expected if (expected[name] > 0).any()]
    x = expected[names].to_numpy(float)
    telling = y < known.BELOW_CAP * cap
    telling = telling if telling.any() else np.ones(len(y), dtype=bool)
    coefficients = fit_coefficients(x[telling], y[telling], groups[telling])
    model = CostModel(names, coefficients, [str(name) for name in shape], None, cap)
    if trees and len(y) >= 10:
        left = np.log(y / np.minimum(x @ coefficients, cap))
        model.forest = Forest.grown(shape.to_numpy(np.float32), left, trees, leaf)
    return model


def fit_coefficients(
    x: np.ndarray, y: np.ndarray, groups: np.ndarray, prior_strength: float = known.PRIOR_STRENGTH
) -> np.ndarray:
    """Coefficients under which groups are predicted best, see the formula above.

    Args:
        x: expected costs, shape (n, terms).
        y: measured values, shape (n,).
        groups: shape (n,).
        prior_strength: what a coefficient may cost that is off by the whole of it.
    """
    _, inverse, counts = np.unique(groups.astype(str), return_inverse=True, return_counts=True)
    weight = np.sqrt(1 / counts[inverse] / len(counts))
    relative = x / y[:, None] * weight[:, None]
    everything = relative.sum(axis=1)
    scale = float(everything @ weight / (everything @ everything))
    pull = np.full(x.shape[1], np.sqrt(prior_strength))
    solution, _ = nnls(np.vstack([relative * scale, np.diag(pull)]), np.concatenate([weight, pull]))
    return solution * scale


def in_large_groups(groups: np.ndarray, share: float) -> np.ndarray:
    """Rows of groups with at least a share of the largest group's rows: a mask of shape (n,)."""
    _, inverse, counts = np.unique(groups.astype(str), return_inverse=True, return_counts=True)
    return (counts >= share * counts.max())[inverse]


def thinned(groups: np.ndarray, most: int) -> np.ndarray:
    """Positions of at most about ``most`` rows: evenly within each group, small groups whole."""
    if len(groups) <= most:
        return np.arange(len(groups))
    names, inverse, counts = np.unique(groups.astype(str), return_inverse=True, return_counts=True)
    share = max(most // len(names), 1)
    # What small groups leave over goes to the large ones.
    left = most - counts[counts <= share].sum()
    share = max(int(left / max((counts > share).sum(), 1)), 1)
    kept = []
    for number, count in enumerate(counts):
        own = np.flatnonzero(inverse == number)
        kept.append(own[np.linspace(0, count - 1, min(count, share)).astype(int)])
    return np.sort(np.concatenate(kept))


def relative_errors_pct(predicted: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Absolute errors in percent of the measured values."""
    return np.abs(predicted / y - 1) * 100


def state_of(model: CostModel) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A model as plain values and arrays."""
    values = {
        "names": model.names,
        "features": model.features,
        "cap": None if np.isinf(model.cap) else model.cap,
        "has_forest": model.forest is not None,
    }
    arrays = {"coefficients": model.coefficients}
    if model.forest is not None:
        arrays |= {f"forest_{part}": array for part, array in model.forest.arrays().items()}
    return values, arrays


def model_of(values: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> CostModel:
    """The model back from what :func:`state_of` gave."""
    forest = None
    if values["has_forest"]:
        forest = Forest(*(arrays[f"forest_{part}"] for part in Forest.__dataclass_fields__))
    cap = np.inf if values["cap"] is None else float(values["cap"])
    return CostModel(list(values["names"]), arrays["coefficients"], list(values["features"]), forest, cap)
