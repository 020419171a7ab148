"""Measurements that cannot be right beside the others of their network, such as a file in seconds among
milliseconds.

A fit of relative errors would follow a few values that are a thousand times too small. They stay in the
tables, but nothing is learnt from them and nothing is scored on them; a check on the scores names them and
their files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from perf_assets.analysis.predictors.constants import OUTLIER_FACTOR
from perf_assets.analysis.predictors.features.configurations import (
    LAYER_LATENCY,
    MEASURES,
    measure_of,
)
from perf_assets.analysis.predictors.features.costs import expected_costs, values_of
from perf_assets.analysis.predictors.features.design import Design
from perf_assets.analysis.predictors.features.shapes import canonical


def without_outliers(rows: Design) -> Design:
    """The design with odd values of every target as not measured."""
    measures = {measure_of(target)[0]: target for target in _targets(rows)}
    masked = {name: rows.frame[name].mask(_factors(rows, target)[1]) for name, target in measures.items()}
    return replace(rows, frame=rows.frame.assign(**masked))


def outlier_values(rows: Design) -> Iterator[str]:
    """Odd values of a design in words, with their files and the cure."""
    for target in _targets(rows):
        factors, odd = _factors(rows, target)
        for row in np.flatnonzero(odd):
            run = rows.frame.iloc[row]
            place = f"layer {run['layer']}" if target == LAYER_LATENCY else f"batch {run['batch_size']}"
            yield (
                f"{target} {run[measure_of(target)[0]]:g} of {run['model']} pruned by "
                f"{100 * run['pruning_ratio']:.3g}% at {place} "
                f"on {run['device']} is {factors[row]:.2g} times what its other runs suggest; nothing is "
                "learnt from it. "
                f"Check the unit and the run in {', '.join(run['files'][:3])}"
            )


def _targets(rows: Design) -> list[str]:
    if not len(rows):
        return []
    if "layer" in rows.frame:
        return [LAYER_LATENCY]
    return [target for target, (column, _) in MEASURES.items() if column in rows.frame]


def _factors(rows: Design, target: str) -> tuple[np.ndarray, np.ndarray]:
    """How many times as large as expected beside its network's others each value is, and whether that is
    odd."""
    expected = expected_costs(rows, target).sum(axis=1, skipna=False).to_numpy(float)
    ratios = pd.Series(np.log(values_of(rows.frame, target)) - np.log(expected))
    others = ratios.groupby(
        [rows.frame["device"].to_numpy(), rows.frame["model"].astype(str).map(canonical).to_numpy()]
    ).transform("median")
    apart = (ratios - others).to_numpy()
    return np.exp(np.clip(apart, -700, 700)), np.abs(apart) > np.log(OUTLIER_FACTOR)
