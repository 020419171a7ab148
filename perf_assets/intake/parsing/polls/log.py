"""Poll logs: comma-separated tables of devices, as ``nvidia-smi --query-gpu`` and ``hl-smi -Q`` print them.

The tools share the shape: a header of field names with units in brackets, repeated whenever the poller was
started anew, and rows whose cells may carry the unit once more. Such logs grow to hundreds of MB, so a block
of lines is first read column by column with Arrow; a block that is not clean is halved until the dirt is
alone in a small piece, and that is read line by line. Both ways give the same rows and the same rejects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perf_assets.intake.parsing.cells import csv_cells, is_absent, number
from perf_assets.intake.parsing.delimited import check_names
from perf_assets.intake.parsing.polls.columns import (
    DevicePlaces,
    SessionNumbers,
    map_array,
    numbers_and_texts,
    without_absent,
)
from perf_assets.intake.parsing.polls.devices import DeviceOrder, device_order
from perf_assets.intake.parsing.polls.fields import PollField, PollFormat, split_unit
from perf_assets.intake.parsing.records import Line, Records
from perf_assets.intake.parsing.source import HEAD_BYTES, Block, Source
from perf_assets.intake.parsing.times import (
    UNTOLD,
    DayClock,
    Moment,
    is_fraction,
    local_source,
    parse_time,
    parse_time_of_day,
)

if TYPE_CHECKING:
    import pyarrow as pa

SMALL_BLOCK_BYTES = 32 * 1024
"""A block this small is read line by line when it is not clean."""


class PollReader:
    """Reads one poll log into ``cleaned_telemetry``."""

    def __init__(self, poll_format: PollFormat, source: Source, out: Records) -> None:
        self.format = poll_format
        self.source = source
        self.out = out
        self.header: list[str] = []
        self.fields: list[PollField] = []
        self.clock = DayClock(source.path, source.timezone)
        self.sessions = SessionNumbers()
        self.places: DevicePlaces | None = None

    def read(self) -> None:
        """Read the whole log."""
        for block in self.source.blocks():
            self._read_block(block)

    def _use_header(self, cells: list[str]) -> None:
        check_names(cells)
        self.header = cells
        self.fields = self.format.columns(cells)
        if not any(each.column == "device_id" for each in self.fields) and self.places is None:
            self.places = DevicePlaces(self._order())

    def _order(self) -> DeviceOrder:
        """How many devices a poll of this log has, judged by its first rows."""
        times: list[float | None] = []
        names: list[str | None] = []
        sizes: list[int] = []
        place = {each.column: index for index, each in enumerate(self.fields)}
        head = self.source.head()
        # The last line of a head that is full may be cut.
        for text in head.lines if len(head.text) < HEAD_BYTES // 2 else head.lines[:-1]:
            if self.format.header_cells(text) is not None:
                sizes.append(0)
            elif sizes and text.count(",") == len(self.fields) - 1:
                cells = text.split(",")
                sizes[-1] += 1
                names.append(cells[place["device_name"]].strip() if "device_name" in place else None)
                try:
                    at = parse_time(cells[place["polled_at"]].strip(' "'), "UTC").at if place else None
                    times.append(at.timestamp() if at is not None else None)
                except (KeyError, ValueError):
                    times.append(None)
        return device_order(times, names, sizes)

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

        if any(byte in block.data for byte in (b"\0", b"\x1b", b'"')):
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
            starts = None
            if header_count:
                headers = table.filter(is_header)
                if any(
                    not pc.all(pc.equal(headers.column(i), cell)).as_py()
                    for i, cell in enumerate(self.header)
                ):
                    return False
                rows = pc.invert(is_header)
                is_row = rows.to_numpy()
                starts = np.concatenate([[False], ~is_row[:-1]])[is_row]
                table, line_numbers = table.filter(rows), line_numbers.filter(rows.combine_chunks())
            units = {id(each): each.cell_unit for each in self.fields}
            if table.num_rows:
                try:
                    columns = [
                        self._clean_column(each, pc.ascii_trim_whitespace(table.column(i).combine_chunks()))
                        for i, each in enumerate(self.fields)
                    ]
                except ValueError:
                    for each in self.fields:
                        each.cell_unit = units[id(each)]
                    return False
                self._add(line_numbers, columns, starts)
            if header_count and not is_row[-1] and self.places is not None:
                self.places.begin_poll()
        except pa.ArrowInvalid:
            return False
        self.out.count_block(records=table.num_rows, ignored=header_count)
        return True

    def _clean_column(self, each: PollField, column: pa.Array) -> Any:
        """A column of trimmed cells, typed; ValueError (ArrowInvalid is one) where some cell is not clean."""
        import pyarrow as pa

        if each.is_time:
            return self._clean_times(column)
        if each.stored_unit:
            try:
                return self._clean_numbers(each, column)
            except ValueError:
                return self._clean_numbers(each, without_absent(column))
        # Few different cells: read each once.
        encoded = column.dictionary_encode()
        values = [self._read_cell(each, cell) for cell in encoded.dictionary.to_pylist()]
        if each.column:
            return pa.array(values, pa.string()).take(encoded.indices)
        return numbers_and_texts(values).take(encoded.indices)

    def _clean_times(self, column: pa.Array) -> tuple[pa.Array, Any]:
        import pyarrow as pa

        if self.format.fast_time is not None:
            try:
                times = self.format.fast_time(column, self.source.timezone)
                return times, local_source(self.source.timezone)
            except ValueError:
                pass  # another kind of time
        encoded = column.dictionary_encode()
        moments = [parse_time(cell, self.source.timezone) for cell in encoded.dictionary.to_pylist()]
        times = pa.array([moment.at for moment in moments], pa.timestamp("us"))
        sources = pa.array([moment.source for moment in moments], pa.string())
        return times.take(encoded.indices), sources.take(encoded.indices)

    def _clean_numbers(self, each: PollField, column: pa.Array) -> pa.Array:
        import pyarrow as pa
        import pyarrow.compute as pc

        present = column.drop_null() if column.null_count else column
        if not len(present):
            return pa.nulls(len(column), pa.float64())
        unit = each.cell_unit
        if unit is None:
            unit = split_unit(present[0].as_py())[1]
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
            header = self.format.header_cells(line.text)
            if header is not None:
                if header != self.header or self.places is not None:
                    self._add_rows(numbers, rows)
                    numbers, rows = [], []
                if header != self.header:
                    self._use_header(header)
                if self.places is not None:
                    self.places.begin_poll()
                line.ignore()
                continue
            row = self._read_row(line)
            if row is not None:
                numbers.append(line.number)
                rows.append(row)
        self._add_rows(numbers, rows)

    def _read_row(self, line: Line) -> list[Any] | None:
        if not self.fields:
            line.reject("no_header", "no header stands before this line, so its columns are unknown")
            return None
        try:
            cells = csv_cells(line.text)
        except ValueError as error:
            line.reject("bad_row", str(error))
            return None
        if len(cells) == 1 != len(self.fields):
            line.reject("tool_message", "a message of the tool, not a row")
            return None
        if len(cells) == len(self.fields) + 1:
            cells = self._with_fraction(cells)
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

    def _with_fraction(self, cells: list[str]) -> list[str]:
        """The cells of a row whose time has a comma before its fraction: what stands around it is one
        cell."""
        place = next((index for index, each in enumerate(self.fields) if each.is_time), None)
        if place is None or not is_fraction(cells[place], cells[place + 1]):
            return cells
        return [*cells[:place], f"{cells[place]},{cells[place + 1]}", *cells[place + 2 :]]

    def _read_cell(self, each: PollField, cell: str) -> Any:
        if each.is_time:
            return self._read_time(cell)
        if each.is_row_number or is_absent(cell):
            return None
        if each.is_text:
            return cell
        text, unit = split_unit(cell)
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
                f"{cell[:40]!r} has the unit {unit[:20]!r}, "
                f"the cells before have {each.cell_unit!r}: cut off?"
            )
        return None if value is None else value * each.factor(unit)

    def _read_time(self, cell: str) -> Moment | None:
        """The moment; None where the cell has a time of day alone, and the path no date."""
        of_day = parse_time_of_day(cell)
        return parse_time(cell, self.source.timezone) if of_day is None else self.clock.at(of_day)

    # Rows to the table ---------------------------------------------------------------------------------

    def _add_rows(self, line_numbers: list[int], rows: list[list[Any]]) -> None:
        import pyarrow as pa

        if not rows:
            return
        columns: list[Any] = []
        for each, values in zip(self.fields, zip(*rows, strict=True), strict=True):
            if each.is_time:
                times = pa.array([moment and moment.at for moment in values], pa.timestamp("us"))
                columns.append((times, pa.array([moment.source if moment else UNTOLD for moment in values])))
            elif each.column:
                columns.append(pa.array(values, pa.float64() if each.stored_unit else pa.string()))
            else:
                columns.append(numbers_and_texts(values))
        self._add(pa.array(line_numbers, pa.int64()), columns)

    def _add(self, line_numbers: pa.Array, cells: list[Any], starts: Any = None) -> None:
        """Add rows. ``starts`` marks those right behind a header, where there is any between them."""
        import pyarrow as pa
        import pyarrow.compute as pc

        columns: dict[str, Any] = {"line_number": line_numbers, "time_source": UNTOLD}
        metrics: dict[str, pa.Array] = {}
        labels: dict[str, pa.Array] = {}
        for each, values in zip(self.fields, cells, strict=True):
            if each.is_time:
                columns["polled_at"], columns["time_source"] = values
            elif each.column:
                columns[each.column] = values
            elif not each.is_row_number:
                metrics[each.metric_name] = pc.struct_field(values, "number")
                labels[each.name] = pc.struct_field(values, "text")
        polled_at = columns.setdefault("polled_at", pa.nulls(len(line_numbers), pa.timestamp("us")))
        device = columns.get("device_id")
        if device is not None:
            columns["device_id"] = device.fill_null("unknown")
        elif self.places is not None:
            columns["device_id"] = self.places.of(polled_at, starts)
        columns["session"] = self.sessions.of(columns["device_id"], polled_at)
        if metrics:
            columns["metrics"] = map_array(metrics, pa.float64())
            columns["labels"] = map_array(labels, pa.string())
        self.out.add_columns("cleaned_telemetry", columns)
