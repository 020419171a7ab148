"""Rows into the tables of an open database: what differs, what goes, what comes. Nothing is opened or swapped
here."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from perf_assets.schema.device_catalog import Catalog, catalog
from perf_assets.schema.tables import COMPUTED_TABLES, PARSED_TABLES, SOURCE_FILES
from perf_assets.store.database import create_tables
from perf_assets.store.parts import part_file, to_arrow, verify
from perf_assets.workspace.paths import DataPaths

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

Pair = tuple[str, int]
"""A file_id and the batch of parts that holds its rows."""

_NAMED_COLUMNS = ("device", "device_kind")
"""Columns of cleaned_runs that publishing fills from ``device_raw`` by the catalogue of devices."""

_CURATED_COLUMNS = ("tags", "note", "excluded")
"""Columns of cleaned_runs that publishing fills from what people said (``store/sql/curate_runs.sql``)."""


_ADD_SESSIONS = """
    INSERT INTO publication.sessions
    SELECT file_id, device_id, session, any_value(device_name), any_value(host), any_value(run_id),
        min(epoch(polled_at)), max(epoch(polled_at))
    FROM read_parquet(?)
    WHERE polled_at IS NOT NULL AND file_id IN (SELECT file_id FROM coming WHERE batch = ?)
    GROUP BY file_id, device_id, session
"""


@dataclass(frozen=True)
class Difference:
    """Files whose rows go and come. ``is_empty`` says that the tables hold nothing yet."""

    removed: frozenset[Pair]
    added: frozenset[Pair]
    linked: frozenset[Pair]
    """Those of the added whose rows linking may change."""
    relink: bool
    is_empty: bool = False

    def with_linked(self, connection: duckdb.DuckDBPyConnection) -> Difference:
        """Also all other files whose rows linking has changed: they go and come again.

        These are the files that ``run_sources`` names, and those of runs that have others as their parts.
        """
        rows = connection.execute(
            "SELECT file_id, batch FROM publication.loaded WHERE is_linked AND (file_id IN (SELECT file_id FROM run_sources)"
            " OR file_id IN (SELECT file_id FROM cleaned_runs WHERE run_id IN (SELECT parent_run_id FROM cleaned_runs)))"
        ).fetchall()
        again = frozenset((file_id, batch) for file_id, batch in rows) - self.removed
        return replace(
            self, removed=self.removed | again, added=self.added | again, linked=self.linked | again
        )

    def counts(self) -> tuple[int, int]:
        """How many files are new, and how many are gone."""
        return len(self.added - self.removed), len(self.removed - self.added)


def difference(
    connection: duckdb.DuckDBPyConnection,
    files: list[dict[str, Any]],
    gone: list[tuple[str, str]],
    *,
    is_empty: bool,
) -> Difference:
    """Compare what the tables hold with what changed files say."""
    wanted = {
        (file["file_id"], file["batch"]): file["is_linked"] for file in files if file["batch"] is not None
    }
    held: dict[Pair, bool] = {}
    if not is_empty:
        touched = sorted({file["file_id"] for file in files} | {file_id for _, file_id in gone})
        rows = connection.execute(
            "SELECT file_id, batch, is_linked FROM publication.loaded WHERE file_id IN (SELECT unnest(?))",
            [touched],
        ).fetchall()
        held = {(file_id, batch): is_linked for file_id, batch, is_linked in rows}
    removed, added = held.keys() - wanted.keys(), wanted.keys() - held.keys()
    linked = frozenset(pair for pair in added if wanted[pair])
    relink = is_empty or bool(linked) or any(held[pair] for pair in removed)
    return Difference(frozenset(removed), frozenset(added), linked, relink, is_empty)


def apply(connection: duckdb.DuckDBPyConnection, paths: DataPaths, change: Difference) -> None:
    """Remove and add the rows of files.

    Raises:
        perf_assets.store.parts.DamagedPartsError: parts are not what was written.
    """
    if change.removed:
        _register_pairs(connection, "removed", change.removed)
        connection.execute(
            "DELETE FROM publication.energy_filled WHERE run_id IN"
            " (SELECT run_id FROM cleaned_runs WHERE file_id IN (SELECT file_id FROM removed))"
        )
        for table in (*PARSED_TABLES, "publication.sessions"):
            connection.execute(f"DELETE FROM {table} WHERE file_id IN (SELECT file_id FROM removed)")  # noqa: S608
        connection.execute(
            "DELETE FROM publication.loaded WHERE (file_id, batch) IN (SELECT (file_id, batch) FROM removed)"
        )
        connection.execute("DROP TABLE removed")
    if change.added:
        _add_rows(connection, paths, change.added)
        _register_pairs(connection, "added", change.added)
        _register_pairs(connection, "linked", change.linked)
        connection.execute(
            "INSERT INTO publication.loaded"
            " SELECT file_id, batch, (file_id, batch) IN (SELECT (file_id, batch) FROM linked) FROM added"
        )
        connection.execute("DROP TABLE linked")
        connection.execute("DROP TABLE added")


def load_source_files(
    connection: duckdb.DuckDBPyConnection, files: list[dict[str, Any]], gone: list[tuple[str, str]]
) -> None:
    """Put changed files in the place of what ``source_files`` said of them."""
    keys = [(file["path"], file["file_id"]) for file in files] + gone
    if keys:
        columns = {"path": [path for path, _ in keys], "file_id": [file_id for _, file_id in keys]}
        _register(connection, "changed", columns)
        connection.execute(
            "DELETE FROM source_files WHERE (path, file_id) IN (SELECT (path, file_id) FROM changed)"
        )
        connection.execute("DROP TABLE changed")
    if files:
        names = SOURCE_FILES.column_names
        rows = to_arrow("source_files", [{name: file.get(name) for name in names} for file in files])
        connection.register("files", rows)
        connection.execute("INSERT INTO source_files BY NAME FROM files")
        connection.unregister("files")


def load_computed(connection: duckdb.DuckDBPyConnection, tables: dict[str, pa.Table]) -> None:
    """Put rows in the place of what the computed tables hold; a table without rows is emptied."""
    for table in COMPUTED_TABLES:
        connection.execute(f"DELETE FROM {table}")  # noqa: S608 - schema names
        if table in tables:
            connection.register("computed", tables[table])
            connection.execute(f"INSERT INTO {table} BY NAME FROM computed")
            connection.unregister("computed")


@contextmanager
def telemetry_devices(connection: duckdb.DuckDBPyConnection, paths: DataPaths) -> Generator[None]:
    """A temporary table of device names by what poll logs call devices."""
    names = catalog(paths.devices)
    found = connection.execute("SELECT DISTINCT device_name FROM publication.sessions").fetchall()
    raw = [name for (name,) in found if name is not None]
    columns = {"device_name": raw, "device": [names.name(name)[0] for name in raw]}
    _register(connection, "telemetry_devices", columns)
    yield
    connection.execute("DROP TABLE telemetry_devices")


def unloadable(paths: DataPaths, files: list[dict[str, Any]]) -> dict[str, str]:
    """Try the rows of each file alone in a database of its own; why some cannot be loaded, by file_id."""
    import duckdb

    reasons = {}
    for file in files:
        if file["batch"] is None:
            continue
        with duckdb.connect() as scratch:
            create_tables(scratch)
            try:
                _add_rows(scratch, paths, frozenset({(file["file_id"], file["batch"])}))
            except duckdb.Error as error:
                reasons[file["file_id"]] = (str(error).splitlines() or [""])[0][:300]
    return reasons


def _add_rows(connection: duckdb.DuckDBPyConnection, paths: DataPaths, added: frozenset[Pair]) -> None:
    import pyarrow.parquet as pq

    names = catalog(paths.devices)
    _register_pairs(connection, "coming", added)
    for batch in sorted({batch for _, batch in added}):
        verify(paths.parts, batch)
        for table, declared in PARSED_TABLES.items():
            part = part_file(paths.parts, batch, table)
            if not part.exists():
                continue
            there = set(pq.read_schema(part).names)
            has_names = table == "cleaned_runs" and "device_raw" in there
            columns = ", ".join(
                f'rows."{name}"'
                for name in declared.column_names
                if name in there
                and not (table == "cleaned_runs" and name in (*_NAMED_COLUMNS, *_CURATED_COLUMNS))
            )
            named = ""
            if table == "cleaned_runs":
                columns += ", []::VARCHAR[] AS tags, false AS excluded"
            if has_names:
                _register_names(connection, str(part), names)
                columns += ", named.device, named.device_kind"
                named = "LEFT JOIN named ON named.device_raw = rows.device_raw"
            connection.execute(
                f"INSERT INTO {table} BY NAME SELECT {columns} FROM read_parquet(?) AS rows {named}"  # noqa: S608
                " WHERE rows.file_id IN (SELECT file_id FROM coming WHERE batch = ?)",
                [str(part), batch],
            )
            if table == "cleaned_telemetry":
                connection.execute(_ADD_SESSIONS, [str(part), batch])
    connection.execute("DROP TABLE coming")


def _register_names(connection: duckdb.DuckDBPyConnection, part: str, names: Catalog) -> None:
    """Make a temporary table of device names by what the logs of a part call them."""
    found = connection.execute("SELECT DISTINCT device_raw FROM read_parquet(?)", [part]).fetchall()
    named = [(raw, *names.name(raw)) for (raw,) in found if raw is not None]
    columns = ("device_raw", *_NAMED_COLUMNS)
    _register(connection, "named", {column: [row[i] for row in named] for i, column in enumerate(columns)})


def _register_pairs(connection: duckdb.DuckDBPyConnection, name: str, pairs: frozenset[Pair]) -> None:
    """Make a temporary table of (file_id, batch)."""
    import pyarrow as pa

    ordered = sorted(pairs, key=lambda pair: (pair[1], pair[0]))
    columns = {"file_id": [file_id for file_id, _ in ordered], "batch": [batch for _, batch in ordered]}
    _register(connection, name, columns, {"batch": pa.int64()})


def _register(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    columns: dict[str, list],
    types: dict[str, pa.DataType] | None = None,
) -> None:
    import pyarrow as pa

    types = types or {}
    arrays = {column: pa.array(values, types.get(column, pa.string())) for column, values in columns.items()}
    connection.register("given", pa.table(arrays))
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS FROM given")
    connection.unregister("given")
