"""Poll logs of ``hl-smi -Q timestamp,module_id,... -f csv`` (Habana Gaudi), any fields in any order."""

from __future__ import annotations

from perf_assets.intake.parsing.polls.fields import PollFormat
from perf_assets.intake.parsing.polls.log import PollReader
from perf_assets.intake.parsing.records import Records
from perf_assets.intake.parsing.source import Head, Source
from perf_assets.intake.parsing.times import is_date_command_time

VERSION = 2
SIGNS = (("module_id", "utilization.aip", "temperature.aip", "bus_id", "power.draw", "memory.used"),)

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
    foreign_fields=frozenset(
        (
            *(
                "pci.bus_id",
                "utilization.gpu",
                "utilization.memory",
                "temperature.gpu",
                "pid",
                "process_name",
            ),
            *(
                "gpu_name",
                "gpu_uuid",
                "gpu_bus_id",
                "pstate",
                "fan.speed",
                "enforced.power.limit",
                "clocks.sm",
            ),
        )
    ),
)

# Fields that only hl-smi prints; the rest is shared with nvidia-smi.
_OWN_FIELDS = frozenset(("module_id", "utilization.aip", "temperature.aip", "bus_id"))


def sniff(head: Head) -> bool:
    """A header with a field that only hl-smi has, or with times as only hl-smi prints them."""
    found = FORMAT.beginning(head.lines)
    if found is None:
        return False
    names, time_cell = found
    return not names.isdisjoint(_OWN_FIELDS) or is_date_command_time(time_cell)


def parse(source: Source, out: Records) -> None:
    """One row of ``cleaned_telemetry`` a data line; header repeats and blank lines are ignored."""
    PollReader(FORMAT, source, out).read()
