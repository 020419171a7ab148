"""A fitted predictor of one target: cost model, intervals, what it knows and, of memory, the limit beyond which runs fail."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from perf_assets.predictors.configurations import KEYS, MEASURES, family_of
from perf_assets.predictors.cost_model import PULLS, SEED, CostModel, fit_cost_model, out_of_group, thinned
from perf_assets.predictors.design import Design
from perf_assets.predictors.devices import device_facts
from perf_assets.predictors.intervals import Deviation
from perf_assets.predictors.known import Known, unseen_share, variant_names
from perf_assets.predictors.networks import canonical
from perf_assets.predictors.terms.common import Prior
from perf_assets.predictors.terms.priors import prior_of

OURS = "perf_assets"
TRUSTS = (1.0, 0.5, 0.0)
CALIBRATION_TREES = 30
CALIBRATION_ROWS = 2000
"""Trees and rows of the fits with something left out, which only calibrate."""
ALGORITHMS_APART = 2.0
"""Two algorithms deviate as differently as sizes that are this much (times √2) apart in the logarithm."""
BELOW_CAP = 0.95
"""Memory nearer to the cap than this says how much there is, not how much is needed."""


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
    time_like = "latency" if target == "layer_latency" else target
    tool = frame["tool"] if "tool" in frame else pd.Series("ai3", index=frame.index)
    stage = frame["stage"] if "stage" in frame else pd.Series("inference", index=frame.index)
    priors = {key: prior_of(time_like, family_of(key[0]), key[1], key[2])
              for key in set(zip(tool, frame["device"], stage, strict=True))}  # fmt: skip
    rows = list(zip(tool, frame["device"], stage, strict=True))
    families: Prior = {}
    columns = {}
    for prior in priors.values():
        families |= {name: (family, 1.0) for name, (family, _) in prior.items()}
    for name in families:
        unit = np.array([priors[row].get(name, ("", 0.0))[1] for row in rows])
        quantity = design.terms[name].to_numpy(float) if name in design.terms else 1.0
        columns[name] = quantity * unit
    return pd.DataFrame(columns, index=design.terms.index), families


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


@dataclass
class Fitted:
    """A fitted predictor of one target. ``deviations`` are its errors by what is new about a configuration."""

    target: str
    unit: str
    model: CostModel
    deviations: dict[str, Deviation]
    known: Known
    snapshot: str
    limit: float = np.inf
    limit_spread: float = 0.1
    """Of memory: predictions above this ran out of memory, and how sharp that limit is (relative)."""

    def predict(self, design: Design) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Predictions with lower and upper end of their 90 % interval, in ``unit``, shape (n,) each."""
        return self.interval(self.needed(design), *self.deviation(design))

    def interval(
        self, needed: np.ndarray, shift: np.ndarray, half_widths: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Predictions with both ends, from :meth:`needed` and :meth:`deviation`; shape (n,) all of them."""
        predicted = np.minimum(needed * np.exp(shift), self.model.cap)
        return predicted, predicted * np.exp(-half_widths), predicted * np.exp(half_widths)

    def needed(self, design: Design) -> np.ndarray:
        """Predictions as the fit gives them: what would be needed if memory had no end, shape (n,)."""
        costs, _ = expected_costs(design, self.target)
        return self.model.uncapped(costs, design.shape)

    def answer(self, design: Design) -> Answer:
        """Everything that it says about configurations."""
        costs, _ = expected_costs(design, self.target)
        needed = self.model.uncapped(costs, design.shape)
        shift, half_widths = self.deviation(design)
        reasons = self.known.reasons(design, self.model.cost_shares(costs), half_widths)
        exceeded = self._exceeds_limit(needed * np.exp(shift))
        return Answer(*self.interval(needed, shift, half_widths), reasons, exceeded)

    def adapted(self, design: Design, y: np.ndarray) -> Fitted:
        """The predictor when a few points of something new have been measured.

        Args:
            design: the points.
            y: their measured values, shape (k,). NaN, and values at the cap, which say nothing of what lies below, do not count.
        """
        ratios, told = self.ratios(y, self.needed(design))
        at, kinds = places(design.shape), self.kinds(design.frame)
        deviations = {}
        for kind, deviation in self.deviations.items():
            own = told & (kinds == kind)
            names = group_names(design.frame, kind)
            deviations[kind] = deviation.given(at[own], ratios[own], names[own])
        return replace(self, deviations=deviations)

    def ratios(self, y: np.ndarray, needed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logarithms of measured / predicted, and which of them tell how far off the costs are, shape (n,) each."""
        told = np.isfinite(y) & (y > 0) & (np.fmax(y, needed) < BELOW_CAP * self.model.cap)
        return np.log(np.where(told, y, needed) / needed), told

    def at_device(self, name: str) -> Fitted:
        """The predictor for a device that it saw nothing of: memory ends where that device's does."""
        if not self.target.startswith("memory"):
            return self
        memory_mib = device_facts(name).memory_gib * 1024
        return replace(self, model=replace(self.model, cap=memory_mib), limit=memory_mib)

    def with_limit(self, design: Design) -> Fitted:
        """The predictor with the memory limit that divides rows that fitted from rows that failed best."""
        from perf_assets.predictors.evaluate import best_threshold

        failed = design.frame["oom"].to_numpy(float) > 0.5
        if failed.all() or not failed.any():
            return self
        needed = self.needed(design)
        limit = best_threshold(needed, failed)
        near = np.abs(np.log(needed / limit))[(needed > limit) != failed]
        spread = float(np.median(near)) if len(near) else 0.02
        return replace(self, limit=limit, limit_spread=max(spread, 0.02))

    def out_of_memory(self, design: Design) -> np.ndarray:
        """Probability of each row to run out of memory, shape (n,)."""
        return self._exceeds_limit(self.needed(design) * np.exp(self.deviation(design)[0]))

    def _exceeds_limit(self, needed: np.ndarray) -> np.ndarray:
        """A logistic curve around the limit."""
        if not np.isfinite(self.limit):
            return np.zeros(len(needed))
        distance = np.log(needed / self.limit) / self.limit_spread
        return 1 / (1 + np.exp(-np.clip(distance, -50, 50)))

    def kinds(self, frame: pd.DataFrame) -> np.ndarray:
        """What is new about each row, a key of ``deviations``, shape (n,)."""
        if "device" in self.deviations:
            return np.full(len(frame), "device")
        measured = frame["model"].astype(str).map(canonical).isin(list(self.known.levels)).to_numpy()
        same = np.isin(variant_names(frame), self.known.variants)
        kinds = np.where(same, "size", np.where(measured, "variant", "network"))
        # Where nothing says how the smaller step errs, the larger one does.
        for kind, larger in (("size", "variant"), ("variant", "network")):
            if kind not in self.deviations:
                kinds[kinds == kind] = larger
        return kinds

    def deviation(self, design: Design) -> tuple[np.ndarray, np.ndarray]:
        """Expected logarithm of measured / predicted and half width of the interval, shape (n,) each; NaN width where
        nothing could be calibrated."""
        kinds, sizes = self.kinds(design.frame), places(design.shape)
        shift, half_widths = np.zeros(len(design)), np.full(len(design), np.nan)
        for kind, deviation in self.deviations.items():
            own = kinds == kind
            if own.any():
                shift[own], half_widths[own] = deviation.at(sizes[own], group_names(design.frame, kind)[own])
        return shift, half_widths


def fit_predictor(
    design: Design, target: str, grouped_by: str = "model", *, trees: int | None = None
) -> Fitted:
    """Fit a predictor of one target.

    Args:
        design: rows in which the target was measured, of one stage and tool; of one device, or of several.
        target: a key of ``MEASURES``, or ``layer_latency``.
        grouped_by: column whose groups weigh the same, and of which new ones are to be predicted: ``model``,
            ``pruning_ratio`` or ``device``. With ``device``, memory has no cap of its own: see :meth:`Fitted.at_device`.
        trees: trees of the residual; the default is the cost model's.

    Raises:
        ValueError: no rows, or values that are not above 0.
    """
    y = values_of(design.frame, target)
    groups = _groups(design.frame, grouped_by)
    costs, families = expected_costs(design, target)
    capped = target.startswith("memory") and grouped_by != "device"
    options: dict[str, Any] = {} if trees is None else {"trees": trees}
    # Other pruning levels of networks that were measured: the rows determine the costs, nothing is to be guessed.
    pull = PULLS[0] if grouped_by == "pruning_ratio" else None
    model = fit_cost_model(costs, design.shape, y, groups, families, capped=capped, pull=pull, **options)

    known_costs = model.cost_shares(costs)
    unit = MEASURES["latency" if target == "layer_latency" else target][1]
    fitted = Fitted(target, unit, model, {}, Known.of(design, known_costs, 0.0), snapshot_of(design, target))
    sample = thinned(groups, CALIBRATION_ROWS)
    design, costs, y, groups = (
        design.rows(sample),
        costs.iloc[sample].reset_index(drop=True),
        y[sample],
        groups[sample],
    )
    kinds = ("device",) if grouped_by == "device" else ("network", "variant", "size")

    def fit(train: np.ndarray):
        part = fit_cost_model(
            costs[train], design.shape[train], y[train], groups[train], families,
            capped=capped, pull=model.pull, trees=min(CALIBRATION_TREES, options.get("trees", CALIBRATION_TREES)),
        )  # fmt: skip
        largest = part.cost_shares(costs[train]).max().to_dict()

        def predict(held: np.ndarray) -> np.ndarray:
            terms, shape = costs[held], design.shape[held]
            unseen = unseen_share(part.cost_shares(terms), largest)
            return np.column_stack([part.physics(terms), part.log_residual(shape), np.full(len(terms), part.cap), unseen])  # fmt: skip

        return predict

    left_out = {}
    for kind in kinds:
        predictions = out_of_group(fit, fold_names(design.frame, kind))
        if predictions.ndim == 2:
            left_out[kind] = predictions
    judge = next((kind for kind in kinds if kind in left_out), None)
    if judge is not None:
        # Few groups make a noisy judge: trees are believed unless they clearly did harm.
        names = group_names(design.frame, judge)
        harm = {trust: _balanced_error(_predicted(left_out[judge], trust), y, names) for trust in TRUSTS}
        best = min(TRUSTS, key=lambda trust: harm[trust])
        model.trust = best if harm[best] < 0.8 * harm[1.0] else 1.0
        fitted.known.most_unseen = float(left_out[judge][:, 3].max())
    for kind, predictions in left_out.items():
        predicted = _predicted(predictions, model.trust)
        told = np.maximum(y, predicted) < BELOW_CAP * predictions[:, 2]
        own = comparable(design.frame, kind)
        deviation = Deviation.calibrate(
            places(design.shape)[own],
            np.log(y / predicted)[own],
            group_names(design.frame, kind)[own],
            told[own],
        )
        if deviation is not None:
            fitted.deviations[kind] = deviation
    return fitted


def group_names(frame: pd.DataFrame, kind: str) -> np.ndarray:
    """What deviates as a whole where ``kind`` is new, shape (n,): the device, the network, or its variant."""
    if kind == "device":
        return frame["device"].to_numpy(str)
    if kind == "network":
        return np.array([canonical(str(name)) for name in frame["model"]], dtype=str)
    return variant_names(frame)


def fold_names(frame: pd.DataFrame, kind: str) -> np.ndarray:
    """What is left out together to see how predictions err where ``kind`` is new, shape (n,)."""
    if kind == "size":
        return np.random.default_rng(SEED).integers(0, 3, len(frame)).astype(str)
    return group_names(frame, kind)


def comparable(frame: pd.DataFrame, kind: str) -> np.ndarray:
    """Rows that were left out in the way in which new ones are asked about, shape (n,).

    A variant needs others of its network beside it; and pruning levels are asked about between those measured, so
    that the outermost, which can only be extrapolated to, say nothing.
    """
    if kind != "variant":
        return np.ones(len(frame), dtype=bool)
    model = pd.Series(group_names(frame, "network"), index=frame.index)
    ratio = frame["pruning_ratio"].astype(float)
    by_model = ratio.groupby(model)
    inner = (ratio > by_model.transform("min")) & (ratio < by_model.transform("max"))
    several = pd.Series(variant_names(frame), index=frame.index).groupby(model).transform("nunique") > 1
    return (several & (inner | (by_model.transform("nunique") <= 2))).to_numpy()


def places(shape: pd.DataFrame) -> np.ndarray:
    """Where rows lie for :class:`Deviation`, shape (n, coordinates): logarithms of sizes, and algorithms apart."""
    logs = [name for name in shape if str(name).startswith("log_")]
    algorithms = [name for name in shape if str(name).startswith(("is_", "macs_"))]
    return np.hstack([shape[logs].to_numpy(float), ALGORITHMS_APART * shape[algorithms].to_numpy(float)])


def _predicted(left_out: np.ndarray, trust: float) -> np.ndarray:
    physics, residual, cap, _ = left_out.T
    return np.minimum(physics * np.exp(trust * residual), cap)


def _balanced_error(predicted: np.ndarray, y: np.ndarray, groups: np.ndarray) -> float:
    """Mean absolute logarithmic error, each group weighing the same."""
    return float(pd.Series(np.abs(np.log(predicted / y))).groupby(groups).mean().mean())


def _groups(frame: pd.DataFrame, grouped_by: str) -> np.ndarray:
    """The groups; where there is one alone, pruning levels or input sizes take their place."""
    for name in (grouped_by, "model", "pruning_ratio", "input_size", "batch_size"):
        if name in frame and frame[name].nunique() > 1:
            return frame[name].to_numpy().astype(str)
    return np.full(len(frame), "all")
