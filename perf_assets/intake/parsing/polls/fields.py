"""Fields of poll logs: how a header names them, in which unit their cells stand, and which column each goes
to.

What ``nvidia-smi --query-gpu``, ``hl-smi -Q`` and their like share. Reading whole logs is ``log``'s.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from perf_assets.intake.parsing.cells import csv_cells
from perf_assets.intake.parsing.delimited import NAMELESS
from perf_assets.intake.parsing.units import UNIT_FACTORS

_HEADER_CELL = re.compile(r"\s*([a-z][\w.]*)\s*(?:\[(.*)\])?\s*\Z", re.ASCII)
# Versions, serials and addresses look like numbers and are none: 536.40 is another driver than 536.4.
_TEXT_FIELD = re.compile(
    r"(?:.*[._])?(?:version|serial|uuid|name|bus_id|number|mode|state|part)(?:\..*)?\Z|(?:pci|inforom"
    r"|gom)\..*\Z",
    re.ASCII,
)


def split_unit(cell: str) -> tuple[str, str]:
    """``52.83 W`` -> (``52.83``, ``W``); without a unit the second is empty."""
    text, _, unit = cell.rpartition(" ")
    return (text.rstrip(), unit) if text else (cell, "")


@dataclass(frozen=True)
class PollFormat:
    """What distinguishes one tool's poll logs.

    ``fields`` maps the tool's field names to columns of ``cleaned_telemetry`` and their units ("" for text);
    ``device_fields`` are those that identify a device, the best first; a header with one of
    ``foreign_fields`` is another tool's. ``fast_time`` reads an Arrow column of the times that the tool
    itself prints.
    """

    fields: dict[str, tuple[str, str]]
    device_fields: tuple[str, ...]
    foreign_fields: frozenset[str] = frozenset()
    fast_time: Callable[[Any, str], Any] | None = None

    def header_cells(self, text: str) -> list[str] | None:
        """The cells of this line if it is a header, else None.

        A header has names of fields throughout, one of something measured, and a second sign of the tool: a
        unit in brackets, or another field of it. The time may be missing, and an index of pandas may stand in
        front.
        """
        if "[" not in text and "," not in text:
            return None
        try:
            cells = csv_cells(text)
        except ValueError:
            return None
        names: dict[str, str | None] = {}
        for place, cell in enumerate(cells):
            match = _HEADER_CELL.match(cell)
            if match is not None:
                names[match[1]] = match[2]
            elif place or cell.strip() not in NAMELESS:
                return None
        measured = {name for name in names if self.fields.get(name, ("", ""))[1]}
        if not measured or names.keys() & self.foreign_fields:
            return None
        signs = sum(name in self.fields for name in names) + any(names[name] for name in measured)
        return cells if signs > 1 else None

    def beginning(self, lines: Iterable[str]) -> tuple[set[str], str] | None:
        """The names of the first header in these lines that has a row, or nothing, behind it, and that row's
        time."""
        header: list[str] = []
        tries = 0
        for text in lines:
            cells = self.header_cells(text)
            if cells is not None:
                header, tries = cells, 0
            elif header and text.strip():
                if text.count(",") >= len(header) - 1:
                    return _names(header), self._time_cell(header, text)
                tries += 1
                if tries == MOST_MESSAGES:
                    header = []
        return (_names(header), "") if header else None

    def _time_cell(self, header: list[str], text: str) -> str:
        place = next((i for i, cell in enumerate(header) if cell.strip() == "timestamp"), None)
        return "" if place is None else text.split(",")[place].strip(' "')

    def columns(self, cells: list[str]) -> list[PollField]:
        """Where the cells under this header go: the first name of a measure, and the best of the device."""
        matches = [_HEADER_CELL.match(cell) for cell in cells]
        names = [match[1] for match in matches if match]
        device_field = next((name for name in self.device_fields if name in names), None)
        found: list[PollField] = []
        taken: set[str] = set()
        for match in matches:
            if match is None:
                found.append(PollField("", "", "", "", is_row_number=True))
                continue
            name, unit = match[1], match[2] or ""
            column, stored_unit = self.fields.get(name, ("", ""))
            unconvertible = stored_unit and unit and unit not in UNIT_FACTORS[stored_unit]
            if unconvertible or column in taken or (column == "device_id" and name != device_field):
                column = stored_unit = ""  # a second name of the device, a second power: kept beside
            taken.add(column)
            taken.discard("")
            found.append(PollField(name, column, stored_unit, unit))
        return found


def _names(header: list[str]) -> set[str]:
    return {match[1] for cell in header if (match := _HEADER_CELL.match(cell))}


MOST_MESSAGES = 20
"""Between a header and its first row, a tool may say so many lines that something failed."""


@dataclass
class PollField:
    """One column of the log: where its cells go, and the unit they have shown so far (None: not seen yet).

    ``column`` is empty for a field without a column of its own: its cells go to ``metrics`` or ``labels``.
    ``stored_unit`` is empty for text.
    """

    name: str
    column: str
    stored_unit: str
    header_unit: str
    cell_unit: str | None = None
    is_row_number: bool = False

    @property
    def is_time(self) -> bool:
        """Does it say when the device was read?"""
        return self.column == "polled_at"

    @property
    def is_text(self) -> bool:
        """Are its cells texts whatever they look like?"""
        return (bool(self.column) and not self.stored_unit) or (
            not self.column and _TEXT_FIELD.match(self.name) is not None
        )

    def factor(self, cell_unit: str) -> float:
        """What a number with this unit is multiplied by to be stored.

        Raises:
            ValueError: the unit is unknown.
        """
        unit = cell_unit or self.header_unit
        if not self.stored_unit or not unit:
            return 1.0
        try:
            return UNIT_FACTORS[self.stored_unit][unit]
        except KeyError:
            raise ValueError(f"unit {unit[:20]!r} of {self.name} is unknown") from None

    @property
    def metric_name(self) -> str:
        """Its name in ``metrics``, with the unit."""
        unit = self.cell_unit or self.header_unit
        return f"{self.name} [{unit}]" if unit else self.name
