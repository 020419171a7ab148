"""Terms of time where the host stages each convolution, as ai3's do, and what each is expected to cost."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from perf_assets.predictors.devices import Device
from perf_assets.predictors.terms.common import CONSTANT, MIB_PER_FLOAT, Prior

ALGORITHMS = (
    "gemm",
    "implicit gemm",
    "implicit precomp gemm",
    "guess",
    "fft",
    "fft tiling",
    "winograd",
    "winograd nonfused",
)


def staged_terms(
    arrays: Mapping[str, np.ndarray], batch: np.ndarray, algorithm: str
) -> dict[str, np.ndarray]:
    """Terms of time where the host stages each convolution: shape (n,) each, sums over the network."""
    layers = staged_layer_terms(arrays, np.ones(len(arrays["kind"])), algorithm)
    per_image = {name: np.nansum(values) for name, values in layers.items()}
    kind = arrays["kind"]
    elements = np.nan_to_num(arrays["out_elements"])
    inputs = np.nan_to_num(arrays["in_channels"] * arrays["in_hw"] ** 2)
    host = np.isin(kind, ("relu", "batchnorm", "maxpool", "avgpool", "add"))
    fixed = {"copy_weight_mib", "launches", *(name for name in per_image if name.startswith("transform_"))}
    terms = {
        name: (np.ones(len(batch)) if name in fixed else batch) * value for name, value in per_image.items()
    }
    return terms | {
        "host_elementwise_mib": batch * ((inputs + elements)[host].sum() * MIB_PER_FLOAT),
        "host_concat_mib": batch * (2 * elements[kind == "concat"].sum() * MIB_PER_FLOAT),
        "host_linear_mib": np.full(len(batch), arrays["params"][kind == "linear"].sum() * MIB_PER_FLOAT),
    }


def staged_layer_terms(
    arrays: Mapping[str, np.ndarray], batch: np.ndarray, algorithm: str
) -> dict[str, np.ndarray]:
    """The same for each layer by itself: shape (layers,), zero for what is no convolution."""
    conv = arrays["kind"] == "conv"
    i, o, k, n, m = (
        np.nan_to_num(arrays[name])
        for name in ("in_channels", "out_channels", "kernel_size", "in_hw", "out_hw")
    )
    e = i / arrays["groups"]
    weights = o * e * k**2 * MIB_PER_FLOAT
    terms = {
        "copy_in_mib": batch * i * n**2 * MIB_PER_FLOAT,
        "copy_out_mib": batch * o * m**2 * MIB_PER_FLOAT,
        "copy_weight_mib": weights,
        "launches": np.ones(len(conv)),
    }
    for name in ALGORITHMS:
        own = float(name == algorithm)
        terms[f"macs_{name.replace(' ', '_')}_g"] = own * batch * np.nan_to_num(arrays["macs"]) * 1e-9
        terms[f"transform_{name.replace(' ', '_')}_mib"] = own * _transformed_mib(name, i, o, e, k, n)
    return {name: np.where(conv, values, 0.0) for name, values in terms.items()}


def _transformed_mib(
    algorithm: str, i: np.ndarray, o: np.ndarray, e: np.ndarray, k: np.ndarray, n: np.ndarray
) -> np.ndarray:
    """Weights as an algorithm transforms them anew in each call, in MiB.

    FFT has a complex plane for each pair of channels, padded to the image, or to 32 x 32 tiles; Winograd
    F(4x4, 3x3) has 36 points.
    """
    padded = np.ceil((n + k - 1) / 8) * 8
    points = {"fft": padded * (padded + 2), "fft tiling": np.full(len(k), 32.0 * 34)}.get(algorithm)
    if points is None:
        points = np.full(len(k), 36.0) if algorithm.startswith("winograd") else k**2
    return np.where(k > 1, points, 1.0) * o * e * MIB_PER_FLOAT


def staged_prior(facts: Device) -> Prior:
    """Copies from pageable memory reach 6-7 GB/s, five allocations 0.2 ms, a few cores 10 GB/s,
    or three times that where they only read."""
    copy, host = 2**20 / 1e6 / 6.5, 2**20 / 1e6 / 10
    mac = 2 / facts.peak_fp32_tflops
    prior: Prior = dict.fromkeys(("copy_in_mib", "copy_out_mib", "copy_weight_mib"), ("copies", copy))
    prior |= {"launches": ("launches", 0.2), CONSTANT: ("constant", 1.0)}
    prior |= dict.fromkeys(("host_elementwise_mib", "host_concat_mib"), ("host", host))
    prior["host_linear_mib"] = ("linear", host / 3)
    for algorithm in (name.replace(" ", "_") for name in ALGORITHMS):
        # Single images reach half of peak. Transformed weights are written and read in memory that is allocated
        # for each call, at some tenth of the bandwidth.
        transforms = algorithm.startswith(("fft", "winograd"))
        moved = 2 * 2**20 / 1e6 / facts.memory_bandwidth_gbps * (10 if transforms else 0.1)
        prior[f"macs_{algorithm}_g"] = (f"arithmetic_{algorithm}", 2 * mac)
        prior[f"transform_{algorithm}_mib"] = (f"arithmetic_{algorithm}", moved)
    return prior
