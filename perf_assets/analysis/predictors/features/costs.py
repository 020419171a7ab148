"""The values that a target has in measured rows, and what they should cost by the data sheet."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd

from perf_assets.analysis.predictors import constants as known
from perf_assets.analysis.predictors.features.configurations import KEYS, LAYER_LATENCY, family_of, measure_of
from perf_assets.analysis.predictors.features.design import Design
from perf_assets.analysis.predictors.features.terms import (
    CONSTANT,
    device_unit_costs,
    memory_unit_costs,
    totals_unit_costs,
)
from perf_assets.analysis.predictors.features.terms_staged import staged_unit_costs
from perf_assets.schema.device_catalog import device_facts


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


def unit_costs(target: str, tool: str, device: str, stage: str, algorithm: str) -> dict[str, float]:
    """Expected cost of one unit of each term in the target's unit, by the device's data sheet.

    A training step passes three times over each operation (forward, gradients of inputs and of weights).
    Energy is time at the power of a device that computes, or waits for its host. A single layer pays no more than its terms.
    """
    if target.startswith("memory"):
        return memory_unit_costs(target)
    facts, passes = device_facts(device), 3 if stage == "training" else 1
    family = family_of(tool)
    if family == "host_staged":
        costs = staged_unit_costs(facts)
    elif family == "totals":
        costs = totals_unit_costs(facts, passes, algorithm)
    else:
        costs = device_unit_costs(facts, passes)
    if target == "energy":
        waiting, busy = (
            facts.tdp_w * share / 1000 for share in (known.WAITING_POWER_SHARE, known.BUSY_POWER_SHARE)
        )
        return {
            name: cost_ms * (waiting if name.startswith(known.WAITING_TERMS) else busy)
            for name, cost_ms in costs.items()
        }
    return costs


def expected_costs(design: Design, target: str) -> pd.DataFrame:
    """Terms as what they should cost in the target's unit, shape (n, terms).

    So a fitted coefficient says how far from its data sheet a device works, and rows of several devices share
    it.
    """
    frame = design.frame
    count = len(frame)
    keys = pd.DataFrame(
        {
            "tool": frame["tool"],
            "device": frame["device"],
            "stage": frame["stage"],
            "algorithm": frame["algorithm"],
        }
    )
    codes = keys.groupby(list(keys), sort=False).ngroup().to_numpy()
    distinct = keys[~pd.Series(codes).duplicated().to_numpy()].itertuples(index=False)
    costs = [unit_costs("latency" if target == LAYER_LATENCY else target, *map(str, key)) for key in distinct]
    columns = {}
    for name in dict.fromkeys(name for own in costs for name in own):
        if name != CONSTANT and name not in design.terms:
            continue
        unit = np.array([own.get(name, 0.0) for own in costs])[codes]
        columns[name] = unit * (np.ones(count) if name == CONSTANT else design.terms[name].to_numpy(float))
    return pd.DataFrame(columns, index=design.terms.index)
