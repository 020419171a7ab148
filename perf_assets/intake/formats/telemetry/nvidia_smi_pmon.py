"""``nvidia-smi pmon``: one row a process, GPU and poll; %, MB (which are MiB).

The processes of one GPU at one poll become one row. There is no power in it.
"""

from __future__ import annotations

from typing import Any

from perf_assets.intake.parsing.cells import is_absent, number
from perf_assets.intake.parsing.polls.processes import ProcessPolls
from perf_assets.intake.parsing.polls.smi_monitor import Poll, header_of, measured_cells, polls
from perf_assets.intake.parsing.records import Records
from perf_assets.intake.parsing.source import Head, Source

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
    ("pid",),
    ("type",),
    ("command",),
)
RULES = {
    "utilization_pct": "processes, added up",
    "memory_utilization_pct": "processes, added up",
    "memory_used_mib": "processes, added up",
    "metrics": "number of processes, and their numbers added up",
}

_COLUMNS = {"sm": "utilization_pct", "mem": "memory_utilization_pct", "fb": "memory_used_mib"}
_TEXTS = ("pid", "type", "command")


def sniff(head: Head) -> bool:
    """Is there pmon's header among the first lines?"""
    return {"pid", "type", "command"} <= set(header_of(head))


def parse(source: Source, out: Records) -> None:
    """Read the source, fill the records."""
    gathered = ProcessPolls(out, _COLUMNS)
    for poll in polls(source, out):
        try:
            process = _process(poll)
        except ValueError as error:
            poll.line.reject("bad_row", str(error))
            continue
        names = {name: f"{name} [{poll.units.get(name, '')}]" for name in poll.cells}
        gathered.add(poll.line.number, poll.device_id, poll.moment, process, names, poll.labels)
    gathered.close()


def _process(poll: Poll) -> dict[str, Any] | None:
    """Numbers and texts of one process; None for a GPU without any, which has dashes throughout."""
    if "pid" not in poll.cells:
        raise ValueError("no process in it")
    process = {
        name: (None if is_absent(cell) else cell) if name in _TEXTS else number(cell)
        for name, cell in measured_cells(poll).items()
    }
    return process if process["pid"] is not None else None
