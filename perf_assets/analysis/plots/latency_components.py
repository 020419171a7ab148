"""What a request's latency is made of, from the client's sending to its receiving, as stacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perf_assets.analysis.plots import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

QUESTION = "Where does a request spend its time: sending, queueing or computing?"

QUERY = (
    style.RUNS
    + """
    SELECT
        coalesce(runs.model, runs.name) AS name,
        -- batch sizes are measured as one file each
        regexp_replace(path, '[0-9]+', '#', 'g') AS study,
        runs.run_id,
        runs.device,
        levels.mode,
        levels.level,
        levels.batch_size,
        levels.gpu_count,
        levels.model_instances,
        levels.avg_us / 1000 AS avg_ms,
        coalesce(levels.client_send_us, 0) / 1000 AS client_send_ms,
        -- the queues of an ensemble's parts stand in a CSV's network time
        (
            coalesce(levels.network_us, 0)
            - greatest(coalesce(levels.composing_queue_us, 0) - levels.queue_us, 0)
        ) / 1000 AS network_ms,
        greatest(levels.queue_us, levels.composing_queue_us) / 1000 AS queue_ms,
        coalesce(levels.compute_input_us, 0) / 1000 AS compute_input_ms,
        coalesce(levels.compute_infer_us, levels.compute_us, 0) / 1000 AS compute_infer_ms,
        coalesce(levels.compute_output_us, 0) / 1000 AS compute_output_ms,
        coalesce(levels.client_recv_us, 0) / 1000 AS client_recv_ms
    FROM cleaned_load_levels AS levels
    JOIN runs USING (run_id)
    WHERE levels.queue_us IS NOT NULL AND levels.avg_us > 0 AND runs.parent_run_id IS NULL
    ORDER BY path, run_id, mode, level
"""
)
"""One row a load level whose log takes its latency apart, times in ms."""

COMPONENTS = {
    "client_send_ms": ("client: sending", style.COLORS[5]),
    "network_ms": ("network", style.COLORS[7]),
    "queue_ms": ("server: queueing", style.COLORS[1]),
    "compute_input_ms": ("server: inputs", style.COLORS[2]),
    "compute_infer_ms": ("server: computing", style.COLORS[0]),
    "compute_output_ms": ("server: outputs", style.COLORS[3]),
    "client_recv_ms": ("client: receiving", style.COLORS[4]),
}
MAX_PANELS = 6


def draw(levels: pd.DataFrame) -> Figure:
    """A panel a load test: stacked mean times (ms) by load level, or by batch size where that is what
    changes, with the mean latency that the log itself gives as a dash.

    Args:
        levels: see ``QUERY``.
    """
    if levels.empty:
        return style.empty("no load test that takes its latency apart in cleaned_load_levels")
    tests = [group for _, group in levels.groupby(["run_id", "mode"], sort=False) if len(group) > 1]
    alone = levels[levels.groupby(["run_id", "mode"])["level"].transform("size") == 1]
    batches = [
        group.drop_duplicates("batch_size").sort_values("batch_size")
        for _, group in alone.groupby(["study", "level", "mode"], sort=False)
        if group["batch_size"].nunique() > 1
    ]
    groups = [(None, group) for group in tests + batches] or [(None, levels)]
    shown = [group for _, group in style.largest(groups, MAX_PANELS)]
    fig, axes = style.panels(len(shown), (5.2, 2.9))
    for i, (ax, test) in enumerate(zip(axes, shown, strict=True)):
        _one_test(ax, test)
        if i % 2 == 1 or i == len(shown) - 1:
            style.legend_beside(ax)
    fig.suptitle("What the mean latency is made of")
    style.footnote(
        fig,
        "Dash: the mean latency in the log; what it has above the stack, the log does not explain.",
        style.hidden(len(shown), len(groups), "load tests"),
    )
    return fig


def _one_test(ax, test: pd.DataFrame) -> None:
    first = test.iloc[0]
    by_batch = test["run_id"].nunique() > 1
    places = range(len(test))
    bottom = [0.0] * len(test)
    for column, (label, color) in COMPONENTS.items():
        heights = test[column].clip(lower=0).tolist()
        if any(heights):
            ax.bar(places, heights, bottom=bottom, color=color, width=0.75, label=label)
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    ax.hlines(test["avg_ms"], [p - 0.42 for p in places], [p + 0.42 for p in places], color="black")
    ax.set_xticks(places, [f"{value:g}" for value in test["batch_size" if by_batch else "level"]])
    ax.grid(axis="x", visible=False)
    in_flight = "requests in flight" if first["mode"] == "concurrency" else "requests asked for per second"
    ax.set(xlabel="batch size" if by_batch else in_flight, ylabel="mean latency (ms)")
    facts = style.words(
        first["name"],
        first["device"],
        style.server(first),
        f"{first['level']:g} {in_flight}" if by_batch else None,
    )
    style.title(ax, facts)
    ax.set_ylim(0, 1.08 * max(test["avg_ms"].max(), max(bottom)))
