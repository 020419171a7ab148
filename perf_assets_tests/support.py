"""What the tests share: where the samples lie, and reading one drop with its parser alone."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pytest

from perf_assets.intake.parsing import registry
from perf_assets.intake.parsing.records import Records
from perf_assets.intake.parsing.source import PLAIN, Source
from perf_assets.schema.tables import TABLES
from perf_assets.store.database import open_readonly
from perf_assets.store.parts import to_arrow
from perf_assets.workspace.paths import DataPaths

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "data" / "drops" / "examples"
SAMPLES = Path(os.environ.get("PERF_ASSETS_SAMPLES", ROOT.parent / "shared" / "samples"))


def needs_samples(folder: str):
    """Skip where the real logs are not at hand (they are not part of the project)."""
    return pytest.mark.skipif(not (SAMPLES / folder).is_dir(), reason=f"no real logs in {SAMPLES / folder}")


@dataclass
class Reading:
    """What one parser made of one drop."""

    format: str | None
    records: Records
    tables: dict[str, list[dict]] = field(default_factory=dict)

    def rows(self, table: str) -> list[dict]:
        return self.tables.get(table, [])

    @property
    def run(self) -> dict:
        (run,) = self.rows("cleaned_runs")
        return run


class _Rows:
    """A sink that keeps rows as the published tables would hold them."""

    def __init__(self) -> None:
        self.tables: dict[str, list[dict]] = {}

    def add_rows(self, table: str, rows: list[dict]) -> None:
        self.add_table(table, to_arrow(table, rows))

    def add_table(self, table: str, rows) -> None:
        self.tables.setdefault(table, []).extend(rows.to_pylist())


def source_of(path: Path, dropped_as: str | None = None, timezone: str = "UTC") -> Source:
    """A source for a file or run directory; ``dropped_as`` is its path under drops, by default its own
    name."""
    members = {PLAIN: path}
    if path.is_dir():
        members = {member.name: member for member in sorted(path.iterdir())}
    return Source(PurePosixPath(dropped_as or path.name), members, timezone)


def read(path: Path, dropped_as: str | None = None, timezone: str = "UTC") -> Reading:
    """Sniff and parse one drop as ingestion would, without storage."""
    source = source_of(path, dropped_as, timezone)
    sink = _Rows()
    records = Records("0" * 64, sink)
    name = registry.sniff(source.head())
    if name is not None:
        registry.parser(name).parse(source, records)
        records.close()
    return Reading(name, records, sink.tables)


def read_text(tmp_path: Path, text: str | bytes, name: str = "log.txt", **options) -> Reading:
    """Write a log and read it."""
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read(path, name, **options)


def table_contents(data: DataPaths, ignoring: tuple[str, ...] = ()) -> dict[str, list[str]]:
    """Every row of every table as text, sorted; without the time of ingestion and ``ignoring``."""
    contents = {}
    with open_readonly(data.database) as connection:
        for table in TABLES.values():
            hidden = {"ingested_at", "modified_at", *ignoring}
            columns = ", ".join(f'"{name}"' for name in table.column_names if name not in hidden)
            rows = connection.execute(f"SELECT {columns} FROM {table.name}").fetchall()
            contents[table.name] = sorted(repr(row) for row in rows)
    return contents


def sql(data: DataPaths, query: str, *parameters) -> list[tuple]:
    """Rows of a query on the published tables."""
    with open_readonly(data.database) as connection:
        return connection.execute(query, parameters).fetchall()


def wait_for(
    condition: Callable[[], object],
    timeout_s: float = 20.0,
    every_s: float = 0.05,
    why: Callable[[], str] = lambda: "",
) -> None:
    """Wait until a condition holds; fail after ``timeout_s`` and say what ``why`` then tells."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"waited {timeout_s} s in vain {why()}"
        time.sleep(every_s)
