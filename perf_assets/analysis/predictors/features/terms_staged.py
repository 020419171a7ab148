"""Terms of cost where the host stages each convolution, as ai3's do.

Model and input stay on the host. Each convolution allocates device memory, copies input, weights and bias
there from pageable memory, computes, copies its output back and frees everything; the rest of the network
runs on a few cores of the host. So most of the time is copies, fixed costs of calls and work of the host; the
accelerator idles.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from perf_assets.analysis.predictors import constants as known
from perf_assets.analysis.predictors.features.terms import MIB_PER_FLOAT
from perf_assets.measuring.networks.memory.dataflow import Dataflow
from perf_assets.schema.device_catalog import Device

STAGED_ALGORITHMS = (
    "gemm",
    "implicit gemm",
    "implicit precomp gemm",
    "guess",
    "fft",
    "fft tiling",
    "winograd",
    "winograd nonfused",
)


def term_name(quantity: str, algorithm: str, unit: str) -> str:
    """Name of an algorithm's own term: ``macs_implicit_gemm_g``."""
    return f"{quantity}_{algorithm.replace(' ', '_')}_{unit}"


def staged_terms(
    arrays: Mapping[str, np.ndarray], dataflow: Dataflow, batch: np.ndarray, algorithm: str
) -> dict[str, np.ndarray]:
    """Terms of a whole network: its convolutions' sums, and what the host does itself.

    Args:
        arrays: columns of the layer table, see ``layer_costs.layer_arrays``.
        dataflow: its operations, with those that tables of shapes leave out.
        batch: images, shape (n,).
        algorithm: one of :data:`STAGED_ALGORITHMS`.

    Returns:
        Name → shape (n,).
    """
    sizes, rows = np.unique(batch, return_inverse=True)
    layers = [staged_layer_terms(arrays, np.full(len(arrays["kind"]), size), algorithm) for size in sizes]
    sums = {name: np.array([float(terms[name].sum()) for terms in layers])[rows] for name in layers[0]}
    kind = arrays["kind"]
    written = sum(
        dataflow.elements[operation.writes]
        for operation in dataflow.operations
        if operation.kind in known.ELEMENTWISE_ACCESSES
    )
    return sums | {
        "host_elementwise_mib": batch * (written * MIB_PER_FLOAT),
        "host_window_mib": batch * (_window_elements(arrays) * MIB_PER_FLOAT),
        "host_linear_mib": np.full(len(batch), arrays["params"][kind == "linear"].sum() * MIB_PER_FLOAT),
        "host_calls": np.full(
            len(batch), float(sum(operation.kind != "conv" for operation in dataflow.operations))
        ),
    }


def _window_elements(arrays: Mapping[str, np.ndarray]) -> float:
    """Values that pooling compares or adds for one image; a table without kernel sizes has windows of 3x3."""
    kind = arrays["kind"]
    read = np.nan_to_num(arrays["in_channels"] * arrays["in_hw"] ** 2)
    kernel = np.where(np.nan_to_num(arrays["kernel_size"]) > 0, np.nan_to_num(arrays["kernel_size"]), 3.0)
    windows = np.nan_to_num(arrays["out_elements"]) * kernel**2
    # Pooling to one value a channel reads each value once.
    elements = np.where((kind == "avgpool") & (arrays["out_hw"] == 1), read, windows)
    return float(elements[(kind == "maxpool") | (kind == "avgpool")].sum())


def staged_layer_terms(
    arrays: Mapping[str, np.ndarray], batch: np.ndarray, algorithm: str
) -> dict[str, np.ndarray]:
    """Terms of each convolution by itself.

    Args:
        arrays: columns of the layer table, shape (layers,) each.
        batch: images of each row, shape (layers,).
        algorithm: one of :data:`STAGED_ALGORITHMS`.

    Returns:
        Name → shape (layers,), zero for what is no convolution. Of the terms that each algorithm has of its
        own, those of the others are zero.
    """
    conv = arrays["kind"] == "conv"
    i, o, k, n, m = (
        np.nan_to_num(arrays[name])
        for name in ("in_channels", "out_channels", "kernel_size", "in_hw", "out_hw")
    )
    e = i / arrays["groups"]
    terms = {
        "copied_mib": (batch * (i * n**2 + o * m**2) + o * e * k**2) * MIB_PER_FLOAT,
        "launches": np.ones(len(conv)),
    }
    for name in STAGED_ALGORITHMS:
        own = float(name == algorithm)
        terms[term_name("launches", name, "n")] = np.full(len(conv), own)
        terms[term_name("macs", name, "g")] = own * batch * np.nan_to_num(arrays["macs"]) * 1e-9
        terms[term_name("workspace", name, "mib")] = own * _workspace_mib(name, batch, i, o, e, k, n, m)
    return {name: np.where(conv, values, 0.0) for name, values in terms.items()}


def _workspace_mib(
    algorithm: str,
    batch: np.ndarray,
    i: np.ndarray,
    o: np.ndarray,
    e: np.ndarray,
    k: np.ndarray,
    n: np.ndarray,
    m: np.ndarray,
) -> np.ndarray:
    """Memory that an algorithm fills besides input, weights and output, in MiB.

    Pointwise convolutions are products of matrices as they are. GEMM unfolds the input into columns.
    Transforms hold the points of each input and output plane and of each pair of channels: FFT as many
    complex ones as half the padded plane has, or half of 32 x 32 tiles; Winograd F(4x4, 3x3) has 36 a tile.
    Fused Winograd keeps all but the filters on chip.
    """
    padded = np.ceil((n + k - 1) / 8) * 8
    points, tiles = {
        "fft": (padded * (padded + 2), np.ones(len(k))),
        "fft tiling": (32 * 34.0, np.ceil(m / np.maximum(33 - k, 1)) ** 2),
        "winograd": (36.0, np.zeros(len(k))),
        "winograd nonfused": (36.0, np.ceil(m / 4) ** 2),
    }.get(algorithm, (0.0, np.zeros(len(k))))
    elements = points * (batch * tiles * (i + o) + o * e)
    if algorithm == "gemm":
        elements = batch * e * k**2 * m**2
    return elements * np.where(k > 1, MIB_PER_FLOAT, 0.0)


def staged_unit_costs(facts: Device) -> dict[str, float]:
    """Expected ms of one unit of each term."""
    costs = {
        "copied_mib": 2**20 / 1e6 / known.STAGING_GBPS,
        "launches": known.STAGED_CALL_MS,
        "host_elementwise_mib": known.HOST_ELEMENTWISE_MS,
        "host_window_mib": known.HOST_WINDOW_MS,
        "host_linear_mib": known.HOST_LINEAR_MS,
        "host_calls": known.HOST_CALL_MS,
    }
    for name in STAGED_ALGORITHMS:
        costs[term_name("launches", name, "n")] = known.ALGORITHM_CALL_MS
        costs[term_name("macs", name, "g")] = 2 / known.SINGLE_IMAGE_SHARE / facts.sustained_fp32_tflops
        workspace_ms = known.WORKSPACE_SHARE * 2**20 / 1e6 / facts.memory_bandwidth_gbps
        costs[term_name("workspace", name, "mib")] = workspace_ms
    return costs
