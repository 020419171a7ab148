"""A fitted predictor of one target: cost model, interval, hull and, of memory, the limit beyond which runs fail."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from perf_assets.predictors.configurations import KEYS, MEASURES, family_of
from perf_assets.predictors.cost_model import (
    PULLS,
    CostModel,
    balanced_error,
    fit_cost_model,
    in_large_groups,
    out_of_group,
)
from perf_assets.predictors.design import Design
from perf_assets.predictors.intervals import Conformal, Hull
from perf_assets.predictors.terms.common import CONSTANT, Prior
from perf_assets.predictors.terms.priors import prior_of
from perf_assets.predictors.terms.staged import TIME

OURS = "perf_assets"
TRUSTS = (1.0, 0.5, 0.0)
CALIBRATION_TREES = 60
"""Trees of the out-of-group fits, which only calibrate."""


def values_of(frame: pd.DataFrame, target: str) -> np.ndarray:
    """Measured values of a target, shape (n,); NaN where it was not measured."""
    if target == "oom":
        return frame["oom"].to_numpy(float)
    column = "latency_ms" if target == "layer_latency" else MEASURES[target][0]
    return frame[column].astype(float).to_numpy()


def snapshot_of(design: Design, target: str) -> str:
    """Hash of rows: their keys and measured values, 16 hex digits, whatever their order."""
    frame = design.frame
    keys = [name for name in (*KEYS, "layer") if name in frame]
    lines = [*map(str, zip(*(frame[name] for name in keys), values_of(frame, target), strict=True))]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:16]


def expected_costs(design: Design, target: str) -> tuple[pd.DataFrame, Prior]:
    """Terms as what they should cost by the data sheet of each row's device, and their families.

    So a fitted coefficient is a device's inefficiency, 1 at full speed, and rows of several devices share it.
    """
    frame = design.frame
    tool = frame["tool"] if "tool" in frame else pd.Series("ai3", index=frame.index)
    stage = frame["stage"] if "stage" in frame else pd.Series("inference", index=frame.index)
    priors = {key: prior_of(target, family_of(key[0]), key[1], key[2])
              for key in set(zip(tool, frame["device"], stage, strict=True))}  # fmt: skip
    rows = list(zip(tool, frame["device"], stage, strict=True))
    families: Prior = {}
    columns = {}
    for prior in priors.values():
        families |= {name: (family, 1.0) for name, (family, _) in prior.items()}
    for name in [name for name in families if name == CONSTANT or name in design.terms]:
        unit = np.array([priors[row].get(name, ("", 0.0))[1] for row in rows])
        quantity = design.terms[name].to_numpy(float) if name in design.terms else 1.0
        columns[name] = quantity * unit
    return pd.DataFrame(columns, index=design.terms.index), {name: families[name] for name in columns}


def with_time(design: Design, time: CostModel, familiar: np.ndarray) -> Design:
    """The design with predicted latencies as a further term, which energy is proportional to.

    Args:
        design: rows.
        time: cost model of their latency.
        familiar: rows whose network it was fitted to, shape (n,).
    """
    latency_ms = time.predict(expected_costs(design, "latency")[0], design.shape, familiar)
    return replace(design, terms=design.terms.assign(**{TIME: latency_ms}))


@dataclass
class Fitted:
    """A fitted predictor of one target."""

    target: str
    unit: str
    model: CostModel
    conformal: Conformal
    hull: Hull
    snapshot: str
    limit: float = np.inf
    limit_spread: float = 0.1
    """Of memory: predictions above this ran out of memory, and how sharp that limit is (relative)."""
    networks: tuple[str, ...] = ()
    """Networks whose rows were learnt from and of which the trees are believed wholly."""
    time: CostModel | None = None
    """Of energy that follows from latency: the model of that."""

    def predict(self, design: Design) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Predictions with lower and upper end of their 90 % interval, in ``unit``, shape (n,) each."""
        familiar = design.frame["model"].isin(self.networks).to_numpy()
        if self.time is not None:
            design = with_time(design, self.time, familiar)
        costs, _ = expected_costs(design, self.target)
        predicted = self.model.predict(costs, design.shape, familiar)
        lower, upper = self.conformal.interval(predicted)
        return predicted, lower, upper

    def abstentions(self, design: Design) -> list[str]:
        """Why each row is outside what the predictor knows; empty where it is not."""
        return self.hull.outside(design.shape, design.frame["algorithm"])

    def with_limit(self, design: Design) -> Fitted:
        """The predictor with the memory limit that divides rows that fitted from rows that failed best."""
        from perf_assets.predictors.evaluate import best_threshold

        failed = design.frame["oom"].to_numpy(float) > 0.5
        if failed.all() or not failed.any():
            return self
        needed = self._needed(design)
        limit = best_threshold(needed, failed)
        near = np.abs(np.log(needed / limit))[(needed > limit) != failed]
        spread = float(np.median(near)) if len(near) else 0.02
        return replace(self, limit=limit, limit_spread=max(spread, 0.02))

    def out_of_memory(self, design: Design) -> np.ndarray:
        """Probability of each row to run out of memory: a logistic curve around the limit, shape (n,)."""
        distance = (
            np.log(self._needed(design) / self.limit) / self.limit_spread
            if np.isfinite(self.limit)
            else np.full(len(design), -np.inf)
        )
        return 1 / (1 + np.exp(-np.clip(distance, -50, 50)))

    def _needed(self, design: Design) -> np.ndarray:
        costs, _ = expected_costs(design, self.target)
        return self.model.uncapped(costs, design.shape)


def fit_predictor(
    design: Design, target: str, grouped_by: str = "model", *, trees: int | None = None
) -> Fitted:
    """Fit a predictor of one target.

    Args:
        design: rows in which the target was measured, of one stage and tool; of one device, or of several.
        target: a key of ``MEASURES``, or ``layer_latency``.
        grouped_by: column whose groups calibrate the interval: what will be new when the predictor is used.
        trees: trees of the residual; the default is the cost model's.

    Raises:
        ValueError: no rows, or values that are not above 0.
    """
    y = values_of(design.frame, target)
    groups = _groups(design.frame, grouped_by)
    staged = _is_staged(design.frame)
    capped = target.startswith("memory")
    options: dict[str, Any] = {} if trees is None else {"trees": trees}
    few_trees = {"trees": min(CALIBRATION_TREES, options.get("trees", CALIBRATION_TREES))}
    time = None
    if staged and target == "energy":
        timed = np.isfinite(values_of(design.frame, "latency"))
        time = fit_predictor(design.rows(timed), "latency", grouped_by, trees=trees).model
        design = with_time(design, time, np.ones(len(design), dtype=bool))
    costs, families = expected_costs(design, target)
    # Other pruning levels of networks that were measured: the rows determine the costs, nothing is to be guessed.
    pull = PULLS[0] if grouped_by == "pruning_ratio" else None
    # Leaving one of two networks out leaves one, and that cannot tell what is its own from what is common.
    no_judge = staged and len(np.unique(groups[in_large_groups(groups)])) < 3
    if no_judge:
        pull = PULLS[-1]

    def telling(train: np.ndarray) -> np.ndarray:
        """Of a mask of rows, those to fit to."""
        if time is None:
            return train
        # A handful of short runs lies within what a power sensor averages over: it tells time, not energy.
        told = train.copy()
        told[train] = in_large_groups(groups[train])
        return told

    own = telling(np.ones(len(y), dtype=bool))
    model = fit_cost_model(
        costs[own], design.shape[own], y[own], groups[own], families, capped=capped, pull=pull, **options
    )

    def fit(train: np.ndarray):
        terms = costs
        if time is not None:
            # What energy follows from must not have seen the group either.
            part_time = _refitted(time, design.rows(train), groups[train], **few_trees)
            terms, _ = expected_costs(with_time(design, part_time, train), target)
        own = telling(train)
        part = fit_cost_model(
            terms[own], design.shape[own], y[own], groups[own], families, capped=capped, pull=model.pull, **few_trees
        )  # fmt: skip
        # Physics, what the trees add to its logarithm, and the cap, for each held-out row.
        return lambda held: np.column_stack(
            [part.physics(terms[held]), part.log_residual(design.shape[held]), np.full(held.sum(), part.cap)]
        )

    left_out = out_of_group(fit, groups)
    conformal = Conformal(np.nan)
    if left_out.ndim == 2:
        physics, residual, cap = left_out.T
        predictions = {trust: np.minimum(physics * np.exp(trust * residual), cap) for trust in TRUSTS}
        harm = {trust: balanced_error(predictions[trust], y, groups) for trust in TRUSTS}
        best = min(TRUSTS, key=lambda trust: harm[trust])
        # Few groups make a noisy judge: where known networks are judged with it, trees are believed unless they
        # clearly did harm.
        model.trust = best if staged or harm[best] < 0.8 * harm[1.0] else 1.0
        if no_judge and target != "layer_latency":
            # All rows of a network have much the same features, which name it; its layers differ.
            model.trust = 0.0
        conformal = Conformal.calibrate(predictions[model.trust], y, groups)
    algorithms = design.frame["algorithm"]
    unit = MEASURES["latency" if target == "layer_latency" else target][1]
    networks = tuple(sorted(set(design.frame["model"][own].astype(str)))) if staged else ()
    return Fitted(
        target, unit, model, conformal, Hull.of(design.shape, algorithms), snapshot_of(design, target),
        networks=networks, time=time,
    )  # fmt: skip


def _is_staged(frame: pd.DataFrame) -> bool:
    """Whether the host stages the rows' convolutions, as those of all timed layers."""
    return "tool" in frame and family_of(str(frame["tool"].iloc[0])) == "host_staged"


def _refitted(time: CostModel, design: Design, groups: np.ndarray, trees: int) -> CostModel:
    """The model of latency fitted to other rows."""
    y = values_of(design.frame, "latency")
    known = np.isfinite(y)
    costs, families = expected_costs(design, "latency")
    part = fit_cost_model(
        costs[known], design.shape[known], y[known], groups[known], families, pull=time.pull, trees=trees
    )
    return replace(part, trust=time.trust)


def _groups(frame: pd.DataFrame, grouped_by: str) -> np.ndarray:
    """The groups; where there is one alone, pruning levels or input sizes take their place."""
    for name in (grouped_by, "model", "pruning_ratio", "input_size", "batch_size"):
        if name in frame and frame[name].nunique() > 1:
            return frame[name].to_numpy().astype(str)
    return np.full(len(frame), "all")
