"""Two other ways to the effect of a setting: double machine learning, and runs that differ in that setting only."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.model_selection import KFold

from perf_assets.analysis.causal.effects import (
    DOUBLE_ML,
    RANDOMISED,
    Comparison,
    Effect,
    can_tell,
    in_unit,
)
from perf_assets.analysis.causal.frame import CausalFrame

FOLDS = 3
LEAST_PROPENSITY = 0.02
FEWEST_PAIRS = 8
_NORMAL_95 = 1.96
_MOST_ROWS = 10_000
_BOOSTING = {
    "max_iter": 50,
    "learning_rate": 0.2,
    "max_leaf_nodes": 8,
    "min_samples_leaf": 10,
    "early_stopping": False,
    "random_state": 0,
}


def double_ml(frame: CausalFrame, target: str, compared: Comparison, seed: int) -> Effect:
    """The effect by augmented inverse propensity weighting with cross-fitted boosted trees (Chernozhukov et al. 2018).

    Trees find interactions that the regression of the first opinion does not have. Where the two disagree, neither
    should be trusted.
    """
    rows = np.arange(len(compared.rows))
    if len(rows) > _MOST_ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, _MOST_ROWS, replace=False))
    empty = Effect(compared.source, target, compared.contrast, DOUBLE_ML, None, None, None, len(rows))
    y = frame.rows[target].to_numpy(dtype=float)[compared.rows[rows]]
    treated, x = compared.treated[rows], compared.covariates[rows]
    if not can_tell(compared) or not x.shape[1]:
        return replace(empty, verdict="cannot tell")
    scores = np.full(len(y), np.nan)
    for train, test in KFold(FOLDS, shuffle=True, random_state=seed).split(x):
        means, parts = [], []
        for level in (1, 0):
            own = train[treated[train] == level]
            if len(own) < FOLDS:
                return replace(empty, verdict="cannot tell")
            model = HistGradientBoostingRegressor(**_BOOSTING).fit(x[own], y[own])
            # Of all rows, also those of other levels: the share that has this one.
            chosen = (treated[train] == level).astype(int)
            share = (
                HistGradientBoostingClassifier(**_BOOSTING).fit(x[train], chosen).predict_proba(x[test])[:, 1]
            )
            predicted = model.predict(x[test])
            weight = (treated[test] == level) / np.clip(share, LEAST_PROPENSITY, 1)
            means.append(predicted)
            parts.append(weight * (y[test] - predicted))
        scores[test] = means[0] - means[1] + parts[0] - parts[1]
    estimate = float(scores.mean())
    error = _NORMAL_95 * float(scores.std(ddof=1)) / np.sqrt(len(scores))
    return in_unit(empty, frame, estimate, estimate - error, estimate + error)


def matched(
    frame: CausalFrame, target: str, source: str, high: str, low: str, bootstraps: int, seed: int
) -> Effect:
    """The effect as the design gives it: mean difference over pairs of cells that differ in the setting alone.

    In a randomised grid this needs no model and no graph: it is what happened when the setting was changed.
    """
    others = [name for name in frame.settings if name != source]
    known = frame.rows[frame.rows[target].notna() & frame.rows[source].isin([high, low])]
    keys = others or [known[source].map(lambda _: 0)]
    cells = (
        known.groupby([*keys, known[source].rename("_level")], observed=True)[target].mean().unstack("_level")
    )
    empty = Effect(source, target, f"{high} against {low}", RANDOMISED, None, None, None, len(cells))
    if not {high, low} <= set(cells.columns):
        return replace(empty, n=0, verdict="cannot tell: no pair of runs differs in it alone")
    differences = (cells[high] - cells[low]).dropna().to_numpy(dtype=float)
    empty = replace(empty, n=len(differences))
    if len(differences) < FEWEST_PAIRS:
        return replace(empty, verdict=f"cannot tell: only {len(differences)} pairs differ in it alone")
    rng = np.random.default_rng(seed)
    draws = rng.choice(differences, (bootstraps, len(differences))).mean(axis=1)
    lower, upper = np.percentile(draws, (2.5, 97.5))
    return in_unit(empty, frame, float(differences.mean()), float(lower), float(upper))


def verdict(graph: Effect | None, randomised: Effect) -> str:
    """Does the randomised data bear out what the graph says? ``graph`` is None where the graph has no way to the target."""
    if randomised.effect is None or randomised.lower is None or randomised.upper is None:
        return randomised.verdict or "cannot tell"
    moves = not randomised.lower <= 0 <= randomised.upper
    if graph is None:
        return (
            "differs: it changes, the graph says it does not"
            if moves
            else "agrees: no change, as the graph says"
        )
    if graph.effect is None or graph.lower is None or graph.upper is None:
        return "cannot tell"
    apart = graph.upper < randomised.lower or randomised.upper < graph.lower
    if apart and moves and graph.effect * randomised.effect > 0:
        return "agrees in sign, differs in size"
    if apart:
        return "differs"
    return "agrees" if moves else "cannot tell: the change is within the noise"
