"""Predicted against measured with intervals, and the predictors' errors on runs they were not shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perf_assets.analysis.plots import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

QUESTION = "How near are the predictions to what was measured?"

QUERY = (
    style.RUNS
    + """
    , measured AS (
        UNPIVOT (
            SELECT
                model, round(coalesce(pruning_ratio, 0), 4) AS pruning_ratio, device, stage, algorithm,
                batch_size, input_size,
                median(latency_ms) AS latency,
                median(memory_used_mib) AS memory,
                median(memory_allocated_mib) AS memory_allocated,
                median(energy_j) AS energy
            FROM runs
            WHERE status = 'ok'
            GROUP BY ALL
        )
        ON latency, memory, memory_allocated, energy INTO NAME target VALUE measured
    )
    SELECT
        'point' AS part, predictions.target, predictions.device, predictions.stage, NULL AS method,
        NULL AS split, measured.measured, predictions.predicted, predictions.lower, predictions.upper,
        predictions.unit, predictions.abstain, NULL AS n
    FROM predictions
    JOIN measured
        ON measured.target = predictions.target AND measured.model = predictions.model
        AND measured.pruning_ratio = round(coalesce(predictions.pruning_ratio, 0), 4)
        AND measured.device = predictions.device AND measured.stage = predictions.stage
        AND measured.algorithm IS NOT DISTINCT FROM predictions.algorithm
        AND measured.batch_size = predictions.batch_size
        AND (measured.input_size = predictions.input_size OR measured.input_size IS NULL)
    WHERE predictions.was_measured AND measured.measured > 0 AND predictions.predicted > 0
    UNION ALL
    SELECT
        'score', target, device, stage, method, split, NULL, mape, NULL, NULL, '%', NULL, n
    FROM predictor_scores
    WHERE "group" = 'all' AND split <> 'random_leaky' AND target <> 'oom' AND mape IS NOT NULL
    ORDER BY part, target, device, stage, split, method
"""
)
"""Rows of part 'point': a prediction and its measurement; of part 'score': a method's error (%) on one split."""

MAX_TARGETS = 3
MAX_BARS = 14


def draw(rows: pd.DataFrame) -> Figure:
    """A panel a target: predicted against measured with 90 % intervals (those points were learnt from), and
    beside it the mean errors (%) on held-out runs, which are what counts.

    Args:
        rows: see ``QUERY``.
    """
    if rows.empty:
        return style.empty("no predictions and no scores: 'perf-assets fit' makes them")
    points, scores = rows[rows["part"] == "point"], rows[rows["part"] == "score"]
    targets = list(rows.groupby("target").size().sort_values(ascending=False).index[:MAX_TARGETS])
    fig, axes = style.figure(len(targets), 2, (6.2, 3.4))
    for row, target in enumerate(targets):
        _points(axes[row, 0], points[points["target"] == target], target)
        _scores(axes[row, 1], scores[scores["target"] == target], target)
    fig.suptitle("Predicted against measured")
    style.footnote(
        fig,
        "Left: configurations among the training rows, so the scatter flatters; bars: 90 % intervals; dotted: "
        "± 10 %. Right: mean absolute error on runs that were held out of the fit, split as named.",
        style.hidden(len(targets), rows["target"].nunique(), "targets"),
    )
    return fig


def _points(ax, points: pd.DataFrame, target: str) -> None:
    style.title(ax, f"{target}, {len(points)} measured configurations")
    if points.empty:
        ax.text(0.5, 0.5, "no prediction was measured", transform=ax.transAxes, ha="center")
        ax.set_axis_off()
        return
    unit = points["unit"].iloc[0]
    for i, (key, group) in enumerate(points.groupby(["device", "stage"], sort=True)):
        look = style.series_style(i)
        below = (group["predicted"] - group["lower"]).clip(lower=0)
        above = (group["upper"] - group["predicted"]).clip(lower=0)
        ax.errorbar(
            group["measured"],
            group["predicted"],
            yerr=[below, above],
            fmt=look["marker"],
            color=look["color"],
            markersize=3,
            elinewidth=0.5,
            alpha=0.6,
            label=f"{style.words(*key)} (n = {len(group)})",
            rasterized=len(points) > 300,
        )
    ends = [points[["measured", "predicted"]].min().min(), points[["measured", "predicted"]].max().max()]
    ax.plot(ends, ends, color="black", linewidth=0.9)
    for factor in (0.9, 1.1):
        ax.plot(ends, [factor * end for end in ends], color="black", linestyle=":", linewidth=0.8)
    for axis in "xy":
        style.plain_log(ax, axis, 10)
    ax.set(xlabel=f"measured ({unit})", ylabel=f"predicted ({unit})")
    style.legend_beside(ax)


def _scores(ax, scores: pd.DataFrame, target: str) -> None:
    style.title(ax, f"{target}: error on held-out runs")
    if scores.empty:
        ax.text(0.5, 0.5, "no held-out score", transform=ax.transAxes, ha="center")
        ax.set_axis_off()
        return
    own = scores[scores["method"] == "perf_assets"].sort_values("n", ascending=False)
    keys = [(row.device, row.stage, row.split) for row in own.itertuples()]
    table = {key: scores[_same(scores, key)].sort_values("predicted") for key in keys}
    names, values, texts, colors = [], [], [], []
    for (device, stage, split), rows in table.items():
        for row in rows.itertuples():
            if len(names) == MAX_BARS:
                break
            names.append(f"{row.method}: {style.words(device, stage, split.replace('_', ' '))}")
            values.append(row.predicted)
            texts.append(f"{style.number(row.predicted)} %, n = {row.n:.0f}")
            colors.append(style.COLORS[0 if row.method == "perf_assets" else 7])
    if names:
        style.bars(ax, names, values, texts, color=colors)
    ax.set_xlabel("mean absolute error (%)")


def _same(scores: pd.DataFrame, key: tuple) -> pd.Series:
    return (scores["device"] == key[0]) & (scores["stage"] == key[1]) & (scores["split"] == key[2])
