"""Convolution algorithms over the input size: latency, power and energy of one network on one device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perf_assets.analysis.plots import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

QUESTION = "Which convolution algorithm is fastest, and which takes least energy, at which input size?"

QUERY = (
    style.RUNS
    + """
    , points AS (
        SELECT
            model,
            coalesce(device, device_raw, 'device not logged') AS device,
            stage,
            batch_size,
            precision,
            algorithm,
            input_size,
            median(latency_ms) AS latency_ms,
            median(mean_power_w) AS power_w,
            median(energy_j) AS energy_j,
            any_value(energy_basis) AS energy_basis,
            count(*) AS n
        FROM runs
        WHERE status = 'ok' AND algorithm IS NOT NULL AND input_size IS NOT NULL AND latency_ms > 0
        GROUP BY ALL
    )
    SELECT * FROM points
    QUALIFY count(*) OVER (PARTITION BY model, device, stage, batch_size, precision) >= 3
    ORDER BY model, device, stage, batch_size, precision, algorithm, input_size
"""
)
"""One row a network, device, algorithm and input size: medians of its runs."""

MAX_COLUMNS = 3
METRICS = {"latency_ms": "latency (ms)", "power_w": "mean power (W)", "energy_j": "energy (J)"}


def draw(runs: pd.DataFrame) -> Figure:
    """A column a network, device, stage and batch; latency (ms), power (W) and energy (J) against the input
    size (px), one line an algorithm.

    Args:
        runs: see ``QUERY``.
    """
    if runs.empty:
        return style.empty("no runs with an algorithm, an input size and a latency in cleaned_runs")
    key = ["model", "device", "stage", "batch_size", "precision"]
    groups = list(runs.groupby(key, dropna=False, sort=False))
    ranked = sorted(groups, key=lambda group: (-group[1]["algorithm"].nunique(), -len(group[1])))
    shown = ranked[:MAX_COLUMNS]
    metrics = [name for name in METRICS if any(group[name].notna().any() for _, group in shown)]
    fig, axes = style.figure(len(metrics), len(shown), (3.9, 2.4))
    looks = {name: style.series_style(i) for i, name in enumerate(sorted(runs["algorithm"].unique()))}
    for column, ((model, device, stage, batch, precision), group) in enumerate(shown):
        for row, metric in enumerate(metrics):
            ax = axes[row, column]
            for algorithm, line in group.groupby("algorithm"):
                line = line[line[metric].notna()]
                look = looks[algorithm] | {"markersize": 2.5 if len(line) > 15 else 4}
                ax.plot(line["input_size"], line[metric], label=algorithm if len(line) else None, **look)
            style.from_zero(ax)
            ax.set_ylabel(METRICS[metric])
            if group[metric].isna().all():
                ax.text(0.5, 0.5, "not measured", transform=ax.transAxes, ha="center", color=style.QUIET)
        at = f"batch {batch:.0f}" if style.known(batch) else None
        style.title(axes[0, column], style.words(model, device, stage, at, precision), 44)
        axes[-1, column].set_xlabel("input size (px)")
    _legend(fig, looks, {name for _, group in shown for name in group["algorithm"]})
    fig.suptitle("Convolution algorithms over the input size")
    style.footnote(fig, style.hidden(len(shown), len(groups), "networks and devices"))
    return fig


def _legend(fig: Figure, looks: dict, shown: set[str]) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], label=name, **look) for name, look in looks.items() if name in shown]
    fig.legend(handles=handles, loc="outside right upper")
