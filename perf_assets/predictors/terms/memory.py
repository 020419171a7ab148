"""Terms of memory, and what each is expected to cost."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from perf_assets.predictors.terms.common import CONSTANT, MIB_PER_FLOAT, Prior, convolutions


def memory_terms(arrays: Mapping[str, np.ndarray], batch: np.ndarray, stage: str) -> dict[str, np.ndarray]:
    """Terms of memory in MiB at each batch size, arrays of shape (n,).

    Training keeps what backward needs: outputs of convolutions and normalisations, of max pooling also 8-byte
    indices (hence three times), of average pooling; ReLU works in place. Inference keeps one layer's input and
    output. Workspaces of convolutions are used again and again, so the largest counts, for each algorithm that a
    library may choose: im2col columns, Winograd F(4x4, 3x3) tiles (36 points), FFT of padded planes.
    """
    kind, conv = arrays["kind"], convolutions(arrays)
    elements = np.nan_to_num(arrays["out_elements"])
    if stage == "inference":
        inputs = np.nan_to_num(arrays["in_channels"] * arrays["in_hw"] ** 2)
        activation = (inputs + elements).max()
    else:
        kept = np.select(
            [kind == "conv", kind == "batchnorm", kind == "maxpool", kind == "avgpool"], [1, 1, 3, 1], 0
        )
        activation = (kept * elements).sum()
    i, o, k, s, n, m, g = conv
    e = i / g
    b = batch[:, None]
    spread, dense = (k > 1) | (s > 1), g == 1
    winograd = (k == 3) & (s == 1) & dense
    padded = np.ceil((n + k - 1) / 8) * 8
    fft = (k > 1) & (s == 1) & dense
    return {
        "activation_mib": batch * activation * MIB_PER_FLOAT,
        "parameter_mib": np.full(len(batch), arrays["params"].sum() * MIB_PER_FLOAT),
        "largest_output_mib": _largest(b * (o * m**2), np.ones(len(o), dtype=bool)),
        "largest_im2col_mib": _largest(b * (m**2 * k**2 * e), spread),
        "largest_winograd_mib": _largest(36 * (b * (np.ceil(m / 4) ** 2 * (i + o)) + i * o), winograd),
        "largest_fft_mib": _largest(padded * (padded / 2 + 1) * 2 * (b * (i + o) + i * o), fft),
    }


def memory_prior(target: str, stage: str) -> Prior:
    """Expected MiB of one unit of each term.

    Training holds parameters, gradients and momentum (three times the parameters). What an allocator reserves
    exceeds what it hands out by a few of the largest tensors; what a system uses, by a runtime of about 1 GiB.
    """
    inside = target == "memory_allocated"
    workspace = 0.05 if inside else 0.2
    return {
        "activation_mib": ("activation", 1.0),
        "parameter_mib": ("parameter", 3.0 if stage == "training" else 1.0),
        "largest_output_mib": ("workspace", 1.0 if inside else 4.0),
        "largest_im2col_mib": ("workspace", workspace),
        "largest_winograd_mib": ("workspace", workspace),
        "largest_fft_mib": ("workspace", workspace / 4),
        CONSTANT: ("constant", 1000.0 if target == "memory" else 10.0),
    }


def _largest(elements: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Largest over the chosen layers, in MiB, shape (n,): 0 where there are none."""
    if not of.any():
        return np.zeros(len(elements))
    return elements[:, of].max(axis=1) * MIB_PER_FLOAT
