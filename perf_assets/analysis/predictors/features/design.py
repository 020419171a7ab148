"""Design matrix: one row a configuration, its columns terms of cost that can only add, and scale-free features.

Terms follow from the layer table of a network, its batch size and stage, by formulas over shapes; where
totals alone are known, from those. Three families say where time goes: ``device`` (tensors stay on the
accelerator), ``host_staged`` (each convolution copies its input, weights and output between host and device,
the host does the rest) and ``totals`` (multiply-accumulates, activations and parameters are all that is
known).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from perf_assets.analysis.predictors.features import terms as device
from perf_assets.analysis.predictors.features.configurations import complete_keys, family_of
from perf_assets.analysis.predictors.features.shapes import NetworkTables, UnknownNetworkError
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
        batch = frame["batch_size"].to_numpy(float)[rows]
        try:
            if family_of(str(tool)) == "totals":
                totals = tables.totals_of(str(model), float(ratio), int(size) or None)
                terms.put(rows, device.totals_terms(*totals, batch))
                shape.put(rows, totals_features(*totals, int(size) or 224, batch))
                kept[rows] = True
                continue
            arrays = tables.get(str(model), float(ratio), int(size) or None)
        except UnknownNetworkError as error:
            skipped[f"{model} {ratio:g} {size}"] = str(error)
            continue
        kept[rows] = True
        dataflow = operations(arrays)
        sizes = device.size_terms(arrays, batch)
        terms.put(rows, sizes)
        terms.put(rows, work_shares(arrays))
        shape.put(rows, shape_features(arrays, sizes, batch))
        if family_of(str(tool)) == "host_staged":
            terms.put(rows, staged_terms(arrays, dataflow, batch, str(algorithm)))
            shape.put(
                rows, {f"is_{name.replace(' ', '_')}": float(name == algorithm) for name in STAGED_ALGORITHMS}
            )
        else:
            terms.put(rows, device.device_terms(arrays, dataflow, batch))
            params = float(arrays["params"].sum())
            terms.put(rows, device.memory_terms(dataflow, params, batch, str(stage), str(tool)))
            if with_peer:
                peer.put(rows, layer_costs.perf4sight_features({**arrays}, batch, str(stage)))  # ty: ignore[invalid-argument-type]
    return Design(
        frame[kept].reset_index(drop=True), terms.frame(kept), shape.frame(kept), peer.frame(kept), skipped
    )


def joined(designs: list[Design]) -> Design:
    """Rows of several designs one behind the other; what one of them lacks is 0."""
    frames = pd.concat([part.frame for part in designs], ignore_index=True)
    columns = [
        pd.concat([getattr(part, name) for part in designs], ignore_index=True).fillna(0.0)
        for name in ("terms", "shape", "perf4sight")
    ]
    return Design(frames, *columns)


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
    arrays: Mapping[str, np.ndarray], sizes: Mapping[str, np.ndarray], batch: np.ndarray
) -> dict[str, np.ndarray | float]:
    """Scale-free features: what share of the work is of which kind, and logarithms of sizes; shape (n,) each,
    or one number for all rows."""
    i, o, k, _, n, m, g = device.convolutions(arrays)
    macs, moved = o * i / g * k**2 * m**2, i * n**2 + o * m**2
    masks = device.kernel_masks(arrays)
    # Depthwise work counts by its bytes.
    all_macs = max(float(macs[~masks["depthwise"]].sum()), 1.0)
    kind, elements = arrays["kind"], np.nan_to_num(arrays["out_elements"])
    image_mib = device.MIB_PER_FLOAT
    activation = np.maximum(sizes["activation_mib"], 1e-9)
    per_image = np.maximum(activation / batch, 1e-9)
    columns: dict[str, np.ndarray | float] = {
        f"share_macs_{name}": float(macs[mask].sum() / all_macs)
        for name, mask in masks.items()
        if name != "depthwise"
    }
    columns |= {
        f"ratio_traffic_{name}": moved[mask].sum() * image_mib / per_image
        for name, mask in {**masks, "3x3": masks["3x3"] | masks["3x3_strided"]}.items()
        if name != "3x3_strided"
    }
    columns |= {
        f"ratio_{name}": elements[kind == name].sum() * image_mib / per_image
        for name in ("batchnorm", "maxpool")
    }
    columns |= {f"ratio_{name}": sizes[name] / activation for name in sizes if name != "activation_mib"}
    giga = batch * all_macs * 1e-9
    logs = {
        "macs_per_activation": giga / activation,
        "macs": giga,
        "macs_per_launch": giga / max(len(i), 1),
        "activation": activation,
        "parameters": sizes["parameter_mib"],
        "batch_size": batch,
    }
    return columns | {f"log_{name}": np.log(np.maximum(value, 1e-9)) for name, value in logs.items()}


def totals_features(
    gmacs: float, activations_m: float, params_m: float, input_size: int, batch: np.ndarray
) -> dict[str, np.ndarray | float]:
    """Scale-free features of a network known by totals; arguments as of :func:`terms.totals_terms`."""
    macs, activations, params = (np.log(max(value, 1e-3)) for value in (gmacs, activations_m, params_m))
    size = np.log(input_size)
    return {
        "log_macs": macs,
        "log_activation": activations,
        "log_parameters": params,
        "log_input_size": size,
        "log_macs_per_activation": macs - activations,
        "macs_per_parameter": macs - params,
        "activations_per_parameter": activations - params,
        "macs_per_pixel": macs - 2 * size,
        "activations_per_pixel": activations - 2 * size,
        "log_batch_size": np.log(batch),
    }
