"""Predictions as a table, and whether earlier ones still hold for runs measured since."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from perf_assets.analysis.predictors.features.configurations import KEYS, MEASURES, family_of
from perf_assets.analysis.predictors.features.shapes import NetworkTables
from perf_assets.analysis.predictors.fit.cost_model import relative_errors_pct
from perf_assets.analysis.predictors.serve.capacity import BATCH_SIZES
from perf_assets.analysis.predictors.serve.predictor_set import (
    ANY_DEVICE,
    NoPredictorError,
    domains,
    load_predictor,
    rows_of,
)

_CONFIGURATION = [name for name in KEYS if name != "tool"]


def prediction_rows(folder: Path, measured: pd.DataFrame, tables: NetworkTables) -> list[dict[str, Any]]:
    """Rows of ``predictions``: what was measured, and every known pruning level at every usual batch size."""
    rows: list[dict[str, Any]] = []
    for tool, device, stage in domains(measured):
        try:
            predictor = load_predictor(folder, device, stage, tables)
        except NoPredictorError:
            continue
        if predictor.tool != tool or device == ANY_DEVICE:
            continue
        own = rows_of(measured, tool, device, stage)
        wanted = own[_CONFIGURATION]
        if family_of(tool) == "device":
            sizes = own.groupby("model")["input_size"].first()
            more = [
                (model, ratio, device, stage, "", batch, sizes[model])
                for model in sizes.index
                for ratio in tables.levels(str(model))
                for batch in BATCH_SIZES
            ]
            wanted = pd.concat([wanted, pd.DataFrame(more, columns=_CONFIGURATION)])
        wanted = wanted.drop_duplicates(ignore_index=True)
        predicted = predictor.predict(wanted)
        known = predicted.merge(own, on=_CONFIGURATION, how="left", suffixes=("", "_own"))
        for target, fitted in predictor.fitted.items():
            rows += _rows(predicted, known[MEASURES[target][0]], target, fitted.unit, fitted.snapshot)
            if target == "memory":
                rows += _rows(predicted, known["oom_own"], "oom", "probability", fitted.snapshot)
    return rows


def _rows(
    predicted: pd.DataFrame, measured: pd.Series, target: str, unit: str, snapshot: str
) -> list[dict[str, Any]]:
    part = predicted[_CONFIGURATION].copy()
    part["predicted"] = predicted[target]
    part["lower"] = predicted.get(f"{target}_lower", pd.Series(np.nan, index=predicted.index))
    part["upper"] = predicted.get(f"{target}_upper", pd.Series(np.nan, index=predicted.index))
    part["reason"] = predicted["memory_reason" if target == "oom" else f"{target}_reason"]
    part["abstain"] = part["reason"] != ""
    part["was_measured"] = np.isfinite(measured.to_numpy(float))
    part = part.assign(target=target, unit=unit, snapshot=snapshot).astype(object)
    part = part.where(part.notna(), None)
    records = part.to_dict("records")
    for record in records:
        record["algorithm"] = record["algorithm"] or None
        record["reason"] = record["reason"] or None
        record["input_size"] = record["input_size"] or None
    return records


def drift(earlier: pd.DataFrame, measured: pd.DataFrame) -> dict[str, float]:
    """How earlier predictions did on what was measured since.

    Args:
        earlier: rows of ``predictions``.
        measured: what :func:`configurations.measured` returns, now.

    Returns:
        ``compared`` (predictions that a measurement came for), and where there are any ``median_ape`` (%) and
        ``coverage`` (% inside their interval).
    """
    earlier = earlier[~earlier["was_measured"].astype(bool)].copy()
    earlier["algorithm"] = earlier["algorithm"].fillna("")
    earlier["input_size"] = earlier["input_size"].astype("Float64").fillna(0).astype(int)
    errors, inside = [], []
    for target, (column, _) in MEASURES.items():
        since = earlier[earlier["target"] == target].merge(measured, on=_CONFIGURATION)
        since = since[np.isfinite(since[column].to_numpy(float))]
        y = since[column].to_numpy(float)
        errors.append(relative_errors_pct(since["predicted"].to_numpy(float), y))
        inside.append((since["lower"].to_numpy(float) <= y) & (y <= since["upper"].to_numpy(float)))
    all_errors, all_inside = np.concatenate(errors), np.concatenate(inside)
    if not len(all_errors):
        return {"compared": 0}
    return {
        "compared": len(all_errors),
        "median_ape": float(np.median(all_errors)),
        "coverage": float(all_inside.mean() * 100),
    }


PROMISED_COVERAGE = 0.9
UNLIKELY = 0.01
"""Fewer hits than intervals that keep their promise would have in one case of so many are called drift."""


def holds(drifted: Mapping[str, float]) -> bool:
    """Whether intervals of 90 % still cover what was measured since: too few hits are not chance.

    Args:
        drifted: what :func:`drift` returns.
    """
    from scipy.special import bdtr

    compared = int(drifted["compared"])
    if not compared:
        return True
    inside = round(drifted["coverage"] / 100 * compared)
    return float(bdtr(inside, compared, PROMISED_COVERAGE)) >= UNLIKELY
