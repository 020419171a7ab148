"""Peers, fitted and scored on the same rows in the same way.

``perf4sight``: its 56 (inference: 15) features under 300 extremely randomised trees with default settings, on
the plain target (arXiv 2108.05580). ``ai3``: features after those of ai3's predictors (sizes of the network
or layer, device facts, algorithm; for layers the network's input size as they use it) under boosted trees on
the log of the target; histogram boosting of scikit-learn stands in for the boosting libraries that they use.
``roofline``: the larger of arithmetic at peak and traffic at full bandwidth, one factor fitted.
``tdp_times_time``: energy as thermal design power times predicted time. ``constant``: the median.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from sklearn.ensemble import ExtraTreesRegressor, HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from perf_assets.analysis.predictors.features.configurations import family_of
from perf_assets.analysis.predictors.features.design import Design
from perf_assets.analysis.predictors.features.terms_staged import STAGED_ALGORITHMS
from perf_assets.analysis.predictors.fit.forest import SEED
from perf_assets.schema.device_catalog import device_facts

Baseline = Callable[[Design, Design, np.ndarray], np.ndarray]
"""Training design, held-out design, training values → predictions."""


def perf4sight(train: Design, held: Design, y: np.ndarray) -> np.ndarray:
    """perf4sight's features and its 300 trees."""
    model = ExtraTreesRegressor(300, random_state=SEED)
    return model.fit(train.perf4sight.to_numpy(), y).predict(held.perf4sight.to_numpy())


def ai3(train: Design, held: Design, y: np.ndarray) -> np.ndarray:
    """ai3's features of networks, boosted trees on log1p."""
    return _boosted(_ai3_features(train), _ai3_features(held), y)


def ai3_layers(train: Design, held: Design, y: np.ndarray) -> np.ndarray:
    """ai3's features of layers, with the network's input size in the place of the layer's."""
    return _boosted(_ai3_layer_features(train.frame), _ai3_layer_features(held.frame), y)


def roofline(train: Design, held: Design, y: np.ndarray) -> np.ndarray:
    """max(arithmetic / peak, traffic / bandwidth), times the median factor of the training rows."""
    bound = _roofline_ms(train)
    return _roofline_ms(held) * float(np.median(y / bound))


def tdp_times_time(train: Design, held: Design, y: np.ndarray) -> np.ndarray:
    """Thermal design power times the time that ai3's features predict: nothing is fitted to energy."""
    times_ms = _boosted(_ai3_features(train), _ai3_features(held), train.frame["latency_ms"].to_numpy(float))
    return times_ms / 1000 * np.array([device_facts(name).tdp_w for name in held.frame["device"]])


def constant(train: Design, held: Design, y: np.ndarray) -> np.ndarray:
    """The median of the training rows."""
    return np.full(len(held), float(np.median(y)))


def baselines_of(target: str, tool: str) -> dict[str, Baseline]:
    """The peers of a target on the runs of a tool, by name."""
    if target == "layer_latency":
        return {"ai3": ai3_layers, "constant": constant}
    peers: dict[str, Baseline] = {"perf4sight": perf4sight} if family_of(tool) == "device" else {"ai3": ai3}
    if target == "latency":
        peers["roofline"] = roofline
    if target == "energy" and family_of(tool) == "host_staged":
        peers["tdp_times_time"] = tdp_times_time
    return peers | {"constant": constant}


def _boosted(x: np.ndarray, x_held: np.ndarray, y: np.ndarray) -> np.ndarray:
    model = HistGradientBoostingRegressor(max_iter=300, max_depth=8, learning_rate=0.05, random_state=SEED)
    # Threads that wait for each other lose far more on a busy machine than they win on so few rows.
    with threadpool_limits(limits=1, user_api="openmp"):
        return np.expm1(model.fit(x, np.log1p(y)).predict(x_held)).clip(min=1e-9)


def _roofline_ms(design: Design) -> np.ndarray:
    terms, frame = design.terms, design.frame
    facts = [device_facts(name) for name in frame["device"]]
    if "macs_1x1_g" in terms:
        macs = terms[["macs_1x1_g", "macs_3x3_g", "macs_3x3_strided_g", "macs_large_g"]].sum(axis=1)
        moved = terms[[name for name in terms if name.startswith("traffic_") and "columns" not in name]].sum(
            axis=1
        )
    else:
        macs = terms[[name for name in terms if name.startswith("macs_")]].sum(axis=1)
        moved = terms[["copy_in_mib", "copy_out_mib", "copy_weight_mib"]].sum(axis=1)
    arithmetic = 2 * macs.to_numpy() / np.array([fact.peak_fp32_tflops for fact in facts])
    traffic = moved.to_numpy() * 2**20 / 1e6 / np.array([fact.memory_bandwidth_gbps for fact in facts])
    return np.maximum(arithmetic, traffic)


def _facts(frame: pd.DataFrame) -> list[np.ndarray]:
    facts = [device_facts(name) for name in frame["device"]]
    return [
        np.array([getattr(fact, name) for fact in facts])
        for name in ("peak_fp32_tflops", "memory_bandwidth_gbps", "memory_gib", "tdp_w", "launched_year")
    ]


def _algorithms(frame: pd.DataFrame) -> list[np.ndarray]:
    return [(frame["algorithm"] == name).to_numpy(float) for name in STAGED_ALGORITHMS]


def _ai3_features(design: Design) -> np.ndarray:
    """Constants of the architecture, device facts, algorithm, input size: nothing that scales with the
    input."""
    frame, terms = design.frame, design.terms
    size = np.maximum(frame["input_size"].to_numpy(float), 1)
    constants = [
        terms["launches"],
        terms["parameter_mib"],
        terms["host_linear_mib"],
        terms["copy_weight_mib"],
        terms["activation_mib"] / size**2,
        terms["host_concat_mib"] / size**2,
        terms["largest_output_mib"] / size**2,
    ]
    # One value a network, as a person would type it.
    rounded = [np.round(column.to_numpy(float), 4 if column.max() < 1 else 0) for column in constants]
    return np.column_stack([*rounded, *_facts(frame), *_algorithms(frame), frame["input_size"]])


def _ai3_layer_features(frame: pd.DataFrame) -> np.ndarray:
    i, o, k = (frame[name].to_numpy(float) for name in ("in_channels", "out_channels", "kernel_size"))
    stride, padding = frame["stride"].to_numpy(float), frame["padding"].to_numpy(float)
    n = frame["input_size"].to_numpy(float)
    m = np.floor((n + 2 * padding - k) / stride) + 1
    params = i * o * k**2
    flops = 2 * params * m**2
    moved = 4 * (i * n**2 + o * m**2 + params)
    return np.column_stack(
        [
            i,
            o,
            k,
            stride,
            padding,
            n,
            m,
            flops,
            params,
            moved,
            flops / params,
            flops / moved,
            *_facts(frame),
            *_algorithms(frame),
        ]
    )
