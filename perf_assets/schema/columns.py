"""What a column and a table are, and short ways to write them down. No table stands here."""

from __future__ import annotations

from dataclasses import dataclass

TEXT = "VARCHAR"
INTEGER = "BIGINT"
NUMBER = "DOUBLE"
FLAG = "BOOLEAN"
TIME = "TIMESTAMP"
JSON = "JSON"
FLAGS = "VARCHAR[]"
METRICS = "MAP(VARCHAR, DOUBLE)"
LABELS = "MAP(VARCHAR, VARCHAR)"


@dataclass(frozen=True)
class Column:
    """One column: DuckDB type, unit ("" where it has none) and what it means."""

    name: str
    type: str
    unit: str
    description: str


@dataclass(frozen=True)
class Table:
    """One published table. ``key`` names the columns that together are unique, or is empty."""

    name: str
    description: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()

    @property
    def column_names(self) -> tuple[str, ...]:
        """Column names in order."""
        return tuple(column.name for column in self.columns)


FILE_ID = Column(
    "file_id", TEXT, "", "sha256 of the file, hex; of a run directory, over its members' names and hashes"
)
RUN_ID = Column(
    "run_id", TEXT, "", "the run this row belongs to: file_id's first 16 digits and the run's position in it"
)


def table(name: str, description: str, *columns: Column, key: tuple[str, ...] = ()) -> Table:
    """Declare a table of these columns."""
    return Table(name, description, columns, key)


def text(name: str, description: str) -> Column:
    """Declare a column of text."""
    return Column(name, TEXT, "", description)


def count(name: str, description: str, unit: str = "") -> Column:
    """Declare a column of whole numbers."""
    return Column(name, INTEGER, unit, description)


def number(name: str, unit: str, description: str) -> Column:
    """Declare a column of numbers with their unit."""
    return Column(name, NUMBER, unit, description)
