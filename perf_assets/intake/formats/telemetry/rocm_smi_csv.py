"""``rocm-smi --csv`` in a loop: a header before every poll, a row a card; °C, W, %, bytes, clocks in
brackets.

There is no time in it, unless a script put a column ``timestamp`` in front.
"""

from __future__ import annotations

import re
from typing import Any

from perf_assets.intake.parsing.cells import is_absent, number
from perf_assets.intake.parsing.delimited import has_header, named_rows
from perf_assets.intake.parsing.polls.sessions import Sessions
from perf_assets.intake.parsing.records import Records
from perf_assets.intake.parsing.source import Head, Source
from perf_assets.intake.parsing.times import UNTOLD, parse_time

VERSION = 2
SIGNS = (
    ("device",),
    (
        "(Sensor ",
        "Graphics Package Power (W)",
        "GPU use (%)",
        "VRAM Total",
        "clk clock speed:",
    ),
)
RULES = {"memory_*_mib": 2**-20}

BYTES_PER_MIB = 2**20

# Titles in lower case, and what a number is multiplied by. Of several sensors the edge's is the card's
# temperature, as nvidia-smi's is.
_COLUMNS = {
    "gpu use (%)": ("utilization_pct", 1.0),
    "gpu memory use (%)": ("memory_utilization_pct", 1.0),
    "temperature (sensor edge) (c)": ("temperature_c", 1.0),
    "average graphics package power (w)": ("power_w", 1.0),
    "current socket graphics package power (w)": ("power_w", 1.0),
    "max graphics package power (w)": ("power_limit_w", 1.0),
    "vram total memory (b)": ("memory_total_mib", 1 / BYTES_PER_MIB),
    "vram total used memory (b)": ("memory_used_mib", 1 / BYTES_PER_MIB),
    "sclk clock speed:": ("sm_clock_mhz", 1.0),
    "mclk clock speed:": ("memory_clock_mhz", 1.0),
}
_NAMES = ("card series", "card series:")
_OWN = re.compile(
    r"temperature \(sensor \w+\) \(c\)|.*graphics package power \(w\)|gpu (?:memory )?use \(%\)|vram total"
    r" .*\(b\)|[smf]clk clock speed:",
    re.ASCII,
)
_CLOCK = re.compile(r"\(([\d.]+)Mhz\)", re.ASCII | re.IGNORECASE)


def sniff(head: Head) -> bool:
    """A header with a device and a title that only rocm-smi has."""
    return has_header(head, _is_header)


def _is_header(cells: list[str]) -> bool:
    names = [cell.lower() for cell in cells]
    return "device" in names[:2] and any(map(_OWN.match, names))


def parse(source: Source, out: Records) -> None:
    """Read the source, fill the records."""
    sessions = Sessions()
    # A title that is not known does not hide a header: the rows below are not those of the one before.
    for line, row in named_rows(source, out, lambda cells: "device" in [cell.lower() for cell in cells[:2]]):
        cells = {name.lower(): cell for name, cell in row.items()}
        device_id = cells.get("device", "")
        if device_id == "system":
            line.ignore()  # versions of the driver, in a row of its own
            continue
        try:
            if not device_id or len(device_id) > 100:
                raise ValueError("no device")
            moment = parse_time(cells["timestamp"], source.timezone) if cells.get("timestamp") else None
            values = _values(row)
        except ValueError as error:
            line.reject("bad_row", str(error))
            continue
        line.use()
        polled_at = moment.at if moment else None
        out.add(
            "cleaned_telemetry",
            line_number=line.number,
            device_id=device_id,
            session=sessions.of(device_id, polled_at),
            polled_at=polled_at,
            time_source=moment.source if moment else UNTOLD,
            **values,
        )


def _values(row: dict[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    metrics: list[tuple[str, float]] = []
    labels: list[tuple[str, str]] = []
    for title, cell in row.items():
        name = title.lower()
        if name in ("device", "timestamp") or not name or is_absent(cell):
            continue
        clock = _CLOCK.match(cell)
        try:
            value = number(clock[1] if clock else cell)
        except ValueError:
            if name in _COLUMNS:
                raise
            value = None
        if name in _NAMES:
            values["device_name"] = cell
        elif value is None:
            labels.append((title, cell))
        elif name in _COLUMNS and _COLUMNS[name][0] not in values:
            column, factor = _COLUMNS[name]
            values[column] = value * factor
        else:
            metrics.append((title, value))
    return values | {"metrics": metrics, "labels": labels}
