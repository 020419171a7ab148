"""Terms of time where tensors stay on the accelerator, and what each is expected to cost."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from perf_assets.analysis.predictors.features.terms_common import CONSTANT, MIB_PER_FLOAT, Prior, convolutions
from perf_assets.measuring.networks.memory.dataflow import Dataflow
from perf_assets.schema.device_catalog import Device


def device_terms(arrays: Mapping[str, np.ndarray], batch: np.ndarray) -> dict[str, np.ndarray]:
    """Terms of time where tensors stay on the device: shape (n,) each.

    Multiply-accumulates are split by the kernels that libraries have for them; two terms round them up to the
    tiles of matrix kernels, one counts Winograd's. The other terms are MiB read and written. Depthwise
    convolutions do nine operations a byte or fewer, so they count by bytes.
    """
    kind = arrays["kind"]
    i, o, k, s, n, m, g = convolutions(arrays)
    e = i / g
    macs = o * e * k**2 * m**2
    dense = g == 1
    grouped = ~dense & (e > 1)
    depthwise = ~dense & (e <= 1)
    one, three, strided = dense & (k == 1), dense & (k == 3) & (s == 1), dense & (k == 3) & (s > 1)
    large = (dense & ~one & ~three & ~strided) | grouped
    traffic = i * n**2 + o * m**2
    elements = np.nan_to_num(arrays["out_elements"])
    pooled = (kind == "maxpool") | (kind == "avgpool")
    # Where no normalisation follows, a bias and an activation do, which layer tables of shapes alone leave
    # out.
    plain = (kind == "conv") & (np.append(kind[1:], "") != "batchnorm")
    b = batch[:, None]
    matrix = dense | grouped

    def up(values: np.ndarray, to: int) -> np.ndarray:
        return np.ceil(values / to) * to

    def total(values: np.ndarray, of: np.ndarray, scale: float) -> np.ndarray:
        return batch * (values[of].sum() * scale)

    all_layers = np.ones(len(kind), dtype=bool)
    return {
        "macs_1x1_g": total(macs, one, 1e-9),
        "macs_3x3_g": total(macs, three, 1e-9),
        "macs_3x3_strided_g": total(macs, strided, 1e-9),
        "macs_large_g": total(macs, large, 1e-9),
        "macs_tiles_gemm_g": (up(o, 32) * up(b * m**2, 128) * up(e * k**2, 8))[:, matrix].sum(axis=1) * 1e-9,
        "macs_tiles_channels_g": total(up(o, 32) * up(e * k**2, 64) * m**2, matrix, 1e-9),
        "macs_winograd_g": (36 * b * np.ceil(m / 4) ** 2 * i * o)[:, three].sum(axis=1) * 1e-9,
        "traffic_1x1_mib": total(traffic, one, MIB_PER_FLOAT),
        "traffic_3x3_mib": total(traffic, three | strided, MIB_PER_FLOAT),
        "traffic_large_mib": total(traffic, large, MIB_PER_FLOAT),
        "traffic_depthwise_mib": total(traffic, depthwise, MIB_PER_FLOAT),
        "traffic_columns_in_mib": total(m**2 * k**2 * e, matrix, MIB_PER_FLOAT),
        "traffic_columns_out_mib": total(m**2 * k**2 * o, matrix, MIB_PER_FLOAT),
        "traffic_batchnorm_mib": total(elements, kind == "batchnorm", MIB_PER_FLOAT),
        "traffic_activation_mib": total(elements, plain, MIB_PER_FLOAT),
        "traffic_pool_mib": total(
            np.nan_to_num(arrays["in_channels"] * arrays["in_hw"] ** 2) + elements, pooled, MIB_PER_FLOAT
        ),
        "traffic_parameter_mib": np.full(len(batch), arrays["params"][all_layers].sum() * MIB_PER_FLOAT),
        "launches": np.full(len(batch), float((kind == "conv").sum())),
    }


def join_terms(dataflow: Dataflow, batch: np.ndarray) -> dict[str, np.ndarray]:
    """Terms of time of sums and concatenations, shape (n,) each."""
    elements = {
        kind: sum(
            dataflow.elements[operation.writes] for operation in dataflow.operations if operation.kind == kind
        )
        for kind in ("sum", "concat")
    }
    return {f"traffic_{kind}_mib": batch * count * MIB_PER_FLOAT for kind, count in elements.items()}


def device_prior(facts: Device, passes: int) -> Prior:
    """Expected ms of one unit of each term at full speed; ``passes`` over each convolution: 3 in training,
    else 1."""
    mac = passes * 2 / facts.peak_fp32_tflops
    mib = passes * 2**20 / 1e6 / facts.memory_bandwidth_gbps
    arithmetic = {
        # Raw and tile-rounded counts share the cost of the same work; Winograd does 2.25 times less of it.
        "macs_1x1_g": 0.5,
        "macs_3x3_g": 0.2,
        "macs_3x3_strided_g": 0.5,
        "macs_large_g": 0.5,
        "macs_tiles_gemm_g": 0.15,
        "macs_tiles_channels_g": 0.25,
        "macs_winograd_g": 0.05,
    }
    traffic = {
        "traffic_1x1_mib": 1.0,
        "traffic_3x3_mib": 1.0,
        "traffic_large_mib": 1.0,
        # Kernels of depthwise convolutions reach about a fifth of the bandwidth.
        "traffic_depthwise_mib": 5.0,
        "traffic_columns_in_mib": 0.1,
        "traffic_columns_out_mib": 0.1,
        "traffic_batchnorm_mib": 4.0,
        "traffic_activation_mib": 2.7,
        "traffic_pool_mib": 2.0,
        # Three accesses forward and, where gradients of two branches meet, three back; two and two.
        "traffic_sum_mib": 2.0,
        "traffic_concat_mib": 4 / 3,
        "traffic_parameter_mib": 1.7,
    }
    return (
        {name: ("arithmetic", share * mac) for name, share in arithmetic.items()}
        | {name: ("traffic", share * mib) for name, share in traffic.items()}
        | {"launches": ("launches", passes / 6), CONSTANT: ("constant", float(passes))}
    )
