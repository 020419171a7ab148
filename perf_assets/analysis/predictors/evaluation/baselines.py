"""Peers, fitted and scored on the same rows in the same way.

``perf4sight``: its 56 (inference: 15) features under 300 extremely randomised trees with default settings, on
the plain target (arXiv 2108.05580). ``ai3``: features after those of ai3's predictors (sizes of the network
or layer, device facts, algorithm; for layers the network's input size as they use it) under boosted trees on
the log of the target; histogram boosting of scikit-learn stands in for the boosting libraries that they use.
``roofline``: the larger of arithmetic at peak and traffic at full bandwidth, one factor fitted;
``boosted_roofline``: boosted trees on what that leaves. ``nnls``: plain non-negative least squares on
arithmetic, bytes and layers. ``one_factor``: the same configuration on other devices, by peak arithmetic.
``tdp_times_time``: energy as thermal design power times predicted time. ``constant``: the median.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy.optimize import nnls
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


def plain_nnls(train: Design, held: Design, y: np.ndarray) -> np.ndarray:
    """Non-negative least squares of relative errors on arithmetic, bytes, parameters and number of layers,
    for each algorithm by itself; an algorithm that was not measured is judged by all."""

    def columns(design: Design) -> np.ndarray:
        macs, moved = _totals(design)
        more = [name for name in ("parameter_mib", "launches") if name in design.terms]
        return np.column_stack([macs, moved, design.terms[more].to_numpy(float), np.ones(len(design))])

    x, x_held, predicted = columns(train), columns(held), np.empty(len(held))
    algorithm, algorithm_held = (part.frame["algorithm"].to_numpy(str) for part in (train, held))
    for name in np.unique(algorithm_held):
        own = algorithm == name
        own = own if own.any() else np.ones(len(own), dtype=bool)
        scale = np.maximum(x[own].max(axis=0), 1e-12)
        costs, _ = nnls(x[own] / scale / y[own, None], np.ones(int(own.sum())))
        predicted[algorithm_held == name] = x_held[algorithm_held == name] / scale @ costs
    return np.maximum(predicted, 1e-9)


def boosted_roofline(train: Design, held: Design, y: np.ndarray) -> np.ndarray:
    """Boosted trees on what the roofline leaves, from the same features as ours."""
    bound, bound_held = _roofline_ms(train), _roofline_ms(held)
    left = _boosted_log(train.shape.to_numpy(float), held.shape.to_numpy(float), np.log(y / bound))
    return bound_held * np.exp(left)


def one_factor(train: Design, held: Design, y: np.ndarray) -> np.ndarray:
    """What the same configuration took elsewhere, times one factor by peak arithmetic; else the roofline."""
    keys = ["model", "pruning_ratio", "algorithm", "batch_size", "input_size"]
    if not set(keys) <= set(train.frame):
        return roofline(train, held, y)
    peaks = [
        np.array([device_facts(name).peak_fp32_tflops for name in part.frame["device"]])
        for part in (train, held)
    ]
    log_work = train.frame[keys].assign(work=np.log(y * peaks[0])).groupby(keys, dropna=False)["work"].mean()
    found = held.frame[keys].merge(log_work.reset_index(), on=keys, how="left")["work"].to_numpy(float)
    return np.where(np.isfinite(found), np.exp(found) / peaks[1], roofline(train, held, y))


def constant(train: Design, held: Design, y: np.ndarray) -> np.ndarray:
    """The median of the training rows."""
    return np.full(len(held), float(np.median(y)))


def baselines_of(target: str, tool: str, new: str = "network") -> dict[str, Baseline]:
    """The peers of a target on the runs of a tool where something is new, by name."""
    family = family_of(tool)
    by_family: dict[str, dict[str, Baseline]] = {
        "device": {"perf4sight": perf4sight},
        "host_staged": {"ai3": ai3},
    }
    own = by_family.get(family, {})
    if target == "layer_latency":
        own = {"ai3": ai3_layers} if tool == "ai3" else {}
    peers: dict[str, Baseline] = {**own, "constant": constant}
    if target.startswith("memory"):
        return peers
    peers["nnls"] = plain_nnls
    if target == "energy":
        return peers | ({"tdp_times_time": tdp_times_time} if family == "host_staged" else {})
    peers["roofline"] = roofline
    if new == "device" or not own:
        peers["boosted_roofline"] = boosted_roofline
    return peers | ({"one_factor": one_factor} if new == "device" else {})


def _boosted_log(x: np.ndarray, x_held: np.ndarray, y: np.ndarray) -> np.ndarray:
    model = HistGradientBoostingRegressor(max_iter=200, random_state=SEED)
    with threadpool_limits(limits=1, user_api="openmp"):
        return model.fit(x, y).predict(x_held)


def _boosted(x: np.ndarray, x_held: np.ndarray, y: np.ndarray) -> np.ndarray:
    model = HistGradientBoostingRegressor(max_iter=300, max_depth=8, learning_rate=0.05, random_state=SEED)
    # Threads that wait for each other lose far more on a busy machine than they win on so few rows.
    with threadpool_limits(limits=1, user_api="openmp"):
        return np.expm1(model.fit(x, np.log1p(y)).predict(x_held)).clip(min=1e-9)


def _totals(design: Design) -> tuple[np.ndarray, np.ndarray]:
    """10^9 multiply-accumulates and MiB moved of each row."""
    terms = design.terms
    if "total_macs_g" in terms:
        macs, moved = terms["total_macs_g"], terms["total_activation_mib"] + terms["total_parameter_mib"]
    elif "copied_mib" in terms:
        macs = terms[[name for name in terms if name.startswith("macs_")]].sum(axis=1)
        moved = terms["copied_mib"]
    else:
        macs, moved = terms["macs_g"] + terms["macs_depthwise_g"], terms["traffic_mib"]
    return macs.to_numpy(float), moved.to_numpy(float)


def _roofline_ms(design: Design) -> np.ndarray:
    facts = [device_facts(name) for name in design.frame["device"]]
    macs, moved = _totals(design)
    arithmetic = 2 * macs / np.array([fact.peak_fp32_tflops for fact in facts])
    traffic = moved * 2**20 / 1e6 / np.array([fact.memory_bandwidth_gbps for fact in facts])
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
        terms["activation_mib"] / size**2,
        terms["host_window_mib"] / size**2,
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
