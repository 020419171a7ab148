"""The cost model: non-negative costs of physical terms, times what trees learn about the remaining factor.

A cost is a sum of terms (``design``) with coefficients of 0 or more, fitted on relative error. Few networks
determine few directions of so many coefficients, and what they leave open decides how an unseen network is
judged. So coefficients are drawn towards what data sheets say, in three steps: one scale for all of them,
then one for each family (arithmetic, traffic, launches, ...), then the coefficients themselves. How strongly
is chosen by leaving out one group of the training rows after another. One network alone determines the costs
of its own variants, but not how
they divide among terms: for others, a second set of coefficients is drawn more. Trees see the logarithm of
the remaining factor and scale-free
features only: they cannot extrapolate sizes, and need not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import nnls

from perf_assets.analysis.predictors.features.terms_common import CONSTANT, FAMILY_DOUBT, Prior
from perf_assets.analysis.predictors.fit.forest import Forest

TREES = 100
PULLS = (0.0002, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.3, 1.0)
"""Strengths of the pull towards the prior: the mean squared relative error that a coefficient off by its
whole may cost."""
MIDDLING_PULL = 0.1
"""Where nothing tells how strong it should be."""
MOST_ROWS = 6000
"""More rows are thinned evenly: neighbouring input sizes teach the same. Small groups are kept whole."""
FORESTS = ("forest", "recall")
"""Forests of a cost model, by the names of its attributes."""
FAMILY_PULL = 0.3
SCALE_PULL = 1e-3
SMALL_GROUP = 0.1
"""Groups with fewer than this share of the largest group's rows are small."""
BELOW_CAP = 0.95
"""Memory nearer to the cap than this says how much there is, not how much is needed."""
USUALLY_APART = 0.3
"""Logarithm of measured / predicted by which a new network may well be off: an odd one is off by more."""


@dataclass
class CostModel:
    """A fitted cost model. ``names`` are its terms, ``features`` what the trees see; ``cap`` bounds
    predictions."""

    names: list[str]
    coefficients: np.ndarray
    features: list[str]
    forest: Forest | None
    cap: float = np.inf
    pull: float = 0.0
    recall: Forest | None = None
    """Trees on the logarithm of the value itself. They know nothing beyond what was measured, but follow a
    target that saturates."""
    elsewhere: np.ndarray | None = None
    """Coefficients for other networks, where one alone was measured: closer to what is expected of them."""

    def physics(self, terms: pd.DataFrame, new_network: np.ndarray | None = None) -> np.ndarray:
        """The sum of costs alone, shape (n,); ``new_network`` is a mask of rows of other networks than those
        measured."""
        x = _with_constant(terms, self.names)
        if self.elsewhere is None or new_network is None:
            return x @ self.coefficients
        return np.where(new_network, x @ self.elsewhere, x @ self.coefficients)

    def cost_shares(self, terms: pd.DataFrame) -> pd.DataFrame:
        """Share of each term in the sum of costs, shape (n, terms)."""
        parts = _with_constant(terms, self.names) * self.coefficients
        return pd.DataFrame(parts / parts.sum(axis=1, keepdims=True), columns=self.names)

    def parts(self, terms: pd.DataFrame, shape: pd.DataFrame, new_network: np.ndarray | None = None) -> Parts:
        """What it says of rows; ``new_network`` as in :meth:`physics`."""
        seen = shape[self.features].to_numpy()
        residual = self.forest.predict(seen) if self.forest else np.zeros(len(seen))
        recalled = self.recall.predict(seen) if self.recall else np.full(len(seen), np.nan)
        return Parts(self.physics(terms, new_network), residual, recalled, np.full(len(seen), self.cap))


@dataclass(frozen=True)
class Belief:
    """How far trees are believed, 0-1: in the factor on physics, and in what they recall of the value
    itself."""

    residual: float = 1.0
    recalled: float = 0.0


BELIEFS = (Belief(), Belief(recalled=0.5), Belief(residual=0.5), Belief(residual=0.0))


@dataclass(frozen=True)
class Parts:
    """What a cost model says of rows, arrays of shape (n,): costs, the logarithm of the trees' factor on
    them, what trees recall of the value's logarithm (NaN where there are none), and the cap."""

    physics: np.ndarray
    log_residual: np.ndarray
    log_recalled: np.ndarray
    cap: np.ndarray

    def rows(self, chosen: np.ndarray) -> Parts:
        """The chosen rows: a mask, or positions."""
        return Parts(*(part[chosen] for part in vars(self).values()))

    def needed(self, residual: np.ndarray | float) -> np.ndarray:
        """Predictions without the cap: what memory would be needed if there were enough of it."""
        return self.physics * np.exp(residual * self.log_residual)

    def predicted(
        self, belief: Belief | tuple[np.ndarray, np.ndarray], shift: np.ndarray | float = 0.0
    ) -> np.ndarray:
        """Predictions in the target's unit.

        Args:
            belief: for all rows, or residual and recalled of each.
            shift: logarithm of what the measured value is expected to be times as large.
        """
        residual, recalled = (belief.residual, belief.recalled) if isinstance(belief, Belief) else belief
        log_capped = np.log(np.minimum(self.needed(residual) * np.exp(shift), self.cap))
        share = np.where(np.isnan(self.log_recalled), 0.0, recalled)
        return np.exp((1 - share) * log_capped + share * (np.nan_to_num(self.log_recalled) + shift))


def fit_cost_model(
    terms: pd.DataFrame,
    shape: pd.DataFrame,
    y: np.ndarray,
    groups: np.ndarray,
    prior: Prior,
    *,
    capped: bool = False,
    pull: float | None = None,
    elsewhere: bool = False,
    trees: int = TREES,
    saturates: bool = False,
    recall: bool = False,
) -> CostModel:
    """Fit costs and trees.

    Args:
        terms: terms of cost, shape (n, terms), each 0 or more.
        shape: scale-free features, shape (n, features).
        y: measured values above 0, shape (n,).
        groups: what each row belongs to (its network); groups weigh the same.
        prior: the terms to use and what to expect of them.
        capped: predict no more than the largest measured value (memory cannot exceed the device's).
        pull: strength of the prior; by default the one under which left-out groups are predicted best.
        elsewhere: also fit coefficients under a stronger pull, for other networks than the one that was
            measured.
        trees: number of trees; 0 leaves the costs alone.
        saturates: values near the largest one are what there is, not what the costs add up to.
        recall: also fit trees on the value itself, for configurations among the measured ones.

    Raises:
        ValueError: nothing to fit on.
    """
    y = np.asarray(y, dtype=float)
    if len(y) == 0 or not (y > 0).all():
        raise ValueError(f"{len(y)} rows to fit on, all values must be above 0")
    cap = float(y.max()) if capped else np.inf
    if len(y) > MOST_ROWS:
        kept = thinned(groups, MOST_ROWS)
        terms, shape, y, groups = terms.iloc[kept], shape.iloc[kept], y[kept], groups[kept]
    names = [name for name in prior if name == CONSTANT or name in terms]
    x = _with_constant(terms, names)
    families = np.array([prior[name][0] for name in names])
    expected = np.array([prior[name][1] for name in names])
    below = y < (BELOW_CAP * cap if saturates else np.inf)
    telling = below if below.any() else ~below
    told = x[telling], y[telling], groups[telling]
    if pull is None:
        pull = _best_pull(*told, expected, families)
    coefficients = _fit_costs(*told, expected, families, pull)
    model = CostModel(names, coefficients, list(shape.columns), None, cap, pull)
    if elsewhere:
        model.elsewhere = _fit_costs(*told, expected, families, MIDDLING_PULL)
    if trees and len(y) >= 10:
        seen = shape.to_numpy(np.float32)
        costs = x @ coefficients
        expected_values = np.minimum(costs, cap) if saturates else costs
        model.forest = Forest.grown(seen, np.log(y / expected_values), trees, max(2, len(y) // 4000))
        if recall:
            model.recall = Forest.grown(seen, np.log(y), trees, 1)
    return model


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


def thinned(groups: np.ndarray, most: int) -> np.ndarray:
    """Positions of about ``most`` rows, evenly; small groups (fewer than a sixth of that) are kept whole."""
    if len(groups) <= most:
        return np.arange(len(groups))
    _, inverse, counts = np.unique(groups.astype(str), return_inverse=True, return_counts=True)
    rare = np.flatnonzero(counts[inverse] < most / 6)
    return np.unique(np.concatenate([np.linspace(0, len(groups) - 1, most).astype(int), rare]))


def in_large_groups(groups: np.ndarray) -> np.ndarray:
    """Rows of groups with at least a tenth of the largest group's rows: a mask of shape (n,)."""
    _, inverse, counts = np.unique(groups.astype(str), return_inverse=True, return_counts=True)
    return (counts >= SMALL_GROUP * counts.max())[inverse]


def judging_groups(groups: np.ndarray) -> np.ndarray:
    """Rows of groups that are worth leaving out to see how they are predicted, a mask of shape (n,).

    Those :func:`in_large_groups`, since a handful of rows tells little of what is common to a group; all,
    where fewer than two groups are large.
    """
    large = in_large_groups(groups)
    return large if len(np.unique(groups[large])) > 1 else np.ones(len(groups), dtype=bool)


def balanced_error(predicted: np.ndarray, y: np.ndarray, groups: np.ndarray) -> float:
    """Mean absolute logarithmic error, each group weighing the same."""
    return float(pd.Series(np.abs(np.log(predicted / y))).groupby(groups).mean().mean())


def _best_pull(
    x: np.ndarray, y: np.ndarray, groups: np.ndarray, expected: np.ndarray, families: np.ndarray
) -> float:
    """The pull under which groups that were left out are predicted best; a middling one where there is one
    group."""
    if len(pd.unique(groups)) < 2:
        return MIDDLING_PULL
    judging = judging_groups(groups)

    def error(pull: float) -> float:
        def fit(train: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
            costs = _fit_costs(x[train], y[train], groups[train], expected, families, pull)
            return lambda held: x[held] @ costs

        return balanced_error(out_of_group(fit, groups)[judging], y[judging], groups[judging])

    errors = {strength: error(strength) for strength in PULLS}
    # Two groups judge poorly: of the pulls that do about as well by them, the strongest.
    tolerance = 1.25 if len(pd.unique(groups[judging])) == 2 else 1.0
    return max(strength for strength in PULLS if errors[strength] <= tolerance * min(errors.values()))


def _fit_costs(
    x: np.ndarray, y: np.ndarray, groups: np.ndarray, expected: np.ndarray, families: np.ndarray, pull: float
) -> np.ndarray:
    """Coefficients under which rows are predicted best, groups weighing the same.

    Small groups weigh the less the more they contradict the large ones (Welsch's weights of robust
    regression): an odd handful of runs must not decide what everything else costs.
    """
    _, inverse, counts = np.unique(groups.astype(str), return_inverse=True, return_counts=True)
    weights, large = 1 / counts[inverse], in_large_groups(groups)
    if not large.all():
        costs = _drawn_costs(x[large], y[large], weights[large], expected, families, pull)
        apart = pd.Series(np.log(y / (x @ costs))).groupby(groups).transform("mean").to_numpy()
        weights[~large] *= np.exp(-((apart[~large] / USUALLY_APART) ** 2) / 2)
    return _drawn_costs(x, y, weights, expected, families, pull)


def _drawn_costs(
    x: np.ndarray, y: np.ndarray, weights: np.ndarray, expected: np.ndarray, families: np.ndarray, pull: float
) -> np.ndarray:
    """Coefficients by least squares of relative errors, drawn towards the expected ones in three steps."""
    weight = np.sqrt(weights / weights.sum())
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
    values = {
        "names": model.names,
        "features": model.features,
        "cap": None if np.isinf(model.cap) else model.cap,
        "pull": model.pull,
    }
    arrays = {"coefficients": model.coefficients}
    if model.elsewhere is not None:
        arrays["elsewhere"] = model.elsewhere
    for name in FORESTS:
        forest = getattr(model, name)
        values[f"has_{name}"] = forest is not None
        arrays |= {f"{name}_{part}": array for part, array in (forest.arrays() if forest else {}).items()}
    return values, arrays


def model_of(values: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> CostModel:
    """The model back from what :func:`state_of` gave."""
    forests = {
        name: Forest(*(arrays[f"{name}_{part}"] for part in Forest.__dataclass_fields__))
        for name in FORESTS
        if values[f"has_{name}"]
    }
    cap = np.inf if values["cap"] is None else float(values["cap"])
    return CostModel(
        list(values["names"]),
        arrays["coefficients"],
        list(values["features"]),
        forests.get("forest"),
        cap,
        float(values["pull"]),
        forests.get("recall"),
        arrays.get("elsewhere"),
    )
