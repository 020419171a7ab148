"""``nvidia-smi dmon``: one row a GPU and poll; W, °C, %, MHz, MB (which are MiB), MB/s."""

from __future__ import annotations

from perf_assets.intake.parsing.cells import number
from perf_assets.intake.parsing.poll_sessions import Sessions
from perf_assets.intake.parsing.records import Records
from perf_assets.intake.parsing.smi_monitor import is_monitor, is_time_column, polls
from perf_assets.intake.parsing.source import Head, Source

VERSION = 1

_COLUMNS = {
    "pwr": "power_w",
    "gtemp": "temperature_c",
    "sm": "utilization_pct",
    "mem": "memory_utilization_pct",
    "mclk": "memory_clock_mhz",
    "pclk": "sm_clock_mhz",
    "fb": "memory_used_mib",
}
_GROUPS = ({"pwr"}, {"sm", "mem"}, {"mclk", "pclk"}, {"fb", "bar1"}, {"rxpci", "txpci"})


def sniff(head: Head) -> bool:
    """Is the first line dmon's header? pmon's names processes."""
    return not is_monitor(head, "pid") and any(is_monitor(head, *group) for group in _GROUPS)


def parse(source: Source, out: Records) -> None:
    """Read the source, fill the records."""
    sessions = Sessions()
    for poll in polls(source, out):
        try:
            values = {
                name: number(cell)
                for name, cell in poll.cells.items()
                if name != "gpu" and not is_time_column(name)
            }
        except ValueError as error:
            poll.line.reject("bad_row", str(error))
            continue
        device_id = str(poll.gpu_index)
        labels = (
            [("time_of_day", poll.time_of_day.isoformat())] if poll.time_of_day and not poll.polled_at else []
        )
        out.add(
            "cleaned_telemetry",
            line_number=poll.line.number,
            device_id=device_id,
            session=sessions.of(device_id, poll.polled_at),
            polled_at=poll.polled_at,
            time_source=poll.time_source,
            metrics=[
                (f"{name} [{poll.units.get(name, '')}]", value)
                for name, value in values.items()
                if name not in _COLUMNS and value is not None
            ],
            labels=labels,
            **{column: values.get(name) for name, column in _COLUMNS.items()},
        )
