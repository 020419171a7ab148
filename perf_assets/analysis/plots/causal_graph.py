"""The causal graph of one tool's runs: tiers as columns, arrows from left to right."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from perf_assets.analysis.plots.style import COLORS, empty, figure

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

QUERY = """
    SELECT graph, source, target, source_tier, target_tier, source_kind, kind, method, frequency, confirmed, effect,
        effect_lower, effect_upper, n, settings
    FROM causal_edges
    ORDER BY ALL
"""
"""The frame that ``causal_graph`` wants (of one graph), as SQL on the published tables."""

_UP, _DOWN, _NO_SIGN = COLORS[0], COLORS[1], "#777777"
_TITLE = "tiered_score"
_SWEEPS = 4
_BENDS = (0.0, 0.06, -0.06, 0.12, -0.12, 0.18, -0.18, 0.25, -0.25)
_CURVE_STEPS = 40
# A tier is 2 units wide. Sizes on paper, and how far a line must stay from a box: half its width in units, and rows.
_UNIT_IN, _ROW_IN = 1.7, 0.85
_BOX_HALF, _CLEAR = 0.45, 0.3
_SHORT_IN = 1e-3


def causal_graph(edges: pd.DataFrame, title: str = "", why_empty: str = "") -> Figure:
    """Draw the edges of the score search; columns without any edge stand there too.

    Width is the frequency over half-samples, colour the sign of the effect, dashes mean not confirmed.

    Args:
        edges: rows of ``causal_edges`` of one graph; rows of effects name further columns.
        title: above the figure.
        why_empty: what to say where there is no row.
    """
    if edges.empty:
        return empty(why_empty or "no causal graph: nothing varies in the runs, or there are too few")
    # Without any effect these columns hold no number at all.
    edges = edges.astype(dict.fromkeys(("effect", "effect_lower", "effect_upper"), float))
    tiers = _tiers(edges)
    drawn = edges[(edges["method"] == _TITLE) & edges["kind"].isin(["directed", "undirected"])]
    order = _untangled(tiers, list(zip(drawn["source"], drawn["target"], strict=True)))
    tallest = max(len(names) for names in order)
    fig, axes = figure(panel_in=(2.0 * _UNIT_IN * len(order), max(4.0, _ROW_IN * tallest + 1.5)))
    ax = axes[0, 0]
    ax.set_axis_off()
    at = {
        name: (2.0 * column, (row + 0.5) * tallest / len(names) - 0.5)
        for column, names in enumerate(order)
        for row, name in enumerate(names)
    }
    for edge in drawn.itertuples():
        _arrow(ax, at, edge)
    for name, (x, y) in at.items():
        ax.text(
            x,
            y,
            name,
            ha="center",
            va="center",
            fontsize=9,
            zorder=3,
            bbox={"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": "#444444"},
        )
    top = tallest - 0.4
    for column, tier in enumerate(tiers):
        ax.text(2.0 * column, top, tier, ha="center", va="bottom", fontsize=11, fontweight="bold")
    ax.set_xlim(-0.8, 2.0 * (len(order) - 1) + 0.8)
    ax.set_ylim(-0.7, top + 0.5)
    ax.set_title(title or str(edges["graph"].iloc[0]), fontsize=12)
    _legend(ax)
    return fig


def _tiers(edges: pd.DataFrame) -> dict[str, list[str]]:
    """Tier → its columns, in tier order; columns of the same tier as they come."""
    place: dict[str, tuple[int, str]] = {}
    names = list(json.loads(edges["settings"].iloc[0])["tiers"])
    for end in ("source", "target"):
        for name, tier in zip(edges[end], edges[f"{end}_tier"], strict=True):
            place.setdefault(name, (names.index(tier), tier))
    found: dict[str, list[str]] = {}
    for name, (_, tier) in sorted(place.items(), key=lambda item: item[1][0]):
        found.setdefault(tier, []).append(name)
    return found


def _untangled(tiers: dict[str, list[str]], pairs: list[tuple[str, str]]) -> list[list[str]]:
    """Order each column by the mean height of its neighbours, to and fro (Sugiyama's barycentres)."""
    order = [list(names) for names in tiers.values()]
    neighbours: dict[str, list[str]] = {}
    for a, b in pairs:
        neighbours.setdefault(a, []).append(b)
        neighbours.setdefault(b, []).append(a)
    height = {name: (row + 0.5) / len(names) for names in order for row, name in enumerate(names)}
    for sweep in range(_SWEEPS):
        for names in order if sweep % 2 == 0 else order[::-1]:
            means = {
                name: sum(height[other] for other in near) / len(near)
                if (near := neighbours.get(name))
                else height[name]
                for name in names
            }
            names.sort(key=lambda name: (means[name], name))
            height |= {name: (row + 0.5) / len(names) for row, name in enumerate(names)}
    return order


def _arrow(ax: Axes, at: dict[str, tuple[float, float]], edge) -> None:
    from matplotlib.patches import FancyArrowPatch

    start, end = at[edge.source], at[edge.target]
    same_tier = start[0] == end[0]
    bend = (0.35 if start[1] < end[1] else -0.35) if same_tier else _free_bend(at, start, end)
    # The line begins under one box; its head must end before the other, which is as wide as its name.
    across, along = abs(end[0] - start[0]) * _UNIT_IN, abs(end[1] - start[1]) * _ROW_IN
    length = math.hypot(across, along)
    head_pt = min(
        (2.9 * len(edge.target) + 9.0) * length / max(across, _SHORT_IN),
        14.0 * length / max(along, _SHORT_IN),
    )
    ax.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>" if edge.kind == "directed" else "-",
            connectionstyle=f"arc3,rad={bend}",
            mutation_scale=13,
            shrinkA=0,
            shrinkB=head_pt,
            linewidth=_width(edge.frequency),
            linestyle="solid" if edge.confirmed else (0, (4, 3)),
            color=_color(edge),
            alpha=0.9 if edge.confirmed else 0.6,
            zorder=1,
        )
    )


def _free_bend(
    at: dict[str, tuple[float, float]], start: tuple[float, float], end: tuple[float, float]
) -> float:
    """The smallest bend whose line keeps clear of the boxes between its ends; else the one that keeps off most."""

    def clearance(bend: float) -> float:
        """Least height in rows between the line and a box of a tier in between."""
        (x0, y0), (x1, y1) = start, end
        # In inches, as matplotlib bends: the middle control point lies off the chord by bend times its length.
        middle_x = (x0 + x1) / 2 + bend * (y1 - y0) * _ROW_IN / _UNIT_IN
        middle_y = (y0 + y1) / 2 - bend * (x1 - x0) * _UNIT_IN / _ROW_IN
        points = [
            (
                (1 - t) ** 2 * x0 + 2 * t * (1 - t) * middle_x + t**2 * x1,
                (1 - t) ** 2 * y0 + 2 * t * (1 - t) * middle_y + t**2 * y1,
            )
            for t in (step / _CURVE_STEPS for step in range(_CURVE_STEPS + 1))
        ]
        return min(
            (
                abs(y - box_y)
                for x, y in points
                for box_x, box_y in at.values()
                if x0 < box_x < x1 and abs(x - box_x) < _BOX_HALF
            ),
            default=_CLEAR,
        )

    return max(_BENDS, key=lambda bend: min(clearance(bend), _CLEAR))


def _color(edge) -> str:
    """The sign, where there is one: not of categories, nor where the interval covers 0."""
    if edge.source_kind == "category" or not (edge.effect_lower > 0 or edge.effect_upper < 0):
        return _NO_SIGN
    return _UP if edge.effect > 0 else _DOWN


def _width(frequency: float) -> float:
    """Width of a line in points."""
    return 0.6 + 2.6 * frequency


def _legend(ax: Axes) -> None:
    from matplotlib.lines import Line2D

    dashed = (0, (4, 3))
    handles = [
        Line2D([], [], label="more → more", color=_UP, linewidth=2.2),
        Line2D([], [], label="more → less", color=_DOWN, linewidth=2.2),
        Line2D([], [], label="category, or sign unknown", color=_NO_SIGN, linewidth=2.2),
        Line2D([], [], label="confirmed", color="black", linewidth=2.2),
        Line2D([], [], label="uncertain", color="black", linewidth=2.2, linestyle=dashed, alpha=0.6),
        Line2D([], [], label="found in half of the halves", color="black", linewidth=_width(0.5)),
        Line2D([], [], label="found in all", color="black", linewidth=_width(1.0)),
    ]
    ax.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=4, fontsize=8, frameon=False
    )
