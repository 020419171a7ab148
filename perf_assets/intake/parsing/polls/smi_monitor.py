"""What ``nvidia-smi dmon`` and ``nvidia-smi pmon`` share: two header lines (names, units) and their times.

Both print ``# gpu ...`` and ``# Idx ...`` again every so many rows. With ``-o D`` and ``-o T`` date and time
stand in front; without a date the path may tell it, else there is no time of the poll at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, time

from perf_assets.intake.parsing.cells import integer
from perf_assets.intake.parsing.records import Line, Records, to_utc
from perf_assets.intake.parsing.source import Head, Source
from perf_assets.intake.parsing.times import DayClock, Moment, parse_time_of_day


@dataclass(frozen=True)
class Poll:
    """One row: its device, its cells by column name, the unit of each, and when it was read.

    ``moment`` is None where there is no time, or a time of day without a date.
    """

    line: Line
    device_id: str
    cells: dict[str, str]
    units: dict[str, str]
    moment: Moment | None
    time_of_day: time | None

    @property
    def labels(self) -> list[tuple[str, str]]:
        """The time of day, where there is no date to it."""
        if self.moment is not None or self.time_of_day is None:
            return []
        return [("time_of_day", self.time_of_day.isoformat())]


# Columns that say which device and when, and measure nothing.
_KEY_COLUMNS = frozenset(("gpu", "gi", "ci", "date", "time"))


def header_of(head: Head) -> list[str]:
    """The column names of the first header of such a monitor, in lower case; empty where there is none."""
    return next((names for line in head.opening if (names := _header(line))), [])


def polls(source: Source, out: Records) -> Iterator[Poll]:
    """Every row; headers are ignored, what is neither is rejected. The last cell of a row may hold spaces."""
    names: list[str] = []
    units: dict[str, str] = {}
    clock = DayClock(source.path, source.timezone)
    for line in out.lines(source):
        text = line.text.strip()
        if not text:
            line.ignore()
        elif text.startswith("#"):
            words = _words(text)
            if header := _header(text):
                names, units = header, {}
                line.ignore()
            elif "idx" in words[:3] and len(words) == len(names):
                units = dict(zip(names, text.lstrip("# ").replace(",", " ").split(), strict=True))
                line.ignore()
        elif not names:
            line.reject("no_header", "a row before any header")
        else:
            try:
                poll = _poll(line, text, names, units, clock)
            except (ValueError, OverflowError) as error:
                line.reject("bad_row", str(error))
                continue
            line.use()
            yield poll


def measured_cells(poll: Poll) -> dict[str, str]:
    """The cells of a row that measure something, or name a process."""
    return {name: cell for name, cell in poll.cells.items() if name not in _KEY_COLUMNS}


def _header(text: str) -> list[str]:
    words = _words(text)
    return words if text.startswith("#") and "gpu" in words[:3] and len(set(words)) == len(words) else []


def _words(text: str) -> list[str]:
    return text.lstrip("# ").replace(",", " ").lower().split()


def _poll(line: Line, text: str, names: list[str], units: dict[str, str], clock: DayClock) -> Poll:
    cells_in_order = (
        [cell.strip() for cell in text.split(",")] if "," in text else text.split(None, len(names) - 1)
    )
    if len(cells_in_order) != len(names):
        raise ValueError(f"{len(cells_in_order)} cells for {len(names)} columns")
    cells = dict(zip(names, cells_in_order, strict=True))
    of_day, moment = None, None
    if "time" in cells:
        of_day = parse_time_of_day(cells["time"])
        if of_day is None:
            raise ValueError(f"{cells['time'][:40]!r} is no time of day")
    if "date" in cells:
        day = datetime.strptime(cells["date"], "%Y%m%d").date()
        if of_day is not None:
            at = to_utc(datetime.combine(day, of_day), clock.timezone)
            moment = Moment(at, clock.timezone)
    elif of_day is not None:
        moment = clock.at(of_day)
    return Poll(line, _device_id(cells), cells, units, moment, of_day)


def _device_id(cells: dict[str, str]) -> str:
    """The GPU's index; of a part of a GPU (MIG) also the numbers of its instances."""
    gpu_index = integer(cells["gpu"])
    if gpu_index is None or not 0 <= gpu_index < 10_000:
        raise ValueError("no index of a GPU")
    parts = [integer(cells[name]) for name in ("gi", "ci") if name in cells]
    return "/".join(str(part) for part in (gpu_index, *parts) if part is not None)
