"""Delimited text, one line at a time: cells, header names, and rows by those names.

Lines are split one by one (no cell of these formats spans lines), so a broken quote costs its line alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from perf_assets.parsers.cells import csv_cells


def split_cells(text: str, separator: str = ",") -> list[str]:
    """The cells of one line, without white space around them.

    Raises:
        ValueError: the quoting is broken, or a cell is absurdly long.
    """
    return [cell.strip() for cell in csv_cells(text, separator)]


def header_names(text: str, separator: str = ",") -> list[str]:
    """The column names of a header line; what follows a trailing separator is dropped.

    Raises:
        ValueError: the line cannot be split, or names a column twice.
    """
    names = split_cells(text, separator)
    while names and not names[-1]:
        names.pop()
    if len(set(names)) != len(names):
        raise ValueError("the header names a column twice")
    return names


def by_name(names: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    """A row as column name → cell. Empty cells beyond the header are dropped: some tools end rows with a comma.

    Raises:
        ValueError: there are fewer cells than columns, or more that are not empty.
    """
    if len(cells) < len(names):
        raise ValueError(f"{len(cells)} cells for {len(names)} columns: the line is cut off")
    if any(cells[len(names) :]):
        raise ValueError(f"{len(cells)} cells for {len(names)} columns")
    return dict(zip(names, cells, strict=False))
