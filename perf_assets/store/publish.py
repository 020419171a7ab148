"""Make ``perf.duckdb`` hold what intake and assets say it should: parts, source files and computed tables.

A publish costs what changed. The file that was published before the current one stays beside it as a spare;
it is brought up to date by its own difference to what is wanted and takes the current one's place in one
rename. A reader keeps what it opened, a new reader sees the new state, and nobody waits for anybody: where
somebody still reads the spare, that file is left to them, and a copy of the current one is brought up to date
instead.

The tables are only ever a function of what publishing is told, so a database that is gone, damaged, foreign
or of another version is simply made again. Nothing here knows drops or formats.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from perf_assets.schema.device_catalog import catalog
from perf_assets.schema.tables import COMPUTED_TABLES
from perf_assets.store import loading
from perf_assets.store.computed import (
    MAKERS,
    DamagedComputedError,
    computed_file,
    read_computed,
    write_computed,
)
from perf_assets.store.database import (
    FOLLOWING_SCRIPTS,
    LINK_SCRIPTS,
    SQL_FOLDER,
    NoDatabaseError,
    create_tables,
    has_current_schema,
    open_readonly,
)
from perf_assets.store.swapping import (
    open_to_write,
    partial_file,
    remove,
    spare_file,
    swap,
    use_copy,
    use_spare,
)
from perf_assets.workspace.filesystems import file_sha256
from perf_assets.workspace.locks import exclusive
from perf_assets.workspace.paths import DataPaths

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb
    import pyarrow as pa


@dataclass(frozen=True)
class Contents:
    """What the published tables are to hold, but for the computed ones.

    ``changed_since`` gives, for a revision, the files that changed after it and (path, file_id) of those
    removed; for None all files. A file has the columns of ``source_files``, ``batch`` (the parts that hold
    its rows; None where they do not count) and ``is_linked`` (``link_runs.sql`` may change its rows).
    """

    identity: str
    revision: int
    changed_since: Callable[[int | None], tuple[list[dict[str, Any]], list[tuple[str, str]]]]


@dataclass(frozen=True)
class Publication:
    """What a publish did."""

    changed: bool
    files_added: int = 0
    files_removed: int = 0


class UnpublishableError(Exception):
    """Rows of some files cannot be put into the tables; ``reasons`` says why, by file_id."""

    def __init__(self, reasons: dict[str, str]) -> None:
        super().__init__(f"rows of {len(reasons)} files cannot be published")
        self.reasons = reasons


@dataclass(frozen=True)
class _State:
    """What a database was made of. It says so only when it is complete: while it is changed its revision is
    NULL."""

    identity: str
    revision: int
    computed_sha256: str
    catalog_sha256: str

    @classmethod
    def read(cls, connection: duckdb.DuckDBPyConnection) -> _State | None:
        """The state of a database; None where it is of another version of the schema, or was left
        half-way."""
        if not has_current_schema(connection):
            return None
        row = connection.execute(
            "SELECT identity, revision, computed_sha256, catalog_sha256 FROM publication.state"
        ).fetchone()
        return cls(*row) if row and row[1] is not None else None

    def can_become(self, wanted: _State) -> bool:
        """Whether a database of this state can be brought up to the wanted one by a difference."""
        return (
            self.catalog_sha256 == wanted.catalog_sha256
            and self.identity == wanted.identity
            and self.revision <= wanted.revision
        )

    def write(self, connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute(
            "UPDATE publication.state SET identity = ?, revision = ?, computed_sha256 = ?, catalog_sha256 = "
            "?",
            [self.identity, self.revision, self.computed_sha256, self.catalog_sha256],
        )


class _Usable(NamedTuple):
    """A database open for writing, and what it was made of."""

    connection: duckdb.DuckDBPyConnection
    state: _State


def publish(
    paths: DataPaths, contents: Contents, healed: list[str] | None = None, *, from_scratch: bool = False
) -> Publication:
    """Bring the database up to date with what it is to hold and the computed tables.

    The caller holds the ingest lock. ``healed`` gets a line for what was damaged and made again or withdrawn.

    Raises:
        UnpublishableError: rows of some files cannot be put into the tables.
        perf_assets.store.parts.DamagedPartsError: parts are not what was written.
    """
    import duckdb

    said = healed if healed is not None else []
    computed, computed_sha256 = _read_computed(paths, said)
    wanted = _State(contents.identity, contents.revision, computed_sha256, catalog(paths.devices).sha256)
    if not from_scratch:
        try:
            if _published_state(paths) == wanted:
                return Publication(changed=False)
            with _brought_up(paths, wanted) as usable:
                if usable is not None:
                    return _update(usable.connection, paths, contents, usable.state, wanted, computed)
        except duckdb.Error as error:
            _raise_if_full(error, paths)
            if (reasons := loading.unloadable(paths, contents.changed_since(None)[0])) != {}:
                raise UnpublishableError(reasons) from error
            said.append(
                f"{paths.database.name} could not be used ({_first_line(error)}): made again from parts"
            )
    try:
        with _fresh(paths) as connection:
            return _update(connection, paths, contents, None, wanted, computed)
    except duckdb.Error as error:
        _raise_if_full(error, paths)
        reasons = loading.unloadable(paths, contents.changed_since(None)[0])
        if not reasons:
            raise
        raise UnpublishableError(reasons) from error


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
        computed, computed_sha256 = _read_computed(paths, [])
        if not paths.database.exists():
            state = _State("", -1, computed_sha256, catalog(paths.devices).sha256)
            with _fresh(paths) as connection:
                loading.load_computed(connection, computed)
                state.write(connection)
            return Publication(changed=True)
        published = _published_state(paths)
        if published is None or published.computed_sha256 == computed_sha256:
            return Publication(changed=False)
        wanted = _State(published.identity, published.revision, computed_sha256, published.catalog_sha256)
        with _brought_up(paths, wanted, allow_older=False) as usable:
            if usable is None:
                return Publication(changed=False)
            usable.connection.execute("BEGIN")
            loading.load_computed(usable.connection, computed)
            wanted.write(usable.connection)
            usable.connection.execute("COMMIT")
            usable.connection.execute("CHECKPOINT")
        return Publication(changed=True)


def database_problem(file: Path) -> str | None:
    """Read every block of a database; what is wrong with it, or None."""
    import duckdb

    if not file.exists():
        return None
    try:
        with open_readonly(file) as connection:
            for (table,) in connection.execute(
                "SELECT schema_name || '.' || table_name FROM duckdb_tables()"
            ).fetchall():
                connection.execute(f"SELECT bit_xor(hash(t)) FROM {table} AS t").fetchall()  # noqa: S608
            if _State.read(connection) is None:
                return "it was left half-way, or is of another version"
    except (duckdb.Error, NoDatabaseError) as error:
        return _first_line(error)
    return None


def _update(
    connection: duckdb.DuckDBPyConnection,
    paths: DataPaths,
    contents: Contents,
    state: _State | None,
    wanted: _State,
    computed: dict[str, pa.Table],
) -> Publication:
    """Bring an open database from its state to the wanted one; None says that it is empty."""
    since = state.revision if state is not None else None
    files, gone = contents.changed_since(since)
    connection.execute("UPDATE publication.state SET revision = NULL")  # until all is done it is half-way
    connection.execute("BEGIN")
    difference = loading.difference(connection, files, gone, is_empty=state is None)
    if difference.relink and state is not None:
        # Rows of these formats were changed by linking; it starts from what the parsers said.
        difference = difference.with_linked(connection)
    loading.apply(connection, paths, difference)
    loading.load_source_files(connection, files, gone)
    if state is None or state.computed_sha256 != wanted.computed_sha256:
        loading.load_computed(connection, computed)
    connection.execute("COMMIT")
    if difference.relink:
        for name in LINK_SCRIPTS:
            connection.execute((SQL_FOLDER / name).read_text())
    if difference.added or difference.removed or difference.relink:
        with loading.telemetry_devices(connection, paths):
            for name in FOLLOWING_SCRIPTS:
                connection.execute((SQL_FOLDER / name).read_text())
    wanted.write(connection)
    connection.execute("CHECKPOINT")
    added, removed = difference.counts()
    return Publication(changed=True, files_added=added, files_removed=removed)


@contextmanager
def _brought_up(paths: DataPaths, wanted: _State, *, allow_older: bool = True) -> Generator[_Usable | None]:
    """A database that can be brought up to date; it is swapped in at the end. None where there is none.

    With ``allow_older`` it may hold an earlier revision; without, it holds what is published but for computed
    tables.
    """
    import duckdb

    spare = spare_file(paths)
    candidates = [use_spare, use_copy] if spare.exists() else [use_copy]
    for prepare in candidates:
        partial = prepare(paths)
        if partial is None:
            continue
        try:
            connection = open_to_write(partial, paths)
        except duckdb.Error:
            remove(partial)  # somebody reads it: the file stays with them, without its name
            continue
        try:
            state = _State.read(connection)
            is_usable = state is not None and state.can_become(wanted)
            if is_usable and (allow_older or state.revision == wanted.revision):
                yield _Usable(connection, state)
                connection.close()
                swap(partial, paths)
                return
        finally:
            connection.close()
            if partial.exists():
                remove(partial)
    yield None


@contextmanager
def _fresh(paths: DataPaths) -> Generator[duckdb.DuckDBPyConnection]:
    """An empty database with all tables, open for writing; it is swapped in at the end."""
    partial = partial_file(paths)
    remove(partial)
    connection = open_to_write(partial, paths)
    try:
        create_tables(connection)
        yield connection
        connection.close()
        swap(partial, paths)
        # What was there before is of no use; a copy of the new one is what the next publish begins with.
        remove(spare_file(paths))
        shutil.copyfile(paths.database, partial)
        os.replace(partial, spare_file(paths))
    finally:
        connection.close()
        remove(partial)


def _published_state(paths: DataPaths) -> _State | None:
    """What the published database was made of; None where there is none, or where it cannot be read."""
    import duckdb

    try:
        with open_readonly(paths.database) as connection:
            return _State.read(connection)
    except (NoDatabaseError, duckdb.Error):
        return None


def _read_computed(paths: DataPaths, healed: list[str]) -> tuple[dict[str, pa.Table], str]:
    """The computed tables and a hash of them all; damaged ones are withdrawn."""
    tables: dict[str, pa.Table] = {}
    digest = hashlib.sha256()
    for table in COMPUTED_TABLES:
        file = computed_file(paths, table)
        if not file.exists():
            continue
        try:
            rows = read_computed(paths, table)
        except DamagedComputedError as error:
            paths.quarantine.mkdir(parents=True, exist_ok=True)
            os.replace(file, paths.quarantine / file.name)
            healed.append(
                f"the computed table {table} was damaged ({error}) and is withdrawn: '{MAKERS[table]}' "
                "makes it again"
            )
            continue
        if rows is not None:
            tables[table] = rows
            digest.update(f"{table} {file_sha256(file)}\n".encode())
    return tables, digest.hexdigest()


_FULL_BYTES = 256 * 1024


def _raise_if_full(error: duckdb.Error, paths: DataPaths) -> None:
    """Raise an error of the disk as what it is: the tables are not to blame."""
    if "No space left" in str(error) or shutil.disk_usage(paths.root).free < _FULL_BYTES:
        raise OSError(errno.ENOSPC, f"No space left: free some for {paths.root} and ingest again") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
