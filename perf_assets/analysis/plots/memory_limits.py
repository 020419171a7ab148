"""Where runs ended for want of memory: networks by batch size, a map a device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perf_assets.analysis.plots import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

QUESTION = "Which network fits which device at which batch size, and where does memory run out?"

QUERY = (
    style.RUNS
    + """
    , tried AS (
        SELECT
            coalesce(host, device, device_raw, 'device not logged') AS device,
            coalesce(stage, workload) AS stage,
            model,
            batch_size,
            count(*) FILTER (status = 'oom') AS oom,
            count(*) AS runs
        FROM runs
        WHERE status IN ('ok', 'oom') AND model IS NOT NULL AND batch_size IS NOT NULL
        GROUP BY ALL
    )
    SELECT * FROM tried
    QUALIFY sum(oom) OVER (PARTITION BY device) > 0
    ORDER BY device, stage, model, batch_size
"""
)
"""One row a network, device and batch size, of devices on which memory ran out at least once."""

MAX_PANELS = 4
MAX_NETWORKS = 14


def draw(runs: pd.DataFrame) -> Figure:
    """A map a device and stage: share of runs out of memory, networks down, batch sizes across, with counts.

    Args:
        runs: see ``QUERY``.
    """
    if runs.empty:
        return style.empty("no device in cleaned_runs on which memory ran out")
    groups = list(runs.groupby(["device", "stage"], dropna=False, sort=False))
    shown = style.largest(groups, MAX_PANELS)
    fig, axes = style.panels(len(shown), (6.2, 3.0))
    image = None
    for ax, ((device, stage), group) in zip(axes, shown, strict=True):
        image = _one_device(ax, group)
        style.title(ax, style.words(device, stage))
    bar = fig.colorbar(image, ax=axes, shrink=0.6, extend="min")
    bar.set_label("runs out of memory (%)")
    fig.suptitle("Where memory runs out")
    style.footnote(
        fig,
        "Numbers: runs out of memory / all runs, over pruning, algorithms and loader workers. Blue: none. Blank: not tried.",
        style.hidden(len(shown), len(groups), "devices"),
    )
    return fig


def _one_device(ax, group: pd.DataFrame):
    import numpy as np
    from matplotlib.colors import LinearSegmentedColormap

    limits = group.groupby("model")["oom"].sum().sort_values(ascending=False, kind="stable")
    models = list(limits.index[:MAX_NETWORKS])
    batches = sorted(group["batch_size"].unique())
    share = np.full((len(models), len(batches)), np.nan)
    texts = len(batches) <= 12
    for row in group[group["model"].isin(models)].itertuples():
        at = models.index(row.model), batches.index(row.batch_size)
        share[at] = 100 * row.oom / row.runs
        if texts:
            ax.text(at[1], at[0], f"{row.oom}/{row.runs}", ha="center", va="center", fontsize=8)
    # Blue where every run fits, orange tints where some or all do not.
    colors = LinearSegmentedColormap.from_list("oom", ["#FBE4D3", style.COLORS[1]], under="#CCE3F0")
    image = ax.imshow(share, cmap=colors, vmin=1e-9, vmax=100, aspect="auto")
    ax.grid(visible=False)
    ax.set_yticks(range(len(models)), models)
    step = max(1, -(-len(batches) // 13))
    ax.set_xticks(range(0, len(batches), step), [f"{batch:.0f}" for batch in batches[::step]])
    ax.set_xlabel("batch size")
    return image
