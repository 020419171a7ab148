"""Make ``perf.duckdb`` say what the ledger and the computed tables say.

The published file is copied aside, what changed is applied, and the copy takes its place in one rename: a
reader keeps what it opened, a new reader sees the new state, and nobody waits for anybody. The tables
themselves are only ever a function of the ledger, the parts and the computed files, so a database that is
gone, foreign or of another version is simply made again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from perf_assets.intake.drops.ledger import INGESTED, Ledger
from perf_assets.intake.parsing import registry
from perf_assets.schema.tables import COMPUTED_TABLES, PARSED_TABLES, SOURCE_FILES
from perf_assets.store.computed import computed_file
from perf_assets.store.database import (
    MEMORY_LIMIT,
    SQL_FOLDER,
    STORAGE_VERSION,
    create_tables,
    has_current_schema,
)
from perf_assets.store.parts import part_file
from perf_assets.workspace.paths import DataPaths

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True)
class Publication:
    """What a publish did."""

    changed: bool
    files_added: int = 0
    files_removed: int = 0


def publish(paths: DataPaths, ledger: Ledger, *, from_scratch: bool = False) -> Publication:
    """Bring the database up to date with the saved ledger and the computed tables.

    The caller holds the ingest lock.
    """
    source_sha256 = _source_sha256(paths)
    wanted = {
        (entry.file_id, entry.batch)
        for entry in ledger.primaries().values()
        if entry.status == INGESTED and entry.batch is not None
    }
    partial = paths.database.with_name(paths.database.name + ".partial")
    held: set[tuple[str, int]] = set()
    if not from_scratch and _copy_aside(paths.database, partial):
        with _open(partial, paths) as connection:
            if has_current_schema(connection):
                state = connection.execute("SELECT source_sha256 FROM publication.state").fetchone()
                if state == (source_sha256,):
                    _remove(partial)
                    return Publication(changed=False)
                held = set(connection.execute("SELECT file_id, batch FROM publication.loaded").fetchall())
    removed, added = held - wanted, wanted - held
    linked = {
        (entry.file_id, entry.batch) for entry in ledger.entries() if entry.format in registry.LINKED_FORMATS
    }
    relink = bool(
        (removed | added) & linked or removed - {(entry.file_id, entry.batch) for entry in ledger.entries()}
    )
    if relink:
        # Rows of these formats were changed by linking; it starts from what the parsers said.
        removed, added = removed | (held & linked), added | (wanted & linked)
    if len(removed) * 2 > len(held) or not held:
        _remove(partial)
        removed, added, relink = set(), wanted, True
        with _open(partial, paths) as connection:
            create_tables(connection)
    with _open(partial, paths) as connection:
        _apply(connection, paths, removed, added, source_sha256, relink=relink)
    # A shell that has the old file open for writing keeps its own log; it must not be replayed on this one.
    paths.database.with_name(paths.database.name + ".wal").unlink(missing_ok=True)
    os.replace(partial, paths.database)
    return Publication(changed=True, files_added=len(added - removed), files_removed=len(removed - added))


def _source_sha256(paths: DataPaths) -> str:
    """Hash of everything that the tables are a function of, but for the parts, which never change."""
    digest = hashlib.sha256()
    for file in (paths.ledger, *(computed_file(paths, table) for table in COMPUTED_TABLES)):
        content = hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else ""
        digest.update(f"{file.name} {content}\n".encode())
    return digest.hexdigest()


def _apply(
    connection: duckdb.DuckDBPyConnection,
    paths: DataPaths,
    removed: set[tuple[str, int]],
    added: set[tuple[str, int]],
    source_sha256: str,
    *,
    relink: bool,
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    connection.execute("BEGIN")
    for name, pairs in (("removed", removed), ("added", added)):
        ordered = sorted(pairs, key=lambda pair: (pair[1] or 0, pair[0]))
        rows = pa.table(
            {
                "file_id": pa.array([file_id for file_id, _ in ordered], pa.string()),
                "batch": pa.array([batch for _, batch in ordered], pa.int64()),
            }
        )
        connection.register(f"{name}_rows", rows)
        connection.execute(f"CREATE TEMP TABLE {name} AS FROM {name}_rows")
    if removed:
        for table in PARSED_TABLES:
            connection.execute(f"DELETE FROM {table} WHERE file_id IN (SELECT file_id FROM removed)")  # noqa: S608
        connection.execute(
            "DELETE FROM publication.loaded WHERE (file_id, batch) IN (SELECT (file_id, batch) FROM removed)"
        )
    for batch in sorted({batch for _, batch in added if batch is not None}):
        for table, declared in PARSED_TABLES.items():
            part = part_file(paths.parts, batch, table)
            if part.exists():
                there = set(pq.read_schema(part).names)
                columns = ", ".join(name for name in declared.column_names if name in there)
                connection.execute(
                    f"INSERT INTO {table} BY NAME SELECT {columns} FROM read_parquet(?)"  # noqa: S608 - schema names
                    " WHERE file_id IN (SELECT file_id FROM added WHERE batch = ?)",
                    [str(part), batch],
                )
    connection.execute("INSERT INTO publication.loaded FROM added")
    connection.execute("DELETE FROM source_files")
    if paths.ledger.exists():
        connection.execute(
            f"INSERT INTO source_files BY NAME SELECT {', '.join(SOURCE_FILES.column_names)} FROM read_parquet(?)",  # noqa: S608
            [str(paths.ledger)],
        )
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
    connection.execute("UPDATE publication.state SET source_sha256 = ?", [source_sha256])
    connection.execute("DROP TABLE removed")
    connection.execute("DROP TABLE added")
    connection.execute("COMMIT")
    if relink:
        connection.execute((SQL_FOLDER / "link_runs.sql").read_text())
    connection.execute("CHECKPOINT")


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
