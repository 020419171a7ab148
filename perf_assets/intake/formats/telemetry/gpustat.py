"""``gpustat --json``: one JSON object a poll, indented over many lines, one behind the other when it is
repeated.

Memory is MiB, power W; the time is local time without a zone.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any

from perf_assets.intake.parsing.polls.sessions import Sessions
from perf_assets.intake.parsing.records import Line, Records, to_utc
from perf_assets.intake.parsing.source import Head, Source

VERSION = 1
SIGNS = (
    ('"query_time"',),
    ('"gpus"',),
)

MAX_POLL_LINES = 50_000

_COLUMNS = {
    "utilization.gpu": "utilization_pct",
    "power.draw": "power_w",
    "enforced.power.limit": "power_limit_w",
    "memory.used": "memory_used_mib",
    "memory.total": "memory_total_mib",
    "temperature.gpu": "temperature_c",
}
_TEXTS = ("uuid", "name", "index")
_START = re.compile(r'\s*\{\s*"(?:hostname|driver_version|query_time|gpus)"\s*:')


def sniff(head: Head) -> bool:
    """Does it begin with a poll: an object with a host, a query time and GPUs?"""
    text = head.text
    return bool(_START.match(text)) and '"query_time"' in text and '"gpus"' in text


def parse(source: Source, out: Records) -> None:
    """Read the source, fill the records. A poll that is broken costs its own lines alone."""
    sessions = Sessions()
    pending: list[Line] = []
    for line in out.lines(source):
        # Polls begin and end at the left margin, what is inside them is indented.
        if line.text.startswith("{"):
            out.retract(pending, "cut_off", "a poll without its end")
            pending = []
        elif not pending:
            if not line.text.strip():
                line.ignore()
            continue
        line.use()
        pending.append(line)
        if line.text.rstrip().endswith("}") and (line.text.startswith("}") or len(pending) == 1):
            problem = _poll(pending, source, out, sessions)
        elif len(pending) > MAX_POLL_LINES:
            problem = f"more than {MAX_POLL_LINES} lines without an end"
        else:
            continue
        if problem:
            line.reject("bad_poll", problem)
            out.retract(pending[:-1], "bad_poll", problem)
        pending = []
    out.retract(pending, "cut_off", "a poll without its end")


def _poll(lines: list[Line], source: Source, out: Records, sessions: Sessions) -> str:
    """Add the rows of one poll; return what is wrong with it, or an empty text."""
    try:
        poll = json.loads("\n".join(line.text for line in lines))
        host = poll.get("hostname")
        polled_at = to_utc(datetime.fromisoformat(poll["query_time"]), source.timezone)
        rows = [_gpu(gpu) for gpu in poll["gpus"]]
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        return f"a poll that cannot be read: {str(error)[:200]}"
    for row in rows:
        out.add(
            "cleaned_telemetry",
            line_number=lines[0].number,
            host=host if isinstance(host, str) else None,
            session=sessions.of(row["device_id"], polled_at),
            polled_at=polled_at,
            time_source=source.timezone,
            **row,
        )
    return ""


def _gpu(gpu: dict[str, Any]) -> dict[str, Any]:
    """One GPU of a poll as columns of ``cleaned_telemetry``."""
    numbers = {
        name: float(value)
        for name, value in gpu.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and name != "index"
    }
    device_id = gpu.get("uuid") or gpu.get("index")
    if device_id is None or isinstance(device_id, (dict, list)):
        raise ValueError("a GPU without uuid and index")
    labels = [(name, str(gpu[name])) for name in _TEXTS if gpu.get(name) is not None]
    processes = gpu.get("processes")
    if processes:
        labels.append(("processes", json.dumps(processes, sort_keys=True)))
    return {
        "device_id": str(device_id),
        "device_name": str(gpu["name"]) if gpu.get("name") is not None else None,
        "metrics": sorted((name, value) for name, value in numbers.items() if name not in _COLUMNS),
        "labels": labels,
        **{column: numbers.get(name) for name, column in _COLUMNS.items()},
    }
