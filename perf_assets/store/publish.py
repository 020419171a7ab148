"""Make ``perf.duckdb`` hold what intake and assets say it should: parts, source files and computed tables.

The published file is copied aside, what changed is applied, and the copy takes its place in one rename: a
reader keeps what it opened, a new reader sees the new state, and nobody waits for anybody. The tables
themselves are only ever a function of what publishing is told, so a database that is gone, foreign or of
another version is simply made again. Nothing here knows drops or formats.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perf_assets.schema.device_catalog import Catalog, catalog
from perf_assets.schema.tables import COMPUTED_TABLES, PARSED_TABLES, SOURCE_FILES
from perf_assets.store.computed import computed_file, write_computed
from perf_assets.store.database import (
    MEMORY_LIMIT,
    SQL_FOLDER,
    STORAGE_VERSION,
    NoDatabaseError,
    create_tables,
    has_current_schema,
    open_readonly,
)
from perf_assets.store.parts import part_file
from perf_assets.workspace.locks import exclusive
from perf_assets.workspace.paths import DataPaths

if TYPE_CHECKING:
    import duckdb

_NAMED_COLUMNS = ("device", "device_kind")
"""Columns of cleaned_runs that publishing fills from ``device_raw`` by the catalogue of devices."""


@dataclass(frozen=True)
class Contents:
    """What the published tables are to hold, but for the computed ones.

    ``source_files`` is a Parquet file with that table's rows; ``loaded`` names each file whose rows count,
    with the batch of parts that holds them; ``linked`` are those of them whose rows ``link_runs.sql`` may
    change.
    """

    source_files: Path
    loaded: frozenset[tuple[str, int]]
    linked: frozenset[tuple[str, int]]


@dataclass(frozen=True)
class Publication:
    """What a publish did."""

    changed: bool
    files_added: int = 0
    files_removed: int = 0


def publish(paths: DataPaths, contents: Contents, *, from_scratch: bool = False) -> Publication:
    """Bring the database up to date with what it is to hold and the computed tables.

    The caller holds the ingest lock.
    """
    names = catalog(paths.devices)
    state = _State(_sha256([contents.source_files]), _sha256(_computed_files(paths)), names.sha256)
    partial = _partial(paths)
    held: dict[tuple[str, int], bool] = {}
    if not from_scratch and _published_state(paths) == state:
        return Publication(changed=False)
    if not from_scratch and _copy_aside(paths.database, partial):
        with _open(partial, paths) as connection:
            published = _State.read(connection)
            if published is not None and published.catalog_sha256 == names.sha256:
                rows = connection.execute(
                    "SELECT file_id, batch, is_linked FROM publication.loaded"
                ).fetchall()
                held = {(file_id, batch): is_linked for file_id, batch, is_linked in rows}
    removed, added = set(held) - contents.loaded, set(contents.loaded - set(held))
    relink = any(held[pair] for pair in removed) or bool(added & contents.linked)
    if relink:
        # Rows of these formats were changed by linking; it starts from what the parsers said.
        removed |= {pair for pair, is_linked in held.items() if is_linked}
        added |= contents.linked
    if len(removed) * 2 > len(held) or not held:
        _remove(partial)
        removed, added, relink = set(), set(contents.loaded), True
        with _open(partial, paths) as connection:
            create_tables(connection)
    with _open(partial, paths) as connection:
        connection.execute("BEGIN")
        _remove_rows(connection, removed)
        _add_rows(connection, paths, contents, added, names)
        _load_source_files(connection, contents.source_files)
        _load_computed(connection, paths)
        state.write(connection)
        connection.execute("COMMIT")
        if relink:
            connection.execute((SQL_FOLDER / "link_runs.sql").read_text())
        connection.execute("CHECKPOINT")
    _swap(partial, paths)
    return Publication(changed=True, files_added=len(added - removed), files_removed=len(removed - added))


def publish_computed(paths: DataPaths, tables: Mapping[str, list[dict[str, Any]]]) -> Publication:
    """Replace the rows of computed tables and publish them; everything else stays as it is, pending drops
    too.

    Where the database is of another version of the schema, the rows wait for the next ingest, which makes it
    again.

    Raises:
        ValueError: see :func:`perf_assets.store.computed.write_computed`.
    """
    with exclusive(paths.lock):
        write_computed(paths, tables)
        partial = _partial(paths)
        is_new = not paths.database.exists()
        if is_new:
            _remove(partial)
        elif not _copy_aside(paths.database, partial):
            return Publication(changed=False)
        with _open(partial, paths) as connection:
            if is_new:
                create_tables(connection)
            published = _State.read(connection)
            computed_sha256 = _sha256(_computed_files(paths))
            if published is not None and published.computed_sha256 != computed_sha256:
                connection.execute("BEGIN")
                _load_computed(connection, paths)
                _State(published.files_sha256, computed_sha256, published.catalog_sha256).write(connection)
                connection.execute("COMMIT")
                connection.execute("CHECKPOINT")
            else:
                published = None
        if published is None:
            _remove(partial)
            return Publication(changed=False)
        _swap(partial, paths)
        return Publication(changed=True)


@dataclass(frozen=True)
class _State:
    """Hashes of everything that the tables are a function of, but for the parts, which never change."""

    files_sha256: str
    computed_sha256: str
    catalog_sha256: str

    @classmethod
    def read(cls, connection: duckdb.DuckDBPyConnection) -> _State | None:
        """What a database was made of; None where it is of another version of the schema."""
        if not has_current_schema(connection):
            return None
        row = connection.execute(
            "SELECT files_sha256, computed_sha256, catalog_sha256 FROM publication.state"
        ).fetchone()
        return cls(*(value or "" for value in row)) if row else None

    def write(self, connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute(
            "UPDATE publication.state SET files_sha256 = ?, computed_sha256 = ?, catalog_sha256 = ?",
            [self.files_sha256, self.computed_sha256, self.catalog_sha256],
        )


def _published_state(paths: DataPaths) -> _State | None:
    """What the published database was made of; None where there is none, or where somebody writes to it."""
    import duckdb

    try:
        with open_readonly(paths.database) as connection:
            return _State.read(connection)
    except (NoDatabaseError, duckdb.Error):
        return None


def _sha256(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        content = hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else ""
        digest.update(f"{file.name} {content}\n".encode())
    return digest.hexdigest()


def _computed_files(paths: DataPaths) -> list[Path]:
    return [computed_file(paths, table) for table in COMPUTED_TABLES]


def _partial(paths: DataPaths) -> Path:
    return paths.database.with_name(paths.database.name + ".partial")


def _swap(partial: Path, paths: DataPaths) -> None:
    # A shell that has the old file open for writing keeps its own log; it must not be replayed on this one.
    paths.database.with_name(paths.database.name + ".wal").unlink(missing_ok=True)
    os.replace(partial, paths.database)


def _remove_rows(connection: duckdb.DuckDBPyConnection, removed: set[tuple[str, int]]) -> None:
    if not removed:
        return
    _register_pairs(connection, "removed", removed)
    for table in PARSED_TABLES:
        connection.execute(f"DELETE FROM {table} WHERE file_id IN (SELECT file_id FROM removed)")  # noqa: S608
    connection.execute(
        "DELETE FROM publication.loaded WHERE (file_id, batch) IN (SELECT (file_id, batch) FROM removed)"
    )
    connection.execute("DROP TABLE removed")


def _add_rows(
    connection: duckdb.DuckDBPyConnection,
    paths: DataPaths,
    contents: Contents,
    added: set[tuple[str, int]],
    names: Catalog,
) -> None:
    import pyarrow.parquet as pq

    _register_pairs(connection, "added", added)
    for batch in sorted({batch for _, batch in added}):
        for table, declared in PARSED_TABLES.items():
            part = part_file(paths.parts, batch, table)
            if not part.exists():
                continue
            there = set(pq.read_schema(part).names)
            columns = ", ".join(
                f'rows."{name}"'
                for name in declared.column_names
                if name in there and not (table == "cleaned_runs" and name in _NAMED_COLUMNS)
            )
            named = ""
            if table == "cleaned_runs" and "device_raw" in there:
                _register_names(connection, part, names)
                columns += ", named.device, named.device_kind"
                named = "LEFT JOIN named ON named.device_raw = rows.device_raw"
            connection.execute(
                f"INSERT INTO {table} BY NAME SELECT {columns} FROM read_parquet(?) AS rows {named}"  # noqa: S608
                " WHERE rows.file_id IN (SELECT file_id FROM added WHERE batch = ?)",
                [str(part), batch],
            )
    _register_pairs(connection, "linked", added & contents.linked)
    connection.execute(
        "INSERT INTO publication.loaded"
        " SELECT file_id, batch, (file_id, batch) IN (SELECT (file_id, batch) FROM linked) FROM added"
    )
    connection.execute("DROP TABLE linked")
    connection.execute("DROP TABLE added")


def _register_pairs(connection: duckdb.DuckDBPyConnection, name: str, pairs: set[tuple[str, int]]) -> None:
    """Make a temporary table of (file_id, batch)."""
    import pyarrow as pa

    ordered = sorted(pairs, key=lambda pair: (pair[1], pair[0]))
    rows = pa.table(
        {
            "file_id": pa.array([file_id for file_id, _ in ordered], pa.string()),
            "batch": pa.array([batch for _, batch in ordered], pa.int64()),
        }
    )
    connection.register("pairs", rows)
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS FROM pairs")
    connection.unregister("pairs")


def _register_names(connection: duckdb.DuckDBPyConnection, part: Path, names: Catalog) -> None:
    """Make a temporary table of device names by what the logs of a part call them."""
    import pyarrow as pa

    found = connection.execute("SELECT DISTINCT device_raw FROM read_parquet(?)", [str(part)]).fetchall()
    named = [(raw, *names.name(raw)) for (raw,) in found if raw is not None]
    schema = pa.schema([(column, pa.string()) for column in ("device_raw", *_NAMED_COLUMNS)])
    columns = [[row[position] for row in named] for position in range(3)]
    connection.register("names", pa.table(columns, schema=schema))
    connection.execute("CREATE OR REPLACE TEMP TABLE named AS FROM names")
    connection.unregister("names")


def _load_source_files(connection: duckdb.DuckDBPyConnection, file: Path) -> None:
    columns = ", ".join(SOURCE_FILES.column_names)
    connection.execute("DELETE FROM source_files")
    if file.exists():
        connection.execute(
            f"INSERT INTO source_files BY NAME SELECT {columns} FROM read_parquet(?)",  # noqa: S608 - schema names
            [str(file)],
        )


def _load_computed(connection: duckdb.DuckDBPyConnection, paths: DataPaths) -> None:
    import pyarrow.parquet as pq

    for table, declared in COMPUTED_TABLES.items():
        connection.execute(f"DELETE FROM {table}")  # noqa: S608 - schema names
        computed = computed_file(paths, table)
        if computed.exists():
            there = set(pq.read_schema(computed).names)
            columns = ", ".join(f'"{name}"' for name in declared.column_names if name in there)
            connection.execute(
                f"INSERT INTO {table} BY NAME SELECT {columns} FROM read_parquet(?)",  # noqa: S608 - schema names
                [str(computed)],
            )


@contextmanager
def _open(partial: Path, paths: DataPaths) -> Generator[duckdb.DuckDBPyConnection]:
    """A writing connection that can read parts and nothing else."""
    import duckdb

    connection = duckdb.connect(
        partial,
        config={
            "storage_compatibility_version": STORAGE_VERSION,
            "memory_limit": MEMORY_LIMIT,
            # Twice as fast to load; who wants rows in file order asks for it (line_number).
            "preserve_insertion_order": "false",
            "temp_directory": str(paths.root / "spill"),
        },
    )
    try:
        connection.execute("SET allowed_directories = ?", [[str(paths.root)]])
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        yield connection
    finally:
        connection.close()


def _copy_aside(database: Path, partial: Path) -> bool:
    """Copy the published file. False where there is none, or where somebody writes to it."""
    _remove(partial)
    if not database.exists() or database.with_name(database.name + ".wal").exists():
        return False
    shutil.copyfile(database, partial)
    return True


def _remove(partial: Path) -> None:
    partial.unlink(missing_ok=True)
    partial.with_name(partial.name + ".wal").unlink(missing_ok=True)
