"""Logs of this project's own load studies: one JSON object a line, one run for each configuration of the server.

A level that has its ``level`` line is a row; repeats of it are counters, its requests are samples. A log that was
cut off, or whose study stopped at a problem, has all levels that were finished.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from perf_assets.intake.parsing.load_levels import (
    PLAIN_PERCENTILES,
    SUMMARY_RULES,
    LoadTest,
    percentile_values,
)
from perf_assets.intake.parsing.own_log import (
    NO_HEADER,
    OwnRun,
    add_polls,
    add_samples,
    check_power,
    is_header,
    moment,
    moment_after,
    number,
    object_in,
    own_lines,
    text,
    whole_number,
)
from perf_assets.intake.parsing.records import Records
from perf_assets.intake.parsing.source import Head, Source

VERSION = 1
SIGNS = (
    ('"format": "perf_assets_load_study"',),
    ('"line": "header"',),
)
RULES = SUMMARY_RULES | {"duration_s": "from the configuration's first line to its last"}

_FORMAT = "perf_assets_load_study"
_KINDS = frozenset(
    (
        *("header", "resumed", "cell", "device", "power", "sample", "repeat", "requests", "level", "knee"),
        *("cell_end", "problem", "result"),
    )
)
_COUNTS = ("requests", "failed_requests", "repeats")
_NUMBERS = (
    *("throughput_per_s", "send_rate_per_s", "delayed_pct", "unanswered_pct", "avg_us", "std_us"),
    *("queue_us", "compute_input_us", "compute_infer_us", "compute_output_us", "network_us"),
    *("ttft_p50_us", "ttft_p99_us", "itl_p50_us", "itl_p99_us", "tokens_per_s", "mean_in_flight"),
    *("joules_per_request", "joules_per_token", "gross_joules_per_request", "mean_power_w", "idle_power_w"),
    *("throughput_lower_per_s", "throughput_upper_per_s"),
)
_PERCENTILES = tuple(f"{name}_us" for name in PLAIN_PERCENTILES)
_KNEE_NUMBERS = ("level", "lower", "upper", "throughput_per_s", "p99_us", "joules_per_request")
_KNEE_TEXTS = ("objective", "mode", "method", "answer")
_LISTS = ("due_us", "late_us", "latency_us", "ttft_us")
_REPEAT_UNITS = {"throughput_per_s": "1/s", "p50_us": "us", "p99_us": "us", "window_s": "s"}
_MODES = ("concurrency", "request_rate")


def sniff(head: Head) -> bool:
    """A first line that is this log's header."""
    return is_header(head, _FORMAT)


@dataclass
class _Cell:
    """One configuration, and the lines about it."""

    facts: dict[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list)
    problem: str | None = None
    is_ended: bool = False
    last_s: float = 0.0

    def all(self, kind: str) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["line"] == kind]


@dataclass
class _Study:
    run: OwnRun
    cells: dict[str, _Cell] = field(default_factory=dict)
    watched: dict[str | None, OwnRun] = field(default_factory=dict)
    """What was sampled and polled while a configuration ran; None before the first."""
    current: str | None = None


def parse(source: Source, out: Records) -> None:
    """One run a configuration, with its levels, what was searched for, samples and polls."""
    studies: list[_Study] = []
    for line, row in own_lines(source, out, _KINDS, _check):
        if row["line"] == "header":
            studies.append(_Study(OwnRun(row)))
        elif problem := _place(studies[-1], row, line.number) if studies else NO_HEADER:
            line.reject("outside_run", problem)
            continue
        line.use()
    for study in studies:
        _write(study, out)


def _place(study: _Study, row: dict[str, Any], line_number: int) -> str | None:
    """Put a line where it belongs; why it belongs nowhere."""
    kind, name = row["line"], row.get("cell")
    study.run.add(row, line_number)
    if kind == "cell" and isinstance(name, str):
        # A study that went on tells of the same configuration again.
        study.cells.setdefault(name, _Cell(row)).facts = row
        study.current = name
    if kind in ("sample", "power"):
        study.watched.setdefault(study.current, OwnRun(study.run.header)).add(row, line_number)
    cell = study.cells.get(name) if isinstance(name, str) else None
    if kind in ("repeat", "requests", "level", "knee", "cell_end") and cell is None:
        return f"no line 'cell' tells of {str(name)[:60]!r}"
    if cell is not None:
        cell.last_s = max(cell.last_s, row.get("at_s") or 0.0)
        cell.rows.append(row)
        cell.is_ended |= kind == "cell_end"
        if kind == "problem":
            cell.problem = row.get("reason")
        elif kind in ("cell", "level", "cell_end"):
            cell.problem = None
    return None


def _check(kind: str, row: dict[str, Any]) -> None:
    """Are the values that become columns of the right kind?"""
    number(row, "at_s")
    if kind in ("header", "resumed"):
        moment(row, "started_at")
        number(row, "started_monotonic_s")
    if kind == "header":
        for name in ("name", "key", "run"):
            text(row, name)
        text(object_in(row, "host"), "hostname")
        for name in ("study", "engine", "versions"):
            object_in(row, name)
        text(row["versions"], "tritonclient")
    elif kind == "power":
        check_power(row)
    elif kind == "device":
        for name in ("device", "name"):
            text(row, name)
        number(row, "power_limit_w")
    elif kind in ("cell", "cell_end", "problem"):
        for name in ("cell", "model", "source", "protocol", "reason"):
            text(row, name)
        for name in ("model_instances", "device_count", "batch_size"):
            whole_number(row, name)
        if kind == "cell" and row.get("cell") is None:
            raise ValueError("a configuration without a name in 'cell'")
    elif kind in ("repeat", "level"):
        _check_level(row)
    elif kind == "requests":
        _check_requests(row)
    elif kind == "knee":
        for name in _KNEE_NUMBERS:
            number(row, name)
        for name in _KNEE_TEXTS:
            text(row, name)
        whole_number(row, "requests_used")


def _check_level(row: dict[str, Any]) -> None:
    if row.get("mode") not in _MODES or number(row, "level") is None:
        raise ValueError(f"no level: mode is {str(row.get('mode'))[:40]!r}")
    for name in (*_NUMBERS, *_PERCENTILES, "window_s", "repeat"):
        number(row, name)
    for name in _COUNTS:
        whole_number(row, name)
    moment(row, "started_at")
    for name in ("verdict", "verdict_reason", "energy_reason"):
        text(row, name)


def _check_requests(row: dict[str, Any]) -> None:
    number(row, "level")
    number(row, "repeat")
    lists = [row[name] for name in _LISTS if row.get(name) is not None]
    for values in lists:
        if not isinstance(values, list) or len(values) != len(lists[0]):
            raise ValueError("lists of different lengths")
        for value in values:
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise ValueError(f"{str(value)[:40]!r} in a list of times is not a number")


def _write(study: _Study, out: Records) -> None:
    header = study.run.header
    started_at = moment(header, "started_at")
    result = study.run.last("result")
    host = header["host"].get("hostname")
    devices = [row for row in study.run.rows if row.kind == "device"]
    for position, (name, cell) in enumerate(study.cells.items()):
        run_id = _write_cell(study, cell, started_at, result, out)
        watched = study.watched.get(name)
        if position == 0 and None in study.watched:
            watched = OwnRun(header, [*study.watched[None].rows, *(watched.rows if watched else ())])
        if watched is not None:
            add_samples(out, run_id, started_at, watched.all("sample"))
            watched.rows += devices
            add_polls(out, run_id, watched, host, session=position)


def _write_cell(
    study: _Study, cell: _Cell, started_at: datetime | None, result: dict[str, Any], out: Records
) -> str:
    header, facts = study.run.header, cell.facts
    test = LoadTest()
    for row in cell.all("level"):
        test.add_level(row["mode"], float(row["level"]), **_level_values(row))
    for row in cell.all("repeat"):
        scope = f"{row['mode']} {float(row['level']):g} repeat {row.get('repeat')}"
        for counter, unit in _REPEAT_UNITS.items():
            if row.get(counter) is not None:
                test.count(scope, counter, row[counter], unit)
    first_s = facts.get("at_s") or 0.0
    run_id = test.emit(
        out,
        {
            "kind": "load_study",
            "study": header.get("name"),
            "study_key": header.get("key"),
            "model_instances": facts.get("model_instances"),
            "gpu_count": facts.get("device_count"),
            "cell": facts.get("cell"),
            "source": facts.get("source"),
            "protocol": facts.get("protocol"),
            "method": facts.get("method"),
            "ready_s": facts.get("ready_s"),
            "server_kind": facts.get("server_kind"),
            "server": facts.get("server"),
            "declared": header["study"],
            "host": header["host"],
            "engine": header["engine"],
            "versions": header["versions"],
            "problem": cell.problem,
            "energy_reason": next(
                (row["energy_reason"] for row in cell.all("level") if row.get("energy_reason")), None
            ),
        },
        tool="perf_assets",
        name=f"{header.get('name')} {facts.get('cell')}",
        status=_status(cell, result),
        model=facts.get("model"),
        host=header["host"].get("hostname"),
        batch_size=facts.get("batch_size"),
        device_count=facts.get("device_count"),
        started_at=moment_after(started_at, first_s),
        duration_s=max(0.0, cell.last_s - first_s),
    )
    for row in cell.all("knee"):
        out.add(
            "load_knees",
            run_id=run_id,
            study=header.get("name"),
            model=facts.get("model"),
            instances=facts.get("model_instances"),
            requests_used=row.get("requests_used"),
            **{name: row.get(name) for name in (*_KNEE_NUMBERS, *_KNEE_TEXTS)},
        )
    _write_requests(cell, run_id, started_at, out)
    return run_id


def _status(cell: _Cell, result: dict[str, Any]) -> str:
    if cell.is_ended:
        return "ok"
    if cell.problem is not None:
        return "failed"
    return "failed" if result.get("status") == "failed" else "incomplete"


def _level_values(row: dict[str, Any]) -> dict[str, Any]:
    percentiles_us: dict[str, float] = {
        str(name.removesuffix("_us")): float(row[name]) for name in _PERCENTILES if row.get(name) is not None
    }
    verdict = row.get("verdict")
    return {
        **{name: row[name] for name in (*_COUNTS, *_NUMBERS) if row.get(name) is not None},
        **percentile_values(percentiles_us),
        "verdict": verdict,
        "stable": None if verdict is None else verdict == "stable",
    }


def _write_requests(cell: _Cell, run_id: str, started_at: datetime | None, out: Records) -> None:
    """One sample a request: when it was due, and its times."""
    starts = {
        (row["mode"], float(row["level"]), row.get("repeat")): row.get("at_s") for row in cell.all("repeat")
    }
    for row in cell.all("requests"):
        level, repeat = float(row.get("level") or 0.0), float(row.get("repeat") or 0)
        ended_s = starts.get((row.get("mode"), level, row.get("repeat")))
        names = [name for name in _LISTS if row.get(name) is not None]
        last_us = max((value for value in row.get("due_us") or () if value is not None), default=0.0)
        for values in zip(*(row[name] for name in names), strict=True):
            told = {
                name: float(value) for name, value in zip(names, values, strict=True) if value is not None
            }
            # The repeat's line was written when its last request was answered.
            before_s = (last_us - told.get("due_us", 0.0)) / 1e6
            out.add(
                "cleaned_samples",
                run_id=run_id,
                sampled_at=moment_after(started_at, None if ended_s is None else ended_s - before_s),
                metrics=[("level", level), ("repeat", repeat), *told.items()],
            )
