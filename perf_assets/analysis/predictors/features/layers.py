"""Design matrix of single convolutions that the host stages: what ai3's layer profiles time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from perf_assets.analysis.predictors.features.design import Design
from perf_assets.analysis.predictors.features.shapes import NetworkTables, UnknownNetworkError
from perf_assets.analysis.predictors.features.terms_staged import staged_layer_terms

MIN_LAYERS = 200
"""Fewer timed convolutions of a device tell too little to fit on."""


def layer_designs(layers: pd.DataFrame, tables: NetworkTables) -> Iterator[tuple[str, Design]]:
    """Devices with enough timed convolutions, and the design matrix of each; arguments as below."""
    for device, group in layers.groupby("device"):
        rows = layer_design(group.reset_index(drop=True), tables)
        if len(rows) >= MIN_LAYERS:
            yield str(device), rows


def layer_design(layers: pd.DataFrame, tables: NetworkTables) -> Design:
    """Design matrix of timed convolutions, with each layer's true sizes from the shapes of its network.

    Args:
        layers: rows of ``configurations.LAYERS_QUERY``; their ``input_size`` is the network's.
        tables: where shapes come from.

    Returns:
        One row a timed convolution that the network has under that name; others are counted in ``skipped``.
    """
    frames, terms, shapes = [], [], []
    skipped: dict[str, str] = {}
    for key, group in layers.groupby(["model", "input_size", "algorithm"], sort=True):
        model, size, algorithm = tuple(key)  # ty: ignore[invalid-argument-type]
        try:
            arrays = tables.get(str(model), 0.0, int(size))
        except UnknownNetworkError as error:
            skipped[f"{model} {size}"] = str(error)
            continue
        place = {name: row for row, name in enumerate(arrays["layer"]) if arrays["kind"][row] == "conv"}
        known = group["layer"].isin(list(place)).to_numpy()
        if not known.all():
            skipped[f"{model} layers"] = f"{int((~known).sum())} timed layers that the network has not"
        group = group[known]
        rows = np.array([place[name] for name in group["layer"]], dtype=int)
        chosen = {name: values[rows] for name, values in arrays.items()}
        batch = group["batch_size"].astype("Float64").fillna(1).to_numpy(float)
        columns = pd.DataFrame(staged_layer_terms(chosen, batch, str(algorithm)))
        frames.append(
            group.assign(
                tool="ai3",
                stage="inference",
                pruning_ratio=0.0,
                in_hw=chosen["in_hw"],
                out_hw=chosen["out_hw"],
                groups=chosen["groups"],
                stride=chosen["stride"],
                padding=chosen["padding"],
            )
        )
        terms.append(columns)
        shapes.append(_layer_shape(columns, chosen))
    if not frames:
        empty = pd.DataFrame()
        return Design(layers.iloc[:0], empty, empty, empty, skipped)
    joined: Sequence[pd.DataFrame] = [pd.concat(part, ignore_index=True) for part in (frames, terms, shapes)]
    return Design(*joined, pd.DataFrame(index=joined[0].index), skipped)


def _layer_shape(terms: pd.DataFrame, arrays: Mapping[str, np.ndarray]) -> pd.DataFrame:
    moved = terms[["copy_in_mib", "copy_out_mib", "copy_weight_mib"]].sum(axis=1)
    macs = terms[[name for name in terms if name.startswith("macs_")]].sum(axis=1)
    return pd.DataFrame(
        {
            "log_moved": np.log(np.maximum(moved, 1e-9)),
            "share_in": terms["copy_in_mib"] / moved,
            "share_weight": terms["copy_weight_mib"] / moved,
            "log_macs_per_moved": np.log(np.maximum(macs / moved, 1e-9)),
            "kernel_size": arrays["kernel_size"],
        }
        | {name: (terms[name] > 0).astype(float) for name in terms if name.startswith("macs_")}
    )
