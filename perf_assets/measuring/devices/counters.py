"""Counters of a process while it works: ``perf stat`` where the kernel lets us, ``getrusage`` always."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from typing import Any

HARDWARE_EVENTS = ("cycles", "instructions", "branches", "branch-misses", "cache-references", "cache-misses")
SOFTWARE_EVENTS = (
    "task-clock",
    "page-faults",
    "minor-faults",
    "major-faults",
    "context-switches",
    "cpu-migrations",
)
# Without the right to look into the kernel, perf counts these in user space only, where they are 0 by nature.
_KERNEL_EVENTS = ("context-switches", "cpu-migrations")
_USAGE = {
    "user_time": ("ru_utime", "s"),
    "system_time": ("ru_stime", "s"),
    "minor_faults": ("ru_minflt", ""),
    "major_faults": ("ru_majflt", ""),
    "voluntary_context_switches": ("ru_nvcsw", ""),
    "involuntary_context_switches": ("ru_nivcsw", ""),
}


def count(work: Callable[[], object], *, use_perf: bool = True) -> tuple[list[dict[str, Any]], str | None]:
    """Run something and count what the process did meanwhile.

    Args:
        work: what is run, once.
        use_perf: try ``perf stat`` on this process.

    Returns:
        Fields of the log's ``counter`` lines, and why there are none of perf (None where there are).
    """
    session, reason = _start_perf() if use_perf else (None, "not asked for")
    before = resource.getrusage(resource.RUSAGE_SELF)
    try:
        work()
    finally:
        after = resource.getrusage(resource.RUSAGE_SELF)
        rows = []
        if session:
            rows, reason = _stop_perf(*session)
    for counter, (field, unit) in _USAGE.items():
        value = float(getattr(after, field) - getattr(before, field))
        rows.append(
            {
                "source": "getrusage",
                "scope": "process",
                "counter": counter,
                "value": value,
                "unit": unit,
                "running_pct": 100.0,
            }
        )
    return rows, reason


def parse_perf(text: str) -> list[dict[str, Any]]:
    """Fields of ``counter`` lines from the output of ``perf stat -j``: one JSON object a line.

    An event that the machine does not have keeps its row with value None. So do context switches and
    migrations that perf silently confined to user space (``:u``), where they always read 0.
    """
    rows = []
    for line in text.splitlines():
        try:
            event = json.loads(line)
            name = event["event"]
        except (ValueError, TypeError, KeyError):
            continue
        counter, _, modifier = name.partition(":")
        try:
            value = float(event["counter-value"])
        except (KeyError, ValueError):  # "<not supported>", "<not counted>"
            value = None
        if counter in _KERNEL_EVENTS and "u" in modifier:
            value = None
        running = None if value is None else event.get("pcnt-running")
        rows.append(
            {
                "source": "perf",
                "scope": "process",
                "counter": counter,
                "value": value,
                "unit": event.get("unit", ""),
                "running_pct": None if running is None else float(running),
            }
        )
    return rows


def _start_perf() -> tuple[tuple[subprocess.Popen, str] | None, str | None]:
    if not shutil.which("perf"):
        return None, "perf is not installed"
    handle, path = tempfile.mkstemp(suffix=".perf")
    os.close(handle)
    command = ["perf", "stat", "-j", "-o", path, "-e", ",".join(HARDWARE_EVENTS + SOFTWARE_EVENTS)]
    process = subprocess.Popen(
        [*command, "-p", str(os.getpid())], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    time.sleep(0.2)  # it tells nobody when it has attached
    if process.poll() is not None:
        os.unlink(path)
        return None, "perf may not look at this process: lower kernel.perf_event_paranoid"
    return (process, path), None


def _stop_perf(process: subprocess.Popen, path: str) -> tuple[list[dict[str, Any]], str | None]:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    with open(path) as file:
        rows = parse_perf(file.read())
    os.unlink(path)
    return rows, None if rows else "perf wrote no counters"
