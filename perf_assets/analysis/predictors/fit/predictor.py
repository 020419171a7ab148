"""A fitted predictor of one target, and how it is fitted: costs and trees on all rows, then again without one
group after another, to see how it errs of what is new."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from perf_assets.analysis.predictors import constants as known
from perf_assets.analysis.predictors.features.configurations import LAYER_LATENCY, measure_of
from perf_assets.analysis.predictors.features.costs import expected_costs, snapshot_of, values_of
from perf_assets.analysis.predictors.features.design import Design
from perf_assets.analysis.predictors.fit.applicability import Applicability
from perf_assets.analysis.predictors.fit.cost_model import CostModel, fit_cost_model, in_large_groups
from perf_assets.analysis.predictors.fit.extrapolation import (
    MANY_NETWORKS,
    WITHIN_DEVICE,
    group_names,
    inner_levels,
    network_names,
    places,
)
from perf_assets.analysis.predictors.fit.intervals import Deviation
from perf_assets.schema.device_catalog import device_facts

OURS = "perf_assets"


@dataclass(frozen=True)
class Answer:
    """What a fitted predictor says about configurations; arrays of shape (n,), values in its unit."""

    predicted: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    reasons: list[str]
    """Why an answer is a guess; empty where it is none."""
    out_of_memory: np.ndarray
    """Probability to run out of memory; 0 where no limit is known."""


@dataclass(frozen=True)
class Outlook:
    """Rows as a fitted predictor sees them, before it asks how it deviates: arrays with a first dimension of
    n."""

    needed: np.ndarray
    """What would be needed if memory had no end, in the target's unit."""
    costs: np.ndarray
    """The sum of its costs alone, without trees."""
    cost_shares: np.ndarray
    kinds: np.ndarray
    """What is new about each row: see ``extrapolation``."""
    groups: np.ndarray
    """What it deviates with."""
    places: np.ndarray

    def rows(self, chosen: np.ndarray) -> Outlook:
        """The chosen rows: a mask, or positions."""
        return Outlook(*(column[chosen] for column in vars(self).values()))


@dataclass
class Fitted:
    """A fitted predictor of one target; ``deviations`` say by what is new about a configuration how it errs."""

    target: str
    unit: str
    model: CostModel
    deviations: dict[str, Deviation]
    applicability: Applicability
    snapshot: str
    new: tuple[str, ...] = WITHIN_DEVICE
    limit: float = np.inf
    limit_spread: float = 0.1
    """Of memory: predictions above this ran out of memory, and how sharp that limit is (relative)."""

    def outlook(self, design: Design) -> Outlook:
        """Configurations as it sees them."""
        costs, frame = expected_costs(design, self.target), design.frame
        measured = np.isin(network_names(frame), list(self.applicability.levels))
        # Where one variant alone was measured of each network, variants tell no more than networks do.
        known_variants = "variant" in self.deviations and self.deviations["variant"].groups_behind > 1
        kinds = np.where(measured & (known_variants or "network" not in self.new), "variant", "network")
        if self.new == ("device",):
            kinds = np.full(len(frame), "device")
        groups = np.empty(len(frame), dtype=object)
        for kind in np.unique(kinds):
            own = kinds == kind
            groups[own] = group_names(frame, kind)[own]
        tree_weights = np.where(measured, 1.0, known.NEW_NETWORK_TREE_WEIGHT)
        needed = self.model.needed(costs, design.shape, tree_weights)
        shares, physics = self.model.cost_shares(costs).to_numpy(), self.model.physics(costs)
        # What trees say of networks elsewhere need not hold on a new device, for all that they speak of alike.
        learnt = known.LEARNT_APART * np.log(np.maximum(needed, 1e-300) / np.maximum(physics, 1e-300))
        at = np.column_stack([places(design.shape), learnt])
        return Outlook(needed, physics, shares, kinds, groups.astype(str), at)

    def predict(self, design: Design) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Predictions with lower and upper end of their 90 % interval, in ``unit``, shape (n,) each."""
        return self.interval(self.outlook(design))

    def interval(self, outlook: Outlook) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Predictions with both ends of rows that were looked at, shape (n,) each."""
        shift, half_widths = self.deviation(outlook)
        predicted = np.minimum(outlook.needed * np.exp(shift), self.model.cap)
        return predicted, predicted * np.exp(-half_widths), predicted * np.exp(half_widths)

    def answer(self, design: Design) -> Answer:
        """Everything that it says about configurations."""
        outlook = self.outlook(design)
        shift, half_widths = self.deviation(outlook)
        shares = pd.DataFrame(outlook.cost_shares, columns=self.model.names)
        reasons = self.applicability.reasons(design, outlook.costs, shares, half_widths)
        exceeded = self._exceeds_limit(outlook.needed * np.exp(shift))
        return Answer(*self.interval(outlook), reasons, exceeded)

    def adapted(self, design: Design, y: np.ndarray) -> Fitted:
        """The predictor when a few points of something new have been measured.

        Args:
            design: the points.
            y: their measured values, shape (k,). NaN, and values at the cap, which say nothing of what lies
                below, do not count.
        """
        return self.given(self.outlook(design), y)

    def given(self, outlook: Outlook, y: np.ndarray) -> Fitted:
        """The same of points that were looked at."""
        told = np.isfinite(y) & (y > 0) & (np.fmax(y, outlook.needed) < known.BELOW_CAP * self.model.cap)
        seen = outlook.rows(told)
        ratios = np.log(y[told] / seen.needed)
        deviations = {}
        for kind, deviation in self.deviations.items():
            own = seen.kinds == kind
            deviations[kind] = deviation.given(seen.places[own], ratios[own], seen.groups[own])
        return replace(self, deviations=deviations)

    def at_device(self, name: str) -> Fitted:
        """The predictor for a device that it saw nothing of: memory ends where that device's does."""
        if not self.target.startswith("memory"):
            return self
        memory_mib = device_facts(name).memory_gib * 1024
        return replace(self, model=replace(self.model, cap=memory_mib), limit=memory_mib)

    def with_limit(self, design: Design) -> Fitted:
        """The predictor with the memory limit that divides rows that fitted from rows that failed best."""
        failed = design.frame["oom"].to_numpy(float) > 0.5
        if failed.all() or not failed.any():
            return self
        needed = self.outlook(design).needed
        limit = best_threshold(needed, failed)
        near = np.abs(np.log(needed / limit))[(needed > limit) != failed]
        spread = float(np.median(near)) if len(near) else 0.02
        return replace(self, limit=limit, limit_spread=max(spread, 0.02))

    def out_of_memory(self, design: Design) -> np.ndarray:
        """Probability of each row to run out of memory, shape (n,)."""
        outlook = self.outlook(design)
        return self._exceeds_limit(outlook.needed * np.exp(self.deviation(outlook)[0]))

    def _exceeds_limit(self, needed: np.ndarray) -> np.ndarray:
        """A logistic curve around the limit."""
        if not np.isfinite(self.limit):
            return np.zeros(len(needed))
        distance = np.log(needed / self.limit) / self.limit_spread
        return 1 / (1 + np.exp(-np.clip(distance, -50, 50)))

    def deviation(self, outlook: Outlook) -> tuple[np.ndarray, np.ndarray]:
        """Expected logarithm of measured / predicted and half width of the interval, shape (n,) each; NaN
        width where nothing could be calibrated."""
        shift, half_widths = np.zeros(len(outlook.kinds)), np.full(len(outlook.kinds), np.nan)
        for kind, deviation in self.deviations.items():
            own = outlook.kinds == kind
            if own.any():
                shift[own], half_widths[own] = deviation.at(outlook.places[own], outlook.groups[own])
        return shift, half_widths


def fit_predictor(
    design: Design, target: str, new: tuple[str, ...] = WITHIN_DEVICE, *, trees: int = known.TREES
) -> Fitted:
    """Fit a predictor of one target.

    Args:
        design: rows in which the target was measured, of one stage and tool; of one device, or of several.
        target: a key of ``MEASURES``, or ``layer_latency``.
        new: what will be new about the configurations it is asked about: all or some of ``WITHIN_DEVICE``, or
            ``("device",)``. Then memory has no cap of its own: see :meth:`Fitted.at_device`. None for
            predictions without intervals.
        trees: trees of the forest.

    Raises:
        ValueError: no rows, or values that are not above 0.
    """
    y = values_of(design.frame, target)
    capped = target.startswith("memory") and new != ("device",)
    new_device = new == ("device",)
    model = _cost_model(design, target, y, np.arange(len(y)), trees, capped=capped, new_device=new_device)
    costs = expected_costs(design, target)
    fewer = min(trees, known.CALIBRATION_TREES)
    deviations = {kind: _deviation(design, target, y, kind, fewer, capped=capped) for kind in new}
    return Fitted(
        target,
        measure_of(target)[1],
        model,
        deviations,
        Applicability.of(design, model.physics(costs), model.cost_shares(costs)),
        snapshot_of(design, target),
        new,
    )


def best_threshold(scores: np.ndarray, positive: np.ndarray) -> float:
    """The threshold above which calling rows positive errs least often; between two scores."""
    order = np.argsort(scores)
    values, truth = scores[order], positive[order]
    # Errors if everything from position i on is called positive.
    errors = np.concatenate([[0], np.cumsum(truth)]) + np.concatenate([np.cumsum((~truth)[::-1])[::-1], [0]])
    edges = np.concatenate([[values[0] * 0.5], np.sqrt(values[:-1] * values[1:]), [values[-1] * 2]])
    best = np.flatnonzero(errors == errors.min())
    return float(edges[best[len(best) // 2]])


def _cost_model(
    design: Design,
    target: str,
    y: np.ndarray,
    rows: np.ndarray,
    trees: int,
    *,
    capped: bool,
    new_device: bool,
) -> CostModel:
    """A cost model of some rows."""
    own = design.rows(rows)
    groups = network_names(own.frame)
    # Of another device, the same networks are asked about: what they took elsewhere is to be remembered.
    leaf = 1 if new_device and target != LAYER_LATENCY else 2
    return fit_cost_model(
        expected_costs(own, target), own.shape, y[rows], groups, capped=capped, trees=trees, leaf=leaf
    )


def _deviation(
    design: Design, target: str, y: np.ndarray, kind: str, trees: int, *, capped: bool
) -> Deviation:
    """How rows deviate from a model that saw nothing of their group; groups share at most ``FOLDS`` fits."""
    groups = group_names(design.frame, kind)
    names = pd.unique(groups)
    if len(names) < 2:
        return Deviation.usual()
    fold_of = {name: number % known.FOLDS for number, name in enumerate(names)}
    folds = np.array([fold_of[name] for name in groups])
    needed, cap = np.empty(len(y)), np.empty(len(y))
    for number in np.unique(folds):
        held = folds == number
        rows = np.flatnonzero(~held)
        model = _cost_model(design, target, y, rows, trees, capped=capped, new_device=kind == "device")
        own = design.rows(held)
        tree_weight = known.NEW_NETWORK_TREE_WEIGHT if kind == "network" else 1.0
        needed[held] = model.needed(expected_costs(own, target), own.shape, tree_weight)
        cap[held] = model.cap
    # Of a few networks, a handful of runs judges nothing; of many families, small ones are as telling as large.
    share = known.JUDGING_GROUP if len(names) < MANY_NETWORKS else 0.0
    telling = in_large_groups(groups, share) & (inner_levels(design.frame) if kind == "variant" else True)
    telling = telling & (np.maximum(y, needed) < known.BELOW_CAP * cap)
    return Deviation.calibrate(np.log(y[telling] / needed[telling]), groups[telling], kind)
