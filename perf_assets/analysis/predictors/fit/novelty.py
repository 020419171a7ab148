"""What is new about a configuration: only its size, its variant, its network, or its device.

That decides how far trees are believed of it and what its error is drawn from. A variant is a network at one
pruning level under one algorithm.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from perf_assets.analysis.predictors.features.shapes import canonical
from perf_assets.analysis.predictors.fit.cost_model import judging_groups
from perf_assets.analysis.predictors.fit.forest import SEED

WITHIN_DEVICE = ("network", "variant", "size")
"""What can be new on a device that was measured, from most to least."""
ALGORITHMS_APART = 2.0
"""Two algorithms deviate as differently as sizes that are this much (times √2) apart in the logarithm."""


def variant_names(frame: pd.DataFrame) -> np.ndarray:
    """One name for each network, pruning level and algorithm, shape (n,)."""
    keys = frame[["model", "pruning_ratio", "algorithm"]]
    codes = keys.groupby(list(keys), sort=False).ngroup().to_numpy()
    first = keys[~pd.Series(codes).duplicated().to_numpy()]
    names = [
        f"{canonical(str(model))}|{ratio:.4f}|{algorithm}" for model, ratio, algorithm in first.to_numpy()
    ]
    return np.array(names, dtype=str)[codes]


def network_names(frame: pd.DataFrame) -> np.ndarray:
    """Networks by the one name that all their spellings share, shape (n,)."""
    names = frame["model"].astype(str)
    return names.map({name: canonical(name) for name in names.unique()}).to_numpy(str)


def group_names(frame: pd.DataFrame, kind: str) -> np.ndarray:
    """What deviates as a whole where ``kind`` is new, shape (n,): the device, the network, or its variant."""
    if kind == "device":
        return frame["device"].to_numpy(str)
    return network_names(frame) if kind == "network" else variant_names(frame)


def fold_names(frame: pd.DataFrame, kind: str) -> np.ndarray:
    """What is left out together to see how predictions err where ``kind`` is new, shape (n,)."""
    if kind == "size":
        return np.random.default_rng(SEED).integers(0, 3, len(frame)).astype(str)
    return group_names(frame, kind)


def comparable(frame: pd.DataFrame, kind: str) -> np.ndarray:
    """Rows that, left out, tell how new ones are predicted: a mask of shape (n,).

    Those of networks (or devices) of which more than a handful was measured. Besides, a variant needs others
    of its network beside it; and pruning levels are asked about between those measured, so that the
    outermost, which can only be extrapolated to, say nothing.
    """
    judging = judging_groups(group_names(frame, "device" if kind == "device" else "network"))
    if kind != "variant":
        return judging
    model = pd.Series(network_names(frame), index=frame.index)
    ratio = frame["pruning_ratio"].astype(float)
    by_model = ratio.groupby(model)
    inner = (ratio > by_model.transform("min")) & (ratio < by_model.transform("max"))
    several = pd.Series(variant_names(frame), index=frame.index).groupby(model).transform("nunique") > 1
    return judging & (several & (inner | (by_model.transform("nunique") <= 2))).to_numpy()


def places(shape: pd.DataFrame) -> np.ndarray:
    """Where rows lie among each other, shape (n, coordinates): logarithms of sizes, and algorithms apart."""
    logs = [name for name in shape if str(name).startswith("log_")]
    algorithms = [name for name in shape if str(name).startswith(("is_", "macs_"))]
    return np.hstack([shape[logs].to_numpy(float), ALGORITHMS_APART * shape[algorithms].to_numpy(float)])


def level_gaps(frame: pd.DataFrame, levels: dict[str, list[float]]) -> np.ndarray:
    """How loosely the measured pruning levels on both sides hold each row's level, shape (n,); NaN where
    there are none.

    The variance of a Brownian bridge: (x - a) (b - x) / (b - a) between levels a < x < b.

    Args:
        frame: rows with ``model`` and ``pruning_ratio``.
        levels: by network, the measured levels; a row's own does not count.
    """
    pairs = pd.DataFrame({"network": network_names(frame), "ratio": frame["pruning_ratio"].to_numpy(float)})
    codes = pairs.groupby(list(pairs), sort=False).ngroup().to_numpy()
    distinct = pairs[~pd.Series(codes).duplicated().to_numpy()].itertuples(index=False)
    return np.array([_gap(ratio, levels.get(network, [])) for network, ratio in distinct])[codes]


def _gap(ratio: float, levels: list[float]) -> float:
    below = [level for level in levels if level < ratio - 1e-6]
    above = [level for level in levels if level > ratio + 1e-6]
    if not below or not above:
        return np.nan
    a, b = max(below), min(above)
    return (ratio - a) * (b - ratio) / (b - a)
