"""What is new about a configuration: nothing but its pruning level, algorithm or size, its network, or its device.

That decides how far trees are believed of it and what its error is drawn from.
"""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from perf_assets.analysis.predictors.features.shapes import canonical

WITHIN_DEVICE = ("network", "variant")
"""What can be new on a device that was measured, from most to least. A variant is a network at one pruning
level under one algorithm."""
MANY_NETWORKS = 30
"""From so many networks on, kin of one name (resnet18, resnet50) are left out together."""


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


def family_names(frame: pd.DataFrame) -> np.ndarray:
    """Families of networks by the letters that their names begin with, shape (n,): ``resnet`` of
    ``resnet50``."""
    names = frame["model"].astype(str)
    families = {name: (re.match(r"[A-Za-z]+", name) or [name])[0].lower() for name in names.unique()}
    return names.map(families).to_numpy(str)


def group_names(frame: pd.DataFrame, kind: str) -> np.ndarray:
    """What deviates as a whole where ``kind`` is new, shape (n,): the device, the network (of many networks
    their family), or its variant."""
    if kind == "device":
        return frame["device"].to_numpy(str)
    if kind == "variant":
        return variant_names(frame)
    return family_names(frame) if has_many_networks(frame) else network_names(frame)


def has_many_networks(frame: pd.DataFrame) -> bool:
    """Whether kin are left out together."""
    return frame["model"].nunique() >= MANY_NETWORKS


def inner_levels(frame: pd.DataFrame) -> np.ndarray:
    """Rows that, left out as a variant, tell how new ones are predicted: a mask of shape (n,).

    Pruning levels are asked about between those measured, so the outermost say nothing; and a variant needs
    others of its network beside it.
    """
    model = pd.Series(network_names(frame), index=frame.index)
    ratio = frame["pruning_ratio"].astype(float)
    by_model = ratio.groupby(model)
    inner = (ratio > by_model.transform("min")) & (ratio < by_model.transform("max"))
    several = pd.Series(variant_names(frame), index=frame.index).groupby(model).transform("nunique") > 1
    return (several & (inner | (by_model.transform("nunique") <= 2))).to_numpy()


def places(shape: pd.DataFrame) -> np.ndarray:
    """Where rows lie among each other, shape (n, coordinates): logarithms of sizes, and algorithms apart."""
    logs = [name for name in shape if str(name).startswith("log_")]
    algorithms = [name for name in shape if str(name).startswith("is_")]
    return np.hstack([shape[logs].to_numpy(float), 2.0 * shape[algorithms].to_numpy(float)])
