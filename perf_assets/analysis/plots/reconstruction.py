"""Track reconstruction over pile-up: events per second by processor, and stages that ran on two of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perf_assets.analysis.plots import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

QUESTION = "How much faster is reconstruction on a GPU than on a CPU, and does it hold with pile-up?"

QUERY = (
    style.RUNS
    + """
    , named AS (
        SELECT
            *,
            coalesce(
                try_cast(config ->> 'mu' AS DOUBLE),
                try_cast(nullif(regexp_extract(
                    coalesce(dataset, config -> 'options' ->> 'Input directory'), 'mu_?([0-9]+)', 1
                ), '') AS DOUBLE)
            ) AS mu,
            concat_ws(', ', coalesce(config ->> 'series', device, config -> 'apis' ->> 0, device_kind,
                'device not logged'), num_workers || ' thread(s)') AS series
        FROM runs
        WHERE workload = 'reconstruction' AND status IN ('ok', 'incomplete')
    )
    SELECT
        'chain' AS part, mu, series, NULL AS run, NULL AS stage,
        median(throughput_per_s) AS value, min(throughput_per_s) AS lowest, max(throughput_per_s) AS highest,
        count(*) AS n
    FROM named
    WHERE mu IS NOT NULL AND throughput_per_s > 0 AND status = 'ok'
    GROUP BY ALL
    UNION ALL
    SELECT
        'stage', named.mu, stages.device, named.name || ' ' || named.run_id, stages.stage,
        sum(stages.total_ms), NULL, NULL, 1
    FROM cleaned_stages AS stages
    JOIN named USING (run_id)
    WHERE stages.device IS NOT NULL AND stages.total_ms IS NOT NULL
    GROUP BY ALL
    ORDER BY part, series, mu, run, stage
"""
)
"""Rows of part 'chain': events/s by processor and pile-up; of part 'stage': ms of a stage by processor."""

MAX_STAGES = 8
UNKNOWN = "device not logged"


def draw(rows: pd.DataFrame) -> Figure:
    """Events/s of the whole chain against the mean number of interactions per crossing, the ratio to the CPU
    beside it, and the times (ms) of stages that one log gives for two processors.

    Args:
        rows: see ``QUERY``.
    """
    chain, stages = rows[rows["part"] == "chain"], _on_two(rows[rows["part"] == "stage"])
    if chain.empty and stages is None:
        return style.empty(
            "no reconstruction in cleaned_runs with a pile-up, or with a stage on two processors"
        )
    cpu = chain[chain["series"].str.lower().str.startswith("cpu")]
    reference = cpu.groupby("mu")["value"].median() if len(cpu) else None
    fig, axes = style.panels(bool(len(chain)) + (reference is not None) + (stages is not None), (6.0, 3.2))
    places = iter(axes)
    if len(chain):
        _chain(next(places), chain)
    if reference is not None:
        _ratios(next(places), chain, reference)
    if stages is not None:
        _stages(next(places), *stages)
    fig.suptitle("Track reconstruction: CPU against GPU")
    return fig


def _chain(ax, chain: pd.DataFrame) -> None:
    for i, (series, line) in enumerate(chain.groupby("series", sort=True)):
        ax.plot(line["mu"], line["value"], label=f"{series} (n = {line['n'].sum()})", **style.series_style(i))
    style.plain_log(ax, "y", 10)
    ax.set(xlabel="mean interactions per crossing, μ", ylabel="events per second")
    style.title(ax, "Whole chain")
    style.legend_beside(ax)


def _ratios(ax, chain: pd.DataFrame, reference: pd.Series) -> None:
    for i, (series, line) in enumerate(chain.groupby("series", sort=True)):
        common = line[line["mu"].isin(reference.index)]
        if len(common) and not series.lower().startswith(("cpu", UNKNOWN)):
            ratio = common["value"].to_numpy() / reference.loc[common["mu"]].to_numpy()
            ax.plot(common["mu"], ratio, label=series, **style.series_style(i))
    ax.axhline(1, color=style.QUIET, linewidth=0.9)
    ax.set(xlabel="mean interactions per crossing, μ", ylabel="events/s ÷ events/s of the CPU")
    style.title(ax, "Ratio where both were measured")
    style.from_zero(ax)
    style.legend_beside(ax)


def _on_two(stages: pd.DataFrame) -> tuple[str, pd.DataFrame] | None:
    """The run with most stages on two processors, and its times by stage (rows) and processor (columns)."""
    best = None
    for run, group in stages.groupby("run", sort=True):
        table = group.pivot_table(index="stage", columns="series", values="value", aggfunc="sum")
        both = table[table.notna().sum(axis=1) > 1]
        if len(both) and (best is None or len(both) > len(best[1])):
            best = (str(run).rsplit(" ", 1)[0], both)
    return best


def _stages(ax, run: str, times: pd.DataFrame) -> None:
    times = times.loc[times.max(axis=1).sort_values(ascending=False).index[:MAX_STAGES]]
    height = 0.8 / len(times.columns)
    for i, device in enumerate(times.columns):
        places = [place + (i - (len(times.columns) - 1) / 2) * height for place in range(len(times))]
        values = times[device].fillna(0)
        ax.barh(places, values, height=height, color=style.COLORS[i], label=device)
        for place, value in zip(places, times[device], strict=True):
            if style.known(float(value)):
                ax.annotate(
                    f"{style.number(value)} ms",
                    (value, place),
                    xytext=(3, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=8,
                )
    ax.set_yticks(range(len(times)), list(times.index))
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.set_xlim(0, 1.25 * max(times.max().max(), 1e-9))
    ax.set_xlabel("time (ms)")
    style.title(ax, f"Stages on both, {run}")
    style.legend_beside(ax)
