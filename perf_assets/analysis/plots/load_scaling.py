"""Load tests over the number of requests in flight: what more model instances or more GPUs bring."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perf_assets.analysis.plots import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

QUESTION = "What do more model instances or more GPUs bring, and from which load on are they full?"

QUERY = (
    style.RUNS
    + f"""
    , gpus AS (
        -- The mean over the GPUs that the server used, never their sum: it cannot pass 100 %. A log lists all
        -- GPUs of a machine; the busiest ones are the server's.
        SELECT run_id, level, avg(100 * utilization) AS utilization_pct
        FROM (
            SELECT used.run_id, used.level, used.utilization
            FROM cleaned_load_gpus AS used
            JOIN cleaned_load_levels AS served
                ON served.run_id = used.run_id AND served.level = used.level AND served.mode = 'concurrency'
            QUALIFY served.gpu_count IS NULL OR served.gpu_count >= row_number() OVER (
                PARTITION BY used.run_id, used.level ORDER BY used.utilization DESC NULLS LAST
            )
        )
        GROUP BY ALL
    )
    SELECT
        coalesce(runs.model, '') || {style.STUDY} AS study,
        {style.STUDY_NAME} AS name,
        runs.run_id,
        runs.name AS run_name,
        runs.device,
        levels.level,
        levels.batch_size,
        levels.gpu_count,
        levels.model_instances,
        levels.throughput_per_s,
        coalesce(levels.avg_us, levels.p50_us) / 1000 AS latency_ms,
        greatest(levels.queue_us, levels.composing_queue_us) / coalesce(levels.avg_us, levels.p50_us)
            AS queue_share,
        gpus.utilization_pct
    FROM cleaned_load_levels AS levels
    JOIN runs USING (run_id)
    LEFT JOIN gpus USING (run_id, level)
    WHERE
        levels.mode = 'concurrency' AND levels.throughput_per_s > 0 
        AND coalesce(levels.avg_us, levels.p50_us) > 0
        AND runs.parent_run_id IS NULL
    QUALIFY count(*) OVER (PARTITION BY run_id) >= 3
    ORDER BY study, gpu_count, model_instances, run_id, level
"""
)
"""One row a level of requests in flight, of load tests with at least three."""

MAX_STUDIES = 3
QUEUE_SHARE = 0.10


def draw(levels: pd.DataFrame) -> Figure:
    """A column a study; below each other throughput (1/s), latency (ms), ratio of throughput to the
    smallest server, and GPU utilization (%), against requests in flight; one line a server.

    Args:
        levels: see ``QUERY``.
    """
    if levels.empty:
        return style.empty("no load test with three or more levels of concurrency in cleaned_load_levels")
    groups = list(levels.groupby(["study", "batch_size"], dropna=False, sort=False))
    compared = [group for group in groups if group[1]["run_id"].nunique() > 1]
    shown = style.largest(compared or groups, MAX_STUDIES)
    used = levels["utilization_pct"].notna().any() and any(
        study["utilization_pct"].notna().any() for _, study in shown
    )
    rows = 2 + bool(compared) + used
    fig, axes = style.figure(rows, len(shown), (5.2, 2.2), sharex="col")
    for column, (_, study) in enumerate(shown):
        _one_study(axes[:, column], study, ratio=bool(compared), used=used)
    fig.suptitle("Throughput and latency against requests in flight")
    style.footnote(
        fig,
        "Latency is the mean, or the median where a log has no mean. Dotted: the last load whose requests queue for no more than 10 % of their latency; where a log has no "
        "queue time, the load with the largest throughput / latency.",
        style.hidden(len(shown), len(groups), "studies"),
    )
    return fig


def saturation(run: pd.DataFrame) -> float | None:
    """The last level before requests queue for more than 10 % of their latency; None if they never do.

    Without queue times: the level of the largest throughput over latency, unless it is the last one.
    """
    queue = run["queue_share"]
    if queue.notna().any():
        full = run["level"][queue > QUEUE_SHARE]
        below = run["level"][run["level"] < full.min()] if len(full) else full
        return float(below.max()) if len(below) else None
    best = int((run["throughput_per_s"] / run["latency_ms"]).to_numpy().argmax())
    return float(run["level"].iloc[best]) if best < len(run) - 1 else None


def _one_study(axes, study: pd.DataFrame, ratio: bool, used: bool) -> None:
    first = study.iloc[0]
    reference = study[study["run_id"] == first["run_id"]].set_index("level")["throughput_per_s"]
    throughput, latency, *rest = axes
    for i, (_, run) in enumerate(study.groupby("run_id", sort=False)):
        look, label = style.series_style(i), _server(run.iloc[0])
        throughput.plot(run["level"], run["throughput_per_s"], label=label, **look)
        latency.plot(run["level"], run["latency_ms"], **look)
        full = saturation(run)
        if full is not None:
            throughput.axvline(full, color=look["color"], linestyle=":", linewidth=1.2)
            reached = run.loc[run["level"] == full, "throughput_per_s"].iloc[0]
            note = {"xytext": (3, -11), "textcoords": "offset points", "fontsize": 8, "color": look["color"]}
            throughput.annotate(f"full at {full:g}", (full, reached), **note)
        if ratio:
            rest[0].plot(
                run["level"], run["throughput_per_s"].to_numpy() / reference.reindex(run["level"]), **look
            )
        if used:
            rest[-1].plot(run["level"], run["utilization_pct"], **look)
    batch = f"batch {first['batch_size']:.0f}" if style.known(first["batch_size"]) else None
    style.title(throughput, style.words(first["name"], first["device"], batch))
    style.legend_beside(throughput)
    throughput.set_ylabel("throughput (1/s)")
    latency.set_ylabel("latency (ms)")
    for ax in axes:
        style.from_zero(ax)
        style.whole_numbers(ax)
    if ratio:
        rest[0].set_ylabel(f"throughput\n÷ {_server(first)}")
        rest[0].axhline(1, color=style.QUIET, linewidth=0.8)
    if used:
        rest[-1].set(ylabel="GPU utilization\n(%, mean per GPU)", ylim=(0, 105))
        if study["utilization_pct"].isna().all():
            rest[-1].text(
                0.5, 0.5, "not in this log", transform=rest[-1].transAxes, ha="center", color=style.QUIET
            )
    axes[-1].set_xlabel("requests in flight")


def _server(row: pd.Series) -> str:
    return style.server(row) or str(row["run_name"])
