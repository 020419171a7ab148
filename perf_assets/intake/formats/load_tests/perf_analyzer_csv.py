"""perf_analyzer's ``-f`` CSV, all generations: one row a load level, sorted by throughput, times in µs.

The file says neither model, host, batch size nor date: they come from its path where people write them there,
and are marked so. An ensemble writes one further file for each composing model, named
``<model>_v<version>.<file>``; such a file becomes a run of its own, joined to its parent when files are
linked.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

from perf_assets.intake.parsing.cells import integer, number
from perf_assets.intake.parsing.delimited import by_name, header_names, split_cells
from perf_assets.intake.parsing.load_levels import (
    CONCURRENCY,
    REQUEST_RATE,
    SUMMARY_RULES,
    LoadTest,
    config_of,
    path_facts,
    percentile_values,
)
from perf_assets.intake.parsing.records import Line, Records
from perf_assets.intake.parsing.source import Head, Source

VERSION = 3
SIGNS = (
    (
        "Concurrency",
        "Request Rate",
    ),
    ("Inferences/Second",),
    ("Client Send",),
)
RULES = SUMMARY_RULES

MODES = {"Concurrency": CONCURRENCY, "Request Rate": REQUEST_RATE}

LEVEL_COLUMNS = {
    "Inferences/Second": "throughput_per_s",
    "Response Throughput": "response_throughput_per_s",
    "Client Send": "client_send_us",
    "Network+Server Send/Recv": "network_us",
    "Server Queue": "queue_us",
    "Server Compute": "compute_us",
    "Server Compute Input": "compute_input_us",
    "Server Compute Infer": "compute_infer_us",
    "Server Compute Output": "compute_output_us",
    "Server Cache Hit": "cache_hit_us",
    "Server Cache Miss": "cache_miss_us",
    "Client Recv": "client_recv_us",
    "Avg latency": "avg_us",
    "request/response": "request_response_us",
    "response wait": "response_wait_us",
}

GPU_COLUMNS = {
    "Avg GPU Utilization": "utilization",
    "Avg GPU Power Usage": "power_w",
    "Max GPU Memory Usage": "memory_used_bytes",
    "Total GPU Memory": "memory_total_bytes",
}

# Columns that scripts put in front, when they gather the rows of several sweeps in one file.
_BATCH_COLUMNS = ("Batch Size", "Batch size", "batch_size", "Batch", "batch")

_HEADER = re.compile(r"(?:[^,]{0,60},){0,4}\"?(?:Concurrency|Request Rate)\"?,\"?Inferences/Second\"?,")
_PERCENTILE = re.compile(r"p(\d{1,2}(?:\.\d+)?) latency\Z", re.ASCII)
# Files of composing models before April 2023 lack the line end after the header's last name.
_GLUED_HEADER = re.compile(r"(?P<header>.*,Client Recv),?(?P<row>\d.*)\Z", re.ASCII)
_COMPOSING_NAME = re.compile(r"(?P<model>.+?)_v(?P<version>\d*)\.(?P<parent>.+)\Z", re.ASCII)


def sniff(head: Head) -> bool:
    """Is there the header that no other tool writes: in the first line, or with a row behind it?"""
    lines = [*head.opening, ""]
    return any(
        _HEADER.match(line) and "Client Send" in line and (not place or lines[place + 1][:1].isdigit())
        for place, line in enumerate(lines)
    )


def parse(source: Source, out: Records) -> None:
    """Read the source, fill the records.

    Every header starts a run; so does a level that is there already, and another batch size or the like in
    front.
    """
    table: _Table | None = None
    for line in out.lines(source):
        if not line.text.strip():
            line.ignore()
        elif _HEADER.match(line.text.strip()):
            if table is not None:
                table.emit(source, out)
            table = _open_table(line)
        elif table is None:
            line.reject("no_header", "a row before any header")
        else:
            if table.read_row(line, line.text) == "another run":
                table.emit(source, out)
                table = _Table(table.names)
                table.read_row(line, line.text)
    if table is not None:
        table.emit(source, out)


def _open_table(line: Line) -> _Table | None:
    text = line.text.strip()
    glued = _GLUED_HEADER.match(text)
    try:
        table = _Table(header_names(glued["header"] if glued else text))
    except ValueError as error:
        line.reject("bad_header", str(error))
        return None
    line.ignore()
    if glued:
        table.read_row(line, glued["row"])
    return table


class _Table:
    """The rows under one header that are of one run."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.mode_column = next(name for name in names if name in MODES)
        self.mode = MODES[self.mode_column]
        self.in_front = [name for name in names[: names.index(self.mode_column)] if name]
        self.facts: dict[str, str] = {}
        self.test = LoadTest()

    def read_row(self, line: Line, text: str) -> str:
        """Read one row; say ``another run`` and do nothing where it is not of this one."""
        try:
            row = by_name(self.names, split_cells(text))
            level = number(row[self.mode_column])
            if level is None or level < 0:
                raise ValueError("no load level")
            facts = {name: row[name] for name in self.in_front}
            _batch_size(facts)
            if self.test.levels and (facts != self.facts or self.test.has(self.mode, level)):
                return "another run"
            values, others = self._level_values(row)
            gpus = _gpu_values(row)
        except ValueError as error:
            line.reject("bad_row", str(error))
            return "rejected"
        line.use()
        self.facts = facts
        self.test.add_level(self.mode, level, **values)
        for gpu_uuid, readings in gpus.items():
            self.test.add_gpu(level, gpu_uuid, **readings)
        for name, value in others.items():
            unit = "us" if name.lower().endswith("latency") else ""
            self.test.count(f"{self.mode} {level:g}", name, value, unit)
        return "read"

    def _level_values(self, row: dict[str, str]) -> tuple[dict[str, Any], dict[str, float]]:
        """Columns of the level, and the numbers of columns that this module does not know."""
        values: dict[str, Any] = {}
        percentiles_us: dict[str, float] = {}
        others: dict[str, float] = {}
        for name, cell in row.items():
            if name in GPU_COLUMNS or name in MODES or name in self.in_front or not name:
                continue
            value = number(cell)
            if value is not None and value < 0:
                raise ValueError(f"{name} is negative")
            if name in LEVEL_COLUMNS:
                values[LEVEL_COLUMNS[name]] = value
            elif value is not None:
                if percentile := _PERCENTILE.match(name):
                    percentiles_us[f"p{percentile[1]}"] = value
                else:
                    others[name] = value
        if values.get("throughput_per_s") is None:
            raise ValueError("no throughput")
        return values | percentile_values(percentiles_us), others

    def emit(self, source: Source, out: Records) -> None:
        """Write the run. A header without a row is what a sweep leaves that never got stable: a failed
        run."""
        composing = self._composing(source.path)
        if composing is not None:
            self.test.is_part = True
            out_config = config_of(composing, ("model",)) | {"ensemble_part": True}
            self.test.emit(
                out, out_config, tool="perf_analyzer", name=source.path.stem, model=composing["model"]
            )
            return
        facts = path_facts(source.path)
        batch_size = _batch_size(self.facts)
        if batch_size is not None:
            facts.pop("batch_size", None)
        if not self.test.gpus:
            self.test.flags.add("gpu_columns_missing")
        columns = ("model", "batch_size", "device_raw")
        config = config_of(facts, columns) | {
            name.lower().replace(" ", "_"): cell
            for name, cell in self.facts.items()
            if name not in _BATCH_COLUMNS
        }
        if batch_size is not None:
            facts["batch_size"] = batch_size
        self.test.emit(
            out,
            config,
            tool="perf_analyzer",
            name=source.path.stem,
            **{name: facts.get(name) for name in columns},
        )

    def _composing(self, path: PurePosixPath) -> dict[str, Any] | None:
        """Model, version and parent's path, where content and name both say that this is a composing model's.

        The tool puts ``<model>_v<version>.`` before the whole path it was given, so it may stand on a folder.
        """
        if any(_PERCENTILE.match(name) for name in self.names):
            return None
        if any(
            level.get("client_send_us") or level.get("client_recv_us") for level in self.test.levels.values()
        ):
            return None
        parts = path.parts
        for place in reversed(range(len(parts))):
            if match := _COMPOSING_NAME.match(parts[place]):
                parent = PurePosixPath(*parts[:place], match["parent"], *parts[place + 1 :])
                return {
                    "model": match["model"],
                    "model_version": match["version"],
                    "parent_path": str(parent),
                }
        return None


def _batch_size(facts: dict[str, str]) -> int | None:
    """The batch size that stands in front of a row.

    Raises:
        ValueError: it is no whole number.
    """
    cell = next((facts[name] for name in _BATCH_COLUMNS if name in facts), "")
    batch_size = integer(cell)
    if batch_size is not None and not 0 < batch_size < 2**31:
        raise ValueError(f"a batch size of {batch_size}")
    return batch_size


def _gpu_values(row: dict[str, str]) -> dict[str, dict[str, float]]:
    """GPU → readings, from cells ``UUID:value;UUID:value;``. Utilization is a fraction 0-1."""
    gpus: dict[str, dict[str, float]] = {}
    for name, column in GPU_COLUMNS.items():
        for part in row.get(name, "").split(";"):
            if not part.strip():
                continue
            gpu_uuid, colon, cell = part.strip().rpartition(":")
            value = number(cell)
            if not colon or not gpu_uuid:
                raise ValueError(f"{name}: {part.strip()[:60]!r} is not UUID:value")
            if value is not None:
                gpus.setdefault(gpu_uuid, {})[column] = value
    return gpus
