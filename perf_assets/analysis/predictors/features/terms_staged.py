"""Terms of cost where the host stages each convolution, as ai3's do, and what each is expected to cost.

Model and input stay on the host. Each convolution allocates device memory, copies input, weights and bias
there from pageable memory, computes, copies its output back and frees everything; the rest of the network
runs on a few cores of the host. So most of the time is copies, fixed costs of calls and work of the host; the
accelerator idles.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from perf_assets.analysis.predictors.features.terms_common import CONSTANT, MIB_PER_FLOAT, Prior
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

TRANSFORMS = ("fft", "fft tiling", "winograd nonfused")
"""Algorithms that transform images in memory, at what is much the same rate for all of them."""
STAGING_MIB = 2.0
"""Start of a copy from pageable memory in which the host fills its first staging buffer while nothing is
transferred."""
MMAP_MIB = 32.0
"""Larger outputs are mapped anew for each call, page by page: M_MMAP_THRESHOLD grows no further (mallopt(3),
64 bit)."""
PAGES_PER_MIB = 256
HOST_YEAR = 2023
HOST_FASTER_A_YEAR = 1.05
"""One thread copies and calls: it gained less than memory channels, which went from DDR4-2666 in 2017 to
DDR5-4800 in 2023, 10 % a year."""


def term_name(quantity: str, algorithm: str, unit: str) -> str:
    """Name of an algorithm's own term: ``macs_implicit_gemm_g``."""
    return f"{quantity}_{algorithm.replace(' ', '_')}_{unit}"


def staged_terms(
    arrays: Mapping[str, np.ndarray], batch: np.ndarray, algorithm: str
) -> dict[str, np.ndarray]:
    """Terms of a whole network where the host stages each convolution.

    Args:
        arrays: columns of the layer table, see ``analytic.layer_arrays``.
        batch: images, shape (n,).
        algorithm: one of :data:`STAGED_ALGORITHMS`.

    Returns:
        Name → shape (n,): the sums of :func:`staged_layer_terms`, and what the host does itself.
    """
    sizes, rows = np.unique(batch, return_inverse=True)
    sums = [_network_terms(arrays, float(size), algorithm) for size in sizes]
    return {name: np.array([terms[name] for terms in sums])[rows] for name in sums[0]}


def _network_terms(arrays: Mapping[str, np.ndarray], batch: float, algorithm: str) -> dict[str, float]:
    convolutions = staged_layer_terms(arrays, np.full(len(arrays["kind"]), batch), algorithm)
    terms = {name: float(values.sum()) for name, values in convolutions.items()}
    kind = arrays["kind"]
    written = batch * np.nan_to_num(arrays["out_elements"]) * MIB_PER_FLOAT
    read = batch * np.nan_to_num(arrays["in_channels"] * arrays["in_hw"] ** 2) * MIB_PER_FLOAT
    elementwise = np.isin(kind, ("relu", "batchnorm", "maxpool", "avgpool", "add"))
    fresh = (kind != "conv") & (arrays["inplace"] == 0)
    terms["fault_mib"] += _mapped_anew(written[fresh]).sum()
    return terms | {
        "host_elementwise_mib": (read + written)[elementwise].sum(),
        "host_concat_mib": 2 * written[kind == "concat"].sum(),
        "host_linear_mib": arrays["params"][kind == "linear"].sum() * MIB_PER_FLOAT,
        "host_calls": float((kind != "conv").sum()),
    }


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
    copied_in, copied_out = batch * i * n**2 * MIB_PER_FLOAT, batch * o * m**2 * MIB_PER_FLOAT
    weights = o * e * k**2 * MIB_PER_FLOAT
    terms = {
        "copy_in_mib": copied_in,
        "copy_out_mib": copied_out,
        "copy_weight_mib": weights,
        "copy_start_mib": sum(np.minimum(copied, STAGING_MIB) for copied in (copied_in, copied_out, weights)),
        "fault_mib": _mapped_anew(copied_out),
        "launches": np.ones(len(conv)),
    }
    for name in STAGED_ALGORITHMS:
        own = float(name == algorithm)
        terms[term_name("launches", name, "n")] = np.full(len(conv), own)
        terms[term_name("macs", name, "g")] = own * batch * np.nan_to_num(arrays["macs"]) * 1e-9
        images, filters = _workspace_mib(name, batch, i, o, e, k, n, m)
        terms[term_name("images", name, "mib")] = own * images
        terms[term_name("filters", name, "mib")] = own * filters
    return {name: np.where(conv, values, 0.0) for name, values in terms.items()}


def _mapped_anew(output_mib: np.ndarray) -> np.ndarray:
    return np.where(output_mib > MMAP_MIB, output_mib, 0.0)


def _workspace_mib(
    algorithm: str,
    batch: np.ndarray,
    i: np.ndarray,
    o: np.ndarray,
    e: np.ndarray,
    k: np.ndarray,
    n: np.ndarray,
    m: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Memory that an algorithm fills besides input, weights and output, in MiB: of images, and of filters.

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
    images, filters = points * batch * tiles * (i + o), points * o * e
    if algorithm == "gemm":
        images = batch * e * k**2 * m**2
    spatial = np.where(k > 1, MIB_PER_FLOAT, 0.0)
    return images * spatial, filters * spatial


def staged_prior(facts: Device) -> Prior:
    """Expected ms of one unit of each term.

    Copies from pageable memory reach 6-7 GB/s, half of that while staging and transfer do not overlap. A page
    fault with zeroing its 4 KiB takes half a microsecond. Five allocations take 0.2 ms, a workspace's one
    more. A few cores process 10 GB/s, or three times that where they only read, and start an operation in 20
    us. All this on a host of :data:`HOST_YEAR`; another one is taken to be as old as its accelerator. Single
    images reach half of peak; a workspace is written and read in memory that is allocated for each call, at
    some tenth of the bandwidth.
    """
    slower = HOST_FASTER_A_YEAR ** (HOST_YEAR - facts.launched_year)
    copy, host = slower * 2**20 / 1e6 / 6.5, slower * 2**20 / 1e6 / 10
    prior: Prior = dict.fromkeys(
        ("copy_in_mib", "copy_out_mib", "copy_weight_mib", "copy_start_mib"), ("copies", copy)
    )
    prior |= {"fault_mib": ("faults", slower * PAGES_PER_MIB * 0.5e-3)}
    prior |= {"launches": ("launches", slower * 0.2), CONSTANT: ("constant", slower * 1.0)}
    prior |= dict.fromkeys(("host_elementwise_mib", "host_concat_mib"), ("host", host))
    prior |= {"host_linear_mib": ("linear", host / 3), "host_calls": ("host", slower * 0.02)}
    for name in STAGED_ALGORITHMS:
        prior[term_name("launches", name, "n")] = ("launches", slower * 0.04)
        prior[term_name("macs", name, "g")] = (f"arithmetic {name}", _mac_ms(facts))
        family = "transforms" if name in TRANSFORMS else f"arithmetic {name}"
        prior[term_name("images", name, "mib")] = (family, _workspace_ms(facts))
        prior[term_name("filters", name, "mib")] = (f"arithmetic {name}", _workspace_ms(facts))
    return prior


TIME = "latency_ms"
"""Term of energy: the time that the predictor of latency gives."""
WORK = {
    term_name(quantity, name, "ms"): tuple(term_name(part, name, unit) for part, unit in parts)
    for name in STAGED_ALGORITHMS
    for quantity, parts in (
        ("arithmetic", (("macs", "g"),)),
        ("streaming", (("images", "mib"), ("filters", "mib"))),
    )
}
"""Terms of energy: the parts of that time in which the accelerator computes, and in which it fills and reads
workspaces; and the terms of latency that they are the costs of."""


def staged_energy_prior(facts: Device) -> Prior:
    """Expected J of one unit of each term: a quarter of the thermal design power at all times, since a
    context is open and clocks are up, the rest of it while the accelerator computes, and two thirds of that
    rest while it waits for its memory."""
    joules_per_ms = facts.tdp_w / 1000
    prior: Prior = {TIME: ("idle", joules_per_ms / 4)}
    for name in STAGED_ALGORITHMS:
        family = f"work {name}"
        prior[term_name("arithmetic", name, "ms")] = (family, joules_per_ms * 3 / 4)
        prior[term_name("streaming", name, "ms")] = (family, joules_per_ms * 2 / 4)
    return prior


def _mac_ms(facts: Device) -> float:
    """Of 10^9 multiply-accumulates, at half of peak."""
    return 2 * 2 / facts.peak_fp32_tflops


def _workspace_ms(facts: Device) -> float:
    """Of one MiB written and read at a tenth of the bandwidth."""
    return 2 * 10 * 2**20 / 1e6 / facts.memory_bandwidth_gbps
