"""What the tests of several files share: drop files, load their rows into DuckDB, link them."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import duckdb

from perf_assets.intake.parsing import registry
from perf_assets.intake.parsing.records import Records
from perf_assets.schema.tables import TABLES
from perf_assets.store import invariants
from perf_assets.store.database import LINK_SCRIPTS, SQL_FOLDER, create_tables
from perf_assets.store.parts import to_arrow
from perf_assets_tests.support import EXAMPLES, source_of

DROPS = EXAMPLES.parent
CHECKS = {check.name: check for check in invariants.CHECKS}
LINK_CHECKS = (
    "littles_law",
    "sources_agree",
    "percentiles_in_order",
    "composing_queue_fits",
    "layers_fit_into_run",
    "twins_count_once",
    "cleaned_load_levels_key_is_unique",
    "cleaned_load_gpus_key_is_unique",
    "cleaned_runs_key_is_unique",
    "run_sources_key_is_unique",
    "load_level_sources_key_is_unique",
)
"""The invariants that linking must keep."""


def drops_of(root: Path, *folders: str) -> list[tuple[Path, str]]:
    """Files below folders of ``root``, as (file, path under it)."""
    return [
        (path, str(path.relative_to(root)))
        for folder in folders
        for path in sorted((root / folder).rglob("*"))
        if path.is_file()
    ]


def write(folder: Path, files: dict[str, str]) -> list[tuple[Path, str]]:
    """Write files by name; returns them as drops."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return [(folder / name, name) for name in files]


def linked(drops: Iterable[tuple[Path, str]], link: bool = True) -> duckdb.DuckDBPyConnection:
    """A database of these drops (file, path under drops), as a publish makes it."""
    connection = duckdb.connect()
    create_tables(connection)
    parsed: dict[str, list[dict]] = {"source_files": []}
    taken = set()
    for path, dropped_as in drops:
        file_id = hashlib.sha256(path.read_bytes()).hexdigest()
        source = source_of(path, dropped_as)
        name = registry.sniff(source.head())
        status = "unsupported" if name is None else "duplicate" if file_id in taken else "ingested"
        if status == "ingested":
            taken.add(file_id)
            records = Records(file_id, _Rows(parsed))
            registry.parser(name).parse(source, records)
            records.close()
        parsed["source_files"].append(
            {"file_id": file_id, "path": dropped_as, "format": name, "status": status}
        )
    for table, values in parsed.items():
        connection.register("batch", to_arrow(table, values))
        connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM batch")
        connection.unregister("batch")
    if link:
        run_links(connection)
    return connection


class _Rows:
    """A sink that keeps rows as they are."""

    def __init__(self, parsed: dict[str, list[dict]]) -> None:
        self.parsed = parsed

    def add_rows(self, table: str, values: list[dict]) -> None:
        self.parsed.setdefault(table, []).extend(values)

    def add_table(self, table: str, values) -> None:
        self.parsed.setdefault(table, []).extend(values.to_pylist())


def run_links(connection: duckdb.DuckDBPyConnection) -> None:
    """Run the linking statements, as a publish does."""
    for name in LINK_SCRIPTS:
        connection.execute((SQL_FOLDER / name).read_text())


def rows(connection: duckdb.DuckDBPyConnection, query: str, *parameters) -> list[dict]:
    """The rows of a query as dicts."""
    cursor = connection.execute(query, parameters)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def dump(connection: duckdb.DuckDBPyConnection) -> dict[str, list[str]]:
    """Every table as sorted text, to compare whole databases."""
    return {
        name: sorted(map(str, connection.execute(f"SELECT * FROM {name}").fetchall()))
        for name in TABLES
        if name != "source_files"
    }
