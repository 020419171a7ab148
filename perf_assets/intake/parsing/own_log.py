"""Logs that this project writes itself: one JSON object a line with its kind in ``line``, ``header`` first.

Cells are checked before they become columns, because a log can be damaged and a file can only claim to be one;
samples and polls, which several of these logs have, become rows here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from perf_assets.intake.parsing.records import Line, Records
from perf_assets.intake.parsing.source import PLAIN, Head, Source

LARGEST = 1e300
NO_HEADER = "no header stands before this line"
_LONGEST_READ_S = 5.0
_POWER_COLUMNS = (
    "power_w",
    "sm_clock_mhz",
    "memory_clock_mhz",
    "temperature_c",
    "utilization_pct",
    "memory_utilization_pct",
    "memory_used_mib",
    "memory_total_mib",
)
_NO_METRIC = frozenset(("line", "at_s"))


class OwnLine(NamedTuple):
    """One line of a log: its kind, its number in the file, all its fields."""

    kind: str
    number: int
    fields: dict[str, Any]


@dataclass
class OwnRun:
    """One header and the lines after it, in order."""

    header: dict[str, Any]
    rows: list[OwnLine] = field(default_factory=list)

    def add(self, row: dict[str, Any], line_number: int) -> None:
        """Add a line after the header."""
        self.rows.append(OwnLine(row["line"], line_number, row))

    def last(self, kind: str) -> dict[str, Any]:
        """The last line of a kind; empty where there is none."""
        return next((row.fields for row in reversed(self.rows) if row.kind == kind), {})

    def all(self, kind: str) -> list[dict[str, Any]]:
        """All lines of a kind."""
        return [row.fields for row in self.rows if row.kind == kind]


def is_header(head: Head, format_name: str) -> bool:
    """Is the first line the header of this kind of log?"""
    first = head.first_line
    return first.startswith("{") and f'"format": "{format_name}"' in first and '"line": "header"' in first


def number(row: dict[str, Any], name: str) -> float | None:
    """A number, or None where there is none.

    Raises:
        ValueError: it is something else.
    """
    value = row.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} is {str(value)[:40]!r}, not a number")  # noqa: TRY004
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} is too large a number") from None


def whole_number(row: dict[str, Any], name: str) -> int | None:
    """A whole number of 64 bits, or None.

    Raises:
        ValueError: it is something else.
    """
    value = row.get(name)
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63):
        return value
    raise ValueError(f"{name} is {str(value)[:40]!r}, not a whole number")


def text(row: dict[str, Any], name: str) -> str | None:
    """A text, or None.

    Raises:
        ValueError: it is something else.
    """
    value = row.get(name)
    if value is None or isinstance(value, str):
        return value
    raise ValueError(f"{name} is {str(value)[:40]!r}, not a text")


def object_in(row: dict[str, Any], name: str) -> dict[str, Any]:
    """An object; an empty one is put where there is none.

    Raises:
        ValueError: it is something else.
    """
    value = row.setdefault(name, {})
    if not isinstance(value, dict):
        raise ValueError(f"{name} is {str(value)[:40]!r}, not an object")  # noqa: TRY004
    return value


def texts(row: dict[str, Any], name: str) -> list[str]:
    """The texts of a list; what else stands in it is left out."""
    value = row.get(name)
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def moment(row: dict[str, Any], name: str) -> datetime | None:
    """A time in naive UTC, or None.

    Raises:
        ValueError: it is no time.
    """
    value = text(row, name)
    if value is None:
        return None
    found = datetime.fromisoformat(value)
    try:
        return found if found.tzinfo is None else found.astimezone(UTC).replace(tzinfo=None)
    except OverflowError:
        return None  # the year 0 or 10000 in UTC: impossible, but no reason to lose the log


def moment_after(start: datetime | None, seconds: float | None) -> datetime | None:
    """The time so many seconds later; None where that is no time a calendar has."""
    try:
        return start + timedelta(seconds=seconds or 0.0) if start is not None else None
    except OverflowError:
        return None


def facts(row: dict[str, Any], *left_out: str) -> dict[str, Any] | None:
    """What a line says beside its kind and time; None where that is nothing."""
    hidden = {*_NO_METRIC, *left_out}
    return {name: value for name, value in row.items() if name not in hidden} or None


def own_lines(
    source: Source,
    out: Records,
    kinds: frozenset[str],
    check: Callable[[str, dict[str, Any]], None],
    member: str = PLAIN,
) -> Iterator[tuple[Line, dict[str, Any]]]:
    """Every line of a known kind whose cells are right; the caller says what becomes of it.

    Blank lines are ignored; what is no object, of another kind, or has a wrong cell is rejected.

    Args:
        source: the log.
        out: where lines are counted.
        kinds: of lines.
        check: raises ``ValueError`` for a line (its kind, its fields) whose cells are wrong.
        member: of a run directory.
    """
    for line in out.lines(source, member):
        if not line.text.strip():
            line.ignore()
            continue
        try:
            row = json.loads(line.text)
        except (ValueError, RecursionError):
            line.reject("not_json", "not a JSON object: cut off?")
            continue
        kind = row.get("line") if isinstance(row, dict) else None
        if not isinstance(kind, str) or kind not in kinds:
            shown = str(kind)[:40]
            line.reject("unknown_kind", f"a line of the kind {shown!r}, which this version does not know")
            continue
        try:
            check(kind, row)
        except ValueError as error:
            line.reject("bad_cell", str(error))
            continue
        yield line, row


def own_runs(
    source: Source,
    out: Records,
    kinds: frozenset[str],
    check: Callable[[str, dict[str, Any]], None],
    member: str = PLAIN,
) -> list[OwnRun]:
    """Every header with the lines after it; arguments as for :func:`own_lines`."""
    runs: list[OwnRun] = []
    for line, row in own_lines(source, out, kinds, check, member):
        if row["line"] == "header":
            runs.append(OwnRun(row))
        elif not runs:
            line.reject("outside_run", NO_HEADER)
            continue
        else:
            runs[-1].add(row, line.number)
        line.use()
    return runs


def check_power(row: dict[str, Any]) -> None:
    """Are the cells of a ``power`` line of the right kind?

    Raises:
        ValueError: one is not.
    """
    for name in ("at_s", "polled_monotonic_s", "energy_counter_j", *_POWER_COLUMNS):
        number(row, name)
    text(row, "device")


def check_counter(row: dict[str, Any]) -> None:
    """Are the cells of a ``counter`` line of the right kind?

    Raises:
        ValueError: one is not.
    """
    for name in ("source", "scope", "counter", "unit"):
        text(row, name)
    for name in ("value", "running_pct"):
        number(row, name)


def add_counters(out: Records, run_id: str, rows: Iterable[dict[str, Any]]) -> None:
    """Write ``counter`` lines to ``cleaned_counters``."""
    names = ("source", "scope", "counter", "value", "unit", "running_pct")
    for row in rows:
        out.add("cleaned_counters", run_id=run_id, **{name: row.get(name) for name in names})


def add_samples(
    out: Records, run_id: str, started_at: datetime | None, rows: Iterable[dict[str, Any]]
) -> None:
    """Write ``sample`` lines to ``cleaned_samples``: every number of them."""
    for row in rows:
        metrics = {
            name: float(value)
            for name, value in row.items()
            if name not in _NO_METRIC
            and isinstance(value, int | float)
            and not isinstance(value, bool)
            and abs(value) < LARGEST
        }
        out.add(
            "cleaned_samples",
            run_id=run_id,
            sampled_at=moment_after(started_at, row.get("at_s")),
            metrics=list(metrics.items()),
        )


def add_polls(out: Records, run_id: str | None, run: OwnRun, host: str | None, session: int = 0) -> None:
    """Write ``power`` lines to ``cleaned_telemetry``, each device under its name in the ``device`` lines.

    The header's two clocks turn the monotonic time of a poll into a calendar time; where the machine was started
    again since, the time of the line stands in.
    """
    header = run.header
    started_at, started_s = moment(header, "started_at"), number(header, "started_monotonic_s")
    devices = {row.get("device"): row for row in run.all("device")}
    for kind, line_number, row in run.rows:
        if kind != "power":
            continue
        told = devices.get(row.get("device"), {})
        polled_s = row.get("polled_monotonic_s")
        after_s = at_s = row.get("at_s")
        if polled_s is not None and started_s is not None:
            after_s = polled_s - started_s
            if at_s is not None and abs(after_s - at_s) > _LONGEST_READ_S:
                after_s = at_s
        metrics = {} if row.get("energy_counter_j") is None else {"energy_counter_j": row["energy_counter_j"]}
        labels = (
            {"throttle_reasons": ", ".join(reasons)} if (reasons := texts(row, "throttle_reasons")) else {}
        )
        name, limit = told.get("name"), told.get("power_limit_w")
        out.add(
            "cleaned_telemetry",
            run_id=run_id,
            line_number=line_number,
            device_id=row.get("device"),
            device_name=name if isinstance(name, str) else None,
            host=host,
            session=session,
            polled_at=moment_after(started_at, after_s),
            time_source="utc",
            power_limit_w=limit if isinstance(limit, int | float) and not isinstance(limit, bool) else None,
            **{column: row.get(column) for column in _POWER_COLUMNS},
            metrics=list(metrics.items()),
            labels=list(labels.items()),
        )
