"""Polls of devices over time: power, utilization, memory, temperature and clock, with joules and idle times.

The thinning is done in SQL: of the polls in one pixel the smallest and the largest stay, so no spike is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perf_assets.analysis.plots import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

QUESTION = "What did the devices do meanwhile: power, utilization and memory, and how many joules was that?"

PIXELS = 400
MAX_SESSIONS = 3

QUERY = f"""
WITH sessions AS (
    SELECT * FROM (
        SELECT telemetry_sessions.*, source_files.path
        FROM telemetry_sessions
        JOIN source_files
            ON source_files.file_id = telemetry_sessions.file_id AND source_files.status = 'ingested'
    )
    WHERE {{shown}} AND ended_at > started_at
),
-- Sessions count per device: what overlaps in time within one log belongs together.
begins AS (
    SELECT
        *,
        started_at > max(ended_at) OVER (
            PARTITION BY file_id ORDER BY started_at, ended_at ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS apart
    FROM sessions
),
together AS (
    SELECT
        *,
        count(*) FILTER (apart) OVER (
            PARTITION BY file_id ORDER BY started_at, ended_at ROWS UNBOUNDED PRECEDING
        ) AS part
    FROM begins
),
spans AS (
    SELECT
        *,
        min(started_at) OVER (PARTITION BY file_id, part) AS began_at,
        max(ended_at) OVER (PARTITION BY file_id, part) AS over_at
    FROM together
),
ranked AS (
    SELECT
        *,
        dense_rank() OVER (ORDER BY over_at - began_at DESC, file_id, part) AS place,
        greatest(epoch(over_at - began_at), 1e-6) AS span_s
    FROM spans
),
shown AS (
    SELECT *, max(place) OVER () AS sessions_in_all FROM ranked QUALIFY place <= {MAX_SESSIONS}
)
SELECT
    shown.place,
    shown.path,
    shown.part,
    shown.began_at,
    shown.sessions_in_all,
    shown.device_id,
    shown.device_name,
    shown.energy_j,
    least(floor(epoch(polls.polled_at - shown.began_at) / span_s * {PIXELS}), {PIXELS} - 1)::INTEGER AS pixel,
    min(epoch(polls.polled_at - shown.began_at)) AS elapsed_s,
    count(*) AS polls,
    min(polls.power_w) AS power_low, max(polls.power_w) AS power_high,
    min(polls.utilization_pct) AS utilization_low, max(polls.utilization_pct) AS utilization_high,
    min(polls.memory_used_mib) AS memory_low, max(polls.memory_used_mib) AS memory_high,
    min(polls.temperature_c) AS temperature_low, max(polls.temperature_c) AS temperature_high,
    min(polls.sm_clock_mhz) AS clock_low, max(polls.sm_clock_mhz) AS clock_high,
    max(polls.power_limit_w) AS power_limit_w
FROM cleaned_telemetry AS polls
JOIN shown USING (file_id, device_id, session)
GROUP BY ALL
ORDER BY place, shown.device_id, pixel
"""
"""One row a device and pixel of the longest polling sessions, with the range of every metric in it."""

METRICS = {
    "power": "power (W)",
    "utilization": "utilization (%)",
    "memory": "memory used (MiB)",
    "temperature": "temperature (°C)",
    "clock": "compute clock (MHz)",
}
ACTIVE_SHARE = 0.10
MIN_RANGE_W = 15.0
IDLE_SHARE = 0.025


def draw(polls: pd.DataFrame) -> Figure:
    """A column a polling session, below each other every metric it has against the time since it began (s).
    Grey where all devices are idle; the joules of each device stand in the legend.

    Args:
        polls: see ``QUERY``.
    """
    if polls.empty:
        return style.empty("no polling session with times in cleaned_telemetry")
    sessions = [session for _, session in polls.groupby("place", sort=True)]
    metrics = [name for name in METRICS if polls[f"{name}_high"].notna().any()]
    if not metrics:
        return style.empty("the polls in cleaned_telemetry have neither power nor utilization nor memory")
    most = max(session["device_id"].nunique() for session in sessions)
    heights = [1.0] * len(metrics) + [0.15 + 0.12 * -(-most // 2)]
    fig, axes = style.figure(len(metrics) + 1, len(sessions), (3.6, 1.7), heights)
    for column, session in enumerate(sessions):
        _one_session(axes[:, column], session, metrics)
    fig.suptitle("Telemetry over time")
    in_all = int(polls["sessions_in_all"].iloc[0])
    style.footnote(
        fig,
        "Lines span the smallest and largest poll of each pixel. Grey: every device draws within "
        f"{ACTIVE_SHARE:.0%} of its range above its lowest power, for longer than {IDLE_SHARE:.1%} of the session. Dashed: power limit.",
        style.hidden(len(sessions), in_all, "sessions (the longest)"),
    )
    return fig


def idle_spans(session: pd.DataFrame) -> list[tuple[float, float]]:
    """Times (s since the session began) in which all devices are idle; none where power hardly changes."""
    active: set[int] = set()
    steady = True
    for _, device in session.groupby("device_id"):
        low, high = device["power_low"].min(), device["power_high"].max()
        if not high - low > MIN_RANGE_W:
            continue
        steady = False
        busy = device["power_high"] > low + ACTIVE_SHARE * (high - low)
        active |= set(device.loc[busy, "pixel"])
    if steady:
        return []
    starts = session.groupby("pixel")["elapsed_s"].min().sort_index()
    spans: list[tuple[float, float]] = []
    for i, pixel in enumerate(starts.index):
        if pixel in active:
            continue
        begin = starts.iloc[i]
        end = starts.iloc[i + 1] if i + 1 < len(starts) else session["elapsed_s"].max()
        if spans and spans[-1][1] == begin:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((begin, end))
    shortest_s = IDLE_SHARE * session["elapsed_s"].max()
    return [(begin, end) for begin, end in spans if end - begin >= shortest_s]


def _one_session(axes, session: pd.DataFrame, metrics: list[str]) -> None:
    *shown, below = axes
    devices = list(session.groupby("device_id", sort=True))
    idle = idle_spans(session)
    for ax, metric in zip(shown, metrics, strict=True):
        for begin, end in idle:
            ax.axvspan(begin, end, color="#BBBBBB", alpha=0.35, linewidth=0)
        for i, (_, device) in enumerate(devices):
            _one_device(ax, device, metric, style.COLORS[i % len(style.COLORS)])
        limit = session["power_limit_w"].max()
        if metric == "power" and style.known(limit):
            ax.axhline(limit, color="black", linestyle="--", linewidth=0.9)
        ax.set_ylabel(METRICS[metric])
        ax.set_xlim(0, max(session["elapsed_s"].max(), 1e-6))
        style.from_zero(ax)
        if metric == "utilization":
            ax.set_ylim(0, 105)
        if session[f"{metric}_high"].isna().all():
            ax.text(0.5, 0.5, "not in this log", transform=ax.transAxes, ha="center", color=style.QUIET)
            ax.set_yticks([])
    shown[-1].set_xlabel("time since the session began (s)")
    first = session.iloc[0]
    total_j = session.groupby("device_id")["energy_j"].first().sum()
    joules = f": {_joules(total_j)} in all" if total_j else ""
    log = "/".join(first["path"].split("/")[-2:])
    style.title(shown[0], f"{log}, from {first['began_at']:%Y-%m-%d %H:%M} UTC{joules}", 38)
    below.set_axis_off()
    handles = [
        below.plot([], [], color=style.COLORS[i % len(style.COLORS)], linewidth=2.5)[0]
        for i in range(len(devices))
    ]
    labels = [_device(device.iloc[0]) for _, device in devices]
    columns = 1 if max(map(len, labels)) > 28 else 2
    below.legend(handles, labels, loc="upper left", ncols=columns, bbox_to_anchor=(0, 1))


def _one_device(ax, device: pd.DataFrame, metric: str, color: str) -> None:
    import numpy as np

    low, high = device[f"{metric}_low"], device[f"{metric}_high"]
    # Up and down within a pixel: low and high one after the other, so that every spike is on the line.
    times = np.repeat(device["elapsed_s"].to_numpy(), 2)
    values = np.column_stack([low.to_numpy(float), high.to_numpy(float)]).ravel()
    ax.plot(times, values, color=color, linewidth=0.8, alpha=0.85, rasterized=True)


def _device(row: pd.Series) -> str:
    name = str(row["device_id"])
    name = f"…{name[-8:]}" if len(name) > 16 else name
    product = f" {row['device_name']}" if style.known(row["device_name"]) else ""
    energy = f": {_joules(row['energy_j'])}" if style.known(row["energy_j"]) else ""
    return f"{name}{product}{energy}"


def _joules(energy_j: float) -> str:
    return f"{energy_j / 1000:,.1f} kJ" if energy_j >= 1000 else f"{energy_j:,.0f} J"
