"""Database files: opening one to write, and letting it take the place of the published one. No table is known
here."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from perf_assets.store.database import MEMORY_LIMIT, STORAGE_VERSION
from perf_assets.workspace.paths import DataPaths

if TYPE_CHECKING:
    import duckdb


def use_spare(paths: DataPaths) -> Path | None:
    """The spare, under the name of what is being made; None where somebody has it open."""
    partial = partial_file(paths)
    remove(partial)
    spare = spare_file(paths)
    if spare.with_name(spare.name + ".wal").exists() or _is_open_here(spare):
        remove(spare)
        return None
    os.replace(spare, partial)
    return partial


def _is_open_here(file: Path) -> bool:
    """Has this process the file open under any name? Its own locks would not keep it from writing."""
    wanted = file.stat()
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            found = os.stat(f"/proc/self/fd/{descriptor}")
        except OSError:
            continue
        if (found.st_ino, found.st_dev) == (wanted.st_ino, wanted.st_dev):
            return True
    return False


def use_copy(paths: DataPaths) -> Path | None:
    """A copy of the published file; None where there is none, or where somebody writes to it."""
    partial = partial_file(paths)
    remove(partial)
    if not paths.database.exists() or paths.database.with_name(paths.database.name + ".wal").exists():
        return None
    shutil.copyfile(paths.database, partial)
    return partial


def swap(partial: Path, paths: DataPaths) -> None:
    """Let a finished database take the place of the published one, which becomes the spare."""
    spare = spare_file(paths)
    remove(spare)
    if paths.database.exists():
        os.link(paths.database, spare)
    # A shell that has the old file open for writing keeps its own log; it must not be replayed on this one.
    paths.database.with_name(paths.database.name + ".wal").unlink(missing_ok=True)
    os.replace(partial, paths.database)


def open_to_write(file: Path, paths: DataPaths) -> duckdb.DuckDBPyConnection:
    """A writing connection that can read parts and nothing else."""
    import duckdb

    connection = duckdb.connect(
        file,
        config={
            "storage_compatibility_version": STORAGE_VERSION,
            "memory_limit": MEMORY_LIMIT,
            # Twice as fast to load; who wants rows in file order asks for it (line_number).
            "preserve_insertion_order": "false",
            "temp_directory": str(paths.root / "spill"),
        },
    )
    connection.execute("SET allowed_directories = ?", [[str(paths.root)]])
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def partial_file(paths: DataPaths) -> Path:
    """Where a database is made that is not published yet."""
    return paths.database.with_name(paths.database.name + ".partial")


def spare_file(paths: DataPaths) -> Path:
    """Where the file lies that was published before the current one."""
    return paths.database.with_name(paths.database.name + ".spare")


def remove(file: Path) -> None:
    """Remove a database and its log; one that is gone is no error."""
    file.unlink(missing_ok=True)
    file.with_name(file.name + ".wal").unlink(missing_ok=True)
