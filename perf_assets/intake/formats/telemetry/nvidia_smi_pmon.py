"""``nvidia-smi pmon``: one row a process, GPU and poll; %, MB (which are MiB).

The processes of one GPU at one poll become one row: their utilizations and memory are added up, and each stands
by itself in ``labels["processes"]``. There is no power in it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from perf_assets.intake.parsing.cells import is_absent, number
from perf_assets.intake.parsing.poll_sessions import Sessions
from perf_assets.intake.parsing.records import Records
from perf_assets.intake.parsing.smi_monitor import Poll, is_monitor, is_time_column, polls
from perf_assets.intake.parsing.source import Head, Source

VERSION = 1

_COLUMNS = {"sm": "utilization_pct", "mem": "memory_utilization_pct", "fb": "memory_used_mib"}
_TEXTS = ("pid", "type", "command")


def sniff(head: Head) -> bool:
    """Is the first line pmon's header?"""
    return is_monitor(head, "pid", "type", "command")


def parse(source: Source, out: Records) -> None:
    """Read the source, fill the records."""
    sessions = Sessions()
    current: _GpuPoll | None = None
    for poll in polls(source, out):
        try:
            process = _process(poll)
        except ValueError as error:
            poll.line.reject("bad_row", str(error))
            continue
        if current is None or not current.takes(poll, process):
            if current is not None:
                current.emit(out, sessions)
            current = _GpuPoll(poll, poll.polled_at, poll.gpu_index)
        current.add(process)
    if current is not None:
        current.emit(out, sessions)


def _process(poll: Poll) -> dict[str, Any]:
    """Numbers and texts of one process; a GPU without any has dashes throughout."""
    if "pid" not in poll.cells:
        raise ValueError("no process in it")
    process: dict[str, Any] = {}
    for name, cell in poll.cells.items():
        if name == "gpu" or is_time_column(name):
            continue
        process[name] = (None if is_absent(cell) else cell) if name in _TEXTS else number(cell)
    return process


@dataclass
class _GpuPoll:
    """The processes of one GPU at one poll."""

    poll: Poll
    polled_at: datetime | None
    gpu_index: int
    processes: list[dict[str, Any]] = field(default_factory=list)

    def takes(self, poll: Poll, process: dict[str, Any]) -> bool:
        """Does this row belong to the same poll? Without times, a process that comes again begins the next."""
        if (poll.gpu_index, poll.polled_at) != (self.gpu_index, self.polled_at):
            return False
        return all(process["pid"] != known["pid"] for known in self.processes)

    def add(self, process: dict[str, Any]) -> None:
        self.processes.append(process)

    def emit(self, out: Records, sessions: Sessions) -> None:
        """Write the row."""
        device_id = str(self.gpu_index)
        running = [
            {name: value for name, value in process.items() if value is not None}
            for process in self.processes
            if process["pid"] is not None
        ]
        sums: dict[str, float] = {}
        for process in self.processes:
            for name, value in process.items():
                if name not in _TEXTS and value is not None:
                    sums[name] = sums.get(name, 0.0) + value
        labels = [("processes", json.dumps(running, sort_keys=True))] if running else []
        if self.poll.time_of_day and not self.polled_at:
            labels.append(("time_of_day", self.poll.time_of_day.isoformat()))
        out.add(
            "cleaned_telemetry",
            line_number=self.poll.line.number,
            device_id=device_id,
            session=sessions.of(device_id, self.polled_at),
            polled_at=self.polled_at,
            time_source=self.poll.time_source,
            metrics=[
                ("processes", float(len(running))),
                *(
                    (f"{name} [{self.poll.units.get(name, '')}]", value)
                    for name, value in sums.items()
                    if name not in _COLUMNS
                ),
            ],
            labels=labels,
            **{column: sums.get(name) for name, column in _COLUMNS.items()},
        )
