"""Terms of memory, and what each is expected to cost."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from perf_assets.analysis.predictors.features.terms_common import CONSTANT, MIB_PER_FLOAT, Prior, convolutions
from perf_assets.measuring.networks.memory.dataflow import Dataflow
from perf_assets.measuring.networks.memory.step import STEADY, Protocol, step_memory_curve

PROTOCOL_OF_TOOL = {"perf4sight": Protocol((2.0, 3.0), empties_cache=True)}
"""How tools read peaks that do not read those of a loop in its course: perf4sight empties the cache before
each of four steps and gives the mean of five readings, two of them from the first step. The last three steps
are much the same."""


def memory_terms(
    dataflow: Dataflow, params: float, batch: np.ndarray, stage: str, tool: str = ""
) -> dict[str, np.ndarray]:
    """Terms of memory in MiB at each batch size, shape (n,): what is handed out, and what is held, of a
    simulated step."""
    protocol = PROTOCOL_OF_TOOL.get(tool, STEADY)
    allocated, reserved = step_memory_curve(dataflow, params, batch, stage, protocol)
    return {"allocated_mib": allocated, "reserved_mib": reserved}


def size_terms(arrays: Mapping[str, np.ndarray], batch: np.ndarray) -> dict[str, np.ndarray]:
    """Sizes that say what kind of network it is, in MiB at each batch size, shape (n,).

    Outputs of convolutions, normalisations and pooling; parameters; the largest output; and the largest
    workspace of
    each algorithm that a library may choose: im2col columns, Winograd F(4x4, 3x3) tiles (36 points), FFT of
    padded planes. Workspaces are used again and again, so the largest counts.
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


def memory_prior(target: str) -> Prior:
    """Expected MiB of one unit of each term: the simulation as it is, and of a whole system 1 GiB for its
    runtime."""
    simulated = "allocated_mib" if target == "memory_allocated" else "reserved_mib"
    runtime_mib = 1000.0 if target == "memory" else 1.0
    return {simulated: ("simulated", 1.0), CONSTANT: ("constant", runtime_mib)}


def _largest(elements: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Largest over the chosen layers, in MiB, shape (n,): 0 where there are none."""
    if not of.any():
        return np.zeros(len(elements))
    return elements[:, of].max(axis=1) * MIB_PER_FLOAT
