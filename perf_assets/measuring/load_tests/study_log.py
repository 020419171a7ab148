"""The log of a study: one JSON-lines file, to which a study that was cut off goes on to write.

Every line is a JSON object with ``line``, its kind, and ``at_s``, seconds since the header. Kinds:

``header``
    ``format`` (``perf_assets_load_study``), ``version``, ``run``, ``key`` (same for the same study), ``name``,
    ``started_at`` and ``started_monotonic_s`` (the same moment on two clocks), ``study``, ``host``, ``engine``,
    ``versions``.
``resumed``
    The study went on after it was cut off: ``started_at`` and ``started_monotonic_s`` again.
``cell``
    One configuration of the server: ``cell`` (name), ``model``, ``model_instances``, ``device_count``,
    ``batch_size``, ``source``, ``protocol``, ``method`` (how latencies are counted), ``ready_s``, ``server``
    (what it tells of itself).
``device``, ``power``, ``sample``
    As in a recording.
``repeat``
    One repeat of a level: ``cell``, ``mode``, ``level``, ``repeat``, ``started_at`` and the numbers by the columns
    of ``cleaned_load_levels``.
``requests``
    Requests of a repeat, some thousand a line: ``cell``, ``mode``, ``level``, ``repeat``, ``due_us`` (from the
    start of its window), ``late_us`` (sent after it was due), ``latency_us``, ``failed`` (positions of those that
    were answered with an error), ``ttft_us`` of streamed answers.
``level``
    All repeats of a level together: the same numbers, ``verdict``, ``verdict_reason``, energy; with this line the
    level is finished.
``knee``
    What a search found, by the columns of ``load_knees``.
``cell_end``
    The configuration is finished.
``problem``
    ``cell``, ``reason``: the study stopped here; it goes on here the next time.
``result``
    ``status`` (``ok``: everything was measured; ``failed``), ``reason``.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import re
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from perf_assets.measuring.devices import host
from perf_assets.measuring.load_tests.generator import Load
from perf_assets.measuring.load_tests.study import Study
from perf_assets.measuring.recording.log import encoded_line

FORMAT = "perf_assets_load_study"
VERSION = 1
_REQUESTS_A_LINE = 2000


class StudyLog:
    """Writes a study's lines, each whole and by one system call, and knows what is finished.

    Args:
        path: the log; a new one where there is none.
        study: what is measured.
    """

    def __init__(self, path: Path, study: Study) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._lock = threading.Lock()
        self.finished: dict[tuple[str, str, float], dict[str, Any]] = {}
        self.latencies_us: dict[tuple[str, str, float], list[float]] = {}
        self.ended_cells: set[str] = set()
        is_new = not path.exists() or path.stat().st_size == 0
        lines = [] if is_new else path.read_bytes().splitlines(keepends=True)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._offset_s = 0.0
        for line in lines:
            self._learn(line)
        if lines and not lines[-1].endswith(b"\n"):
            os.write(self._file, b"\n")  # the line that was being written is lost, not the one after it
        self._started_s = time.monotonic()
        clocks = {
            "started_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds"),
            "started_monotonic_s": time.monotonic(),
        }
        if is_new:
            self.write(
                "header",
                format=FORMAT,
                version=VERSION,
                run=uuid.uuid4().hex[:12],
                key=study.key,
                name=study.name,
                **clocks,
                study=study.model_dump(mode="json", exclude_defaults=True),
                host=host.host_facts(),
                engine=host.engine_facts(),
                versions=host.versions("perf-assets", "tritonclient", "grpcio", "numpy"),
            )
        else:
            self.write("resumed", **clocks)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def write(self, line: str, **fields: Any) -> None:
        """Append one line."""
        at_s = round(self._offset_s + time.monotonic() - self._started_s, 6)
        with self._lock:
            os.write(self._file, encoded_line({"line": line, "at_s": at_s, **fields}))

    def write_requests(self, place: dict[str, Any], load: Load) -> None:
        """Append every request of a repeat."""
        for first in range(0, len(load.requests), _REQUESTS_A_LINE):
            some = load.requests[first : first + _REQUESTS_A_LINE]
            fields: dict[str, Any] = {
                "due_us": [_us(each.due_ns - load.start_ns) for each in some],
                "late_us": [_us(each.sent_ns - each.due_ns) for each in some],
                "latency_us": [_us(each.latency_ns) for each in some],
                "failed": [i for i, each in enumerate(some) if each.error is not None],
            }
            if any(each.tokens for each in some):
                fields["ttft_us"] = [
                    _us(each.tokens.arrived_ns[0] - each.due_ns) if each.tokens else None for each in some
                ]
            self.write("requests", **place, **fields)

    def _learn(self, line: bytes) -> None:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            row = json.loads(line)
            if row["line"] == "header":
                began = datetime.datetime.fromisoformat(row["started_at"])
                self._offset_s = (datetime.datetime.now(datetime.UTC) - began).total_seconds()
            if row["line"] == "level" and row["verdict"] != "failed":
                self.finished[row["cell"], row["mode"], float(row["level"])] = row
            elif row["line"] == "requests":
                failed = set(row["failed"])
                found = self.latencies_us.setdefault((row["cell"], row["mode"], float(row["level"])), [])
                found += [each for i, each in enumerate(row["latency_us"]) if i not in failed]
            elif row["line"] == "cell_end":
                self.ended_cells.add(row["cell"])


def path_for(study: Study, out: Path, *, again: bool) -> Path:
    """The log to write to: the newest one of this study that was not brought to its end, or a new one."""
    prefix = f"{study.name}-{study.key[:8]}-"
    if not again:
        for path in sorted(out.glob(f"{glob_escaped(prefix)}*.jsonl"), reverse=True):
            if not is_finished(path):
                return path
            break
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S%f")
    return out / f"{prefix}{stamp}.jsonl"


def is_finished(path: Path) -> bool:
    """Does the log end with a result that is ok?"""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        last = file.read().strip().rpartition(b"\n")[2]
    try:
        row = json.loads(last)
        return row["line"] == "result" and row["status"] == "ok"
    except (ValueError, KeyError, TypeError):
        return False


def glob_escaped(text: str) -> str:
    """A text in which no character means anything to glob."""
    return re.sub(r"([*?[])", r"[\1]", text)


def place_of(cell: str, mode: str, level: float, repeat: int) -> dict[str, Any]:
    """The fields that say which repeat of which level a line belongs to."""
    return {"cell": cell, "mode": mode, "level": level, "repeat": repeat}


def windows_s(loads: Sequence[Load]) -> list[tuple[float, float]]:
    """Windows of loads on the monotonic clock, which on Linux is that of ``time.perf_counter_ns``, too."""
    return [(load.start_ns / 1e9, load.end_ns / 1e9) for load in loads if load.end_ns > load.start_ns]


def _us(nanoseconds: int) -> float:
    return round(nanoseconds / 1e3, 1)
