"""Which power limit saves most joules without costing more than some time."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd

from perf_assets.analysis.predictors.power.limits import LimitPredictor, fit_for
from perf_assets.analysis.predictors.power.traces import CONFIGURATION

STEP_W = 5.0
"""Limits of a device that was measured at one limit alone are asked about in whole steps of this."""
ASKED_SHARES = np.linspace(0.3, 1.0, 15)
"""Those limits, over what the device may draw."""
COLUMNS = (
    *("device", "model", "dataset", "stage", "batch_size", "from_w", "limit_w"),
    *("saved_pct", "saved_lower_pct", "saved_upper_pct", "slower_pct", "told_by"),
)


def best_limits(
    points: pd.DataFrame,
    devices: Collection[str],
    max_slower_pct: float,
    models: Collection[str] = (),
    stage: str | None = None,
) -> pd.DataFrame:
    """The limit of each measured configuration that saves most energy, beside the highest limit it was measured
    at.

    Args:
        points: what ``traces.read_points`` gives.
        devices: as in ``cleaned_runs.device``.
        max_slower_pct: how much more time it may take, in percent of that at the highest limit.
        models: networks to answer about; all where none is named.
        stage: ``training`` or ``inference``; both where it is None.

    Returns:
        Columns :data:`COLUMNS`, one row a configuration, with what was measured (``told_by`` is ``measured``);
        a second one where another limit, which was not measured, is predicted to save more (``told_by`` says what
        that was learnt on). Percentages of energy and time at ``from_w``; the ends of a
        90 % interval are NaN of what was measured, and where nothing says how far off a prediction is.

    Raises:
        ValueError: none of the devices was measured under a power limit that its logs tell.
    """
    chosen = points[points["device"].isin(list(devices))]
    if models:
        chosen = chosen[chosen["model"].isin(list(models))]
    if stage is not None:
        chosen = chosen[chosen["stage"] == stage]
    if chosen.empty:
        raise ValueError(_nothing_measured(points, devices))
    rows = []
    for device, own in chosen.groupby("device", sort=True):
        rows += _measured(own, max_slower_pct)
        try:
            predictor = fit_for(points, str(device))
        except ValueError:
            continue
        rows += _predicted(own, _asked(points, str(device), predictor), predictor, max_slower_pct)
    table = pd.DataFrame(rows)
    best = table.groupby(["configuration", "is_predicted"])["saved_pct"].idxmax()
    table = table.loc[best].sort_values(["configuration", "is_predicted"])
    told = table[~table["is_predicted"]].set_index("configuration")["saved_pct"]
    better = table["saved_pct"] > table["configuration"].map(told)
    return table[~table["is_predicted"] | better][list(COLUMNS)].reset_index(drop=True)


def _measured(points: pd.DataFrame, max_slower_pct: float) -> list[dict]:
    """Each measured limit that costs no more time than allowed."""
    highest = _highest(points)[["configuration", "limit_w", "energy_j", "time_s"]]
    both = points.merge(highest, on="configuration", suffixes=("", "_before"))
    rows = []
    for point in both.to_dict("records"):
        saved = (1 - point["energy_j"] / point["energy_j_before"]) * 100
        slower = (point["time_s"] / point["time_s_before"] - 1) * 100
        if slower <= max_slower_pct:
            rows.append(_row(point, point["limit_w_before"], (saved, np.nan, np.nan), slower, "measured"))
    return rows


def _predicted(
    points: pd.DataFrame, asked_w: np.ndarray, predictor: LimitPredictor, max_slower_pct: float
) -> list[dict]:
    """Each limit that was not measured and is predicted to cost no more time than allowed.

    Always from the highest limit measured: a device that a low limit slows tells less of what it does unhindered.
    """
    measured_w = points.groupby("configuration")["limit_w"].agg(set)
    highest = _highest(points).reset_index(drop=True)
    pairs = highest.merge(pd.DataFrame({"other_w": asked_w}), how="cross")
    is_new = [
        not np.isclose(list(measured_w[number]), limit, rtol=0.01).any()
        for number, limit in zip(pairs["configuration"], pairs["other_w"], strict=True)
    ]
    pairs = pairs[is_new].reset_index(drop=True)
    if pairs.empty:
        return []
    rows = []
    learnt_on = ", ".join(predictor.learnt_on)
    for point, told in zip(
        pairs.to_dict("records"), predictor.predict(pairs).to_dict("records"), strict=True
    ):
        slower = (told["time_s"] / point["time_s"] - 1) * 100
        # Less energy is more saved, so the ends change places.
        saved = tuple(
            (1 - told[name] / point["energy_j"]) * 100
            for name in ("energy_j", "energy_j_upper", "energy_j_lower")
        )
        if slower <= max_slower_pct:
            at = point | {"limit_w": point["other_w"]}
            rows.append(_row(at, point["limit_w"], saved, slower, f"predicted, learnt on {learnt_on}"))
    return rows


def _row(point: dict, from_w: float, saved_pct: tuple[float, ...], slower_pct: float, told_by: str) -> dict:
    return {
        "configuration": point["configuration"],
        "is_predicted": told_by != "measured",
        **{name: point[name] for name in CONFIGURATION},
        "from_w": from_w,
        "limit_w": point["limit_w"],
        **dict(zip(("saved_pct", "saved_lower_pct", "saved_upper_pct"), saved_pct, strict=True)),
        "slower_pct": slower_pct,
        "told_by": told_by,
    }


def _highest(points: pd.DataFrame) -> pd.DataFrame:
    """Of each configuration the point at the highest limit: where a device runs that nobody limits."""
    return points.sort_values("limit_w").groupby("configuration").tail(1)


def _asked(points: pd.DataFrame, device: str, predictor: LimitPredictor) -> np.ndarray:
    """Limits to ask about: those that the device was measured at; of one limit alone, steps between those that the
    predictor knows."""
    own = points[points["device"] == device]
    limits_w = np.unique(own["limit_w"])
    if len(limits_w) > 1:
        return limits_w
    known = (predictor.lowest_share <= ASKED_SHARES) & (predictor.highest_share >= ASKED_SHARES)
    return np.unique(np.round(ASKED_SHARES[known] * float(own["full_w"].iloc[0]) / STEP_W) * STEP_W)


def _nothing_measured(points: pd.DataFrame, devices: Collection[str]) -> str:
    measured = ", ".join(sorted(set(points["device"].astype(str)))) or "none"
    return (
        f"no such run of {', '.join(devices)} tells its power limit and energy; measured with both are: {measured}."
        " Drop runs at several limits (perf-assets sweep between 'nvidia-smi -pl WATT')"
    )
