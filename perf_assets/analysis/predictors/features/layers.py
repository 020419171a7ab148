"""Design matrix of single convolutions: those that ai3 times inside a network, and those that NeuSight times by
themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from perf_assets.analysis.predictors.constants import MIN_LAYERS
from perf_assets.analysis.predictors.features.configurations import family_of
from perf_assets.analysis.predictors.features.design import Design
from perf_assets.analysis.predictors.features.shapes import NetworkTables, UnknownNetworkError
from perf_assets.analysis.predictors.features.terms import convolution_terms
from perf_assets.analysis.predictors.features.terms_staged import STAGED_ALGORITHMS, staged_layer_terms

_SHAPES = ("in_channels", "out_channels", "kernel_size", "stride", "in_hw", "out_hw", "groups")


def layer_designs(layers: pd.DataFrame, tables: NetworkTables) -> Iterator[tuple[str, str, Design]]:
    """Tools and devices with enough timed convolutions, and the design matrix of each; arguments as below."""
    for key, group in layers.groupby(["tool", "device"]):
        tool, device = (str(part) for part in key)  # ty: ignore[not-iterable]
        rows = layer_design(group.reset_index(drop=True), tables)
        if len(rows) >= MIN_LAYERS:
            yield tool, device, rows


def layer_design(layers: pd.DataFrame, tables: NetworkTables) -> Design:
    """Design matrix of timed convolutions of one tool.

    Args:
        layers: rows of ``configurations.LAYERS_QUERY``. Where they lack the layer's own size, ``input_size`` is
            the network's, and true sizes follow from its shapes.
        tables: where shapes come from.

    Returns:
        One row a timed convolution; those that the network has not under that name are counted in ``skipped``.
    """
    skipped: dict[str, str] = {}
    alone = family_of(str(layers["tool"].iloc[0])) == "device"
    parts = [layers] if alone else list(_with_true_sizes(layers, tables, skipped))
    if not any(len(part) for part in parts):
        empty = pd.DataFrame()
        return Design(layers.iloc[:0], empty, empty, empty, skipped)
    frame = pd.concat(parts, ignore_index=True)
    frame["algorithm"] = frame["algorithm"].astype(object).where(frame["algorithm"].notna(), "")
    if alone:
        out = (frame["in_hw"] + 2 * frame["padding"] - frame["kernel_size"]) // frame["stride"] + 1
        frame = frame.assign(out_hw=out, groups=1)
    frame = frame.assign(stage="inference", pruning_ratio=0.0)
    batch = frame["batch_size"].astype("Float64").fillna(1).to_numpy(float)
    if alone:
        convolution = tuple(frame[name].to_numpy(float) for name in _SHAPES)
        terms = pd.DataFrame(convolution_terms(convolution, np.zeros(len(frame), dtype=bool), batch))
        terms["launches"] = 1.0
        shape = _convolution_features(frame, batch, terms)
    else:
        terms = _staged_terms(frame, batch)
        shape = _staged_features(frame, terms)
    return Design(frame, terms, shape, pd.DataFrame(index=frame.index), skipped)


def _with_true_sizes(
    layers: pd.DataFrame, tables: NetworkTables, skipped: dict[str, str]
) -> Iterator[pd.DataFrame]:
    """Timed layers with the sizes and MACs that their network's table has, network by network."""
    for key, group in layers.groupby(["model", "input_size"], sort=True):
        model, size = tuple(key)  # ty: ignore[invalid-argument-type]
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
        names = ("in_hw", "out_hw", "groups", "stride", "padding", "macs")
        yield group.assign(**{name: arrays[name][rows] for name in names})


def _staged_terms(frame: pd.DataFrame, batch: np.ndarray) -> pd.DataFrame:
    arrays = {name: frame[name].to_numpy(float) for name in (*_SHAPES, "macs")}
    arrays["kind"] = np.full(len(frame), "conv")
    terms = pd.DataFrame()
    for algorithm in frame["algorithm"].unique():
        own = staged_layer_terms(arrays, batch, str(algorithm))
        mask = (frame["algorithm"] == algorithm).to_numpy()
        for name, values in own.items():
            before = terms[name].to_numpy() if name in terms else 0.0
            terms[name] = np.where(mask, values, before)
    return terms


def _staged_features(frame: pd.DataFrame, terms: pd.DataFrame) -> pd.DataFrame:
    moved = terms["copied_mib"]
    macs = terms[[name for name in terms if name.startswith("macs_")]].sum(axis=1)
    image = frame["in_channels"] * frame["in_hw"] ** 2
    weights = frame["in_channels"] / frame["groups"] * frame["out_channels"] * frame["kernel_size"] ** 2
    all_values = image + weights + frame["out_channels"] * frame["out_hw"] ** 2
    features: Mapping[str, pd.Series] = {
        "log_moved": np.log(np.maximum(moved, 1e-9)),
        "share_in": image / all_values,
        "share_weight": weights / all_values,
        "log_macs_per_moved": np.log(np.maximum(macs / moved, 1e-9)),
        "kernel_size": frame["kernel_size"],
    }
    algorithms = {
        f"is_{name.replace(' ', '_')}": (frame["algorithm"] == name).astype(float)
        for name in STAGED_ALGORITHMS
    }
    return pd.DataFrame({**features, **algorithms}).astype(float)


def _convolution_features(frame: pd.DataFrame, batch: np.ndarray, terms: pd.DataFrame) -> pd.DataFrame:
    """What decides which kernel a library takes, and how well it fills a device: sizes, what tiles of Winograd
    F(4x4, 3x3) and of matrix products waste, and work for each byte."""
    i, o, k, m = (
        frame[name].to_numpy(float) for name in ("in_channels", "out_channels", "kernel_size", "out_hw")
    )
    macs = terms["macs_g"].to_numpy()
    tiles = batch * np.ceil(m / 4) ** 2
    return pd.DataFrame(
        {
            "log_in_channels": np.log(i),
            "log_out_channels": np.log(o),
            "log_size": np.log(m),
            "log_batch_size": np.log(batch),
            "log_macs": np.log(macs),
            "log_pixels": np.log(batch * m**2),
            "log_blocks": np.log(np.ceil(batch * m**2 / 128) * np.ceil(o / 128)),
            "log_macs_per_moved": np.log(macs / terms["traffic_mib"].to_numpy()),
            "kernel_size": k,
            "winograd_work": 36 * tiles / (batch * m**2 * k**2),
            "winograd_moved": tiles * 36 * (i + o) / (batch * m**2 * i * o),
            "tile_waste": terms["macs_tiles_gemm_g"].to_numpy() / macs,
            "channel_waste": terms["macs_tiles_channels_g"].to_numpy() / macs,
            "in_by_4": (i % 4 == 0).astype(float),
            "out_by_4": (o % 4 == 0).astype(float),
        }
    )
