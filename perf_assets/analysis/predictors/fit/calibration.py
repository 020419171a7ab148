"""Fitting a predictor: the cost model on all rows, then again with something left out, to see how it errs of
what is new."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd

from perf_assets.analysis.predictors.features.configurations import LAYER_LATENCY, family_of, measure_of
from perf_assets.analysis.predictors.features.design import Design
from perf_assets.analysis.predictors.features.targets import (
    expected_costs,
    snapshot_of,
    values_of,
    with_times,
)
from perf_assets.analysis.predictors.fit.cost_model import (
    BELIEFS,
    BELOW_CAP,
    PULLS,
    TREES,
    Belief,
    CostModel,
    Parts,
    balanced_error,
    fit_cost_model,
    in_large_groups,
    out_of_group,
    thinned,
)
from perf_assets.analysis.predictors.fit.intervals import Deviation
from perf_assets.analysis.predictors.fit.novelty import (
    WITHIN_DEVICE,
    comparable,
    fold_names,
    group_names,
    level_gaps,
    network_names,
    places,
)
from perf_assets.analysis.predictors.fit.scope import Known, unseen_share
from perf_assets.analysis.predictors.fit.target_predictor import Fitted

CALIBRATION_TREES = 20
CALIBRATION_ROWS = 2000
"""Trees and rows of the fits with something left out, which only calibrate."""
CLEARLY = 0.8
"""Left-out groups are a noisy judge: what is usual is believed unless this factor on its error can be had."""


def fit_predictor(
    design: Design, target: str, new: tuple[str, ...] = WITHIN_DEVICE, *, trees: int = TREES
) -> Fitted:
    """Fit a predictor of one target.

    Args:
        design: rows in which the target was measured, of one stage and tool; of one device, or of several.
        target: a key of ``MEASURES``, or ``layer_latency``.
        new: what will be new about the configurations it is asked about: all or some of ``WITHIN_DEVICE``, or
            ``("device",)``. Then memory has no cap of its own: see :meth:`Fitted.at_device`. None for
            predictions without intervals.
        trees: trees of each forest.

    Raises:
        ValueError: no rows, or values that are not above 0.
    """
    fit = _Fit(design, target, new, trees)
    fitted = fit.fitted()
    fit.calibrate(fitted)
    return fitted


class _Fit:
    """Rows of a design, and what of them is the same in each fit."""

    def __init__(self, design: Design, target: str, new: tuple[str, ...], trees: int) -> None:
        self.target, self.new, self.trees = target, new, trees
        self.design, self.y = design, values_of(design.frame, target)
        self.groups = _groups(design.frame, "device" if new == ("device",) else "model")
        self.staged = (
            "tool" not in design.frame or family_of(str(design.frame["tool"].iloc[0])) == "host_staged"
        )
        self.capped = target.startswith("memory") and new != ("device",)
        self.saturates = self.capped and target == "memory"
        self.time: Fitted | None = None
        if self.staged and target == "energy":
            timed = np.isfinite(values_of(design.frame, "latency"))
            self.time = fit_predictor(design.rows(timed), "latency", new, trees=trees)
        self.few_networks = self.staged and self._large_networks() < 3
        self.one_network = len(np.unique(network_names(design.frame))) == 1

    def _large_networks(self) -> int:
        names = network_names(self.design.frame)
        return len(np.unique(names[in_large_groups(names)]))

    def _pull(self) -> float | None:
        """Strength of the prior, where the rows cannot choose it."""
        if self.few_networks:
            # Leaving one of two networks out leaves one, and that cannot tell what is its own from what is
            # common.
            return PULLS[-1]
        # Other pruning levels of one network: its rows determine the costs, nothing is to be guessed.
        return PULLS[0] if self.one_network and not self.staged else None

    def _telling(self, rows: np.ndarray) -> np.ndarray:
        """Of some positions, those to fit to."""
        if self.time is None:
            return rows
        # A handful of short runs lies within what a power sensor averages over: it tells time, not energy.
        return rows[in_large_groups(self.groups[rows])]

    def fitted(self) -> Fitted:
        """Fitted to all rows, with nothing known of how it errs."""
        design = self.design
        if self.time is not None:
            design = with_times(design, self.time.predict(design)[0], self.time.model)
        model, costs = self._model(design, np.arange(len(self.y)), self._pull(), self.trees)
        unit = measure_of(self.target)[1]
        known = Known.of(design, model.cost_shares(costs), 0.0)
        beliefs = {kind: self._usual_belief(kind) for kind in self.new}
        snapshot = snapshot_of(design, self.target)
        return Fitted(self.target, unit, model, beliefs, {}, known, snapshot, time=self.time)

    def _model(
        self, design: Design, rows: np.ndarray, pull: float | None, trees: int
    ) -> tuple[CostModel, pd.DataFrame]:
        """A cost model of some rows, and the costs of all."""
        costs, families = expected_costs(design, self.target)
        own = self._telling(rows)
        model = fit_cost_model(
            costs.iloc[own],
            design.shape.iloc[own],
            self.y[own],
            self.groups[own],
            families,
            capped=self.capped,
            pull=pull,
            elsewhere=self.one_network and "network" in self.new,
            trees=trees,
            saturates=self.saturates,
            recall=self.saturates and bool(self.new),
        )
        return model, costs

    def calibrate(self, fitted: Fitted) -> None:
        """Set beliefs and deviations from fits that leave out what may be new."""
        sample = thinned(self.groups, CALIBRATION_ROWS)
        # All rows of a network have much the same features, which name it; its layers differ and judge by
        # themselves.
        few = "network" in self.new and self._large_networks() < 3 and self.target != LAYER_LATENCY
        for kind in dict.fromkeys((*self.new, *(("variant",) if few else ()))):
            self._calibrate(fitted, kind, sample)
        if few:
            self._widen(fitted)

    def _calibrate(self, fitted: Fitted, kind: str, sample: np.ndarray) -> None:
        """The same where one kind of thing is new, from sampled rows."""
        frame, y = self.design.frame.iloc[sample].reset_index(drop=True), self.y[sample]
        left_out = out_of_group(self._fit_of(fitted, kind, sample), fold_names(frame, kind))
        telling = np.isin(sample, self._telling(np.arange(len(self.y))))
        own = comparable(self.design.frame, kind)[sample] & telling
        if left_out.ndim != 2 or not own.any():
            return
        parts, names = Parts(*left_out.T[:4]).rows(own), group_names(frame, kind)[own]
        at, y = places(self.design.shape.iloc[sample])[own], y[own]
        fitted.beliefs[kind] = self._belief(kind, parts, y, names)
        predicted = parts.predicted(fitted.beliefs[kind])
        told = np.maximum(y, predicted) < BELOW_CAP * parts.cap
        deviation = Deviation.calibrate(at, np.log(y / predicted), names, told)
        if deviation is not None:
            gaps = level_gaps(frame[own], fitted.known.levels)
            gap = float(gaps[np.isfinite(gaps)].mean()) if np.isfinite(gaps).any() else 0.0
            fitted.deviations[kind] = replace(deviation, gap=gap)
        if kind == self.new[0]:
            fitted.known.most_unseen = float(left_out[:, 4].max())

    def _widen(self, fitted: Fitted) -> None:
        """One or two networks judge poorly how the next one deviates: no less than a variant of theirs, and
        energy no less than the time that it follows from."""
        of_time = self.time.deviations.get("network") if self.time else None
        own = fitted.deviations.get("network", of_time)
        if own is not None:
            others = [deviation for deviation in (of_time, fitted.deviations.get("variant")) if deviation]
            wider = max(deviation.half_width for deviation in (own, *others)) / own.half_width
            fitted.deviations["network"] = own.widened(wider)

    def _belief(self, kind: str, parts: Parts, y: np.ndarray, names: np.ndarray) -> Belief:
        """How far to believe trees: as far as helped of what was left out."""
        if kind == "network" and self.few_networks and self.target != LAYER_LATENCY:
            # All rows of a network have much the same features, which name it; its layers differ.
            return Belief(residual=0.0)
        usual = self._usual_belief(kind)
        errors = {belief: balanced_error(parts.predicted(belief), y, names) for belief in BELIEFS}
        best = min(BELIEFS, key=lambda belief: errors[belief])
        return best if errors[best] < CLEARLY * errors[usual] else usual

    def _usual_belief(self, kind: str) -> Belief:
        """What memory a device uses saturates, in ways that costs do not follow but trees recall of known
        networks.

        Of variants that were measured they would recall the noise too. And of one network they know nothing
        else.
        """
        if kind == "network" and self.one_network:
            return Belief(residual=0.0)
        return Belief(recalled=0.5) if self.saturates and kind == "variant" else Belief()

    def _fit_of(
        self, fitted: Fitted, kind: str, sample: np.ndarray
    ) -> Callable[[np.ndarray], Callable[[np.ndarray], np.ndarray]]:
        """For :func:`out_of_group` over the sampled rows: parts and unseen shares of cost, side by side."""
        trees = min(CALIBRATION_TREES, self.trees)

        def fit(train: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
            design = self.design
            if fitted.time is not None:
                # What energy follows from must not have seen the group either.
                design = _with_times_left_out(fitted.time, kind, design, sample[train], trees)
            model, costs = self._model(design, sample[train], fitted.model.pull, trees)
            largest = model.cost_shares(costs.iloc[sample[train]]).max().to_dict()

            def predict(held: np.ndarray) -> np.ndarray:
                rows = sample[held]
                parts = model.parts(costs.iloc[rows], design.shape.iloc[rows])
                unseen = unseen_share(model.cost_shares(costs.iloc[rows]), largest)
                return np.column_stack([*vars(parts).values(), unseen])

            return predict

        return fit


def _with_times_left_out(time: Fitted, kind: str, design: Design, train: np.ndarray, trees: int) -> Design:
    """The design with times of all rows by a model fitted to some, believed as what is left out is new."""
    y, groups = values_of(design.frame, "latency"), _groups(design.frame, "model")
    costs, families = expected_costs(design, "latency")
    known = train[np.isfinite(y[train])]
    model = fit_cost_model(
        costs.iloc[known],
        design.shape.iloc[known],
        y[known],
        groups[known],
        families,
        pull=time.model.pull,
        trees=trees,
    )
    parts = model.parts(costs, design.shape)
    latency_ms = parts.predicted(time.beliefs.get(kind, Belief()))
    latency_ms[train] = parts.rows(train).predicted(Belief())
    return with_times(design, latency_ms, model)


def _groups(frame: pd.DataFrame, grouped_by: str) -> np.ndarray:
    """The groups; where there is one alone, pruning levels or input sizes take their place."""
    for name in (grouped_by, "model", "pruning_ratio", "input_size", "batch_size"):
        if name in frame and frame[name].nunique() > 1:
            return frame[name].to_numpy().astype(str)
    return np.full(len(frame), "all")
