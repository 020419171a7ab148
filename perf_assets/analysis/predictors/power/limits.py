"""Energy and time of a run under another power limit than it was measured at.

From one measured point (limit L, mean power P, energy E, time T), trees predict log(E'/E) and log(T'/T) at a
limit L' from the ratios of L, L', P and what the device may draw. They are grown on all pairs of limits of the
configurations measured, and networks that were left out say how sure that is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from perf_assets.analysis.predictors import constants as known
from perf_assets.analysis.predictors.evaluation.scores import score_row
from perf_assets.analysis.predictors.features.shapes import canonical
from perf_assets.analysis.predictors.fit.cost_model import thinned
from perf_assets.analysis.predictors.fit.forest import Forest
from perf_assets.analysis.predictors.fit.intervals import Deviation
from perf_assets.analysis.predictors.fit.predictor import OURS
from perf_assets.analysis.predictors.power.traces import features_of, pairs_of

MEASURES = {"energy": "energy_j", "time": "time_s"}
"""What is predicted at another limit → column of a point."""
PEERS = ("no_change", "one_factor")
"""Taking what was measured for what another limit takes; and the median ratio of all measured runs at the same
two limits."""


@dataclass(frozen=True)
class LimitPredictor:
    """What other limits do to a run, learnt from some devices."""

    forests: dict[str, Forest]
    deviations: dict[str, Deviation]
    learnt_on: tuple[str, ...]
    lowest_share: float
    highest_share: float
    """Of the limits measured, over what the device may draw: beyond them nothing is known."""

    def predict(self, pairs: pd.DataFrame) -> pd.DataFrame:
        """Energy and time at the other limits.

        Args:
            pairs: rows of ``traces.pairs_of``; what was measured at the other limit is not needed.

        Returns:
            Columns ``energy_j``, ``energy_j_lower``, ``energy_j_upper`` and the same of ``time_s``, at the
            other limit, with the ends of 90 % intervals: NaN where a single network says nothing of others.
        """
        x, answer = features_of(pairs), {}
        for name, column in MEASURES.items():
            predicted = pairs[column].to_numpy(float) * np.exp(self.forests[name].predict(x))
            half_width = self.deviations[name].half_width
            answer[column] = predicted
            answer[f"{column}_lower"] = predicted * np.exp(-half_width)
            answer[f"{column}_upper"] = predicted * np.exp(half_width)
        return pd.DataFrame(answer, index=pairs.index)


def fit_limits(pairs: pd.DataFrame, new: str = "network") -> LimitPredictor:
    """Learn from measured pairs of limits.

    Args:
        pairs: what ``traces.pairs_of`` gives.
        new: what will be new about the runs it is asked about, ``network`` or ``device``: of that kind, one after
            another is left out to see how sure it is.

    Raises:
        ValueError: fewer pairs than it takes.
    """
    if len(pairs) < known.MIN_PAIRS:
        raise ValueError(
            f"{len(pairs)} pairs of power limits were measured, {known.MIN_PAIRS} are needed: measure a few"
            " networks at four limits or more"
        )
    pairs = pairs.iloc[thinned(_networks(pairs), known.MOST_PAIRS)]
    groups = pairs["device"].to_numpy(str) if new == "device" else _networks(pairs)
    x, ratios = features_of(pairs), _ratios(pairs)
    forests = {name: _grown(x, y, known.LIMIT_TREES) for name, y in ratios.items()}
    left = {name: np.zeros(len(pairs)) for name in ratios}
    names = np.unique(groups)
    for group in names if len(names) > 1 else ():
        held = groups == group
        for name, y in ratios.items():
            forest = _grown(x[~held], y[~held], known.CALIBRATION_TREES)
            left[name][held] = y[held] - forest.predict(x[held])
    deviations = {name: Deviation.calibrate(rest, groups, new) for name, rest in left.items()}
    shares = pairs["limit_w"] / pairs["full_w"]
    learnt_on = tuple(sorted(set(pairs["device"].astype(str))))
    return LimitPredictor(forests, deviations, learnt_on, float(shares.min()), float(shares.max()))


def fit_for(points: pd.DataFrame, device: str) -> LimitPredictor:
    """What is learnt for a device: from its own runs where they are of two networks or more, else from those of all
    devices.

    Args:
        points: what ``traces.read_points`` gives.
        device: as in ``cleaned_runs.device``.

    Raises:
        ValueError: fewer pairs than it takes.
    """
    pairs = pairs_of(points)
    own = pairs[pairs["device"] == device]
    if len(own) >= known.MIN_PAIRS and len(set(_networks(own))) > 1:
        return fit_limits(own)
    return fit_limits(pairs, "device" if pairs["device"].nunique() > 1 else "network")


def score_limits(points: pd.DataFrame) -> list[dict[str, Any]]:
    """Errors of energy and time at another limit from one measured point: networks of a device, and whole
    devices, that were left out.

    Returns:
        Rows of ``predictor_scores``: targets ``energy_at_limit`` and ``time_at_limit``.
    """
    pairs = pairs_of(points)
    rows = []
    for (device, stage), own in pairs.groupby(["device", "stage"]):  # ty: ignore[not-iterable]
        networks = _networks(own)
        rest = pairs[(pairs["device"] != device) & (pairs["stage"] == stage)]
        folds = [(own[networks != name], own[networks == name]) for name in np.unique(networks)]
        for new, parts in {"network": folds, "device": [(rest, own)]}.items():
            enough = [part for part in parts if len(part[0]) >= known.MIN_PAIRS]
            rows += _scores(enough, device, stage, new) if enough else []
    return rows


def _scores(
    folds: list[tuple[pd.DataFrame, pd.DataFrame]], device: str, stage: str, new: str
) -> list[dict[str, Any]]:
    """Of one split of one device and stage: all folds together."""
    held = pd.concat([held for _, held in folds])
    ours = pd.concat([fit_limits(train, new).predict(held) for train, held in folds])
    factors = {name: np.concatenate([_one_factor(*fold, name) for fold in folds]) for name in MEASURES}
    rows = []
    for name, column in MEASURES.items():
        y, before = (held[label].to_numpy(float) for label in (f"other_{column}", column))
        lower, upper = (ours[f"{column}_{end}"].to_numpy(float) for end in ("lower", "upper"))
        common = {
            "target": f"{name}_at_limit",
            "device": device,
            "stage": stage,
            "split": f"leave_one_{new}_out",
            "group": "all",
        }
        rows.append(
            common | {"method": OURS, **score_row(ours[column].to_numpy(float), y, lower=lower, upper=upper)}
        )
        for peer, predicted in zip(PEERS, (before, before * factors[name]), strict=True):
            rows.append(common | {"method": peer, **score_row(predicted, y)})
    return rows


def _one_factor(train: pd.DataFrame, held: pd.DataFrame, name: str) -> np.ndarray:
    """Median ratio of the training pairs between the same shares of what a device may draw, 1 where there are
    none, shape (n,)."""

    def between(pairs: pd.DataFrame) -> pd.MultiIndex:
        shares = (pairs[column] / pairs["full_w"] * 20 for column in ("limit_w", "other_w"))
        return pd.MultiIndex.from_arrays([share.round().astype(int) for share in shares])

    measured = pd.Series(np.exp(_ratios(train)[name]), index=between(train))
    factors = measured.groupby(level=[0, 1]).median()
    return factors.reindex(between(held)).fillna(1.0).to_numpy()


def _ratios(pairs: pd.DataFrame) -> dict[str, np.ndarray]:
    """Logarithms of what the other limit changes, by name, shape (n,) each."""
    return {
        name: np.log((pairs[f"other_{column}"] / pairs[column]).to_numpy(float))
        for name, column in MEASURES.items()
    }


def _networks(pairs: pd.DataFrame) -> np.ndarray:
    return pairs["model"].astype(str).map(canonical).to_numpy(str)


def _grown(x: np.ndarray, y: np.ndarray, trees: int) -> Forest:
    # A few configurations are not smoothed as hundreds of them are.
    leaf = min(max(len(y) // 100, 2), known.LIMIT_LEAF)
    return Forest.grown(x, y, trees, leaf)
