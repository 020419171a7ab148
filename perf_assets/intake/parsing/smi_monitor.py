"""What ``nvidia-smi dmon`` and ``nvidia-smi pmon`` share: two header lines (names, units) and their times.

Both print ``# gpu ...`` and ``# Idx ...`` again every so many rows. With ``-o D`` and ``-o T`` date and time
stand in front; without a date the path may tell it, else there is no time of the poll at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time

from perf_assets.intake.parsing.cells import integer
from perf_assets.intake.parsing.poll_sessions import date_of_path
from perf_assets.intake.parsing.records import Line, Records, to_utc
from perf_assets.intake.parsing.source import Head, Source


@dataclass(frozen=True)
class Poll:
    """One row: its cells by column name, the unit of each, and when it was read."""

    line: Line
    gpu_index: int
    cells: dict[str, str]
    units: dict[str, str]
    polled_at: datetime | None
    time_of_day: time | None
    time_source: str


def is_monitor(head: Head, *columns: str) -> bool:
    """Is the first line a header of such a monitor with these columns?"""
    names = _words(head.first_line)
    return head.first_line.startswith("#") and "gpu" in names[:3] and set(columns) <= set(names)


def polls(source: Source, out: Records) -> Iterator[Poll]:
    """Every row; headers are ignored, what is neither is rejected. The last cell of a row may hold spaces."""
    names: list[str] = []
    units: dict[str, str] = {}
    path_date = date_of_path(source.path)
    for line in out.lines(source):
        text = line.text.strip()
        if not text:
            line.ignore()
        elif text.startswith("#"):
            words = _words(text)
            if "gpu" in words[:3]:
                names, units = words, {}
                line.ignore()
            elif "idx" in words[:3] and len(words) == len(names):
                units = dict(zip(names, text.lstrip("# ").replace(",", " ").split(), strict=True))
                line.ignore()
        elif not names:
            line.reject("no_header", "a row before any header")
        else:
            try:
                poll = _poll(line, text, names, units, path_date, source.timezone)
            except ValueError as error:
                line.reject("bad_row", str(error))
                continue
            line.use()
            yield poll


def _words(text: str) -> list[str]:
    return text.lstrip("# ").replace(",", " ").lower().split()


def _poll(
    line: Line, text: str, names: list[str], units: dict[str, str], path_date: date | None, timezone: str
) -> Poll:
    cells_in_order = (
        [cell.strip() for cell in text.split(",")] if "," in text else text.split(None, len(names) - 1)
    )
    if len(cells_in_order) != len(names):
        raise ValueError(f"{len(cells_in_order)} cells for {len(names)} columns")
    cells = dict(zip(names, cells_in_order, strict=True))
    gpu_index = integer(cells["gpu"])
    if gpu_index is None or not 0 <= gpu_index < 10_000:
        raise ValueError("no index of a GPU")
    day = datetime.strptime(cells["date"], "%Y%m%d").date() if "date" in cells else path_date
    at = time.fromisoformat(cells["time"]) if "time" in cells else None
    if day is None or at is None:
        return Poll(line, gpu_index, cells, units, None, at, "none")
    source = timezone if "date" in cells else f"{timezone}, date from path"
    return Poll(line, gpu_index, cells, units, to_utc(datetime.combine(day, at), timezone), at, source)


def is_time_column(name: str) -> bool:
    """Do cells of this column tell the time?"""
    return name in ("date", "time")
