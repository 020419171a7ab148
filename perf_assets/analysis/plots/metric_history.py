"""One metric over time, a panel a configuration, with the band of its own past; no verdict is given here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perf_assets.analysis.plots import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

QUESTION = "Has a configuration become slower than it used to be?"

QUERY = (
    style.RUNS
    + """
    SELECT
        concat_ws(', ', model, stage, device, host, precision, algorithm,
            'batch ' || batch_size, input_size || ' px',
            pruning_method || ' ' || nullif(pruning_ratio, 0), nullif(device_count, 1) || ' devices',
            num_workers || ' workers', tool) AS configuration,
        CASE
            WHEN latency_ms IS NOT NULL THEN 'latency (ms)'
            WHEN throughput_per_s IS NOT NULL THEN 'throughput (1/s)'
            ELSE 'duration (s)'
        END AS metric,
        coalesce(latency_ms, throughput_per_s, duration_s) AS value,
        started_at
    FROM runs
    WHERE status = 'ok' AND started_at IS NOT NULL AND value > 0
        -- an unnamed thing has no history
        AND coalesce(model, name) IS NOT NULL AND parent_run_id IS NULL
    QUALIFY count(*) OVER (PARTITION BY configuration, metric) >= 3
    ORDER BY configuration, metric, started_at
"""
)
"""One row a run, of configurations that ran at least three times."""

MAX_PANELS = 6
WINDOW = 30
MIN_PAST = 5
WIDTH_SIGMA = 3.0


def draw(runs: pd.DataFrame) -> Figure:
    """A panel a configuration: the metric against the time of the run, the running median of up to 30 earlier
    runs and three of its robust standard deviations about it; runs outside the band are ringed.

    Args:
        runs: see ``QUERY``.
    """
    if runs.empty:
        return style.empty("no configuration in cleaned_runs that ran three times with a time of start")
    groups = list(runs.groupby(["configuration", "metric"], sort=False))
    shown = style.largest(groups, MAX_PANELS)
    fig, axes = style.panels(len(shown), (5.6, 2.8))
    for ax, ((configuration, metric), history) in zip(axes, shown, strict=True):
        _one_history(ax, history)
        style.title(ax, f"{configuration} (n = {len(history)})", 66)
        ax.set(ylabel=metric)
    style.legend_beside(axes[min(1, len(axes) - 1)])
    fig.suptitle("Each run beside its own past")
    style.footnote(
        fig,
        f"Band: median of up to {WINDOW} earlier runs ± {WIDTH_SIGMA:g} robust standard deviations (1.4826 MAD); "
        f"from {MIN_PAST} earlier runs on. It is a look, no test.",
        style.hidden(len(shown), len(groups), "configurations"),
    )
    return fig


def past_band(values: pd.Series) -> tuple[pd.Series, pd.Series, pd.Series]:
    """Median, low and high end of the band of the earlier values; NaN where there are fewer than five."""
    past = values.shift(1).rolling(WINDOW, min_periods=MIN_PAST)
    median = past.median()
    spread = past.apply(lambda window: abs(window - _median(window)).pipe(_median), raw=False)
    half = WIDTH_SIGMA * 1.4826 * spread
    return median, median - half, median + half


def _median(values: pd.Series) -> float:
    return float(values.median())


def _one_history(ax, history: pd.DataFrame) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    times, values = history["started_at"], history["value"]
    median, low, high = past_band(values)
    if median.notna().any():
        ax.fill_between(
            times, low, high, color=style.COLORS[5], alpha=0.25, linewidth=0, label="band of its past"
        )
        ax.plot(times, median, color=style.COLORS[0], label="median of its past")
    ax.plot(times, values, "o", color=style.COLORS[0], label="a run")
    outside = (values < low) | (values > high)
    if outside.any():
        ax.plot(
            times[outside],
            values[outside],
            "o",
            markersize=10,
            markerfacecolor="none",
            color=style.COLORS[1],
            label="outside the band",
        )
    style.from_zero(ax)
    locator = AutoDateLocator(minticks=3, maxticks=6)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    ax.set_xlabel("start (UTC)")
