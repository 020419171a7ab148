"""Folders that ``perf-assets record`` leaves: the log of one command, what it printed, and what tools polled.

The log makes one run. What the command printed, and each tool's output, is read by the format that claims it,
as if it had been dropped alone; ``recorded_in`` in the config of its runs names the recording's run, and all
rows have the recording's file_id. Output that no format knows is counted as ignored lines.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from perf_assets.intake.parsing.nested import read_nested
from perf_assets.intake.parsing.own_log import (
    OwnRun,
    add_counters,
    add_polls,
    add_samples,
    check_counter,
    check_power,
    is_header,
    moment,
    number,
    object_in,
    own_runs,
    text,
    texts,
)
from perf_assets.intake.parsing.records import Records
from perf_assets.intake.parsing.source import Head, Source

VERSION = 1
SIGNS = (
    ('"format": "perf_assets_recording"',),
    ('"line": "header"',),
)
RULES = {
    "duration_s": "without a result, from the start to the last line",
}
# The log sorts first: a drop is known by its first member.
MEMBERS = (
    "recording.jsonl",
    "stdout.txt",
    "stderr.txt",
    "telemetry_nvidia_smi.csv",
    "telemetry_hl_smi.csv",
    "telemetry_rocm_smi.csv",
    "telemetry_tegrastats.log",
)
KEY_MEMBERS = ("recording.jsonl",)

_FORMAT = "perf_assets_recording"
_LOG = "recording.jsonl"
_KINDS = frozenset(("header", "device", "power", "start", "sample", "counter", "energy", "result"))
_STATUSES = ("ok", "failed", "oom")
_RESULT_NUMBERS = ("duration_s", "largest_rss_mib", "energy_j", "mean_power_w")
_IN_COLUMNS = frozenset((*_RESULT_NUMBERS, "status", "quality"))


def sniff(head: Head) -> bool:
    """A first line that is this log's header."""
    return is_header(head, _FORMAT)


def parse(source: Source, out: Records) -> None:
    """One run for the command; the runs of what it printed; samples, polls and counters."""
    run_id = name = None
    for run in own_runs(source, out, _KINDS, _check, _LOG):
        run_id, name = _write(run, out)
    for member in MEMBERS[1:]:
        if member in source.members:
            # Facts that stand in names only (mu200, gpu) stand in the recording's.
            path = PurePosixPath(source.path, f"{name}.{member}" if name else member)
            read_nested(source, member, path, out, run_id)


def _check(kind: str, row: dict[str, Any]) -> None:
    """Are the values that become columns of the right kind?"""
    number(row, "at_s")
    if kind in ("header", "start"):
        moment(row, "started_at")
        number(row, "started_monotonic_s")
    if kind == "header":
        for name in ("name", "command", "run"):
            text(row, name)
        text(object_in(row, "host"), "hostname")
        object_in(row, "engine")
    elif kind == "power":
        check_power(row)
    elif kind == "counter":
        check_counter(row)
    elif kind == "device":
        for name in ("device", "name", "driver_version"):
            text(row, name)
        number(row, "power_limit_w")
    elif kind == "result":
        for name in ("status", "reason"):
            text(row, name)
        for name in _RESULT_NUMBERS:
            number(row, name)


def _sampled_s(run: OwnRun) -> float | None:
    """From the start to the last line, of a recording that was cut off."""
    started_s, last_s = run.last("start").get("at_s"), run.rows[-1].fields.get("at_s") if run.rows else None
    return None if started_s is None or last_s is None else max(0.0, last_s - started_s)


def _write(run: OwnRun, out: Records) -> tuple[str, str | None]:
    header, result, start = run.header, run.last("result"), run.last("start")
    host = header["host"].get("hostname")
    status = result.get("status")
    gpus = [row for row in run.all("device") if row.get("source") == "nvml"]
    shown = gpus or run.all("device")
    limits = [row.get("power_limit_w") for row in gpus]
    run_id = out.run(
        tool="perf_assets",
        workload="command",
        name=header.get("name"),
        status="incomplete" if not result else status if status in _STATUSES else "unknown",
        host=host,
        device_raw=next((row["name"] for row in shown if row.get("name")), header["host"].get("cpu_model")),
        device_count=len(gpus) or 1,
        started_at=moment(start or header, "started_at"),
        duration_s=result["duration_s"] if result.get("duration_s") is not None else _sampled_s(run),
        process_rss_mib=result.get("largest_rss_mib"),
        mean_power_w=result.get("mean_power_w"),
        energy_j=result.get("energy_j"),
        energy_basis="run" if result.get("energy_j") is not None else None,
        power_limit_w=limits[0] if limits and None not in limits and len(set(limits)) == 1 else None,
        driver_version=next((row["driver_version"] for row in gpus if row.get("driver_version")), None),
        quality=texts(result, "quality"),
        command=header.get("command"),
        config={
            "kind": "recording",
            "run": header.get("run"),
            "cwd": header.get("cwd"),
            "hz": header.get("hz"),
            "host": header["host"],
            "engine": header["engine"],
            "energy": [
                {name: value for name, value in row.items() if name not in ("line", "at_s")}
                for row in run.all("energy")
            ]
            or None,
            "result": {
                name: value
                for name, value in result.items()
                if name not in _IN_COLUMNS and name not in ("line", "at_s")
            }
            or None,
        },
    )
    add_samples(out, run_id, moment(header, "started_at"), run.all("sample"))
    add_polls(out, run_id, run, host)
    add_counters(out, run_id, run.all("counter"))
    return run_id, header.get("name")
