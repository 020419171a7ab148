"""The roofline: arithmetic per second of whole networks beside what the device's data sheet allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perf_assets.analysis.plots import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

QUESTION = "Is a network held back by the device's arithmetic or by its memory?"

QUERY = (
    style.RUNS
    + """
    , networks AS (
        SELECT
            network AS model,
            round(pruning_level_pct / 100, 4) AS pruning_ratio,
            arg_min(in_hw, layer_index) AS input_size,
            sum(macs) AS macs,
            sum(params) AS params,
            -- every layer writes its output and the next reads it
            sum(4.0 * out_channels * out_hw * out_hw) AS activation_bytes
        FROM cleaned_layer_tables
        GROUP BY ALL
        UNION ALL
        SELECT network, 0, input_size, any_value(macs), any_value(params), any_value(activation_bytes)
        FROM network_features
        WHERE pruned_model IS NULL AND stage = 'inference'
        GROUP BY ALL
    ),
    counted AS (
        SELECT
            runs.model, runs.device, runs.stage, runs.batch_size, runs.precision,
            coalesce(runs.input_size, networks.input_size) AS input_size,
            runs.latency_ms,
            -- a step of training goes forward once and backward twice as long
            CASE WHEN runs.stage = 'training' THEN 3 ELSE 1 END AS passes,
            networks.macs, networks.params, networks.activation_bytes
        FROM runs
        JOIN networks
            ON lower(networks.model) = lower(runs.model)
            AND networks.pruning_ratio = round(coalesce(runs.pruning_ratio, 0), 4)
            AND coalesce(runs.input_size, networks.input_size) = networks.input_size
        WHERE runs.status = 'ok' AND runs.latency_ms > 0 AND runs.batch_size > 0
    )
    SELECT
        model, device, stage, batch_size, input_size, precision,
        median(latency_ms) AS latency_ms,
        any_value(2e-9 * macs * batch_size * passes) / (median(latency_ms) / 1000) AS gflops,
        any_value(
            2.0 * macs * batch_size * passes
            / (passes * (4 * params + 2 * activation_bytes * batch_size))
        ) AS flop_per_byte,
        count(*) AS n
    FROM counted
    GROUP BY ALL
    ORDER BY device, stage, model, batch_size
"""
)
"""One row a configuration: GFLOP/s reached, and FLOP per byte if everything is read and written once in fp32."""

MAX_PANELS = 4


def draw(runs: pd.DataFrame) -> Figure:
    """A panel a device and stage: GFLOP/s against FLOP/byte, one marker a network, under the data sheet's roof.

    Args:
        runs: see ``QUERY``.
    """
    if runs.empty:
        return style.empty(
            "no timed network whose multiply-adds are known: make network_features, or drop layer tables"
        )
    groups = list(runs.groupby(["device", "stage"], dropna=False, sort=False))
    shown = style.largest(groups, MAX_PANELS)
    fig, axes = style.panels(len(shown), (5.8, 3.3))
    for ax, ((device, stage), group) in zip(axes, shown, strict=True):
        for i, (model, points) in enumerate(group.groupby("model", sort=True)):
            ax.plot(
                points["flop_per_byte"],
                points["gflops"],
                linestyle="none",
                alpha=0.7,
                label=f"{model} (n = {points['n'].sum()})",
                **style.series_style(i),
            )
        style.plain_log(ax, "x", 10)
        style.plain_log(ax, "y", 10)
        _roof(ax, device)
        ax.set(xlabel="arithmetic intensity (FLOP/byte)", ylabel="arithmetic done (GFLOP/s)")
        style.title(ax, style.words(device, stage))
        style.legend_beside(ax)
    fig.suptitle("Roofline of whole networks")
    style.footnote(
        fig,
        "FLOP = 2 × multiply-adds, three times that for a training step; bytes if weights and activations are moved "
        "once in 32 bits. Roof: 32-bit peak and memory bandwidth of the data sheet, without tensor cores.",
        style.hidden(len(shown), len(groups), "devices and stages"),
    )
    return fig


def _roof(ax, device: object) -> None:
    from perf_assets.schema.device_catalog import devices

    facts = devices().get(str(device))
    peak, bandwidth = (getattr(facts, name, None) for name in ("peak_fp32_tflops", "memory_bandwidth_gbps"))
    if not peak or not bandwidth:
        return
    ridge = 1000 * peak / bandwidth
    low, high = ax.get_xlim()
    low, high = min(low, ridge / 10), max(high, ridge * 10)
    ax.plot(
        [low, ridge, high], [low * bandwidth, 1000 * peak, 1000 * peak], color="black", label="data sheet"
    )
    ax.set_xlim(low, high)
