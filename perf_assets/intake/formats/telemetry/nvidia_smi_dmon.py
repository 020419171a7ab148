"""``nvidia-smi dmon``: one row a GPU and poll; W, °C, %, MHz, MB (which are MiB), MB/s."""

from __future__ import annotations

from perf_assets.intake.parsing.cells import number
from perf_assets.intake.parsing.polls.sessions import Sessions
from perf_assets.intake.parsing.polls.smi_monitor import header_of, measured_cells, polls
from perf_assets.intake.parsing.records import Records
from perf_assets.intake.parsing.source import Head, Source
from perf_assets.intake.parsing.times import UNTOLD

VERSION = 2
SIGNS = (
    (
        "# gpu",
        "#gpu",
        "#Time",
        "#Date",
        "# Time",
        "# Date",
    ),
    (
        "pwr",
        "sm",
        "mclk",
        "fb",
        "rxpci",
    ),
)

_COLUMNS = {
    "pwr": "power_w",
    "gtemp": "temperature_c",
    "temp": "temperature_c",
    "sm": "utilization_pct",
    "mem": "memory_utilization_pct",
    "mclk": "memory_clock_mhz",
    "pclk": "sm_clock_mhz",
    "fb": "memory_used_mib",
}
"""Drivers before 390 print one temperature, ``temp``."""

_GROUPS = ({"pwr"}, {"sm", "mem"}, {"mclk", "pclk"}, {"fb", "bar1"}, {"rxpci", "txpci"})


def sniff(head: Head) -> bool:
    """Is there dmon's header among the first lines? pmon's names processes."""
    names = set(header_of(head))
    return "pid" not in names and any(names >= group for group in _GROUPS)


def parse(source: Source, out: Records) -> None:
    """Read the source, fill the records."""
    sessions = Sessions()
    for poll in polls(source, out):
        try:
            values = {name: number(cell) for name, cell in measured_cells(poll).items()}
        except ValueError as error:
            poll.line.reject("bad_row", str(error))
            continue
        polled_at = poll.moment.at if poll.moment else None
        out.add(
            "cleaned_telemetry",
            line_number=poll.line.number,
            device_id=poll.device_id,
            session=sessions.of(poll.device_id, polled_at),
            polled_at=polled_at,
            time_source=poll.moment.source if poll.moment else UNTOLD,
            metrics=[
                (f"{name} [{poll.units.get(name, '')}]", value)
                for name, value in values.items()
                if name not in _COLUMNS and value is not None
            ],
            labels=poll.labels,
            **{_COLUMNS[name]: value for name, value in values.items() if name in _COLUMNS},
        )
