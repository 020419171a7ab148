"""Terms of cost of networks whose tensors stay on the device, of those known by totals alone, and of memory.

A term is a quantity that costs time or memory in proportion to it. Its unit is in its name: ``_g`` is 10^9
multiply-accumulates, ``_mib`` is MiB of 32-bit floats.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from perf_assets.analysis.predictors import constants as known
from perf_assets.measuring.networks import layer_costs
from perf_assets.measuring.networks.memory.dataflow import Dataflow
from perf_assets.measuring.networks.memory.step import STEADY, Protocol, step_memory_curve
from perf_assets.schema.device_catalog import Device

MIB_PER_FLOAT = layer_costs.FLOAT_BYTES / 2**20
CONSTANT = "constant"
"""Name of the term that is 1 for every configuration."""
PROTOCOL_OF_TOOL = {"perf4sight": Protocol((2.0, 3.0), empties_cache=True)}
"""How tools read peaks that do not read those of a loop in its course: perf4sight empties the cache before
each of four steps and gives the mean of five readings, two of them from the first step. The last three steps
are much the same."""
KERNELS = ("1x1", "3x3", "3x3_strided", "large", "depthwise")
"""Kinds of convolutions that libraries have kernels of their own for."""


def convolutions(arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    """Of the convolutions: input and output channels, kernel, stride, input and output size, groups."""
    conv = arrays["kind"] == "conv"
    names = ("in_channels", "out_channels", "kernel_size", "stride", "in_hw", "out_hw", "groups")
    return tuple(arrays[name][conv] for name in names)


def kernel_masks(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Which convolutions are of which of :data:`KERNELS`: masks of shape (convolutions,)."""
    i, _, k, s, _, _, g = convolutions(arrays)
    depthwise, dense = (g > 1) & (i / g <= 1), g == 1
    masks = {
        "1x1": dense & (k == 1),
        "3x3": dense & (k == 3) & (s == 1),
        "3x3_strided": dense & (k == 3) & (s > 1),
    }
    large = ~(depthwise | masks["1x1"] | masks["3x3"] | masks["3x3_strided"])
    return masks | {"large": large, "depthwise": depthwise}


def convolution_terms(
    convolution: tuple[np.ndarray, ...], depthwise: np.ndarray, batch: np.ndarray
) -> dict[str, np.ndarray]:
    """Terms of convolutions by themselves.

    Two terms round arithmetic up to the tiles of matrix kernels. Depthwise convolutions load a value for each
    product, so theirs is a term of its own. The others are MiB read and written.

    Args:
        convolution: what :func:`convolutions` gives, arrays of shape (layers,).
        depthwise: which of them are depthwise, shape (layers,).
        batch: images, of a shape that broadcasts with (layers,).

    Returns:
        Name → the shape of both together.
    """
    i, o, k, s, n, m, g = convolution
    e = i / g
    macs, matrix = batch * (o * e * k**2 * m**2) * 1e-9, np.where(depthwise, 0.0, 1.0)
    saving = np.where((k == 3) & (s == 1) & (g == 1), known.WINOGRAD_SAVING, 1.0)

    def up(values: np.ndarray, to: int) -> np.ndarray:
        return np.ceil(values / to) * to

    return {
        "macs_g": macs * matrix / saving,
        "macs_tiles_gemm_g": up(o, 32) * up(batch * m**2, 128) * up(e * k**2, 8) * matrix * 1e-9,
        "macs_tiles_channels_g": batch * (up(o, 32) * up(e * k**2, 64) * m**2) * matrix * 1e-9,
        "macs_depthwise_g": macs * (1 - matrix),
        "traffic_mib": (batch * (i * n**2 + o * m**2) + o * e * k**2) * MIB_PER_FLOAT,
        "traffic_columns_mib": batch * (m**2 * k**2 * (e + o)) * matrix * MIB_PER_FLOAT,
    }


def device_terms(
    arrays: Mapping[str, np.ndarray], dataflow: Dataflow, batch: np.ndarray
) -> dict[str, np.ndarray]:
    """Terms of time of whole networks whose tensors stay on the device: shape (n,) each."""
    kind = arrays["kind"]
    layers = convolution_terms(convolutions(arrays), kernel_masks(arrays)["depthwise"], batch[:, None])
    terms = {name: values.sum(axis=1) for name, values in layers.items()}
    pools = np.nan_to_num(arrays["in_channels"] * arrays["in_hw"] ** 2) + np.nan_to_num(
        arrays["out_elements"]
    )
    elementwise = sum(
        known.ELEMENTWISE_ACCESSES[operation.kind] * dataflow.elements[operation.writes]
        for operation in dataflow.operations
        if operation.kind in known.ELEMENTWISE_ACCESSES
    )
    linear = kind == "linear"
    terms["macs_g"] += batch * (np.nan_to_num(arrays["macs"])[linear].sum() * 1e-9)
    terms["traffic_mib"] += arrays["params"][linear].sum() * MIB_PER_FLOAT
    pooled = pools[(kind == "maxpool") | (kind == "avgpool")].sum()
    return terms | {
        "traffic_elementwise_mib": batch * (elementwise * MIB_PER_FLOAT),
        "traffic_pool_mib": batch * (pooled * MIB_PER_FLOAT),
        "launches": np.full(len(batch), float((kind == "conv").sum())),
    }


def device_unit_costs(facts: Device, passes: int) -> dict[str, float]:
    """Expected ms of one unit of each term at full speed; ``passes`` over each convolution: 3 in training,
    else 1."""
    mac_ms = passes * 2 / facts.sustained_fp32_tflops
    mib_ms = passes * 2**20 / 1e6 / facts.memory_bandwidth_gbps
    return (
        {name: share * mac_ms for name, share in known.ARITHMETIC_SHARES.items()}
        | {name: share * mib_ms for name, share in known.TRAFFIC_SHARES.items()}
        | {"launches": passes * known.LAUNCH_MS}
    )


def totals_terms(
    gmacs: float, activations_m: float, params_m: float, batch: np.ndarray
) -> dict[str, np.ndarray]:
    """Terms of time of a network of which totals alone are known, shape (n,) each.

    Args:
        gmacs: 10^9 multiply-accumulates for one image.
        activations_m: 10^6 values that its layers write for one image.
        params_m: 10^6 parameters.
        batch: images, shape (n,).
    """
    return {
        "total_macs_g": batch * gmacs,
        "total_activation_mib": batch * (activations_m * 1e6 * MIB_PER_FLOAT),
        "total_parameter_mib": np.full(len(batch), params_m * 1e6 * MIB_PER_FLOAT),
        "steps": np.ones(len(batch)),
    }


def totals_unit_costs(facts: Device, passes: int, precision: str) -> dict[str, float]:
    """Expected ms of one unit of each of :func:`totals_terms`; a step of 16 bits moves half of the bytes."""
    half = precision.startswith(known.HALF_BYTES)
    peak_tflops = facts.peak_fp16_tflops if half and facts.peak_fp16_tflops else facts.sustained_fp32_tflops
    mib_ms = passes * 2**20 / 1e6 / facts.memory_bandwidth_gbps * (0.5 if half else 1.0)
    # Each value is written, and read by what follows and by what normalises it.
    return {
        "total_macs_g": passes * 2 / peak_tflops,
        "total_activation_mib": 3 * mib_ms,
        "total_parameter_mib": mib_ms,
        "steps": 1.0,
    }


def memory_terms(
    dataflow: Dataflow, params: float, batch: np.ndarray, stage: str, tool: str = ""
) -> dict[str, np.ndarray]:
    """Terms of memory in MiB at each batch size, shape (n,): what is handed out, and what is held, of a
    simulated step."""
    protocol = PROTOCOL_OF_TOOL.get(tool, STEADY)
    allocated, reserved = step_memory_curve(dataflow, params, batch, stage, protocol)
    return {"allocated_mib": allocated, "reserved_mib": reserved}


def memory_unit_costs(target: str) -> dict[str, float]:
    """Expected MiB of one unit of each term: the simulation as it is, and of a whole system its runtime."""
    simulated = "allocated_mib" if target == "memory_allocated" else "reserved_mib"
    return {simulated: 1.0, CONSTANT: known.RUNTIME_MIB if target == "memory" else 1.0}


def size_terms(arrays: Mapping[str, np.ndarray], batch: np.ndarray) -> dict[str, np.ndarray]:
    """Sizes that say what kind of network it is, in MiB at each batch size, shape (n,).

    Outputs of convolutions, normalisations and pooling; parameters; the largest output; and the largest
    workspace of each algorithm that a library may choose: im2col columns, Winograd F(4x4, 3x3) tiles (36
    points), FFT of padded planes. Workspaces are used again and again, so the largest counts.
    """
    kind, conv = arrays["kind"], convolutions(arrays)
    elements = np.nan_to_num(arrays["out_elements"])
    kept = np.select(
        [kind == "conv", kind == "batchnorm", kind == "maxpool", kind == "avgpool"], [1, 1, 3, 1], 0
    )
    i, o, k, s, n, m, g = conv
    e = i / g
    b = batch[:, None]
    spread, dense = (k > 1) | (s > 1), g == 1
    winograd = (k == 3) & (s == 1) & dense
    padded = np.ceil((n + k - 1) / 8) * 8
    fft = (k > 1) & (s == 1) & dense
    return {
        "activation_mib": batch * (kept * elements).sum() * MIB_PER_FLOAT,
        "parameter_mib": np.full(len(batch), arrays["params"].sum() * MIB_PER_FLOAT),
        "largest_output_mib": _largest(b * (o * m**2), np.ones(len(o), dtype=bool)),
        "largest_im2col_mib": _largest(b * (m**2 * k**2 * e), spread),
        "largest_winograd_mib": _largest(36 * (b * (np.ceil(m / 4) ** 2 * (i + o)) + i * o), winograd),
        "largest_fft_mib": _largest(padded * (padded / 2 + 1) * 2 * (b * (i + o) + i * o), fft),
    }


def _largest(elements: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Largest over the chosen layers, in MiB, shape (n,): 0 where there are none."""
    if not of.any():
        return np.zeros(len(elements))
    return elements[:, of].max(axis=1) * MIB_PER_FLOAT
