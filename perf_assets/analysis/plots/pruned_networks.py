"""Pruned networks: how much latency and memory is left when part of the arithmetic is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perf_assets.analysis.plots import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

QUESTION = "Does a pruned network really become faster and smaller?"

QUERY = (
    style.RUNS
    + """
    , macs AS (
        SELECT network AS model, pruning_level_pct / 100 AS pruning_ratio, NULL AS pruning_method,
            sum(macs) AS macs
        FROM cleaned_layer_tables
        GROUP BY ALL
        UNION ALL
        SELECT model, pruning_ratio, pruning_method, any_value(macs)
        FROM pruned_models
        WHERE status = 'ok'
        GROUP BY ALL
    ),
    macs_kept AS (
        SELECT model, round(pruning_ratio, 4) AS pruning_ratio, pruning_method,
            macs / first_value(macs) OVER (PARTITION BY model ORDER BY pruning_ratio) AS kept
        FROM macs
        QUALIFY min(pruning_ratio) OVER (PARTITION BY model) = 0
    ),
    measured AS (
        SELECT
            model,
            pruning_method,
            coalesce(device, host, device_raw, 'device not logged') AS device,
            stage,
            input_size,
            batch_size,
            round(pruning_ratio, 4) AS pruning_ratio,
            median(latency_ms) AS latency_ms,
            median(coalesce(memory_allocated_mib, memory_used_mib)) AS memory_mib,
            count(*) AS n
        FROM runs
        WHERE status = 'ok' AND pruning_ratio IS NOT NULL AND model IS NOT NULL
        GROUP BY ALL
    )
    SELECT
        measured.*,
        -- the unpruned network of any method is the same network
        100 * latency_ms / median(latency_ms) FILTER (measured.pruning_ratio = 0) OVER same
            AS latency_kept_pct,
        100 * memory_mib / median(memory_mib) FILTER (measured.pruning_ratio = 0) OVER same
            AS memory_kept_pct,
        100 * (
            SELECT any_value(kept)
            FROM macs_kept
            WHERE
                macs_kept.model = measured.model AND macs_kept.pruning_ratio = measured.pruning_ratio
                AND coalesce(macs_kept.pruning_method = measured.pruning_method, true)
        ) AS macs_kept_pct,
        100 * (1 - measured.pruning_ratio) AS asked_pct
    FROM measured
    WINDOW same AS (PARTITION BY model, device, stage, input_size, batch_size)
    ORDER BY model, device, stage, pruning_method, input_size, batch_size, measured.pruning_ratio
"""
)
"""One row a pruned configuration, with what it keeps of the unpruned one, in per cent."""

MAX_COLUMNS = 3
MAX_SERIES = 4


def draw(runs: pd.DataFrame) -> Figure:
    """A column a network, method, device and stage: latency kept and memory kept (%) against multiply-adds
    kept (%), one line a batch size. Where the multiply-adds are not known, against the share that was asked
    to be kept.

    Args:
        runs: see ``QUERY``.
    """
    kept = runs[runs["latency_kept_pct"].notna() | runs["memory_kept_pct"].notna()]
    key = ["model", "pruning_method", "device", "stage", "input_size"]
    groups = [
        group
        for group in kept.groupby(key, dropna=False, sort=False)
        if group[1]["pruning_ratio"].nunique() > 1
    ]
    if not groups:
        return style.empty("no network in cleaned_runs that was measured both pruned and unpruned")
    shown = style.largest(groups, MAX_COLUMNS)
    rows = [
        (column, label)
        for column, label in (
            ("latency_kept_pct", "latency kept (%)"),
            ("memory_kept_pct", "memory kept (%)"),
        )
        if any(group[column].notna().any() for _, group in shown)
    ]
    fig, axes = style.figure(len(rows), len(shown), (4.2, 2.9))
    for column, ((model, method, device, stage, size), group) in enumerate(shown):
        px = f"{size:.0f} px" if style.known(size) else None
        style.title(axes[0, column], style.words(model, method, device, stage, px), 40)
        for row, (metric, label) in enumerate(rows):
            _one_panel(axes[row, column], group, metric, label)
    fig.suptitle("Pruned but not faster? What is left of latency and memory")
    style.footnote(
        fig,
        "Against the unpruned network at the same batch. Dashed: latency or memory falling as the x axis does; "
        "what lies above it gains less, what lies above 100 % loses.",
        style.hidden(len(shown), len(groups), "networks, methods and devices"),
    )
    return fig


def _one_panel(ax, group: pd.DataFrame, metric: str, label: str) -> None:
    x = "macs_kept_pct" if group["macs_kept_pct"].notna().any() else "asked_pct"
    rows = group[group[metric].notna() & group[x].notna()]
    ax.plot([0, 100], [0, 100], color=style.QUIET, linestyle="--", linewidth=0.9)
    ax.axhline(100, color=style.QUIET, linewidth=0.8)
    points = rows.groupby("batch_size", dropna=False).size()
    batches = sorted(points.sort_values(ascending=False, kind="stable").index[:MAX_SERIES])
    for i, batch in enumerate(batches):
        line = rows[rows["batch_size"] == batch] if style.known(batch) else rows[rows["batch_size"].isna()]
        line = line.sort_values(x)
        name = f"batch {batch:.0f}" if style.known(batch) else "batch not logged"
        ax.plot(line[x], line[metric], label=name, **style.series_style(i))
    if rows.empty:
        ax.text(0.5, 0.5, "not measured", transform=ax.transAxes, ha="center", color=style.QUIET)
    kept = "multiply-adds kept (%)" if x == "macs_kept_pct" else "weights kept, as asked for (%)"
    ax.set(xlabel=kept, ylabel=label, xlim=(0, 104))
    style.from_zero(ax)
    style.legend_beside(ax)
