"""What a network costs, from its layer table alone: formulas over shapes, no torch and no weights.

A **layer table** has one row per operation of one forward pass, in order of execution. It comes from
:func:`perf_assets.measuring.networks.tracing.layer_table`, or from a file where only shapes are known. The
functions here take it as a list of rows (mappings), or as columns (a mapping of name → sequence, a data
frame): the columns of :data:`COLUMNS` that they need must be there, the others may be missing or empty.

The im2col, FFT and Winograd terms are those of perf4sight (Rajagopal and Bouganis, ICCV workshops 2021,
arXiv 2108.05580): sums over the convolutions of the memory and the operations that each algorithm needs for
the forward pass and for the gradients of weights and inputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from perf_assets.schema.vocabularies import STAGES
from perf_assets.workspace.validation import one_of

KINDS = ("conv", "batchnorm", "relu", "maxpool", "avgpool", "linear", "add", "concat", "other")
"""What a row of a layer table can be; ``relu`` includes ReLU6, ``other`` every further operation."""

COLUMNS = {
    "layer_index": "position in execution order, from 0",
    "layer": "module's qualified name; a bare function in a module has its name appended after a colon",
    "kind": "one of KINDS",
    "in_channels": "input channels (features of a linear layer)",
    "out_channels": "output channels (features of a linear layer)",
    "kernel_size": "kernel height in pixels (and width, where kernel_width is empty)",
    "kernel_width": "kernel width in pixels where it is not the height",
    "stride": "stride in pixels",
    "padding": "padding in pixels (the larger, where height and width differ)",
    "groups": "groups of a convolution",
    "dilation": "dilation of a convolution",
    "in_hw": "input height = width in pixels; 1 where there is no spatial extent",
    "out_hw": "output height = width in pixels",
    "params": "parameters, counted on the first row that reads them",
    "macs": "multiply-accumulates for one image",
    "out_elements": "elements written for one image",
    "inplace": "true where the output overwrites the input, so that no memory is added",
}
"""Columns of a layer table and what they mean. Counts are for one image."""

KIND_OF_MODULE = {
    "Conv2d": "conv",
    "BatchNorm2d": "batchnorm",
    "ReLU": "relu",
    "ReLU6": "relu",
    "MaxPool2d": "maxpool",
    "AvgPool2d": "avgpool",
    "AdaptiveAvgPool2d": "avgpool",
    "Linear": "linear",
}
"""Layer kind by the name of the ``torch.nn`` class, for tables that hold class names; absent means
``other``."""


FLOAT_BYTES = 4
"""Bytes of one element: every byte count here is for 32-bit floats."""

LayerTable = Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Any]]


def layer_arrays(table: LayerTable) -> dict[str, np.ndarray]:
    """Columns of a layer table as arrays of shape (layers,): ``kind`` and ``layer`` as text, the rest as
    floats.

    What a table leaves out is filled where the rest decides it: a kernel is square, ``groups`` and
    ``dilation`` are 1, MACs and output elements follow from the shapes. Numbers that stay unknown are NaN.

    Raises:
        ValueError: the table is empty, lacks ``kind``, or holds an unknown kind.
    """
    columns = _columns(table)
    if "kind" not in columns or len(columns["kind"]) == 0:
        raise ValueError(
            "the layer table has no rows or no column 'kind': build it with features.layer_table"
        )
    size = len(columns["kind"])
    arrays: dict[str, np.ndarray] = {
        "kind": np.array([str(kind) for kind in columns["kind"]]),
        "layer": np.array([str(name) for name in columns.get("layer", [""] * size)]),
    }
    unknown = sorted(set(arrays["kind"].tolist()) - set(KINDS))
    if unknown:
        raise ValueError(f"unknown layer kind {unknown}: use one of {', '.join(KINDS)}")
    for name in COLUMNS:
        if name not in arrays:
            arrays[name] = _numbers(columns.get(name), size)

    def fill(name: str, value: Any) -> None:
        arrays[name] = np.where(np.isnan(arrays[name]), value, arrays[name])

    fill("kernel_width", arrays["kernel_size"])
    fill("groups", 1.0)
    fill("dilation", 1.0)
    fill("params", 0.0)
    fill("inplace", 0.0)
    fill("out_elements", arrays["out_channels"] * arrays["out_hw"] ** 2)
    conv, linear = arrays["kind"] == "conv", arrays["kind"] == "linear"
    kernel_area = arrays["kernel_size"] * arrays["kernel_width"]
    fill(
        "macs",
        np.where(
            conv,
            arrays["out_elements"] * arrays["in_channels"] / arrays["groups"] * kernel_area,
            np.where(linear, arrays["out_elements"] * arrays["in_channels"], 0.0),
        ),
    )
    return arrays


def network_features(
    table: LayerTable, batch_size: float | Sequence[float] | np.ndarray = 1, stage: str = "training"
) -> dict[str, np.ndarray]:
    """Analytic features of one network at one or many batch sizes.

    Every feature is an affine function of the batch size, so thousands of batch sizes cost as much as two.

    Args:
        table: the layer table.
        batch_size: images per step, one number or shape (n,).
        stage: ``training`` (one step: forward, backward, update) or ``inference`` (forward).

    Returns:
        Name → float array of the shape of ``batch_size``: ``layer_count`` and ``<kind>_count``, ``params``,
        ``weight_bytes``, ``macs`` (forward, whole batch), ``activation_bytes`` (outputs of all operations
        that are not in place), ``largest_activation_bytes``, ``gradient_bytes`` (of weights and activations;
        0 in inference) and perf4sight's terms under ``perf4sight_*`` (:func:`perf4sight_features`).

    Raises:
        ValueError: unknown stage, or a table that cannot be used.
    """
    batch = np.asarray(batch_size, dtype=float)
    arrays = layer_arrays(table)
    outputs_bytes = np.nan_to_num(arrays["out_elements"]) * FLOAT_BYTES * (arrays["inplace"] == 0)
    params = arrays["params"].sum()
    features = {"layer_count": float(len(arrays["kind"]))}
    features |= {f"{kind}_count": float((arrays["kind"] == kind).sum()) for kind in KINDS}
    features |= {
        "params": params,
        "weight_bytes": params * FLOAT_BYTES,
        "macs": batch * arrays["macs"].sum(),
        "activation_bytes": batch * outputs_bytes.sum(),
        "largest_activation_bytes": batch * outputs_bytes.max(),
    }
    training = stage == "training"
    features["gradient_bytes"] = (
        (features["weight_bytes"] + features["activation_bytes"]) if training else 0.0
    )
    constant = {
        name: np.broadcast_to(np.asarray(value, dtype=float), batch.shape).copy()
        for name, value in features.items()
    }
    return constant | {f"perf4sight_{n}": v for n, v in perf4sight_features(arrays, batch, stage).items()}


def perf4sight_features(
    table: LayerTable, batch_size: float | Sequence[float] | np.ndarray, stage: str = "training"
) -> dict[str, np.ndarray]:
    """perf4sight's features of one network: 56 for ``training``, 15 for ``inference``, summed over
    convolutions.

    Unit of the ``*_memory`` and ``tensor_*`` terms is elements, of the ``*_ops`` terms multiply-accumulates.
    A suffix says which of the three convolutions of a training step is meant: ``forward``, ``input``
    (gradient of the input) or ``weight`` (gradient of the weight).

    Args:
        table: the layer table; only its ``conv`` rows count.
        batch_size: images per step, one number or shape (n,).
        stage: ``training`` or ``inference``.

    Returns:
        Name → float array of the shape of ``batch_size``.
    """
    one_of("stage", stage, STAGES)
    batch = np.asarray(batch_size, dtype=float)
    arrays = layer_arrays(table)
    conv = arrays["kind"] == "conv"
    layers = {name: values[conv] for name, values in arrays.items()}
    terms = _training_terms if stage == "training" else _inference_terms
    # Each term is affine in the batch size: two evaluations give it for all of them.
    at_zero, at_one = terms(layers, 0.0), terms(layers, 1.0)
    return {name: at_zero[name] + batch * (at_one[name] - at_zero[name]) for name in at_zero}


def _training_terms(layers: Mapping[str, np.ndarray], b: float) -> dict[str, float]:
    i, o, kk, n, m = _shapes(layers)
    e = i / layers["groups"]
    weight, weight_gradient = o * e * kk, b * o * e * kk
    inputs, outputs = 2 * b * i * n**2, 2 * b * o * m**2
    forward, backward = b * o * m**2 * kk * e, b * i * n**2 * kk * o
    columns_forward, columns_input, columns_weight = b * m**2 * kk * i, b * n**2 * kk * i, b * m**2 * kk * e
    fft = {
        "fft_memory_forward_weight": n * (1 + n) * o * e,
        "fft_memory_forward_input": n * (1 + n) * b * i,
        "fft_memory_weight_output": n * (1 + n) * b * o,
        "fft_memory_input_weight": m * (1 + m) * o * e,
        "fft_memory_input_output": m * (1 + m) * b * o,
    }
    w_f, x, y_w, w_b, y_x = fft.values()
    fft |= {
        "fft_memory_forward": w_f + x,
        "fft_memory_input": y_x + w_b,
        "fft_memory_weight": y_w + x,
        "fft_memory": x + w_f + y_x + w_b + y_w + x,
    }
    transforms = b * i + b * o + o * e
    ops = {
        "fft_ops_forward": n**2 * np.log2(n) * transforms + b * o * i * n**2,
        "fft_ops_input": m**2 * np.log2(m) * transforms + b * o * i * m**2,
        "fft_ops_weight": n * np.log2(n**2) * transforms + b * o * i * n**2,
    }
    ops["fft_ops"] = sum(ops.values())
    terms = {
        "tensor_weight": weight,
        "tensor_weight_gradient": weight_gradient,
        "tensor_input": inputs,
        "tensor_output": outputs,
        "tensor_all": weight + weight_gradient + inputs + outputs,
        "gemm_memory_output_rows": b * m**2,
        "gemm_memory_forward": columns_forward,
        "gemm_memory_input_rows": b * n**2,
        "gemm_memory_input": columns_input,
        "gemm_memory_weight": columns_weight,
        "gemm_memory": columns_forward + columns_input + columns_weight,
        "gemm_memory_rows": 2 * b * m**2 + b * n**2,
        "gemm_ops_forward": forward,
        "gemm_ops_backward": backward,
        "gemm_ops": 2 * forward + backward,
    }
    terms |= fft | ops
    for tile, taps in COUNTED_WINOGRAD_TILES:
        terms |= _winograd_terms(layers, b, tile, taps)
    return {name: float(np.sum(values)) for name, values in terms.items()}


def _inference_terms(layers: Mapping[str, np.ndarray], b: float) -> dict[str, float]:
    i, o, kk, n, m = _shapes(layers)
    e = i / layers["groups"]
    w_f, x = n * (1 + n) * o * e, n * (1 + n) * b * i
    terms = {
        "tensor_weight": o * e * kk,
        "tensor_input": b * i * n**2,
        "tensor_output": b * o * m**2,
        "tensor_all": o * e * kk + b * i * n**2 + b * o * m**2,
        "gemm_memory_output_rows": b * m**2,
        "gemm_memory_forward": b * m**2 * kk * i,
        "gemm_ops_forward": b * o * m**2 * kk * e,
        "fft_memory_forward_weight": w_f,
        "fft_memory_forward_input": x,
        "fft_memory_forward": w_f + x,
        "fft_ops_forward": n**2 * np.log2(n) * (b * i + b * o + o * e) + b * o * i * n**2,
    }
    for kind in ("memory", "ops"):
        for tile, taps in COUNTED_WINOGRAD_TILES:
            name = f"winograd_{tile}x{taps}_{kind}_forward"
            terms[name] = _winograd_terms(layers, b, tile, taps)[name]
    return {name: float(np.sum(values)) for name, values in terms.items()}


COUNTED_WINOGRAD_TILES = ((4, 3), (3, 2))
"""Outputs and filter taps, per dimension, of the two Winograd variants that perf4sight counts."""


def _winograd_terms(
    layers: Mapping[str, np.ndarray], b: float, tile: int, taps: int
) -> dict[str, np.ndarray]:
    i, o, _, n, m = _shapes(layers)
    e = i / layers["groups"]
    points = (tile + taps - 1) ** 2
    tiles_n, tiles_m = np.ceil(n / tile) ** 2, np.ceil(m / tile) ** 2
    filters_k = np.ceil(layers["kernel_size"] / taps) * np.ceil(layers["kernel_width"] / taps)
    filters_m = np.ceil(m / taps) ** 2
    terms = {}
    for kind, forward, inputs, weight in (
        (
            "memory",
            3 * b * o * points * tiles_n,
            3 * b * i * points * tiles_m,
            3 * b * o * e * points * tiles_n,
        ),
        (
            "ops",
            b * o * e * points * tiles_n * filters_k,
            b * i * o * points * tiles_m * filters_k,
            b * o * e * points * tiles_n * filters_m,
        ),
    ):
        prefix = f"winograd_{tile}x{taps}_{kind}"
        terms |= {
            f"{prefix}_forward": forward,
            f"{prefix}_input": inputs,
            f"{prefix}_weight": weight,
            f"{prefix}_forward_input": forward + inputs,
            f"{prefix}_forward_weight": forward + weight,
            f"{prefix}_input_weight": inputs + weight,
            f"{prefix}": forward + inputs + weight,
        }
    return terms


def _shapes(layers: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    """Input channels, output channels, kernel area, input size, output size."""
    kernel_area = layers["kernel_size"] * layers["kernel_width"]
    return layers["in_channels"], layers["out_channels"], kernel_area, layers["in_hw"], layers["out_hw"]


def _columns(table: LayerTable) -> dict[str, Sequence[Any]]:
    if hasattr(table, "columns") or isinstance(table, Mapping):  # a data frame, or columns by name
        return {name: list(table[name]) for name in (*COLUMNS,) if name in table}
    names = {name for row in table for name in row}
    return {name: [row.get(name) for row in table] for name in COLUMNS if name in names}


def _numbers(values: Sequence[Any] | None, size: int) -> np.ndarray:
    if values is None:
        return np.full(size, np.nan)
    return np.array([np.nan if value is None or value == "" else float(value) for value in values])
