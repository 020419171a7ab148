"""Counters of a process while it works: ``perf stat`` where the kernel lets us, ``getrusage`` always."""

from __future__ import annotations

import contextlib
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

from perf_assets.measuring.devices.processes import die_with_parent

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
    perf = PerfStat.attach(os.getpid(), settle_s=0.2) if use_perf else PerfStat(None, None, "not asked for")
    before = resource.getrusage(resource.RUSAGE_SELF)
    try:
        work()
    finally:
        after = resource.getrusage(resource.RUSAGE_SELF)
        rows = perf.stop()
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
    return rows, perf.reason


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


class PerfStat:
    """``perf stat`` on a process and all that it starts, until :meth:`stop`. ``pid`` is perf's own, ``reason``
    why it counts nothing; one of both is None."""

    def __init__(self, process: subprocess.Popen | None, path: str | None, reason: str | None) -> None:
        self._process = process
        self._path = path
        self.reason = reason

    @property
    def pid(self) -> int | None:
        """The process that counts."""
        return self._process.pid if self._process is not None else None

    @classmethod
    def attach(cls, pid: int, settle_s: float = 0.0) -> PerfStat:
        """Begin to count; it tells nobody when it has attached, so ``settle_s`` is waited."""
        if not shutil.which("perf"):
            return cls(None, None, "perf is not installed")
        handle, path = tempfile.mkstemp(suffix=".perf")
        os.close(handle)
        command = ["perf", "stat", "-j", "-o", path, "-e", ",".join(HARDWARE_EVENTS + SOFTWARE_EVENTS)]
        process = subprocess.Popen(
            [*command, "-p", str(pid)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is not meant for it
            preexec_fn=die_with_parent,  # noqa: PLW1509
        )
        counting = cls(process, path, None)
        if settle_s:
            time.sleep(settle_s)
            if process.poll() is not None:
                counting.stop()
        return counting

    def stop(self) -> list[dict[str, Any]]:
        """End it; returns fields of ``counter`` lines."""
        if self._process is None or self._path is None:
            return []
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        with open(self._path) as file:
            rows = parse_perf(file.read())
        os.unlink(self._path)
        if not rows:
            self.reason = "perf may not look at this process: lower kernel.perf_event_paranoid"
        self._process = self._path = None
        return rows
