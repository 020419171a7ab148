"""Power and utilization over time, a panel a polling session, with the joules of each device."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from perf_assets.analysis.plots.style import COLORS, empty, figure

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

QUERY = """
    SELECT
        source_files.path AS name,
        polls.session,
        polls.device_id,
        date_diff('ms', min(polls.polled_at) OVER (PARTITION BY polls.file_id, polls.session),
            polls.polled_at)
            / 1000 AS elapsed_s,
        polls.power_w,
        polls.utilization_pct,
        sessions.energy_j
    FROM cleaned_telemetry AS polls
    JOIN telemetry_sessions AS sessions USING (file_id, device_id, session)
    JOIN source_files ON source_files.file_id = polls.file_id AND source_files.status = 'ingested'
    WHERE polls.power_w IS NOT NULL
    ORDER BY name, polls.session, polls.device_id, polls.polled_at
"""
"""The frame that ``device_power`` wants, as SQL on the published tables."""

MAX_SESSIONS = 6
MAX_POINTS = 2000


def device_power(polls: pd.DataFrame) -> Figure:
    """Power (left) and utilization (right) against the time since each session began.

    Args:
        polls: one row a device and poll: name, session, device_id, elapsed_s, power_w, utilization_pct, and
            energy_j of the device in the session.
    """
    if polls.empty:
        return empty("no poll with a power reading in cleaned_telemetry")
    sessions = [frame for _, frame in polls.groupby(["name", "session"], sort=True)]
    shown = sorted(sessions, key=lambda frame: -frame["elapsed_s"].max())[:MAX_SESSIONS]
    fig, axes = figure(len(shown), 2, width_in=13.0, height_in=1.0 + 2.6 * len(shown))
    for row, polled in enumerate(shown):
        name, session = polled["name"].iloc[0], polled["session"].iloc[0]
        power, utilization = axes[2 * row], axes[2 * row + 1]
        total_j = 0.0
        for i, (device, points) in enumerate(polled.groupby("device_id", sort=True)):
            energy_j = points["energy_j"].iloc[0]
            total_j += 0.0 if math.isnan(energy_j) else energy_j
            points = points.iloc[:: max(1, len(points) // MAX_POINTS)]
            color = COLORS[i % len(COLORS)]
            label = f"{device}: {energy_j / 1000:,.1f} kJ"
            power.plot(points["elapsed_s"], points["power_w"], color=color, linewidth=0.9, label=label)
            utilization.plot(points["elapsed_s"], points["utilization_pct"], color=color, linewidth=0.9)
        power.set(xlabel="time since the session began (s)", ylabel="power (W)")
        power.set_title(f"{name}, session {session}: {total_j / 1000:,.1f} kJ in all", fontsize=9, loc="left")
        power.legend(fontsize=6, ncols=2)
        utilization.set(xlabel="time since the session began (s)", ylabel="utilization (%)", ylim=(-3, 103))
    if len(sessions) > len(shown):
        fig.suptitle(f"the {len(shown)} longest of {len(sessions)} sessions")
    return fig
