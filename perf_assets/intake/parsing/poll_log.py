"""Poll logs: comma-separated tables of devices, as ``nvidia-smi --query-gpu`` and ``hl-smi -Q`` print them.

The two tools share the shape: a header of field names with units in brackets, repeated whenever the poller
was started anew, and rows whose cells may carry the unit once more. Such logs grow to hundreds of MB, so a
block of lines is first read column by column with Arrow; a block that is not clean is halved until the dirt is
alone in a small piece, and that is read line by line. Both ways give the same rows and the same rejects.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from perf_assets.intake.parsing.cells import ABSENT, is_absent, number
from perf_assets.intake.parsing.records import Line, Records
from perf_assets.intake.parsing.source import Block, Source

if TYPE_CHECKING:
    import pyarrow as pa

SESSION_GAP_S = 60
"""A device that was not polled for longer than this is in a new session."""

SMALL_BLOCK_BYTES = 32 * 1024
"""A block this small is read line by line when it is not clean."""

# Columns of cleaned_telemetry, with the unit they are stored in and the factors of the units that tools print.
UNIT_FACTORS: dict[str, dict[str, float]] = {
    "%": {"%": 1.0},
    "W": {"W": 1.0, "mW": 1e-3, "kW": 1e3},
    "MiB": {"MiB": 1.0, "GiB": 1024.0, "KiB": 1 / 1024, "MB": 1e6 / 2**20, "B": 1 / 2**20},
    "degC": {"C": 1.0, "degC": 1.0},
    "MHz": {"MHz": 1.0, "GHz": 1e3},
}

_HEADER_CELL = re.compile(r"\s*([a-z][\w.]*)\s*(?:\[(.*)\])?\s*\Z", re.ASCII)


@dataclass(frozen=True)
class PollFormat:
    """What distinguishes one tool's poll logs.

    ``fields`` maps the tool's field names to columns of ``cleaned_telemetry`` and their units ("" for text);
    ``device_fields`` are those that identify a device, the best first; ``parse_time`` turns a time cell into
    naive UTC (or raises ValueError) and ``time_source`` says how; ``fast_time`` does so for an Arrow column.
    """

    fields: dict[str, tuple[str, str]]
    device_fields: tuple[str, ...]
    parse_time: Callable[[str, str], datetime]
    time_source: Callable[[str], str]
    fast_time: Callable[[Any, str], Any] | None = None

    def is_header(self, cells: list[str]) -> bool:
        """Is this line a header: field names throughout, a time among them, and a measure we know?"""
        names = [match.group(1) if (match := _HEADER_CELL.match(cell)) else None for cell in cells]
        return None not in names and "timestamp" in names and any(name in self.fields for name in names)


@dataclass
class _Field:
    """One column of the log: where its cells go, and the unit they have shown so far (None: not seen yet).

    ``column`` is empty for a field without a column of its own: its cells go to ``metrics`` or ``labels``.
    ``stored_unit`` is empty for text.
    """

    name: str
    column: str
    stored_unit: str
    header_unit: str
    cell_unit: str | None = None

    @property
    def is_time(self) -> bool:
        return self.column == "polled_at"

    @property
    def is_text(self) -> bool:
        return bool(self.column) and not self.stored_unit

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
        unit = self.cell_unit or self.header_unit
        return f"{self.name} [{unit}]" if unit else self.name


class PollReader:
    """Reads one poll log into ``cleaned_telemetry``."""

    def __init__(self, poll_format: PollFormat, source: Source, out: Records) -> None:
        self.format = poll_format
        self.source = source
        self.out = out
        self.header: list[str] = []
        self.fields: list[_Field] = []
        self.last_poll: dict[str, tuple[Any, int]] = {}

    def read(self) -> None:
        """Read the whole log."""
        for block in self.source.blocks():
            self._read_block(block)

    # Header --------------------------------------------------------------------------------------------

    def _use_header(self, cells: list[str]) -> None:
        matches = [match for cell in cells if (match := _HEADER_CELL.match(cell))]
        names = [match.group(1) for match in matches]
        device_field = next((name for name in self.format.device_fields if name in names), None)
        self.header = cells
        self.fields = []
        taken: set[str] = set()
        for match in matches:
            name, unit = match.group(1), match.group(2) or ""
            column, stored_unit = self.format.fields.get(name, ("", ""))
            unconvertible = stored_unit and unit and unit not in UNIT_FACTORS[stored_unit]
            if unconvertible or column in taken or (column == "device_id" and name != device_field):
                column = stored_unit = ""  # a second name of the device, a second power: kept beside
            taken.add(column)
            taken.discard("")
            self.fields.append(_Field(name, column, stored_unit, unit))

    # A block as a whole --------------------------------------------------------------------------------

    def _read_block(self, block: Block) -> None:
        if self.fields and not block.oversize and self._read_clean(block):
            return
        middle = block.data.rfind(b"\n", 0, len(block.data) // 2) + 1
        if block.oversize or not middle or len(block.data) <= SMALL_BLOCK_BYTES:
            self._read_line_by_line(block)
            return
        first, second = block.data[:middle], block.data[middle:]
        self._read_block(Block(block.first_line, first))
        self._read_block(Block(block.first_line + first.count(b"\n"), second))

    def _read_clean(self, block: Block) -> bool:
        """Read a block column by column. False, with nothing done, where any line needs a closer look."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.csv

        if b"\0" in block.data:
            return False
        line_count = block.line_count
        line_numbers = pa.array(np.arange(block.first_line, block.first_line + line_count, dtype=np.int64))
        names = [str(position) for position in range(len(self.fields))]
        try:
            table = pa.csv.read_csv(
                pa.BufferReader(block.data),
                pa.csv.ReadOptions(column_names=names),
                pa.csv.ParseOptions(quote_char=False, ignore_empty_lines=False),
                pa.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
            )
            if table.num_rows != line_count:
                return False
            is_header = pc.equal(table.column(0), self.header[0])
            header_count = pc.sum(is_header).as_py()
            if header_count:
                headers = table.filter(is_header)
                if any(
                    not pc.all(pc.equal(headers.column(i), cell)).as_py()
                    for i, cell in enumerate(self.header)
                ):
                    return False
                rows = pc.invert(is_header)
                table, line_numbers = table.filter(rows), line_numbers.filter(rows.combine_chunks())
            units = {id(each): each.cell_unit for each in self.fields}
            if table.num_rows:
                try:
                    self._add(
                        line_numbers,
                        [
                            self._clean_column(
                                each, pc.ascii_trim_whitespace(table.column(i).combine_chunks())
                            )
                            for i, each in enumerate(self.fields)
                        ],
                    )
                except ValueError:
                    for each in self.fields:
                        each.cell_unit = units[id(each)]
                    return False
        except pa.ArrowInvalid:
            return False
        self.out.count_block(records=table.num_rows, ignored=header_count)
        return True

    def _clean_column(self, each: _Field, column: pa.Array) -> pa.Array:
        """A column of trimmed cells, typed; ValueError (ArrowInvalid is one) where some cell is not clean."""
        import pyarrow as pa

        if each.is_time and self.format.fast_time is not None:
            return self.format.fast_time(column, self.source.timezone)
        if each.stored_unit:
            try:
                return self._clean_numbers(each, column)
            except ValueError:
                return self._clean_numbers(each, _without_absent(column))
        # Few different cells: read each once.
        encoded = column.dictionary_encode()
        values = [self._read_cell(each, cell) for cell in encoded.dictionary.to_pylist()]
        kind = pa.timestamp("us") if each.is_time else pa.string() if each.is_text else None
        if kind is not None:
            return pa.array(values, kind).take(encoded.indices)
        return _numbers_and_texts(values).take(encoded.indices)

    def _clean_numbers(self, each: _Field, column: pa.Array) -> pa.Array:
        import pyarrow as pa
        import pyarrow.compute as pc

        present = column.drop_null() if column.null_count else column
        if not len(present):
            return pa.nulls(len(column), pa.float64())
        unit = each.cell_unit
        if unit is None:
            unit = _split_unit(present[0].as_py())[1]
        factor = each.factor(unit)
        if unit:
            if not pc.all(pc.ends_with(present, f" {unit}")).as_py():
                raise ValueError("a cell with another unit")
            column = pc.utf8_slice_codeunits(column, 0, -len(unit) - 1)
        values = pc.cast(column, pa.float64())
        if not pc.all(pc.is_finite(values)).as_py():
            raise ValueError("a number that is not finite")
        each.cell_unit = unit
        return values if factor == 1.0 else pc.multiply(values, factor)

    # Line by line --------------------------------------------------------------------------------------

    def _read_line_by_line(self, block: Block) -> None:
        numbers: list[int] = []
        rows: list[list[Any]] = []
        for line in self.out.block_lines(block):
            if not line.text.strip():
                line.ignore()
                continue
            cells = line.text.split(",")
            if self.format.is_header(cells):
                if cells != self.header:
                    self._add_rows(numbers, rows)
                    numbers, rows = [], []
                    self._use_header(cells)
                line.ignore()
                continue
            row = self._read_row(line, cells)
            if row is not None:
                numbers.append(line.number)
                rows.append(row)
        self._add_rows(numbers, rows)

    def _read_row(self, line: Line, cells: list[str]) -> list[Any] | None:
        if not self.fields:
            line.reject("no_header", "no header stands before this line, so its columns are unknown")
            return None
        if len(cells) == 1:
            line.reject("tool_message", "a message of the tool, not a row")
            return None
        if len(cells) != len(self.fields):
            line.reject(
                "wrong_columns",
                f"{len(cells)} cells where the header has {len(self.fields)}: cut off, or two writers mixed",
            )
            return None
        units = [each.cell_unit for each in self.fields]
        row: list[Any] = []
        for each, cell in zip(self.fields, cells, strict=True):
            try:
                row.append(self._read_cell(each, cell.strip()))
            except ValueError as error:
                for field_before, unit in zip(self.fields, units, strict=True):
                    field_before.cell_unit = unit  # a row that is not used teaches no units
                line.reject("bad_time" if each.is_time else "bad_cell", f"{each.name}: {error}")
                return None
        line.use()
        return row

    def _read_cell(self, each: _Field, cell: str) -> Any:
        if each.is_time:
            return self.format.parse_time(cell, self.source.timezone)
        if is_absent(cell):
            return None
        if each.is_text:
            return cell
        text, unit = _split_unit(cell)
        try:
            value = number(text)
        except ValueError:
            if each.stored_unit:
                raise
            return cell
        if each.cell_unit is None:
            each.factor(unit)
            each.cell_unit = unit
        elif unit != each.cell_unit:
            raise ValueError(
                f"{cell[:40]!r} has the unit {unit[:20]!r}, the cells before have {each.cell_unit!r}: cut off?"
            )
        return None if value is None else value * each.factor(unit)

    # Rows to the table ---------------------------------------------------------------------------------

    def _add_rows(self, line_numbers: list[int], rows: list[list[Any]]) -> None:
        import pyarrow as pa

        if not rows:
            return
        columns = []
        for each, values in zip(self.fields, zip(*rows, strict=True), strict=True):
            if each.column:
                kind = pa.timestamp("us") if each.is_time else pa.string() if each.is_text else pa.float64()
                columns.append(pa.array(values, kind))
            else:
                columns.append(_numbers_and_texts(values))
        self._add(pa.array(line_numbers, pa.int64()), columns)

    def _add(self, line_numbers: pa.Array, cells: list[pa.Array]) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        columns: dict[str, Any] = {"line_number": line_numbers}
        metrics: dict[str, pa.Array] = {}
        labels: dict[str, pa.Array] = {}
        for each, values in zip(self.fields, cells, strict=True):
            if each.column:
                columns[each.column] = values
                continue
            metrics[each.metric_name] = pc.struct_field(values, "number")
            labels[each.name] = pc.struct_field(values, "text")
        device = columns.get("device_id")
        columns["device_id"] = (
            device.fill_null("unknown") if device is not None else pa.repeat("0", len(line_numbers))
        )
        columns["time_source"] = self.format.time_source(self.source.timezone)
        columns["session"] = self._sessions(columns["device_id"], columns["polled_at"])
        if metrics:
            columns["metrics"] = _map_array(metrics, pa.float64())
            columns["labels"] = _map_array(labels, pa.string())
        self.out.add_columns("cleaned_telemetry", columns)

    def _sessions(self, device: pa.Array, polled_at: pa.Array) -> pa.Array:
        """Session numbers by each device's own times: a hole (or a jump back) over the gap starts the next."""
        import numpy as np
        import pyarrow as pa

        encoded = device.dictionary_encode()
        codes = encoded.indices.to_numpy(zero_copy_only=False)
        times = polled_at.cast(pa.int64()).to_numpy(zero_copy_only=False)
        sessions = np.zeros(len(codes), np.int64)
        for code, name in enumerate(encoded.dictionary.to_pylist()):
            where = np.flatnonzero(codes == code)
            own = times[where]
            last, session = self.last_poll.get(name, (own[0], 0))
            holes = np.abs(np.diff(own, prepend=last)) > SESSION_GAP_S * 1_000_000
            numbers = session + np.cumsum(holes)
            sessions[where] = numbers
            self.last_poll[name] = (own[-1], int(numbers[-1]))
        return pa.array(sessions)


def _without_absent(column: pa.Array) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    absent = pc.is_in(pc.utf8_lower(column), pa.array(sorted(ABSENT)))
    return pc.if_else(absent, pa.scalar(None, pa.string()), column)


def _numbers_and_texts(values: Iterable[Any]) -> pa.StructArray:
    """Cells of a field without a column of its own: numbers and texts apart."""
    import pyarrow as pa

    values = list(values)
    numbers = pa.array([value if isinstance(value, float) else None for value in values], pa.float64())
    texts = pa.array([value if isinstance(value, str) else None for value in values], pa.string())
    return pa.StructArray.from_arrays([numbers, texts], ["number", "text"])


def _split_unit(cell: str) -> tuple[str, str]:
    """``52.83 W`` -> (``52.83``, ``W``); without a unit the second is empty."""
    text, _, unit = cell.rpartition(" ")
    return (text.rstrip(), unit) if text else (cell, "")


def _map_array(columns: dict[str, pa.Array], value_type: pa.DataType) -> pa.MapArray:
    """Columns side by side as one map a row; absent values are left out."""
    import numpy as np
    import pyarrow as pa

    count = len(next(iter(columns.values())))
    keys = pa.array(list(columns) * count)
    values = pa.concat_arrays([column.cast(value_type) for column in columns.values()])
    order = np.arange(count * len(columns)).reshape(len(columns), count).T.ravel()
    values = values.take(pa.array(order))
    present = values.is_valid()
    kept = present.to_numpy(zero_copy_only=False).reshape(count, len(columns)).sum(axis=1)
    offsets = pa.array(np.concatenate([[0], np.cumsum(kept)]), pa.int32())
    return pa.MapArray.from_arrays(offsets, keys.filter(present), values.filter(present))
