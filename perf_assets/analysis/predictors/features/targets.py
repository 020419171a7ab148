"""The values that a target has in measured rows, and what its costs are expected to be before any fit."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from perf_assets.analysis.predictors.features.configurations import KEYS, family_of, measure_of
from perf_assets.analysis.predictors.features.design import Design
from perf_assets.analysis.predictors.features.terms_common import CONSTANT, Prior
from perf_assets.analysis.predictors.features.terms_priors import prior_of
from perf_assets.analysis.predictors.features.terms_staged import TIME, WORK

if TYPE_CHECKING:
    from perf_assets.analysis.predictors.fit.cost_model import CostModel


def values_of(frame: pd.DataFrame, target: str) -> np.ndarray:
    """Measured values of a target, shape (n,); NaN where it was not measured."""
    if target == "oom":
        return frame["oom"].to_numpy(float)
    return frame[measure_of(target)[0]].astype(float).to_numpy()


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
    keys = pd.DataFrame(
        {
            "tool": frame.get("tool", "ai3"),
            "device": frame["device"],
            "stage": frame.get("stage", "inference"),
        }
    )
    codes = keys.groupby(list(keys), sort=False).ngroup().to_numpy()
    distinct = keys[~pd.Series(codes).duplicated().to_numpy()].itertuples(index=False)
    priors = [prior_of(target, family_of(tool), device, stage) for tool, device, stage in distinct]
    families: Prior = {}
    for prior in priors:
        families |= {name: (family, 1.0) for name, (family, _) in prior.items()}
    columns = {}
    for name in [name for name in families if name == CONSTANT or name in design.terms]:
        unit = np.array([prior.get(name, ("", 0.0))[1] for prior in priors])[codes]
        quantity = design.terms[name].to_numpy(float) if name in design.terms else 1.0
        columns[name] = quantity * unit
    return pd.DataFrame(columns, index=design.terms.index), {name: families[name] for name in columns}


def with_times(design: Design, latency_ms: np.ndarray, model: CostModel | None = None) -> Design:
    """The design with latencies, and the accelerator's part of them, as further terms: those of energy.

    Args:
        design: rows whose convolutions the host stages.
        latency_ms: shape (n,).
        model: of latency, which knows the accelerator's part; by default it costs what is expected.
    """
    costs, _ = expected_costs(design, "latency")
    scale = dict(zip(model.names, model.coefficients, strict=True)) if model else {}
    work = {term: sum(costs[part] * scale.get(part, 1.0) for part in parts) for term, parts in WORK.items()}
    return replace(design, terms=design.terms.assign(**{TIME: latency_ms}, **work))
