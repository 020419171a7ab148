"""The cost model: non-negative costs of physical terms, times what trees learn about the remaining factor.

A cost is a sum of terms (``design``) with coefficients of 0 or more, fitted on relative error. Few networks
determine few directions of so many coefficients, and what they leave open decides how an unseen network is judged.
So coefficients are drawn towards what data sheets say, in three steps: one scale for all of them, then one for each
family (arithmetic, traffic, launches, ...), then the coefficients themselves. How strongly is chosen by leaving out
one group of the training rows after another. Trees see the logarithm of the remaining factor and scale-free
features only: they cannot extrapolate sizes, and need not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import nnls
from sklearn.ensemble import ExtraTreesRegressor

from perf_assets.predictors.terms.common import CONSTANT, FAMILY_DOUBT, Prior

TREES = 300
SEED = 0
PULLS = (0.0002, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.3, 1.0)
"""Strengths of the pull towards the prior: the mean squared relative error that a coefficient off by its whole may cost."""
MOST_ROWS = 6000
"""More rows are thinned evenly: neighbouring input sizes teach the same. Small groups are kept whole."""
FAMILY_PULL = 0.3
SCALE_PULL = 1e-3
SMALL_GROUP = 0.05
"""Groups with fewer than this share of the largest group's rows are small."""


@dataclass
class Forest:
    """Regression trees as flat arrays: predicts what the fitted trees predicted, with nothing to unpickle."""

    roots: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    value: np.ndarray

    @classmethod
    def of(cls, model: ExtraTreesRegressor) -> Forest:
        """The arrays of a fitted scikit-learn forest, its trees one behind the other."""
        trees = [estimator.tree_ for estimator in model.estimators_]
        roots = np.cumsum([0, *(tree.node_count for tree in trees[:-1])])
        feature = np.concatenate([tree.feature for tree in trees])
        leaf = feature < 0

        def shifted(children: Sequence[np.ndarray]) -> np.ndarray:
            nodes = np.concatenate([part + root for part, root in zip(children, roots, strict=True)])
            # A leaf is its own child, so that walking on from it stays there.
            return np.where(leaf, np.arange(len(nodes)), nodes).astype(np.int32)

        return cls(
            roots.astype(np.int32),
            np.where(leaf, 0, feature).astype(np.int32),
            np.concatenate([tree.threshold for tree in trees]),
            shifted([tree.children_left for tree in trees]),
            shifted([tree.children_right for tree in trees]),
            np.concatenate([tree.value[:, 0, 0] for tree in trees]),
        )

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Mean over the trees, shape (n,), of features of shape (n, features)."""
        # Configurations that differ in what trees do not see walk down them once.
        x, back = np.unique(np.ascontiguousarray(x, dtype=np.float32), axis=0, return_inverse=True)
        result = np.empty(len(x))
        for start in range(0, len(x), 2048):
            part = x[start : start + 2048]
            nodes = np.broadcast_to(self.roots, (len(part), len(self.roots))).copy()
            rows = np.arange(len(part))[:, None]
            while True:
                goes_left = part[rows, self.feature[nodes]] <= self.threshold[nodes]
                following = np.where(goes_left, self.left[nodes], self.right[nodes])
                if np.array_equal(following, nodes):
                    break
                nodes = following
            result[start : start + 2048] = self.value[nodes].mean(axis=1)
        return result[back.ravel()]

    def arrays(self) -> dict[str, np.ndarray]:
        """Name → array, as :class:`Forest` takes them."""
        return dict(vars(self))


@dataclass
class CostModel:
    """A fitted cost model. ``names`` are its terms, ``features`` what the trees see; ``cap`` bounds predictions."""

    names: list[str]
    coefficients: np.ndarray
    features: list[str]
    forest: Forest | None
    cap: float = np.inf
    pull: float = 0.0
    trust: float = 1.0
    """How much of the trees' factor is believed of what was not learnt from, 0-1: as much as helped on groups that
    were left out."""
    factor: float = 1.0
    """What measured points of a new network or device have taught since."""

    def physics(self, terms: pd.DataFrame) -> np.ndarray:
        """The sum of costs alone, shape (n,)."""
        return _with_constant(terms, self.names) @ self.coefficients

    def uncapped(
        self, terms: pd.DataFrame, shape: pd.DataFrame, familiar: np.ndarray | bool = False
    ) -> np.ndarray:
        """Predictions without the cap: what memory would be needed if there were enough of it.

        ``familiar`` says of which rows, shape (n,), the group was learnt from: there trees are believed wholly.
        """
        trust = np.where(familiar, 1.0, self.trust)
        return self.physics(terms) * np.exp(trust * self.log_residual(shape)) * self.factor

    def log_residual(self, shape: pd.DataFrame) -> np.ndarray:
        """The trees' logarithm of what physics leaves, shape (n,)."""
        if self.forest is None:
            return np.zeros(len(shape))
        return self.forest.predict(shape[self.features].to_numpy())

    def predict(
        self, terms: pd.DataFrame, shape: pd.DataFrame, familiar: np.ndarray | bool = False
    ) -> np.ndarray:
        """Predictions in the target's unit, shape (n,); see :meth:`uncapped`."""
        return np.minimum(self.uncapped(terms, shape, familiar), self.cap)


def fit_cost_model(
    terms: pd.DataFrame,
    shape: pd.DataFrame,
    y: np.ndarray,
    groups: np.ndarray,
    prior: Prior,
    *,
    capped: bool = False,
    pull: float | None = None,
    trees: int = TREES,
) -> CostModel:
    """Fit costs and trees.

    Args:
        terms: terms of cost, shape (n, terms), each 0 or more.
        shape: scale-free features, shape (n, features).
        y: measured values above 0, shape (n,).
        groups: what each row belongs to (its network); groups weigh the same, see :func:`row_weights`.
        prior: the terms to use and what to expect of them.
        capped: predict no more than the largest measured value (memory cannot exceed the device's).
        pull: strength of the prior; by default the one under which left-out groups are predicted best.
        trees: number of trees; 0 leaves the costs alone.

    Raises:
        ValueError: nothing to fit on.
    """
    y = np.asarray(y, dtype=float)
    if len(y) == 0 or not (y > 0).all():
        raise ValueError(f"{len(y)} rows to fit on, all values must be above 0")
    cap = float(y.max()) if capped else np.inf
    if len(y) > MOST_ROWS:
        thinned = np.linspace(0, len(y) - 1, MOST_ROWS).astype(int)
        kept = np.unique(np.concatenate([thinned, np.flatnonzero(_is_rare(groups))]))
        terms, shape, y, groups = terms.iloc[kept], shape.iloc[kept], y[kept], groups[kept]
    names = [name for name in prior if name == CONSTANT or name in terms]
    x = _with_constant(terms, names)
    families = np.array([prior[name][0] for name in names])
    expected = np.array([prior[name][1] for name in names])
    if pull is None:
        pull = _best_pull(x, y, groups, expected, families)
    coefficients = _fit_costs(x, y, groups, expected, families, pull)
    forest = None
    features = list(shape.columns)
    if trees and len(y) >= 10:
        rest = np.log(y / (x @ coefficients))
        leaf = max(2, len(y) // 4000)
        forest = Forest.of(
            ExtraTreesRegressor(trees, min_samples_leaf=leaf, random_state=SEED, n_jobs=2).fit(
                shape.to_numpy(np.float32), rest
            )
        )
    return CostModel(names, coefficients, features, forest, cap, pull)


def out_of_group(
    fit: Callable[[np.ndarray], Callable[[np.ndarray], np.ndarray]], groups: np.ndarray, folds: int = 6
) -> np.ndarray:
    """Predictions for every row by a model that saw nothing of its group, of the shape that predictions have.

    Args:
        fit: takes a mask of training rows, gives a function from a mask of rows to their predictions.
        groups: shape (n,); more than ``folds`` of them share folds. NaN is returned where there is one alone.
    """
    names = pd.unique(groups)
    if len(names) < 2:
        return np.full(len(groups), np.nan)
    fold_of = {name: number % folds for number, name in enumerate(names)}
    fold = np.array([fold_of[name] for name in groups])
    predictions: np.ndarray | None = None
    for number in np.unique(fold):
        held = fold == number
        part = fit(~held)(held)
        if predictions is None:
            predictions = np.full((len(groups), *part.shape[1:]), np.nan)
        predictions[held] = part
    assert predictions is not None
    return predictions


def row_weights(groups: np.ndarray) -> np.ndarray:
    """Weights of rows under which groups weigh the same, shape (n,), sum 1.

    A group with fewer than a twentieth of the largest group's rows weighs less, in proportion: a handful must not
    count as much as hundreds.
    """
    _, inverse, counts = np.unique(groups.astype(str), return_inverse=True, return_counts=True)
    share = np.minimum(1, counts / (SMALL_GROUP * counts.max()))
    return (share / counts / share.sum())[inverse]


def in_large_groups(groups: np.ndarray) -> np.ndarray:
    """Rows of groups that weigh in full, see :func:`row_weights`: a mask of shape (n,)."""
    _, inverse, counts = np.unique(groups.astype(str), return_inverse=True, return_counts=True)
    return (counts >= SMALL_GROUP * counts.max())[inverse]


def balanced_error(predicted: np.ndarray, y: np.ndarray, groups: np.ndarray) -> float:
    """Mean absolute logarithmic error, each group weighing the same."""
    return float(pd.Series(np.abs(np.log(predicted / y))).groupby(groups).mean().mean())


def _is_rare(groups: np.ndarray) -> np.ndarray:
    """Rows whose group has fewer than a thousand, shape (n,)."""
    _, inverse, counts = np.unique(groups.astype(str), return_inverse=True, return_counts=True)
    return counts[inverse] < 1000


def _best_pull(
    x: np.ndarray, y: np.ndarray, groups: np.ndarray, expected: np.ndarray, families: np.ndarray
) -> float:
    """The pull under which groups that were left out are predicted best; a middling one where there is one group."""
    if len(pd.unique(groups)) < 2:
        return 0.05

    def error(pull: float) -> float:
        def fit(train: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
            costs = _fit_costs(x[train], y[train], groups[train], expected, families, pull)
            return lambda held: x[held] @ costs

        return balanced_error(out_of_group(fit, groups), y, groups)

    errors = {strength: error(strength) for strength in PULLS}
    # Two groups judge poorly: of the pulls that do about as well by them, the strongest.
    tolerance = 1.25 if len(pd.unique(groups)) == 2 else 1.0
    return max(strength for strength in PULLS if errors[strength] <= tolerance * min(errors.values()))


def _fit_costs(
    x: np.ndarray, y: np.ndarray, groups: np.ndarray, expected: np.ndarray, families: np.ndarray, pull: float
) -> np.ndarray:
    weight = np.sqrt(row_weights(groups))
    relative = x * expected / y[:, None] * weight[:, None]

    def drawn(columns: np.ndarray, towards: np.ndarray, strength: np.ndarray) -> np.ndarray:
        """Non-negative scales of the columns, drawn towards ``towards``."""
        pulled = np.vstack([columns * towards, np.diag(strength)])
        solution, _ = nnls(pulled, np.concatenate([weight, strength]))
        return solution * towards

    everything = drawn(relative.sum(axis=1, keepdims=True), np.ones(1), np.array([SCALE_PULL]))
    names = list(dict.fromkeys(families.tolist()))
    doubt = np.array([FAMILY_DOUBT.get(name, 1.0) for name in names])
    by_family = np.stack([relative[:, families == name].sum(axis=1) for name in names], axis=1)
    scales = drawn(by_family, np.full(len(names), everything[0]), FAMILY_PULL / doubt)
    # A family that the rows speak against keeps a twentieth, so that a network full of it is not free.
    towards = np.array([max(scales[names.index(family)], everything[0] / 20) for family in families])
    return drawn(relative, towards, pull / doubt[[names.index(family) for family in families]]) * expected


def _with_constant(terms: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    return np.stack(
        [terms[name].to_numpy(float) if name in terms else np.ones(len(terms)) for name in names], axis=1
    )


def relative_errors_pct(predicted: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Absolute errors in percent of the measured values."""
    return np.abs(predicted / y - 1) * 100


def state_of(model: CostModel) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A model as plain values and arrays."""
    values = {"names": model.names, "features": model.features, "cap": None if np.isinf(model.cap) else model.cap,
              "pull": model.pull, "trust": model.trust, "factor": model.factor, "has_forest": model.forest is not None}  # fmt: skip
    arrays = {"coefficients": model.coefficients}
    if model.forest is not None:
        arrays |= {f"forest_{name}": array for name, array in model.forest.arrays().items()}
    return values, arrays


def model_of(values: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> CostModel:
    """The model back from what :func:`state_of` gave."""
    forest = None
    if values["has_forest"]:
        forest = Forest(*(arrays[f"forest_{name}"] for name in Forest.__dataclass_fields__))
    cap = np.inf if values["cap"] is None else float(values["cap"])
    return CostModel(list(values["names"]), arrays["coefficients"], list(values["features"]), forest, cap,
                     float(values["pull"]), float(values["trust"]), float(values["factor"]))  # fmt: skip
