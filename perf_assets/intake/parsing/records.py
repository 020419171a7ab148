"""What a parser fills: rows of the tables, and what became of every line.

Conservation holds by construction: a line that a parser reads and then says nothing of is rejected as
``unrecognised``; it can become a record or be ignored only by saying so.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol
from zoneinfo import ZoneInfo

from perf_assets.intake.parsing.source import MAX_LINE_BYTES, PLAIN, Block, Source, without_terminal_codes
from perf_assets.schema.tables import INTEGER, NUMBER, PARSED_TABLES, TEXT, arrow_schema

if TYPE_CHECKING:
    import pyarrow as pa

MAX_TEXT = 500
FLUSH_ROWS = 100_000
_COLUMN_TYPES = {
    name: {column.name: column.type for column in table.columns} for name, table in PARSED_TABLES.items()
}


class Line:
    """One line of text. Say ``use()``, ``ignore()`` or ``reject()``; the last word counts."""

    __slots__ = ("detail", "fate", "number", "reason", "text")

    def __init__(self, number: int, text: str) -> None:
        self.number = number
        self.text = text
        self.fate, self.reason, self.detail = "rejected", "unrecognised", "not a line of this format"

    def use(self) -> None:
        """It became (part of) a record."""
        self.fate = "record"

    def ignore(self) -> None:
        """It is a header, a marker, a comment or blank: it holds no data."""
        self.fate = "ignored"

    def reject(self, reason: str, detail: str) -> None:
        """It cannot be used: a short code, and what is wrong in words."""
        self.fate, self.reason, self.detail = "rejected", reason, detail


def _texts(block: Block) -> tuple[list[str], dict[int, str]]:
    """The lines of a block as texts, and by its number what is wrong with each that is no text."""
    problems: dict[int, str] = {}
    try:
        texts = block.data.decode().split("\n")
    except UnicodeDecodeError:
        texts = []
        for number, piece in enumerate(block.data.split(b"\n"), start=block.first_line):
            try:
                texts.append(piece.decode())
            except UnicodeDecodeError as error:
                texts.append(piece.decode("utf-8", "replace"))
                problems[number] = f"not UTF-8: {error.reason} at byte {error.start}"
    if b"\0" in block.data:
        for number, text in enumerate(texts, start=block.first_line):
            if "\0" in text:
                problems[number] = "holds a NUL byte: the file was damaged or is not text"
    if not texts[-1]:
        texts.pop()
    return texts, problems


class RowSink(Protocol):
    """Where the rows of parsed files go."""

    def add_rows(self, table: str, rows: list[dict[str, Any]]) -> None:
        """Take rows, each a dict of the columns that have a value."""
        ...

    def add_table(self, table: str, rows: pa.Table) -> None:
        """Take rows as an Arrow table with all columns of the schema."""
        ...


class Records:
    """Rows and line counts of one file.

    Rows go to the sink whenever there are many, and with ``close()``; so a log of any size is parsed in
    bounded memory.
    """

    def __init__(self, file_id: str, sink: RowSink) -> None:
        self.file_id = file_id
        self.lines_read = 0
        self.records = 0
        self.ignored = 0
        self.rejected = 0
        self.runs = 0
        self.current_line = 0
        self._sink = sink
        self._rows: dict[str, list[dict[str, Any]]] = {}
        self._row_count = 0

    # Lines ---------------------------------------------------------------------------------------------

    def lines(self, source: Source, member: str = PLAIN, longest: int | None = None) -> Iterator[Line]:
        """Every line of a member that is text; lines that are not (too long, not UTF-8, NUL) are rejected
        here.

        Colours and cursor moves of a terminal are taken out.

        ``longest`` is the number of characters beyond which no line of the format goes: what is longer is not
        handed to patterns that look at a text many times over.
        """
        for block in source.blocks(member):
            yield from self.block_lines(block, member, longest)

    def block_lines(self, block: Block, member: str = PLAIN, longest: int | None = None) -> Iterator[Line]:
        """Every line of one block, counted as ``lines`` counts them."""
        if block.oversize:
            self._count_rejected(
                member,
                block.first_line,
                "too_long",
                f"longer than {MAX_LINE_BYTES >> 10} KiB: no log line",
                block.data.decode("utf-8", "replace"),
            )
            return
        texts, problems = _texts(block)
        for number, text in enumerate(texts, start=block.first_line):
            self.current_line = number
            if number in problems:
                self._count_rejected(member, number, "not_text", problems[number], text)
                continue
            if longest is not None and len(text) > longest:
                detail = f"longer than {longest} characters: no line of this format"
                self._count_rejected(member, number, "too_long", detail, text)
                continue
            line = Line(number, without_terminal_codes(text.removesuffix("\r")))
            yield line
            if line.fate == "record":
                self.lines_read += 1
                self.records += 1
            elif line.fate == "ignored":
                self.lines_read += 1
                self.ignored += 1
            else:
                self._count_rejected(member, number, line.reason, line.detail, line.text)

    def count_block(self, records: int, ignored: int) -> None:
        """Count lines that were handled as a whole block: so many records, so many ignored."""
        self.lines_read += records + ignored
        self.records += records
        self.ignored += ignored

    def reject_line(self, number: int, text: str, reason: str, detail: str, member: str = PLAIN) -> None:
        """Note why a part of a document that has no lines of its own was left out. It is not counted as a
        line."""
        self.add(
            "rejected_lines",
            member=member or None,
            line_number=number,
            reason=reason,
            detail=detail,
            text=text[:MAX_TEXT],
        )

    def reject_counted(self, number: int, text: str, reason: str, detail: str) -> None:
        """Reject a line that was handled as part of a whole document."""
        self._count_rejected(PLAIN, number, reason, detail, text)

    def retract(self, lines: Iterable[Line], reason: str, detail: str) -> None:
        """Reject lines that were counted as parts of a record, which then was never completed."""
        for line in lines:
            self.records -= 1
            self.rejected += 1
            self.reject_line(line.number, line.text, reason, detail)

    def _count_rejected(self, member: str, number: int, reason: str, detail: str, text: str) -> None:
        self.lines_read += 1
        self.rejected += 1
        self.reject_line(number, text, reason, detail, member)

    # Rows ----------------------------------------------------------------------------------------------

    def run(self, **values: Any) -> str:
        """Add the next run of the file to ``cleaned_runs`` and return its ``run_id``.

        ``config`` is a dict (stored as JSON), ``quality`` a list of flags.
        """
        run_id = f"{self.file_id[:16]}-{self.runs:04d}"
        config = {name: value for name, value in values.pop("config", {}).items() if value is not None}
        self.add(
            "cleaned_runs",
            run_id=run_id,
            run_index=self.runs,
            quality=sorted(values.pop("quality", ())),
            config=json.dumps(config, sort_keys=True, default=str) if config else None,
            **values,
        )
        self.runs += 1
        return run_id

    def add(self, table: str, **values: Any) -> None:
        """Add one row, by column names. Numbers that are not finite become NULL.

        Raises:
            KeyError, TypeError, ValueError: no such column, or a value that it cannot hold.
        """
        types = _COLUMN_TYPES[table]
        for name, value in values.items():
            kind = types[name]
            if kind == NUMBER:
                if value is not None:
                    value = float(value)
                    values[name] = value if math.isfinite(value) else None
            elif value is None:
                continue
            elif kind == INTEGER:
                if not isinstance(value, int) or not -(2**63) <= value < 2**63:
                    raise ValueError(f"{name} = {value!r} is not a 64-bit integer")
            elif kind == TEXT and not isinstance(value, str):
                raise TypeError(f"{name} = {value!r} is not a text")
        if "file_id" in types:
            values["file_id"] = self.file_id
        self._rows.setdefault(table, []).append(values)
        self._row_count += 1
        if self._row_count >= FLUSH_ROWS:
            self.close()

    def add_columns(self, table: str, columns: dict[str, Any]) -> None:
        """Add many rows at once: Arrow arrays (or scalars that hold for all) by column name; the rest is
        NULL."""
        import pyarrow as pa

        schema = arrow_schema(table)
        length = next(
            len(values) for values in columns.values() if isinstance(values, (pa.Array, pa.ChunkedArray))
        )
        columns = columns | {"file_id": self.file_id}
        arrays = []
        for column in schema:
            values = columns.pop(column.name, None)
            if isinstance(values, (pa.Array, pa.ChunkedArray)):
                arrays.append(values if values.type == column.type else values.cast(column.type))
            elif values is None:
                arrays.append(pa.nulls(length, column.type))
            else:
                arrays.append(pa.repeat(pa.scalar(values, column.type), length))
        if columns:
            raise ValueError(f"{table} has no column {', '.join(columns)}")
        self._sink.add_table(table, pa.table(arrays, schema=schema))

    def close(self) -> None:
        """Hand over the rows gathered so far."""
        for table, rows in self._rows.items():
            self._sink.add_rows(table, rows)
        self._rows = {}
        self._row_count = 0


def to_utc(moment: datetime, timezone: str) -> datetime:
    """A naive local time as naive UTC; of the two readings of a repeated hour, the earlier."""
    if moment.tzinfo is None:
        if timezone == "UTC":
            return moment
        moment = moment.replace(tzinfo=ZoneInfo(timezone))
    return moment.astimezone(UTC).replace(tzinfo=None)
