"""The look that all figures share."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")
from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart with any colour vision.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def figure(
    rows: int = 1, columns: int = 1, width_in: float = 9.0, height_in: float = 5.0
) -> tuple[Figure, list]:
    """A figure and its axes, row by row. Sizes in inches."""
    fig = Figure(figsize=(width_in, height_in), layout="constrained")
    axes = list(fig.subplots(rows, columns, squeeze=False).ravel())
    for ax in axes:
        ax.grid(alpha=0.3, linewidth=0.6)
        ax.spines[["top", "right"]].set_visible(False)
    return fig, axes


def empty(message: str) -> Figure:
    """A figure that says why there is nothing to see."""
    fig = Figure(figsize=(9.0, 2.0), layout="constrained")
    fig.text(0.5, 0.5, message, ha="center", va="center")
    return fig
