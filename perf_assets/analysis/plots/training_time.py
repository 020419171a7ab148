"""Training time per epoch, one line a configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perf_assets.analysis.plots.style import COLORS, MARKERS, empty, figure

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

QUERY = """
    SELECT
        coalesce(runs.name, runs.run_id) AS name,
        runs.run_id,
        runs.device,
        runs.world_size,
        runs.batch_size,
        runs.input_size,
        epochs.epoch,
        -- an epoch lasts until its slowest rank is done
        max(epochs.duration_s) AS train_s
    FROM cleaned_epochs AS epochs
    JOIN cleaned_runs AS runs USING (run_id)
    WHERE epochs.phase = 'train' AND runs.status = 'ok'
    GROUP BY ALL
    ORDER BY name, run_id, epoch
"""
"""The frame that ``training_time`` wants, as SQL on the published tables."""

MAX_LINES = len(COLORS) * 3


def training_time(epochs: pd.DataFrame) -> Figure:
    """Seconds per training epoch against the epoch, and the mean of epochs 2 and later per configuration.

    Args:
        epochs: one row a run and epoch: name, run_id, device, world_size, batch_size, input_size, epoch,
            train_s.
    """
    if epochs.empty:
        return empty("no finished training run in cleaned_runs")
    runs = list(epochs.groupby("run_id", sort=False))
    shown = runs[:MAX_LINES]
    fig, (lines, bars) = figure(1, 2, width_in=13.0, height_in=4.0 + 0.25 * len(shown))
    labels, means = [], []
    for i, (_, run) in enumerate(shown):
        first = run.iloc[0]
        label = (
            f"{first['name']} ({first['world_size']:.0f} x {first['device']}, batch "
            f"{first['batch_size']:.0f})"
        )
        style = {"color": COLORS[i % len(COLORS)], "marker": MARKERS[i // len(COLORS) % len(MARKERS)]}
        lines.plot(run["epoch"], run["train_s"], markersize=3, linewidth=1.2, label=label, **style)
        later = run[run["epoch"] >= 2]["train_s"]
        labels.append(label)
        means.append((later if len(later) else run["train_s"]).mean())
    lines.set(xlabel="epoch", ylabel="training time of the epoch (s)", yscale="log", title="Every epoch")
    positions = range(len(labels))
    bars.barh(positions, means, color=[COLORS[i % len(COLORS)] for i in positions])
    bars.set_yticks(positions, labels, fontsize=8)
    bars.invert_yaxis()
    bars.set(
        xlabel="mean training time of an epoch (s)", title="Mean without the first epoch, which warms up"
    )
    if len(runs) > len(shown):
        fig.suptitle(f"the first {len(shown)} of {len(runs)} runs")
    return fig
