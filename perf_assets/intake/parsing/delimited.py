"""Delimited text, one line at a time: cells, header names, and rows by those names.

Lines are split one by one (no cell of these formats spans lines), so a broken quote costs its line alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from perf_assets.intake.parsing.cells import csv_cells
from perf_assets.intake.parsing.records import Line, Records
from perf_assets.intake.parsing.source import PLAIN, Head, Source, UnreadableSourceError

MAX_NAME_CHARS = 300
"""The longest name of a column; the longest that a tool was seen to give has 80 characters."""

NAMELESS = frozenset(("", "Unnamed: 0"))
"""What pandas calls the index that it writes in front of a table."""


def split_cells(text: str, separator: str = ",") -> list[str]:
    """The cells of one line, without white space around them. A line that is quoted as a whole (scripts write
    headers so) is split within its quotes.

    Raises:
        ValueError: the quoting is broken, or a cell is absurdly long.
    """
    cells = csv_cells(text, separator)
    if len(cells) == 1 and separator in cells[0]:
        cells = csv_cells(cells[0], separator)
    return [cell.strip() for cell in cells]


def header_names(text: str, separator: str = ",") -> list[str]:
    """The column names of a header line; what follows a trailing separator is dropped.

    Raises:
        ValueError: the line cannot be split, or names a column twice.
        UnreadableSourceError: a name is longer than any that a tool gives.
    """
    names = split_cells(text, separator)
    while names and not names[-1]:
        names.pop()
    check_names(names)
    if len(set(names)) != len(names):
        raise ValueError("the header names a column twice")
    return names


def check_names(names: Iterable[str]) -> None:
    """Refuse column names that no tool gives: each row repeats them, so a long one would fill the memory.

    Raises:
        UnreadableSourceError: a name is longer than :data:`MAX_NAME_CHARS`.
    """
    longest = max(map(len, names), default=0)
    if longest > MAX_NAME_CHARS:
        raise UnreadableSourceError(
            f"a column has a name of {longest} characters, which no tool gives; correct the header and drop "
            "it again"
        )


def by_name(names: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    """A row as column name → cell. Empty cells beyond the header are dropped: some tools end rows with a
    comma.

    Raises:
        ValueError: there are fewer cells than columns, or more that are not empty.
    """
    if len(cells) < len(names):
        raise ValueError(f"{len(cells)} cells for {len(names)} columns: the line is cut off")
    if any(cells[len(names) :]):
        raise ValueError(f"{len(cells)} cells for {len(names)} columns")
    return dict(zip(names, cells, strict=False))


def without_index(cells: list[str]) -> list[str]:
    """The cells of a header without the nameless index of pandas in front."""
    return cells[1:] if len(cells) > 1 and cells[0] in NAMELESS else cells


def has_header(head: Head, is_header: Callable[[list[str]], bool], separator: str = ",") -> bool:
    """Does such a header stand among the first lines? Prompts and banners may stand before it, quotes around
    it."""
    for text in head.opening:
        try:
            if is_header(without_index(split_cells(text, separator))):
                return True
        except ValueError:
            continue
    return False


def named_rows(
    source: Source,
    out: Records,
    is_header: Callable[[list[str]], bool],
    separator: str = ",",
    member: str = PLAIN,
) -> Iterator[tuple[Line, dict[str, str]]]:
    """Every row of a table as its line and its cells by column name; the caller says what becomes of the
    line.

    Blank lines and headers are ignored (a header comes again where files were concatenated), lines that are
    no row under the last header are rejected. The index that pandas puts in front is left out.
    """
    names: list[str] = []
    index = 0
    for line in out.lines(source, member):
        text = line.text.strip()
        if not text:
            line.ignore()
            continue
        try:
            cells = split_cells(text, separator)
            own = without_index(cells)
            if is_header(cells) or is_header(own):
                index = len(cells) - len(own)
                names = header_names(text, separator)[index:]
                line.ignore()
                continue
            if not names:
                line.reject("no_header", "a row before any header")
                continue
            row = by_name(names, cells[index:])
        except ValueError as error:
            line.reject("bad_row", str(error))
            continue
        yield line, row
