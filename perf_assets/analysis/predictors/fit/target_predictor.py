"""A fitted predictor of one target: cost model, intervals, what it knows and, of memory, the limit beyond
which runs fail."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from perf_assets.analysis.predictors.features.design import Design
from perf_assets.analysis.predictors.features.targets import (
    expected_costs,
    with_times,
)
from perf_assets.analysis.predictors.fit.cost_model import BELOW_CAP, Belief, CostModel, Parts
from perf_assets.analysis.predictors.fit.intervals import Deviation
from perf_assets.analysis.predictors.fit.novelty import (
    group_names,
    level_gaps,
    network_names,
    places,
    variant_names,
)
from perf_assets.analysis.predictors.fit.scope import Known
from perf_assets.analysis.predictors.fit.thresholds import best_threshold
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

    parts: Parts
    cost_shares: np.ndarray
    kinds: np.ndarray
    """What is new about each row: see ``novelty``."""
    groups: np.ndarray
    """What it deviates with."""
    places: np.ndarray
    gaps: np.ndarray
    """How loosely measured pruning levels hold its own: see ``novelty.level_gaps``."""
    needed: np.ndarray
    """What would be needed if memory had no end, in the target's unit."""

    def rows(self, chosen: np.ndarray) -> Outlook:
        """The chosen rows: a mask, or positions."""
        columns = {name: value[chosen] for name, value in vars(self).items() if name != "parts"}
        return Outlook(self.parts.rows(chosen), **columns)


@dataclass
class Fitted:
    """A fitted predictor of one target.

    ``beliefs`` say by what is new about a configuration how far trees are believed, ``deviations`` how it
    errs.
    """

    target: str
    unit: str
    model: CostModel
    beliefs: dict[str, Belief]
    deviations: dict[str, Deviation]
    known: Known
    snapshot: str
    limit: float = np.inf
    limit_spread: float = 0.1
    """Of memory: predictions above this ran out of memory, and how sharp that limit is (relative)."""
    time: Fitted | None = None
    """Of energy that follows from latency: the predictor of that."""

    def costs(self, design: Design) -> pd.DataFrame:
        """The cost model's terms, shape (n, terms)."""
        if self.time is not None:
            design = with_times(design, self.time.predict(design)[0], self.time.model)
        return expected_costs(design, self.target)[0]

    def outlook(self, design: Design) -> Outlook:
        """Configurations as it sees them."""
        costs, kinds = self.costs(design), self.kinds(design.frame)
        parts = self.model.parts(costs, design.shape, kinds == "network")
        groups = np.empty(len(design), dtype=object)
        for kind in np.unique(kinds):
            groups[kinds == kind] = group_names(design.frame[kinds == kind], kind)
        shares = self.model.cost_shares(costs).to_numpy()
        residual, _ = self._belief(kinds)
        gaps = level_gaps(design.frame, self.known.levels)
        needed = parts.needed(residual)
        return Outlook(parts, shares, kinds, groups.astype(str), places(design.shape), gaps, needed)

    def predict(self, design: Design) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Predictions with lower and upper end of their 90 % interval, in ``unit``, shape (n,) each."""
        return self.interval(self.outlook(design))

    def interval(self, outlook: Outlook) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Predictions with both ends of rows that were looked at, shape (n,) each."""
        shift, half_widths = self.deviation(outlook)
        predicted = outlook.parts.predicted(self._belief(outlook.kinds), shift)
        return predicted, predicted * np.exp(-half_widths), predicted * np.exp(half_widths)

    def answer(self, design: Design) -> Answer:
        """Everything that it says about configurations."""
        outlook = self.outlook(design)
        shift, half_widths = self.deviation(outlook)
        shares = pd.DataFrame(outlook.cost_shares, columns=self.model.names)
        reasons = self.known.reasons(design, shares, half_widths)
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
        told = np.isfinite(y) & (y > 0) & (np.fmax(y, outlook.needed) < BELOW_CAP * self.model.cap)
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

    def kinds(self, frame: pd.DataFrame) -> np.ndarray:
        """What is new about each row, shape (n,)."""
        if "device" in self.beliefs:
            return np.full(len(frame), "device")
        measured = np.isin(network_names(frame), list(self.known.levels))
        same = np.isin(variant_names(frame), self.known.variants)
        kinds = np.where(same, "size", np.where(measured, "variant", "network"))
        # Where nothing says how the smaller step errs, the larger one does.
        for kind, larger in (("size", "variant"), ("variant", "network")):
            if kind not in self.deviations:
                kinds[kinds == kind] = larger
        return kinds

    def deviation(self, outlook: Outlook) -> tuple[np.ndarray, np.ndarray]:
        """Expected logarithm of measured / predicted and half width of the interval, shape (n,) each; NaN
        width where nothing could be calibrated."""
        shift, half_widths = np.zeros(len(outlook.kinds)), np.full(len(outlook.kinds), np.nan)
        for kind, deviation in self.deviations.items():
            own = outlook.kinds == kind
            if own.any():
                shift[own], half_widths[own] = deviation.at(outlook.places[own], outlook.groups[own])
                if kind == "variant" and deviation.gap:
                    # Close neighbours leave less open than those of left-out levels did. Half of the
                    # variance, for want of better knowledge, is a level's own, which no neighbour tells.
                    left_open = np.nan_to_num(outlook.gaps[own] / deviation.gap, nan=1.0)
                    half_widths[own] *= np.sqrt((1 + np.minimum(left_open, 1)) / 2)
        return shift, half_widths

    def _belief(self, kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        beliefs = [self.beliefs.get(kind, Belief()) for kind in kinds]
        return np.array([own.residual for own in beliefs]), np.array([own.recalled for own in beliefs])
