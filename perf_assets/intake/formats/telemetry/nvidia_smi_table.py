"""The table that ``nvidia-smi`` prints for people, in a loop (``-l 60``, ``watch``) or once; W, °C, %, MiB.

A line with the time stands before each table, if any does. A row of the log is a GPU of one table; parts of a
GPU (MIG) are devices of their own, and the processes of a GPU stand in its labels.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from perf_assets.intake.parsing.polls.sessions import Sessions
from perf_assets.intake.parsing.records import Line, Records
from perf_assets.intake.parsing.source import Head, Source
from perf_assets.intake.parsing.times import UNTOLD, Moment, is_date_command_time, parse_time

VERSION = 2
SIGNS = (("| NVIDIA-SMI ", "Persistence-M"), ("Bus-Id",))

LONGEST_LINE = 1000
MOST_AROUND = 5
"""So many prompts and banners may stand around a single table."""

_TITLE = re.compile(
    r"\| NVIDIA-SMI (?P<version>\S+)\s+(?:Driver Version: (?P<driver>\S+))?\s*(?:CUDA Version: "
    r"(?P<cuda>\S+))?[^|]*\|",
    re.ASCII,
)
_WATCH = re.compile(
    r"Every [\d.]+s: \S*nvidia-smi.{0,200}?\s(?:(?P<host>[\w.\-]{1,64}): )?(?P<time>[A-Z][a-z]{2} .+)\Z",
    re.ASCII,
)
_GPU = re.compile(
    r"\|\s*(?P<index>\d{1,4})\s+(?P<name>\S.*?)\s+(?:On|Off|N/A|ERR!|WDDM|TCC|MCDM)\s*"
    r"\|\s*(?P<bus>[0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.\d|N/A)\s[^|]*\|",
    re.ASCII,
)
_N = r"(\d+(?:\.\d+)?)"
_STATE = re.compile(
    rf"\|\s*(?:{_N}%|\S+)\s+(?:{_N}C|\S+)\s+(P\d+|\S+)\s+(?:{_N}W|[^|/]+?|N/A)\s*/\s*(?:{_N}W|[^|]+?)\s*"
    rf"\|\s*(?:{_N}MiB\s*/\s*{_N}MiB|[^|]+?)\s*\|\s*(?:{_N}%|\S+)\s[^|]*\|",
    re.ASCII,
)
_PART = re.compile(
    rf"\|\s*(\d{{1,4}})\s+(\d{{1,4}})\s+(\d{{1,4}})\s+(\d{{1,4}})\s*"
    rf"\|\s*{_N}MiB\s*/\s*{_N}MiB\s*\|[^|]*\|[^|]*\|",
    re.ASCII,
)
_PROCESS = re.compile(
    r"\|\s*(?P<gpu>\d{1,4})\s+(?:(?P<gi>\d+|N/A)\s+(?P<ci>\d+|N/A)\s+)?(?P<pid>\d+)\s+(?P<type>C|G"
    r"|C\+G|M\+C)\s+(?P<rest>\S.*?)\s*\|",
    re.ASCII,
)
# Frames, titles of columns, the third line of a GPU, and what is said where there is no process.
_FRAME = re.compile(
    r"[+|][-=+]+[+|]|\|\s*\||\|\s+(?:GPU\s+|Fan\s+Temp|ID\s+ID|Processes:|MIG devices:|No running"
    r" processes|GI\s+CI)[^\n]*\|"
    r"|\|(?:[^|]*\|){1,3}",
    re.ASCII,
)


def sniff(head: Head) -> bool:
    """Is it such tables, and little else? Other tools' logs begin with one, too."""
    lines = [line.strip() for line in head.lines if line.strip()]
    opening = [line.strip() for line in head.opening]
    is_table = any(map(_TITLE.match, opening)) or any(
        _GPU.match(first) and _STATE.match(second) for first, second in pairwise(opening)
    )
    framed = sum(line.startswith(("|", "+-")) or is_date_command_time(line) for line in lines)
    return is_table and len(lines) - framed <= max(0.1 * len(lines), MOST_AROUND) and framed > len(lines) / 2


@dataclass
class _Table:
    """One table as it is read."""

    moment: Moment | None = None
    host: str | None = None
    labels: list[tuple[str, str]] = field(default_factory=list)
    gpus: dict[str, dict[str, Any]] = field(default_factory=dict)
    last_gpu: str | None = None
    in_processes: bool = False


def parse(source: Source, out: Records) -> None:
    """Read the source, fill the records."""
    table, sessions = _Table(), Sessions()
    for line in out.lines(source, longest=LONGEST_LINE):
        text = line.text.strip()
        if not text:
            line.ignore()
            continue
        try:
            if is_date_command_time(text):
                _emit(table, out, sessions)
                table = _Table(parse_time(text, source.timezone))
                line.use()
            elif match := _WATCH.match(text):
                _emit(table, out, sessions)
                table = _Table(parse_time(match["time"].strip(), source.timezone), match["host"])
                line.use()
            elif match := _TITLE.match(text):
                if table.gpus or table.labels:
                    _emit(table, out, sessions)
                    table = _Table()
                table.labels = [(name, match[name]) for name in ("driver", "cuda") if match[name]]
                line.use()
            else:
                _read(line, text, table)
        except ValueError as error:
            line.reject("bad_row", str(error))
    _emit(table, out, sessions)


def _read(line: Line, text: str, table: _Table) -> None:
    """One line inside a table."""
    if match := _GPU.match(text):
        index = match["index"]
        if index in table.gpus:
            raise ValueError(f"GPU {index} is in this table already")
        table.gpus[index] = {
            "line_number": line.number,
            "device_id": index if match["bus"] == "N/A" else match["bus"],
            "device_name": match["name"],
            "labels": [("index", index)],
            "processes": [],
        }
        table.last_gpu = index
        line.use()
    elif table.last_gpu is not None and (match := _STATE.match(text)):
        fan, temperature, state, power, cap, used, total, load = match.groups()
        gpu, table.last_gpu = table.gpus[table.last_gpu], None
        for column, cell in (
            ("temperature_c", temperature),
            ("power_w", power),
            ("power_limit_w", cap),
            ("memory_used_mib", used),
            ("memory_total_mib", total),
            ("utilization_pct", load),
        ):
            gpu[column] = None if cell is None else float(cell)
        gpu["metrics"] = [("fan [%]", float(fan))] if fan else []
        if state.startswith("P"):
            gpu["labels"].append(("pstate", state))
        line.use()
    elif match := _PART.match(text):
        index, instance, part, _, used, total = match.groups()
        gpu = table.gpus.get(index, {"device_id": index, "device_name": None})
        table.gpus[f"{index}/{instance}/{part}"] = {
            "line_number": line.number,
            "device_id": f"{gpu['device_id']}/{instance}/{part}",
            "device_name": gpu["device_name"],
            "labels": [("mig", f"{instance}/{part}")],
            "processes": [],
            "memory_used_mib": float(used),
            "memory_total_mib": float(total),
        }
        line.use()
    elif match := _PROCESS.match(text):
        key = match["gpu"] if match["gi"] in (None, "N/A") else f"{match['gpu']}/{match['gi']}/{match['ci']}"
        if key not in table.gpus:
            raise ValueError(f"a process of GPU {key}, which is not in the table")
        table.gpus[key]["processes"].append(" ".join((match["pid"], match["type"], *match["rest"].split())))
        line.use()
    elif _FRAME.match(text):
        line.ignore()


def _emit(table: _Table, out: Records, sessions: Sessions) -> None:
    at = table.moment.at if table.moment else None
    for gpu in table.gpus.values():
        processes = gpu.pop("processes")
        gpu["labels"] += table.labels + ([("processes", "; ".join(processes))] if processes else [])
        out.add(
            "cleaned_telemetry",
            host=table.host,
            polled_at=at,
            time_source=table.moment.source if table.moment else UNTOLD,
            session=sessions.of(gpu["device_id"], at),
            **gpu,
        )
