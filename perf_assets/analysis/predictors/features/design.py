"""Design matrix: one row a configuration, its columns terms of cost that can only add (and perf4sight's
features).

A term is a quantity that costs time or memory in proportion to it: multiply-accumulates of one kind of
convolution, bytes that an operation reads and writes, the largest workspace. They follow from the layer table
of a network, its batch size and stage, by formulas over shapes. Units are in the names: ``_g`` is 10^9
multiply-accumulates, ``_mib`` is MiB of 32-bit floats.

Two families say where time goes. ``device``: tensors stay on the accelerator (a training step, a usual
inference).
``host_staged``: each convolution copies its input, weights and output between host and device and the host
does the rest, as ai3's convolutions do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from perf_assets.analysis.predictors.features.configurations import complete_keys, family_of
from perf_assets.analysis.predictors.features.shapes import NetworkTables, UnknownNetworkError
from perf_assets.analysis.predictors.features.terms_device import device_terms, join_terms
from perf_assets.analysis.predictors.features.terms_memory import memory_terms, size_terms
from perf_assets.analysis.predictors.features.terms_staged import STAGED_ALGORITHMS, staged_terms
from perf_assets.measuring.networks import layer_costs
from perf_assets.measuring.networks.memory.dataflow import operations


@dataclass
class Design:
    """Configurations with their columns, row by row the same.

    ``frame`` has :data:`KEYS` and measures; ``terms`` the costs; ``shape`` scale-free features (ratios and
    logarithms) that residuals are learnt on; ``perf4sight`` the peer's features.
    """

    frame: pd.DataFrame
    terms: pd.DataFrame
    shape: pd.DataFrame
    perf4sight: pd.DataFrame
    skipped: dict[str, str] = field(default_factory=dict)

    def rows(self, chosen: np.ndarray) -> Design:
        """The chosen rows: a mask, or positions."""
        chosen = np.flatnonzero(chosen) if np.asarray(chosen).dtype == bool else np.asarray(chosen)
        parts = (
            part.iloc[chosen].reset_index(drop=True)
            for part in (self.frame, self.terms, self.shape, self.perf4sight)
        )
        return Design(*parts, self.skipped)

    def __len__(self) -> int:
        return len(self.frame)


def design(frame: pd.DataFrame, tables: NetworkTables, *, with_peer: bool = True) -> Design:
    """Build the design matrix of configurations.

    Args:
        frame: columns ``model``, ``batch_size`` and, where they matter, the other :data:`KEYS`.
        tables: where shapes come from.
        with_peer: also compute perf4sight's features.

    Returns:
        The design. Rows whose network has no shapes are left out; ``skipped`` says which and why.
    """
    frame = complete_keys(frame)
    terms, shape, peer = (_Columns(len(frame)) for _ in range(3))
    skipped: dict[str, str] = {}
    kept = np.zeros(len(frame), dtype=bool)
    by = ["tool", "model", "pruning_ratio", "stage", "algorithm", "input_size"]
    for key, rows in frame.groupby(by, sort=False).indices.items():
        tool, model, ratio, stage, algorithm, size = tuple(key)  # ty: ignore[invalid-argument-type]
        try:
            arrays = tables.get(str(model), float(ratio), int(size) or None)
        except UnknownNetworkError as error:
            skipped[f"{model} {ratio:g} {size}"] = str(error)
            continue
        kept[rows] = True
        batch = frame["batch_size"].to_numpy(float)[rows]
        sizes, device = size_terms(arrays, batch), device_terms(arrays, batch)
        terms.put(rows, sizes)
        terms.put(rows, work_shares(arrays))
        shape.put(rows, shape_features(sizes, device, batch))
        if family_of(str(tool)) == "host_staged":
            terms.put(rows, staged_terms(arrays, batch, str(algorithm)))
            shape.put(
                rows, {f"is_{name.replace(' ', '_')}": float(name == algorithm) for name in STAGED_ALGORITHMS}
            )
        else:
            dataflow = operations(arrays)
            terms.put(rows, device)
            terms.put(rows, join_terms(dataflow, batch))
            params = float(arrays["params"].sum())
            terms.put(rows, memory_terms(dataflow, params, batch, str(stage), str(tool)))
            if with_peer:
                peer.put(rows, layer_costs.perf4sight_features({**arrays}, batch, str(stage)))  # ty: ignore[invalid-argument-type]
    return Design(
        frame[kept].reset_index(drop=True), terms.frame(kept), shape.frame(kept), peer.frame(kept), skipped
    )


class _Columns:
    """Columns that are filled some rows at a time, 0 elsewhere."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.columns: dict[str, np.ndarray] = {}

    def put(self, rows: np.ndarray, values: Mapping[str, np.ndarray | float]) -> None:
        for name, value in values.items():
            if name not in self.columns:
                self.columns[name] = np.zeros(self.count)
            self.columns[name][rows] = value

    def frame(self, kept: np.ndarray) -> pd.DataFrame:
        return pd.DataFrame(
            {name: np.nan_to_num(column[kept]) for name, column in self.columns.items()},
            index=range(int(kept.sum())),
        )


def work_shares(arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
    """What of a network no term of cost speaks for, 0-1: shares that tell whether a predictor may be asked
    about it.

    ``share_linear`` of the multiply-accumulates is done by linear layers; ``share_unknown``, of those or of
    the elements written, by operations of unknown kind (attention, activations other than ReLU, 3-D
    convolutions).
    """
    macs, elements = np.nan_to_num(arrays["macs"]), np.nan_to_num(arrays["out_elements"])
    unknown = arrays["kind"] == "other"
    all_macs, all_elements = max(macs.sum(), 1.0), max(elements.sum(), 1.0)
    return {
        "share_linear": float(macs[arrays["kind"] == "linear"].sum() / all_macs),
        "share_unknown": float(max(macs[unknown].sum() / all_macs, elements[unknown].sum() / all_elements)),
    }


def shape_features(
    sizes: Mapping[str, np.ndarray], device: Mapping[str, np.ndarray], batch: np.ndarray
) -> dict[str, np.ndarray]:
    """Scale-free features, shape (n,) each: what share of the work is of which kind, and logarithms of
    sizes."""
    kinds = [
        name for name in device if name.startswith("macs_") and "tiles" not in name and "winograd" not in name
    ]
    # Depthwise work counts by its bytes here as everywhere.
    macs = np.maximum(sum(device[name] for name in kinds), 1e-9)
    activation = np.maximum(sizes["activation_mib"], 1e-9)
    columns = {f"share_{name}": device[name] / macs for name in kinds}
    columns |= {
        f"ratio_{name}": device[name] / activation
        for name in device
        if name.startswith("traffic_") and "columns" not in name and "parameter" not in name
    }
    columns |= {f"ratio_{name}": sizes[name] / activation for name in sizes if name != "activation_mib"}
    logs = {
        "macs_per_activation": macs / activation,
        "macs": macs,
        "macs_per_launch": macs / np.maximum(device["launches"], 1),
        "activation": activation,
        "parameters": sizes["parameter_mib"],
        "batch_size": batch,
    }
    return columns | {f"log_{name}": np.log(np.maximum(value, 1e-9)) for name, value in logs.items()}
