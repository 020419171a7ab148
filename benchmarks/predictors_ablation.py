"""What each part of the predictors is worth: networks and devices left out, one part changed at a time.

    python -m benchmarks.predictors_ablation [FOLDER ...]

Prints a table: mean error in % of latency, energy and memory on networks that were left out, and of single
convolutions on devices that were. The committed table is ``predictors_ablation.md``.
"""

import argparse
import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
from sklearn.ensemble import ExtraTreesRegressor

from benchmarks.predictors import DEFAULT_FOLDERS, drops_of
from perf_assets.analysis.predictors import constants as known
from perf_assets.analysis.predictors import pipeline as prediction
from perf_assets.analysis.predictors.features.costs import expected_costs, values_of
from perf_assets.analysis.predictors.features.design import Design, design, joined
from perf_assets.analysis.predictors.features.layers import layer_designs
from perf_assets.analysis.predictors.features.outliers import without_outliers
from perf_assets.analysis.predictors.fit import cost_model
from perf_assets.analysis.predictors.fit.extrapolation import network_names
from perf_assets.analysis.predictors.serve.predictor_set import ANY_DEVICE, domains, rows_of
from perf_assets.schema.device_catalog import Device

Costs = Callable[[pd.DataFrame], pd.DataFrame]
TREES = 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*", type=Path, default=DEFAULT_FOLDERS)
    with tempfile.TemporaryDirectory() as temporary:
        table(prediction.read_measurements(drops_of(parser.parse_args().folders, Path(temporary))))


def table(seen: prediction.Measurements) -> None:
    """Print a line a change."""
    print("| part | TX2 latency | TX2 memory | ai3 latency | ai3 energy | convolutions, new device |")
    print("|---|---|---|---|---|---|")
    rows = designs_of(seen)
    for name, change in CHANGES.items():
        with contextlib.ExitStack() as stack:
            costs, tree_weight, direct = change(stack)
            cells = list(errors(rows, costs, tree_weight, direct))
        print(f"| {name} | " + " | ".join(f"{cell:.1f}" for cell in cells) + " |", flush=True)


def designs_of(seen: prediction.Measurements) -> tuple[list[Design], list[Design], Design]:
    """Rows of the TX2, of each of ai3's devices, and of single convolutions on all devices."""
    tx2, ai3 = [], []
    for tool, device, stage in domains(seen.runs):
        if device != ANY_DEVICE and tool in ("perf4sight", "ai3"):
            rows = design(rows_of(seen.runs, tool, device, stage), seen.tables, with_peer=False)
            (tx2 if tool == "perf4sight" else ai3).append(without_outliers(rows))
    layers = seen.layers[seen.layers["tool"] == "neusight"]
    return tx2, ai3, joined([without_outliers(rows) for *_, rows in layer_designs(layers, seen.tables)])


def errors(
    rows: tuple[list[Design], list[Design], Design], costs: Costs, tree_weight: float, direct: float
) -> Iterator[float]:
    """Mean errors in the order of the table's columns; devices of one column weigh the same."""
    tx2, ai3, convolutions = rows
    for parts, target in ((tx2, "latency"), (tx2, "memory"), (ai3, "latency"), (ai3, "energy")):
        yield float(np.mean([left_out_pct(part, target, costs, tree_weight, direct) for part in parts]))
    yield left_out_pct(convolutions, "layer_latency", costs, 1.0, 0.0, by_device=True)


def left_out_pct(
    rows: Design, target: str, costs: Costs, tree_weight: float, direct: float, *, by_device: bool = False
) -> float:
    """Mean error on networks (or devices) left out one after another; those of a handful of rows judge not."""
    y = values_of(rows.frame, target)
    rows, y = rows.rows(np.isfinite(y)), y[np.isfinite(y)]
    expected = costs(expected_costs(rows, target))
    networks = network_names(rows.frame)
    groups = rows.frame["device"].to_numpy(str) if by_device else networks
    capped = target == "memory"
    found = []
    for name in np.unique(groups[cost_model.in_large_groups(groups, known.JUDGING_GROUP)]):
        held = groups == name
        train = ~held
        model = cost_model.fit_cost_model(
            expected[train], rows.shape[train], y[train], networks[train], capped=capped, trees=TREES
        )
        predicted = np.minimum(model.needed(expected[held], rows.shape[held], tree_weight), model.cap)
        if direct and capped:
            forest = ExtraTreesRegressor(TREES, random_state=0).fit(rows.shape[train], np.log(y[train]))
            predicted = predicted ** (1 - direct) * np.exp(direct * forest.predict(rows.shape[held]))
        found.append(cost_model.relative_errors_pct(predicted, y[held]).mean())
    return float(np.mean(found))


def _without(*starts: str) -> Callable:
    """Terms whose names begin so cost nothing."""
    return lambda stack: (lambda costs: costs[[n for n in costs if not n.startswith(starts)]], _TREES, 0.0)


def _with(target: object, name: str, value: object) -> Callable:
    """A constant, or a function, is another."""

    def change(stack: contextlib.ExitStack) -> tuple[Costs, float, float]:
        stack.enter_context(patch.object(target, name, value))
        return _same, _TREES, 0.0

    return change


def _same(costs: pd.DataFrame) -> pd.DataFrame:
    return costs


def _coefficients(strength: float, *, scaled: bool = True, families: bool = False) -> Callable:
    """The fit of costs with another prior strength, without the common scale, or with one scale for each family
    of terms between both."""

    def fit(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> np.ndarray:
        if not scaled:
            _, inverse, counts = np.unique(groups.astype(str), return_inverse=True, return_counts=True)
            weight = np.sqrt(1 / counts[inverse] / len(counts))
            pull = np.full(x.shape[1], np.sqrt(strength))
            stacked = np.vstack([x / y[:, None] * weight[:, None], np.diag(pull)])
            return cost_model.nnls(stacked, np.concatenate([weight, pull]))[0]
        if families:
            # Halves of the terms in their order: arithmetic, then traffic and calls.
            half = np.arange(x.shape[1]) < x.shape[1] // 2
            sums = np.column_stack([x[:, half].sum(axis=1), x[:, ~half].sum(axis=1)])
            scale = np.where(half, *np.maximum(_FIT(sums, y, groups, 3e-3), 0.05))
            return _FIT(x * scale, y, groups, strength) * scale
        return _FIT(x, y, groups, strength)

    return _with(cost_model, "fit_coefficients", fit)


_FIT = cost_model.fit_coefficients
_TREES = known.NEW_NETWORK_TREE_WEIGHT
CHANGES: dict[str, Callable] = {
    "as it is": lambda stack: (_same, _TREES, 0.0),
    "no trees": lambda stack: (_same, 0.0, 0.0),
    "trees believed of new networks": lambda stack: (_same, 1.0, 0.0),
    "no prior (plain non-negative least squares)": _coefficients(1e-9),
    "prior a tenth as strong": _coefficients(1e-4),
    "prior ten times as strong": _coefficients(1e-2),
    "no common scale": _coefficients(1e-3, scaled=False),
    "no terms of tiles": _without("macs_tiles"),
    "no term of depthwise products": _without("macs_depthwise"),
    "no term of columns": _without("traffic_columns"),
    "no term of pooling (device)": _without("traffic_pool"),
    "no term of launches": _without("launches"),
    "no windows of pooling (host)": _without("host_window"),
    "no calls of the host": _without("host_calls"),
    "no workspaces": _without("workspace_"),
    "no launches by algorithm": _without("launches_"),
    "power alike in computing and waiting": _with(known, "WAITING_POWER_SHARE", known.BUSY_POWER_SHARE),
    "handfuls of runs teach": _with(known, "SMALL_GROUP", 0.0),
    "peak at boost clock": _with(
        Device, "sustained_fp32_tflops", property(lambda self: self.peak_fp32_tflops)
    ),
    "deleted: a scale for each family of terms": _coefficients(1e-3, families=True),
    "deleted: direct forest beside the costs of memory": lambda stack: (_same, _TREES, 0.5),
}
"""What is changed, and how: gives what becomes of expected costs, the weight of trees and of a direct forest."""


if __name__ == "__main__":
    main()
