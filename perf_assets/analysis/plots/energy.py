"""Energy of one inference (or sample of a training step) against the batch, and of whole runs as bars."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perf_assets.analysis.plots import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

QUESTION = "How many joules does an inference cost at which batch, and how many a whole run?"

QUERY = (
    style.RUNS
    + """
    SELECT
        CASE WHEN energy_basis = 'run' THEN 'run' ELSE 'sample' END AS part,
        coalesce(device, device_raw, host, 'device not logged') AS device,
        coalesce(stage, workload) AS stage,
        CASE WHEN energy_basis <> 'run' THEN input_size END AS input_size,
        coalesce(model, name) AS model,
        concat_ws(', ', coalesce(model, name), algorithm, precision) AS series,
        CASE WHEN energy_basis <> 'run' THEN batch_size END AS batch_size,
        -- a step takes a batch of samples
        median(energy_j / CASE WHEN energy_basis = 'step' THEN coalesce(batch_size, 1) ELSE 1 END) AS energy_j,
        min(energy_j / CASE WHEN energy_basis = 'step' THEN coalesce(batch_size, 1) ELSE 1 END) AS lowest_j,
        max(energy_j / CASE WHEN energy_basis = 'step' THEN coalesce(batch_size, 1) ELSE 1 END) AS highest_j,
        count(*) AS n
    FROM runs
    WHERE
        status IN ('ok', 'superseded') AND energy_j > 0
        AND (
            (energy_basis IN ('step', 'inference', 'request') AND batch_size IS NOT NULL)
            OR energy_basis = 'run'
        )
    GROUP BY ALL
    ORDER BY part, device, stage, input_size, series, batch_size
"""
)
"""One row a configuration: median, range and number of its runs, in joules a sample or a run."""

MAX_SERIES = 8
MAX_BARS = 12


def draw(runs: pd.DataFrame) -> Figure:
    """Joules per sample against batch size where a network ran at several batches (else as bars, at the input
    size that most have), beside joules of whole runs as bars.

    Args:
        runs: see ``QUERY``.
    """
    if runs.empty:
        return style.empty("no run with an energy in cleaned_runs")
    samples, whole = runs[runs["part"] == "sample"], runs[runs["part"] == "run"]
    fig, axes = style.panels(bool(len(samples)) + bool(len(whole)), (6.8, 3.6))
    notes = []
    if len(samples):
        notes.append(_samples(axes[0], samples))
    if len(whole):
        notes.append(_whole_runs(axes[-1], whole))
    fig.suptitle("Energy")
    style.footnote(fig, *notes)
    return fig


def _samples(ax, samples: pd.DataFrame) -> str:
    key = ["device", "stage", "input_size", "series"]
    groups = list(samples.groupby(key, dropna=False, sort=False))
    swept = [(name, group) for name, group in groups if group["batch_size"].nunique() > 1]
    style.title(ax, "Energy of one sample")
    if swept:
        for i, ((device, stage, size, series), group) in enumerate(style.largest(swept, MAX_SERIES)):
            px = f"{size:.0f} px" if style.known(size) else None
            band = group[["batch_size", "energy_j", "lowest_j", "highest_j"]]
            style.curve_with_band(ax, band, i, style.words(series, device, stage, px))
        style.plain_log(ax)
        style.from_zero(ax)
        ax.set(xlabel="batch size", ylabel="energy per sample (J)")
        style.legend_beside(ax)
        return style.hidden(min(len(swept), MAX_SERIES), len(groups), "configurations")
    sizes = samples["input_size"].value_counts()
    at = samples[samples["input_size"] == sizes.index[0]] if len(sizes) else samples
    best = at.sort_values("energy_j").drop_duplicates(["model", "device", "stage"])
    head = best.head(MAX_BARS)
    facts = [
        style.words(row.series, row.device, row.stage, f"batch {row.batch_size:.0f}")
        for row in head.itertuples()
    ]
    _bars(ax, facts, head, "energy per sample (J)")
    if len(sizes):
        style.title(
            ax, f"Energy of one sample at {sizes.index[0]:.0f} px, each with its most frugal algorithm", 44
        )
    return style.hidden(len(head), len(samples), "energies of a sample")


def _whole_runs(ax, whole: pd.DataFrame) -> str:
    head = whole.sort_values("energy_j", ascending=False).head(MAX_BARS)
    facts = [style.words(row.series, row.device, row.stage) for row in head.itertuples()]
    scaled = head.assign(**{name: head[name] / 1000 for name in ("energy_j", "lowest_j", "highest_j")})
    _bars(ax, facts, scaled, "energy of a run (kJ)")
    style.title(ax, "Energy of whole runs")
    return style.hidden(len(head), len(whole), "energies of runs")


def _bars(ax, names: list[str], rows: pd.DataFrame, label: str) -> None:
    style.bars(
        ax,
        names,
        rows["energy_j"].tolist(),
        [f"{style.number(row.energy_j)}, n = {row.n}" for row in rows.itertuples()],
        list(zip(rows["lowest_j"], rows["highest_j"], strict=True)),
    )
    ax.set_xlabel(label)
