"""Speed-up and efficiency of the same work on more devices: training runs and load tests."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from perf_assets.analysis.plots import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

QUESTION = "Do more devices make it faster, and how much of each is wasted?"

QUERY = (
    style.RUNS
    + f"""
    , trained AS (
        SELECT run_id, max(duration_s) AS train_s
        FROM cleaned_epochs
        WHERE phase = 'total_train_time'
        GROUP BY run_id
    ),
    served AS (
        SELECT run_id, gpu_count, max(throughput_per_s) AS throughput_per_s
        FROM cleaned_load_levels
        WHERE gpu_count > 0 AND mode = 'concurrency'
        GROUP BY ALL
        HAVING count(*) >= 3
    ),
    measured AS (
        SELECT
            'training' AS work,
            concat_ws(', ', model, coalesce(device, device_raw), dataset, input_size || ' px',
                'batch ' || batch_size, epochs || ' epochs') AS configuration,
            coalesce(world_size, device_count) AS devices,
            'total training time (s)' AS measure,
            coalesce(train_s, duration_s) AS value
        FROM runs
        LEFT JOIN trained USING (run_id)
        WHERE status = 'ok' AND workload = 'training'
        UNION ALL
        SELECT
            'serving',
            concat_ws(', ', {style.STUDY_NAME}, runs.device,
                model_instances || ' instance(s)') AS configuration,
            served.gpu_count,
            'largest throughput (1/s)',
            served.throughput_per_s
        FROM served
        JOIN runs USING (run_id)
        JOIN (SELECT DISTINCT run_id, model_instances FROM cleaned_load_levels) USING (run_id)
        WHERE runs.parent_run_id IS NULL
    )
    SELECT * FROM measured
    WHERE devices > 0 AND value > 0
    QUALIFY count(DISTINCT devices) OVER (PARTITION BY work, configuration, measure) >= 2
    ORDER BY work DESC, configuration, devices
"""
)
"""One row a run, of configurations that ran on two or more numbers of devices."""

MAX_SERIES = 8


def draw(runs: pd.DataFrame) -> Figure:
    """Speed-up against the number of devices beside efficiency (%), one line a configuration; the fewest
    devices of each count as 1, several runs as their median.

    Args:
        runs: see ``QUERY``.
    """
    if runs.empty:
        return style.empty("no configuration in cleaned_runs that ran on two different numbers of devices")
    groups = list(runs.groupby(["work", "configuration", "measure"], sort=False))
    shown = style.largest(groups, MAX_SERIES)
    fig, axes = style.figure(1, 2, (5.4, 3.4))
    up, share = axes[0]
    most = max(group["devices"].max() for _, group in shown)
    up.plot([1, most], [1, most], color=style.QUIET, linestyle="--", linewidth=0.9)
    up.annotate("ideal", (most, most), xytext=(-4, 0), textcoords="offset points", ha="right", fontsize=8)
    share.axhline(100, color=style.QUIET, linestyle="--", linewidth=0.9)
    for i, ((_, configuration, measure), group) in enumerate(shown):
        scaled = speed_up(group, faster_is_more="throughput" in measure)
        look = style.series_style(i)
        n = group.groupby("devices").size()
        runs_each = f"{n.min()}" if n.min() == n.max() else f"{n.min()}–{n.max()}"
        label = "\n".join(textwrap.wrap(f"{configuration}: {measure}; n\u00a0=\u00a0{runs_each}", 36))
        up.plot(scaled.index, scaled["speed_up"], **look)
        share.plot(scaled.index, scaled["efficiency_pct"], label=label, **look)
        for devices, row in scaled.iterrows():
            up.annotate(
                f"{row['speed_up']:.2f}",
                (devices, row["speed_up"]),
                xytext=(0, 6),
                textcoords="offset points",
                ha="center",
                fontsize=8,
                color=look["color"],
            )
    for ax, label in ((up, "speed-up"), (share, "efficiency: speed-up per device (%)")):
        ax.set(xlabel="devices", ylabel=label)
        ax.set_xticks(sorted(set(runs["devices"].astype(int))))
        style.from_zero(ax)
    style.legend_beside(share)
    fig.suptitle("The same work on more devices")
    style.footnote(fig, style.hidden(len(shown), len(groups), "configurations"))
    return fig


def speed_up(runs: pd.DataFrame, faster_is_more: bool) -> pd.DataFrame:
    """Speed-up and efficiency (%) by number of devices, against the fewest devices: S(n) = T(1) / T(n), S / n."""
    medians = runs.groupby("devices")["value"].median().sort_index()
    first = medians.iloc[0]
    ratio = medians / first if faster_is_more else first / medians
    frame = ratio.to_frame("speed_up")
    frame["efficiency_pct"] = 100 * frame["speed_up"] / (frame.index / frame.index[0])
    return frame
