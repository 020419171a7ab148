"""What the tests of several files share: drop files, load their rows into DuckDB, link them."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import duckdb
import pyarrow as pa

from perf_assets.parsers import registry
from perf_assets.parsers.records import Records
from perf_assets.parsers.source import UnreadableSourceError
from perf_assets.schema import PARSED_TABLES, TABLES, arrow_schema
from perf_assets_tests.support import ROOT, source_of

LINK_SQL = ROOT / "perf_assets" / "storage" / "sql" / "link_runs.sql"


def linked(drops: Iterable[tuple[Path, str]], link: bool = True) -> duckdb.DuckDBPyConnection:
    """A database of these drops (file, path under drops), as a publish makes it."""
    connection = duckdb.connect()
    for table in TABLES.values():
        columns = ", ".join(f'"{column.name}" {column.type}' for column in table.columns)
        connection.execute(f"CREATE TABLE {table.name} ({columns})")
    rows: dict[str, list[dict]] = {}
    taken = set()
    for path, dropped_as in drops:
        file_id = hashlib.sha256(path.read_bytes()).hexdigest()
        source = source_of(path, dropped_as)
        name = registry.sniff(source.head())
        status = "unsupported" if name is None else "duplicate" if file_id in taken else "ingested"
        if status == "ingested":
            taken.add(file_id)
            try:
                _parse(name, source, file_id, rows)
            except UnreadableSourceError:
                status = "rejected"
        rows.setdefault("source_files", []).append(
            {"file_id": file_id, "path": dropped_as, "format": name, "status": status}
        )
    for table, values in rows.items():
        batch = pa.Table.from_pylist(values, schema=arrow_schema(table))
        connection.register("batch", batch)
        connection.execute(f"INSERT INTO {table} SELECT * FROM batch")
        connection.unregister("batch")
    if link:
        run_links(connection)
    return connection


def _parse(name: str, source, file_id: str, rows: dict[str, list[dict]]) -> None:
    class Sink:
        def add_rows(self, table, values):
            rows.setdefault(table, []).extend(dict(row) for row in values)

        def add_table(self, table, values):
            rows.setdefault(table, []).extend(values.to_pylist())

    sink = Sink()
    # Records took a function before it took a sink.
    records = (
        Records(file_id, sink)
        if "sink" in Records.__init__.__annotations__
        else Records(file_id, sink.add_table)
    )
    registry.parser(name).parse(source, records)
    records.close()


def run_links(connection: duckdb.DuckDBPyConnection) -> None:
    """Run the linking statements one by one, as a publish does."""
    for statement in LINK_SQL.read_text().split(";"):
        connection.execute(statement)


def rows(connection: duckdb.DuckDBPyConnection, query: str, *parameters) -> list[dict]:
    """The rows of a query as dicts."""
    cursor = connection.execute(query, parameters)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def dump(connection: duckdb.DuckDBPyConnection) -> dict[str, list[str]]:
    """Every table as sorted text, to compare whole databases."""
    return {
        name: sorted(map(str, connection.execute(f"SELECT * FROM {name}").fetchall()))
        for name in (*PARSED_TABLES, "run_sources", "load_level_sources")
    }
