"""Training time per epoch; runs on other data or of another input size stand in a panel of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perf_assets.analysis.plots import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

QUESTION = "How long does an epoch of training take?"

QUERY = (
    style.RUNS
    + """
    SELECT
        coalesce(runs.name, runs.run_id) AS name,
        runs.run_id,
        coalesce(runs.dataset, 'data set not logged') AS dataset,
        runs.input_size,
        coalesce(runs.device, runs.device_raw) AS device,
        coalesce(runs.world_size, runs.device_count) AS devices,
        runs.batch_size,
        epochs.epoch,
        -- an epoch lasts until its slowest rank is done
        max(epochs.duration_s) AS train_s
    FROM cleaned_epochs AS epochs
    JOIN runs USING (run_id)
    WHERE epochs.phase = 'train' AND runs.status = 'ok' AND epochs.duration_s IS NOT NULL
    GROUP BY ALL
    ORDER BY dataset, input_size, devices, name, run_id, epoch
"""
)
"""One row a finished training run and epoch."""

MAX_PANELS = 4
MAX_LINES = 10


def draw(epochs: pd.DataFrame) -> Figure:
    """A row a data set and input size: seconds of every epoch, beside the median of epochs 2 and later with
    its range and number, sorted.

    Args:
        epochs: see ``QUERY``.
    """
    if epochs.empty:
        return style.empty("no finished training run in cleaned_epochs")
    groups = list(epochs.groupby(["dataset", "input_size"], dropna=False, sort=False))
    shown = style.largest(groups, MAX_PANELS)
    runs = [min(MAX_LINES, group["run_id"].nunique()) for _, group in shown]
    fig, axes = style.figure(len(shown), 2, (5.4, 2.6), heights=[1.6 + 0.25 * n for n in runs])
    left_out = 0
    for (lines, bars), ((dataset, size), group) in zip(axes, shown, strict=True):
        left_out += max(0, group["run_id"].nunique() - MAX_LINES)
        _one_panel(lines, bars, group)
        px = f"{size:.0f} px" if style.known(size) else "input size not logged"
        style.title(lines, f"{dataset}, {px}")
        style.title(bars, "Median without the first epoch, which warms up")
    axes[-1][0].set_xlabel("epoch")
    axes[-1][1].set_xlabel("training time of an epoch (s), with its range")
    fig.suptitle("Training time per epoch")
    more = f"{left_out} runs did not fit: --where shows others." if left_out else ""
    style.footnote(
        fig,
        "Colours are those of the bars beside.",
        style.hidden(len(shown), len(groups), "data sets"),
        more,
    )
    return fig


def _one_panel(lines, bars, group: pd.DataFrame) -> None:
    rows = []
    for i, (_, run) in enumerate(list(group.groupby("run_id", sort=False))[:MAX_LINES]):
        look = style.series_style(i)
        lines.plot(run["epoch"], run["train_s"], **look)
        later = run.loc[run["epoch"] >= 2, "train_s"]
        later = later if len(later) else run["train_s"]
        first = run.iloc[0]
        devices = f"{first['devices']:.0f} × " if style.known(first["devices"]) else ""
        batch = f"batch {first['batch_size']:.0f}" if style.known(first["batch_size"]) else None
        where = f"{devices}{first['device']}" if style.known(first["device"]) else None
        label = f"{first['name']}\n({style.words(where, batch)})"
        rows.append((later.median(), later.min(), later.max(), len(later), label, look["color"]))
    rows.sort()
    medians = [row[0] for row in rows]
    style.bars(
        bars,
        [row[4] for row in rows],
        medians,
        [f"{style.number(row[0])} s, n = {row[3]}" for row in rows],
        color=[row[5] for row in rows],
        ends=[(row[1], row[2]) for row in rows],
    )
    lines.set_ylabel("training time (s)")
    style.from_zero(lines)
    lines.set_xlim(left=0.5)
    style.whole_numbers(lines)
