"""Latency against throughput of load tests, with the knee: what a server gives before its latency runs away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perf_assets.analysis.plots import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

QUESTION = "How much load does a server take before its latency runs away?"

QUERY = (
    style.RUNS
    + f"""
    SELECT
        coalesce(runs.model, '') || {style.STUDY} AS study,
        {style.STUDY_NAME} AS name,
        runs.run_id,
        runs.name AS run_name,
        runs.device,
        levels.mode,
        levels.level,
        levels.batch_size,
        levels.gpu_count,
        levels.model_instances,
        levels.throughput_per_s,
        coalesce(levels.p50_us, levels.avg_us) / 1000 AS middle_ms,
        CASE WHEN levels.p50_us IS NULL THEN 'mean' ELSE 'p50' END AS middle,
        coalesce(levels.p99_us, levels.p95_us, levels.p90_us) / 1000 AS high_ms,
        CASE
            WHEN levels.p99_us IS NOT NULL THEN 'p99'
            WHEN levels.p95_us IS NOT NULL THEN 'p95'
            WHEN levels.p90_us IS NOT NULL THEN 'p90'
        END AS high
    FROM cleaned_load_levels AS levels
    JOIN runs USING (run_id)
    WHERE
        levels.throughput_per_s > 0 AND middle_ms > 0
        -- parts of an ensemble carry no throughput of their own
        AND runs.parent_run_id IS NULL
    QUALIFY count(*) OVER (PARTITION BY run_id, levels.mode) >= 3
    ORDER BY study, gpu_count, model_instances, run_id, levels.mode, level
"""
)
"""One row a load level, of load tests with at least three."""

MAX_PANELS = 6


def draw(levels: pd.DataFrame) -> Figure:
    """A panel a study and batch size: middle latency (ms) and band up to the high percentile (ms) against
    throughput (1/s), one line a run, its levels as labels, and the knee.

    Args:
        levels: see ``QUERY``.
    """
    if levels.empty:
        return style.empty("no load test with three or more levels in cleaned_load_levels")
    groups = list(levels.groupby(["study", "mode", "batch_size"], dropna=False, sort=False))
    shown = style.largest(groups, MAX_PANELS)
    fig, axes = style.panels(len(shown), (5.6, 3.0))
    for ax, ((_, mode, batch), study) in zip(axes, shown, strict=True):
        alone = study["run_id"].nunique() == 1
        for i, (_, run) in enumerate(study.groupby("run_id", sort=False)):
            facts = style.server(run.iloc[0]) or ("latency" if alone else str(run["run_name"].iloc[0]))
            _one_run(ax, run, facts, style.series_style(i))
        first = study.iloc[0]
        batch_words = f"batch {batch:.0f}" if style.known(batch) else None
        style.title(ax, style.words(first["name"], first["device"], batch_words))
        unit = "requests in flight" if mode == "concurrency" else "requests asked for per second"
        ax.set(xlabel="throughput (1/s)", ylabel="latency (ms)")
        ax.set_xlim(0, 1.06 * study["throughput_per_s"].max())
        style.from_zero(ax)
        style.legend_beside(ax, f"labels: {unit}" if len(unit) < 20 else "labels: requests/s asked")
    fig.suptitle("Latency against throughput")
    style.footnote(
        fig,
        "Bars: from the middle to the high percentile. Ring: the knee, where throughput / latency is largest (Kleinrock 1979).",
        style.hidden(len(shown), len(groups), "studies"),
    )
    return fig


def knee(throughput_per_s: pd.Series, latency_ms: pd.Series) -> int:
    """Position of the level with the largest "power", throughput over latency (Kleinrock 1979)."""
    return int((throughput_per_s / latency_ms).to_numpy().argmax())


def _one_run(ax, run: pd.DataFrame, facts: str, look: dict) -> None:
    first = run.iloc[0]
    band = f" to {first['high']}" if style.known(first["high"]) else ""
    ax.plot(
        run["throughput_per_s"],
        run["middle_ms"],
        label=f"{facts}: {first['middle']}{band}",
        **look,
    )
    if band:
        # No filled area: beyond the knee throughput falls again, and an area would fold over itself.
        ends = (run["throughput_per_s"], run["middle_ms"], run["high_ms"])
        ax.vlines(*ends, color=look["color"], alpha=0.25, linewidth=6)
    at = knee(run["throughput_per_s"], run["middle_ms"])
    x, y = run["throughput_per_s"].to_numpy(), run["middle_ms"].to_numpy()
    ax.plot(x[at], y[at], "o", markersize=11, markerfacecolor="none", markeredgecolor=look["color"])
    for i in sorted({0, at, len(run) - 1}):
        ax.annotate(
            f"{run['level'].iloc[i]:g}",
            (x[i], y[i]),
            xytext=(0, 8),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color=look["color"],
        )
