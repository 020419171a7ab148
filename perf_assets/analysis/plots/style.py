"""The look, the words and the pieces of SQL that all figures share; no figure and no file belongs here.

Nothing heavy is imported before a figure is made, so that the catalogue of figures stays cheap to read.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours without the yellow, told apart with any colour vision.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
QUIET = "#5F5F5F"

RUNS = """
WITH runs AS (
    SELECT * FROM (
        SELECT cleaned_runs.*, source_files.path
        FROM cleaned_runs
        JOIN source_files
            ON source_files.file_id = cleaned_runs.file_id AND source_files.status = 'ingested'
    )
    WHERE {shown} AND NOT coalesce(excluded, false)
)
"""
"""The runs that are to be shown, each with the path of its file, but for those that people excluded;
``{shown}`` is the reader's condition."""

# The part of a load test's path that its counts of instances and GPUs do not touch, so that the files of one
# study meet: core_1insts_0gpus/cpu_1instance_sync.csv and core_2insts_0gpus/cpu_2instance_sync.csv.
STUDY = r"""
    regexp_replace(regexp_replace(path, '[0-9]+_?(instance|inst|gpu)s?', '#', 'gi'), '[.][a-z]+$', '')
"""

STUDY_NAME = r"""
    coalesce(
        runs.model,
        nullif(trim(regexp_replace(runs.name, '_?[0-9]+_?(instance|inst|gpu)s?', '', 'gi'), '_'), ''),
        runs.name
    )
"""
"""What a study is called: the model, or the name of its runs without the counts."""


def series_style(i: int) -> dict[str, Any]:
    """Colour and marker of the i-th series: the marker changes when the colours are used up."""
    return {"color": COLORS[i % len(COLORS)], "marker": MARKERS[(i + i // len(COLORS)) % len(MARKERS)]}


@contextmanager
def look() -> Generator[None]:
    """The settings that figures are drawn and saved with; those of the caller's session come back."""
    import matplotlib

    settings = {
        "font.size": 9,
        "axes.titlesize": 9.5,
        "axes.labelsize": 9,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "legend.fontsize": 8,
        "legend.frameon": False,
        "legend.borderaxespad": 0.2,
        "figure.titlesize": 11,
        "lines.linewidth": 1.3,
        "lines.markersize": 4,
        "axes.formatter.useoffset": False,
        "svg.fonttype": "none",
        "svg.hashsalt": "perf_assets",
        "pdf.fonttype": 42,
    }
    with matplotlib.rc_context(settings):
        yield


def figure(
    rows: int = 1,
    columns: int = 1,
    panel_in: tuple[float, float] = (4.4, 2.9),
    heights: Sequence[float] | None = None,
    **shared: Any,
) -> tuple[Figure, np.ndarray]:
    """A figure and its axes, an array of rows by columns. ``panel_in`` is the size of one panel in inches."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(max(6.0, panel_in[0] * columns), panel_in[1] * rows + 0.3), layout="constrained")
    axes = fig.subplots(rows, columns, squeeze=False, height_ratios=heights, **shared)
    for ax in axes.ravel():
        ax.grid(alpha=0.3, linewidth=0.6)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
    return fig, axes


def panels(count: int, panel_in: tuple[float, float] = (4.4, 2.9), columns: int = 2) -> tuple[Figure, list]:
    """A figure of ``count`` panels, row by row; places that are left over stay blank."""
    columns = min(columns, count)
    fig, axes = figure(-(-count // columns), columns, panel_in)
    for ax in axes.ravel()[count:]:
        ax.set_axis_off()
    return fig, list(axes.ravel()[:count])


def empty(message: str) -> Figure:
    """A figure that says why there is nothing to see."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(9.0, 1.6), layout="constrained")
    fig.text(0.5, 0.5, "\n".join(textwrap.wrap(message, 100)), ha="center", va="center", color=QUIET)
    return fig


def largest(groups: list[tuple[Any, pd.DataFrame]], limit: int) -> list[tuple[Any, pd.DataFrame]]:
    """The ``limit`` groups with most rows, in the order in which they came."""
    kept = sorted(sorted(range(len(groups)), key=lambda i: -len(groups[i][1]))[:limit])
    return [groups[i] for i in kept]


def title(ax: Axes, text: str, width: int = 52) -> None:
    """What one panel is about, above it."""
    ax.set_title("\n".join(textwrap.wrap(text, width)), loc="left")


def footnote(fig: Figure, *notes: str) -> None:
    """Small print under the figure; empty notes are left out."""
    lines = [line for note in notes if note for line in textwrap.wrap(note, int(fig.get_figwidth() * 15))]
    if lines:
        fig.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=8, color=QUIET)


def hidden(shown: int, all_there: int, what: str) -> str:
    """A note on what did not fit."""
    return f"{shown} of {all_there} {what}: --where shows others." if shown < all_there else ""


def curve_with_band(ax, points: pd.DataFrame, position: int, label: str) -> None:
    """A line of a series with the range around it.

    Args:
        ax: where to draw.
        points: four columns: x, the middle, the lowest and the highest value.
        position: of the series among its panel's, which chooses its look.
        label: of the line.
    """
    look = series_style(position)
    x, middle, lowest, highest = (points[name] for name in points)
    ax.plot(x, middle, label=label, **look)
    ax.fill_between(x, lowest, highest, color=look["color"], alpha=0.15, lw=0)


def legend_beside(ax: Axes, heading: str | None = None) -> None:
    """A legend right of the axes, never over the data."""
    handles, labels = ax.get_legend_handles_labels()
    if handles:
        ax.legend(handles, labels, loc="upper left", bbox_to_anchor=(1.01, 1.0), title=heading)


def whole_numbers(ax: Axes, axis: str = "x") -> None:
    """Ticks at whole numbers only: there is no half epoch and no half request."""
    from matplotlib.ticker import MaxNLocator

    getattr(ax, f"{axis}axis").set_major_locator(MaxNLocator(integer=True, nbins=8))


def plain_log(ax: Axes, axis: str = "x", base: int = 2) -> None:
    """A logarithmic axis with plain numbers at its ticks."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    getattr(ax, f"set_{axis}scale")("log", base=base)
    scale = getattr(ax, f"{axis}axis")
    if base == 10:
        scale.set_major_locator(LogLocator(10, subs=(1, 2, 5), numticks=9))
    scale.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.12g}"))
    scale.set_minor_formatter(NullFormatter())


def from_zero(ax: Axes) -> None:
    """Let the y axis begin at zero, with room above the data."""
    top = ax.dataLim.y1
    ax.set_ylim(0, 1.08 * top if 0 < top < float("inf") else 1)


def bars(
    ax: Axes,
    names: Sequence[str],
    values: Sequence[float],
    texts: Sequence[str],
    ends: Sequence[tuple[float, float]] | None = None,
    color: str | Sequence[str] = COLORS[0],
) -> None:
    """Horizontal bars from zero, the first on top, each with its text behind it; ``ends`` are of whiskers."""
    places = range(len(names))
    ends = ends or [(value, value) for value in values]
    ax.barh(places, values, color=color, height=0.7)
    for place, (low, high), text in zip(places, ends, texts, strict=True):
        if low < high:
            ax.plot([low, high], [place, place], color="black", linewidth=1, marker="|", markersize=5)
        note = {"xytext": (5, 0), "textcoords": "offset points", "va": "center", "fontsize": 8}
        ax.annotate(text, (max(high, values[place]), place), **note)
    ax.set_yticks(places, names)
    ax.set_ylim(max(len(names), 3) - 0.4, -0.6)
    ax.grid(axis="y", visible=False)
    ax.locator_params(axis="x", nbins=4)  # numbers of six digits stay apart
    ax.set_xlim(0, 1.4 * max(max(high, value) for (_, high), value in zip(ends, values, strict=True)))


def amount(number: float, thing: str) -> str:
    """A count with its noun: 1 GPU, 4 GPUs."""
    return f"{number:.0f} {thing}{'' if number == 1 else 's'}"


def known(value: object) -> bool:
    """Whether a cell holds anything."""
    return value is not None and value != "" and not (isinstance(value, float) and math.isnan(value))


def words(*parts: object) -> str:
    """The known ones of some facts, with commas between them."""
    return ", ".join(str(part) for part in parts if known(part))


def server(level: pd.Series) -> str:
    """How large a server was: its model instances and GPUs, as far as they are known."""
    instances, gpus = level["model_instances"], level["gpu_count"]
    return words(
        amount(instances, "instance") if known(instances) else None,
        ("CPU" if gpus == 0 else amount(gpus, "GPU")) if known(gpus) else None,
    )


def number(value: float) -> str:
    """A number with three significant digits and no exponent."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.1e}"
