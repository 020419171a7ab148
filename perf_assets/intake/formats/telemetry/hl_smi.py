"""Poll logs of ``hl-smi -Q timestamp,module_id,... -f csv`` (Habana Gaudi), any fields in any order."""

from __future__ import annotations

from perf_assets.intake.parsing.poll_log import PollFormat, PollReader
from perf_assets.intake.parsing.poll_times import parse_date_command_time
from perf_assets.intake.parsing.records import Records
from perf_assets.intake.parsing.source import Head, Source

VERSION = 1

FORMAT = PollFormat(
    fields={
        "timestamp": ("polled_at", ""),
        "module_id": ("device_id", ""),
        "bus_id": ("device_id", ""),
        "index": ("device_id", ""),
        "uuid": ("device_id", ""),
        "name": ("device_name", ""),
        "utilization.aip": ("utilization_pct", "%"),
        "power.draw": ("power_w", "W"),
        "memory.used": ("memory_used_mib", "MiB"),
        "memory.total": ("memory_total_mib", "MiB"),
        "temperature.aip": ("temperature_c", "degC"),
        "clocks.current.soc": ("sm_clock_mhz", "MHz"),
    },
    device_fields=("module_id", "bus_id", "index", "uuid"),
    parse_time=parse_date_command_time,
    time_source=lambda timezone: "utc",
)

# Fields that only hl-smi prints; the rest is shared with nvidia-smi.
_OWN_FIELDS = ("module_id", "utilization.aip", "temperature.aip")


def sniff(head: Head) -> bool:
    """A header with a field that only hl-smi has, or times as only hl-smi prints them."""
    return any(_is_own_header(line) for line in head.lines)


def _is_own_header(line: str) -> bool:
    cells = line.split(",")
    names = {cell.strip().split(" ")[0] for cell in cells}
    return FORMAT.is_header(cells) and (
        any(field in names for field in _OWN_FIELDS) or ("bus_id" in names and "pci.bus_id" not in names)
    )


def parse(source: Source, out: Records) -> None:
    """One row of ``cleaned_telemetry`` a data line; header repeats and blank lines are ignored."""
    PollReader(FORMAT, source, out).read()
