"""Images per second of training and inference runs, against the batch size or as sorted bars."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perf_assets.analysis.plots import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

QUESTION = "How many images per second does a network reach, on which device and at which batch?"

QUERY = (
    style.RUNS
    + """
    SELECT
        coalesce(device, device_raw, host, 'device not logged') AS device,
        coalesce(stage, workload) AS stage,
        input_size,
        precision,
        concat_ws(', ', model, algorithm, pruning_method || ' ' || nullif(pruning_ratio, 0)) AS series,
        coalesce(pruning_ratio, 0) > 0 AS pruned,
        batch_size,
        median(throughput_per_s) AS images_per_s,
        min(throughput_per_s) AS lowest_per_s,
        max(throughput_per_s) AS highest_per_s,
        count(*) AS n
    FROM runs
    WHERE
        status = 'ok' AND throughput_per_s > 0 AND batch_size IS NOT NULL AND model IS NOT NULL
        AND workload IN ('training', 'inference')
    GROUP BY ALL
    ORDER BY device, stage, input_size, precision, series, batch_size
"""
)
"""One row a configuration: median, range and number of its runs."""

MAX_PANELS = 4
MAX_SERIES = 8
MAX_BARS = 12


def draw(runs: pd.DataFrame) -> Figure:
    """A panel a device, stage, input size and precision: images/s against batch size where a network ran at
    several, else bars of the fastest networks.

    Args:
        runs: see ``QUERY``.
    """
    if runs.empty:
        return style.empty("no training or inference run with a throughput and a batch size in cleaned_runs")
    groups = list(runs.groupby(["device", "stage", "input_size", "precision"], dropna=False, sort=False))
    shown = style.largest(groups, MAX_PANELS)
    fig, axes = style.panels(len(shown), (5.8, 3.1))
    for ax, ((device, stage, size, precision), group) in zip(axes, shown, strict=True):
        batches = (
            group.sort_values("pruned", kind="stable").groupby("series", sort=False)["batch_size"].nunique()
        )
        swept = batches[batches > 1]
        px = f"{size:.0f} px" if style.known(size) else "input size not logged"
        heading = style.words(device, stage, px, precision)
        if len(swept):
            _curves(ax, group, list(swept.index[:MAX_SERIES]))
            left_out = len(batches) - min(len(swept), MAX_SERIES)
            style.title(ax, heading + (f" ({left_out} more)" if left_out else ""))
        else:
            best = group.sort_values("images_per_s", ascending=False)
            head = best.head(MAX_BARS)
            style.bars(
                ax,
                [f"{row.series}, batch {row.batch_size:.0f}" for row in head.itertuples()],
                head["images_per_s"].tolist(),
                [f"{row.images_per_s:,.0f}, n = {row.n}" for row in head.itertuples()],
            )
            ax.set_xlabel("images per second")
            left_out = len(best) - len(head)
            style.title(ax, heading + (f": the fastest {len(head)} of {len(best)}" if left_out else ""))
    fig.suptitle("Images per second")
    style.footnote(fig, style.hidden(len(shown), len(groups), "devices, stages and input sizes"))
    return fig


def _curves(ax, group: pd.DataFrame, series: list[str]) -> None:
    for i, name in enumerate(series):
        run = group[group["series"] == name]
        band = run[["batch_size", "images_per_s", "lowest_per_s", "highest_per_s"]]
        style.curve_with_band(ax, band, i, f"{name} (n = {run['n'].sum()})")
    style.plain_log(ax)
    style.from_zero(ax)
    ax.set(xlabel="batch size", ylabel="images per second (median, range)")
    style.legend_beside(ax)
