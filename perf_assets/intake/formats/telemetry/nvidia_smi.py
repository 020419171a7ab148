"""Poll logs of ``nvidia-smi --query-gpu=... --format=csv[,nounits]``: any fields in any order, several
GPUs."""

from __future__ import annotations

from perf_assets.intake.parsing.polls.columns import fast_slashed_times
from perf_assets.intake.parsing.polls.fields import PollFormat
from perf_assets.intake.parsing.polls.log import PollReader
from perf_assets.intake.parsing.records import Records
from perf_assets.intake.parsing.source import Head, Source
from perf_assets.intake.parsing.times import is_date_command_time

VERSION = 2
SIGNS = (
    (
        "utilization.gpu",
        "utilization.memory",
        "power.",
        "memory.used",
        "memory.total",
        "temperature.gpu",
        "clocks.",
    ),
)

FORMAT = PollFormat(
    fields={
        "timestamp": ("polled_at", ""),
        "name": ("device_name", ""),
        "gpu_name": ("device_name", ""),
        "index": ("device_id", ""),
        "uuid": ("device_id", ""),
        "gpu_uuid": ("device_id", ""),
        "serial": ("device_id", ""),
        "gpu_serial": ("device_id", ""),
        "pci.bus_id": ("device_id", ""),
        "gpu_bus_id": ("device_id", ""),
        "utilization.gpu": ("utilization_pct", "%"),
        "utilization.memory": ("memory_utilization_pct", "%"),
        "power.draw": ("power_w", "W"),
        "power.draw.average": ("power_w", "W"),
        "power.draw.instant": ("power_w", "W"),
        "power.limit": ("power_limit_w", "W"),
        "enforced.power.limit": ("power_limit_w", "W"),
        "memory.used": ("memory_used_mib", "MiB"),
        "memory.total": ("memory_total_mib", "MiB"),
        "temperature.gpu": ("temperature_c", "degC"),
        "clocks.sm": ("sm_clock_mhz", "MHz"),
        "clocks.current.sm": ("sm_clock_mhz", "MHz"),
        "clocks.mem": ("memory_clock_mhz", "MHz"),
        "clocks.current.memory": ("memory_clock_mhz", "MHz"),
    },
    device_fields=(
        "pci.bus_id",
        "gpu_bus_id",
        "uuid",
        "gpu_uuid",
        "index",
        "serial",
        "gpu_serial",
    ),
    # Fields that hl-smi has and nvidia-smi has not, and those of its lists of processes.
    foreign_fields=frozenset(
        (
            "module_id",
            "utilization.aip",
            "temperature.aip",
            "bus_id",
            "pid",
            "process_name",
            "used_gpu_memory",
        )
    ),
    fast_time=fast_slashed_times,
)


# What hl-smi does not print; the rest of the fields they share.
_OWN_FIELDS = ("utilization.", "temperature.gpu", "pci.", "clocks.", "gpu_", "fan.", "pstate", "enforced.")


def sniff(head: Head) -> bool:
    """A header line of nvidia-smi's field names with something measured, and no times as hl-smi prints
    them."""
    found = FORMAT.beginning(head.lines)
    if found is None:
        return False
    names, time_cell = found
    return any(name.startswith(_OWN_FIELDS) for name in names) or not is_date_command_time(time_cell)


def parse(source: Source, out: Records) -> None:
    """One row of ``cleaned_telemetry`` a data line; header repeats and blank lines are ignored."""
    PollReader(FORMAT, source, out).read()
