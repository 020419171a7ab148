"""``nvidia-smi --query-compute-apps=... --format=csv``: one row a process and poll; MiB.

The processes of one GPU at one poll become one row: their memory is added up. There is no utilization or
power in it.
"""

from __future__ import annotations

from typing import Any

from perf_assets.intake.parsing.cells import is_absent, number
from perf_assets.intake.parsing.delimited import by_name, has_header, header_names, split_cells
from perf_assets.intake.parsing.polls.fields import split_unit
from perf_assets.intake.parsing.polls.processes import ProcessPolls
from perf_assets.intake.parsing.records import Line, Records
from perf_assets.intake.parsing.source import Head, Source
from perf_assets.intake.parsing.times import DayClock, Moment, parse_time, parse_time_of_day
from perf_assets.intake.parsing.units import UNIT_FACTORS

VERSION = 1
SIGNS = (
    ("pid",),
    (
        "used_gpu_memory",
        "used_memory [",
        "gpu_uuid",
        "gpu_bus_id",
        "gpu_serial",
    ),
)
RULES = {
    "memory_used_mib": "processes, added up",
    "metrics": "number of processes, and their numbers added up",
}

_MEMORY = ("used_gpu_memory", "used_memory")
_DEVICE_FIELDS = ("gpu_uuid", "gpu_bus_id", "gpu_serial")
_NAMES = ("process_name", "name")
_TEXTS = frozenset(("pid", "gpu_name", *_DEVICE_FIELDS, *_NAMES))
_COLUMNS = {"memory": "memory_used_mib"}


def sniff(head: Head) -> bool:
    """A header with processes and what they use of a GPU."""
    return has_header(head, _is_header)


def _is_header(cells: list[str]) -> bool:
    names = {cell.split(" ")[0] for cell in cells}
    has_memory = "used_gpu_memory" in names or any(cell.startswith("used_memory [") for cell in cells)
    return "pid" in names and (has_memory or not names.isdisjoint(_DEVICE_FIELDS))


def parse(source: Source, out: Records) -> None:
    """Read the source, fill the records."""
    gathered = ProcessPolls(out, _COLUMNS)
    clock = DayClock(source.path, source.timezone)
    titles: list[str] = []
    for line in out.lines(source):
        text = line.text.strip()
        if not text:
            line.ignore()
            continue
        try:
            cells = split_cells(text)
            if _is_header(cells):
                gathered.close()
                titles = header_names(text)
                line.ignore()
            elif not titles:
                line.reject("no_header", "no header stands before this line, so its columns are unknown")
            elif len(cells) == 1:
                line.reject("tool_message", "a message of the tool, not a row")
            else:
                _read(line, by_name(titles, _joined(cells, titles)), gathered, clock)
        except ValueError as error:
            line.reject("bad_row", str(error))
    gathered.close()


def _joined(cells: list[str], titles: list[str]) -> list[str]:
    """The cells of a row; nvidia-smi does not quote names of processes, so what is too many belongs to the
    name."""
    extra = len(cells) - len(titles)
    place = next((titles.index(name) for name in _NAMES if name in titles), None)
    if extra <= 0 or place is None:
        return cells
    return [*cells[:place], ",".join(cells[place : place + extra + 1]), *cells[place + extra + 1 :]]


def _read(line: Line, row: dict[str, str], gathered: ProcessPolls, clock: DayClock) -> None:
    process: dict[str, Any] = {}
    time_cell = ""
    for title, cell in row.items():
        name, unit = title.split(" ")[0], title.partition("[")[2].rstrip("]")
        if name == "timestamp":
            time_cell = cell
        elif name in _MEMORY:
            process["memory"] = _mib(cell, unit)
        elif name in _TEXTS:
            process["command" if name in _NAMES else name] = None if is_absent(cell) else cell
        else:
            process[title] = number(split_unit(cell)[0])
    if process.get("pid") is None:
        raise ValueError("no process in it")
    device_id = next((process[name] for name in _DEVICE_FIELDS if process.get(name)), "unknown")
    device_name = process.pop("gpu_name", None)
    process = {name: value for name, value in process.items() if name not in _DEVICE_FIELDS}
    gathered.add(line.number, device_id, _moment(time_cell, clock), process, device_name=device_name)
    line.use()


def _mib(cell: str, unit: str) -> float | None:
    text, cell_unit = split_unit(cell)
    if is_absent(cell):
        return None
    value = number(text)
    factors = UNIT_FACTORS["MiB"]
    if (cell_unit or unit or "MiB") not in factors:
        raise ValueError(f"unit {(cell_unit or unit)[:20]!r} of memory is unknown")
    return None if value is None else value * factors[cell_unit or unit or "MiB"]


def _moment(cell: str, clock: DayClock) -> Moment | None:
    if not cell:
        return None
    of_day = parse_time_of_day(cell)
    return parse_time(cell, clock.timezone) if of_day is None else clock.at(of_day)
