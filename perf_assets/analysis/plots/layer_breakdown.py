"""Where the time of one network goes: its slowest layers as bars, and what kind of layer takes how much."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perf_assets.analysis.plots import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

QUESTION = "Which layers take the time of a network?"

QUERY = (
    style.RUNS
    + """
    , chosen AS (
        -- of every network the newest run, and of it the largest input
        SELECT runs.*, layers.input_size AS layer_input_size
        FROM runs
        JOIN (SELECT run_id, max(input_size) AS input_size FROM cleaned_layers GROUP BY run_id) AS layers
            USING (run_id)
        WHERE status = 'ok'
        QUALIFY row_number() OVER (
            PARTITION BY lower(model), coalesce(device, device_raw, host), stage
            ORDER BY started_at DESC NULLS LAST, layers.input_size DESC, run_id
        ) = 1
    )
    SELECT
        chosen.run_id,
        concat_ws(', ', chosen.model, coalesce(chosen.device, chosen.device_raw, chosen.host), chosen.stage,
            chosen.algorithm, 'batch ' || chosen.batch_size, chosen.layer_input_size || ' px') AS name,
        layers.layer_index,
        layers.layer,
        coalesce(layers.kind, 'other') AS kind,
        layers.in_channels,
        layers.out_channels,
        layers.kernel_size,
        coalesce(layers.mean_ms, layers.median_ms) AS mean_ms,
        layers.std_ms
    FROM cleaned_layers AS layers
    JOIN chosen
        ON chosen.run_id = layers.run_id AND layers.input_size IS NOT DISTINCT FROM chosen.layer_input_size
    WHERE coalesce(layers.mean_ms, layers.median_ms) > 0
    ORDER BY name, layers.layer_index
"""
)
"""One row a layer of the newest run of every network, device and stage."""

MAX_PANELS = 4
MAX_LAYERS = 8
MAX_KINDS = 5


def draw(layers: pd.DataFrame) -> Figure:
    """A panel a network: bars of the slowest layers and of the others by their kind, in ms, with their share
    of the sum; the colour is the kind of layer.

    Args:
        layers: see ``QUERY``.
    """
    if layers.empty:
        return style.empty("no timed layer in cleaned_layers")
    groups = list(layers.groupby("run_id", sort=False))
    shown = style.largest(groups, MAX_PANELS)
    fig, axes = style.panels(len(shown), (6.2, 3.3))
    kinds = layers.groupby("kind")["mean_ms"].sum().sort_values(ascending=False).index
    colors = {kind: style.COLORS[min(i, 6)] for i, kind in enumerate(kinds)}
    for ax, (_, network) in zip(axes, shown, strict=True):
        _one_network(ax, network, colors)
    fig.suptitle("Time of layers")
    _legend(fig, colors)
    style.footnote(
        fig,
        "Shares are of the sum of the layers, timed one by one; whiskers: one standard deviation.",
        style.hidden(len(shown), len(groups), "networks"),
    )
    return fig


def _one_network(ax, network: pd.DataFrame, colors: dict[str, str]) -> None:
    total = network["mean_ms"].sum()
    slowest = network.sort_values("mean_ms", ascending=False).head(MAX_LAYERS)
    names = [_layer(row) for row in slowest.itertuples()]
    times, tints = slowest["mean_ms"].tolist(), [colors[kind] for kind in slowest["kind"]]
    spread = slowest["std_ms"].fillna(0).tolist()
    others = network.drop(slowest.index).groupby("kind")["mean_ms"].agg(["sum", "size"])
    for kind, row in others.sort_values("sum", ascending=False).head(MAX_KINDS).iterrows():
        names.append(f"{row['size']:.0f} others: {kind}")
        times.append(row["sum"])
        tints.append(colors[kind])
        spread.append(0.0)
    texts = [f"{style.number(ms)} ms, {ms / total:.0%}" for ms in times]
    ends = [(max(ms - std, 0), ms + std) for ms, std in zip(times, spread, strict=True)]
    style.bars(ax, names, times, texts, ends, tints)
    ax.set_xlabel("mean time (ms)")
    style.title(ax, f"{network['name'].iloc[0]}: {style.number(total)} ms in {len(network)} layers", 40)


def _layer(row) -> str:
    name = row.layer if len(row.layer) <= 30 else f"…{row.layer[-29:]}"
    if style.known(row.in_channels) and style.known(row.out_channels):
        kernel = f", {row.kernel_size:.0f}×{row.kernel_size:.0f}" if style.known(row.kernel_size) else ""
        return f"{name} ({row.in_channels:.0f}→{row.out_channels:.0f}{kernel})"
    return name


def _legend(fig: Figure, colors: dict[str, str]) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(color=color, label=kind) for kind, color in list(colors.items())[:7]]
    if len(colors) > 7:
        handles[6].set_label("other kinds")
    fig.legend(handles=handles, loc="outside right center", title="kind of layer")
