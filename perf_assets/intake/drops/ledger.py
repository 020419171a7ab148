"""The ledger: every version of every file ever seen under drops, and what became of it, in one SQLite file.

Changing a few entries costs as much as these entries: each carries the number of the change (``revision``)
that touched it last, so that publishing finds what is new by an index. The published ``source_files`` is this
table without its bookkeeping columns. Rules of what follows from what lies in drops stand here; hashing and
parsing do not.
"""

from __future__ import annotations

import errno
import hashlib
import sqlite3
import uuid
from collections.abc import Collection, Generator, Iterable
from contextlib import contextmanager
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Any

from perf_assets.intake.drops.entry import DUPLICATE, INGESTED, ODD, REJECTED, REPLACED, Entry
from perf_assets.intake.drops.scan import Drop, Oddity
from perf_assets.workspace.errors import PerfAssetsError

_NO_SPACE = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN")
"""Errors of the folder that the ledger lies in, not of its content."""

_TIMES = ("ingested_at", "modified_at", "replaced_at")
_SCHEMA = """
CREATE TABLE entries (
    path TEXT NOT NULL, file_id TEXT NOT NULL, bytes INTEGER NOT NULL, format TEXT, status TEXT, lines INTEGER,
    runs INTEGER, records INTEGER, rejected INTEGER, ignored INTEGER, parser_version INTEGER, error TEXT,
    ingested_at TEXT, modified_at TEXT, signature INTEGER NOT NULL, is_present INTEGER NOT NULL, batch INTEGER,
    parsed_by TEXT, parsed_path TEXT, is_primary INTEGER NOT NULL, replaced_at TEXT, checksum TEXT,
    revision INTEGER NOT NULL, PRIMARY KEY (path, file_id)
) WITHOUT ROWID;
CREATE INDEX by_content ON entries (file_id);
CREATE INDEX by_revision ON entries (revision);
CREATE INDEX by_batch ON entries (batch) WHERE batch IS NOT NULL;
CREATE INDEX present ON entries (path, signature, is_present) WHERE is_present = 1 AND signature <> 0;
CREATE INDEX odd ON entries (path) WHERE signature = 0;
CREATE INDEX by_parsing ON entries (is_primary, parsed_by);
CREATE INDEX elsewhere ON entries (path) WHERE is_primary = 1 AND parsed_path IS NOT path;
CREATE INDEX replaced ON entries (replaced_at, file_id) WHERE replaced_at IS NOT NULL;
CREATE INDEX held ON entries (file_id) WHERE status IS NOT 'replaced';
CREATE TABLE removed (path TEXT NOT NULL, file_id TEXT NOT NULL, revision INTEGER NOT NULL);
CREATE INDEX removed_by_revision ON removed (revision);
CREATE TABLE origins (origin TEXT PRIMARY KEY, name TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
"""


class LedgerError(PerfAssetsError):
    """The ledger cannot be used: the message says why and what helps."""


class DamagedLedgerError(LedgerError):
    """The file is no ledger, or not a whole one. It can be made again from raw."""


_COLUMNS = tuple(each.name for each in fields(Entry))


class Ledger:
    """Entries in SQLite. Changes are kept by :meth:`commit`; the caller holds the ingest lock while it
    changes any."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._touched: set[str] = set()
        self._revision = int(self._fact("revision"))

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Generator[Ledger]:
        """Open the ledger of a data folder, an empty one where there is none yet.

        Raises:
            DamagedLedgerError: the file is no ledger.
            OSError: no space is left.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not path.exists()
        connection = sqlite3.connect(path, isolation_level=None, timeout=30)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            if is_new:
                _create(connection)
            yield cls(connection)
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorname", "").startswith(_NO_SPACE):
                if is_new:
                    path.unlink(missing_ok=True)
                raise OSError(
                    errno.ENOSPC, f"cannot write {path} ({error}): free some space there"
                ) from error
            raise DamagedLedgerError(f"{path} is damaged ({error})") from error
        finally:
            connection.close()

    # What there is -------------------------------------------------------------------------------------

    @property
    def identity(self) -> str:
        """A name that no other ledger has: one that was made again has another."""
        return str(self._fact("identity"))

    @property
    def revision(self) -> int:
        """Number of the newest change that was committed."""
        return int(self._fact("revision"))

    def signatures(self) -> dict[str, int]:
        """Signature by path of everything that was present when last looked at."""
        return dict(
            self._connection.execute(
                "SELECT path, signature FROM entries WHERE is_present = 1 AND signature <> 0"
            )
        )

    def entries(self) -> list[Entry]:
        """All entries, by path."""
        return self._select("ORDER BY path, file_id")

    @property
    def is_changing(self) -> bool:
        """Has something changed since the last commit?"""
        return self._connection.in_transaction

    def at_path(self, path: str) -> list[Entry]:
        """The entries of a path, but for replaced ones."""
        return self._select("WHERE path = ? AND status IS NOT 'replaced' AND signature <> 0", path)

    def of_content(self, file_id: str) -> list[Entry]:
        """The entries that hold a content, but for replaced ones."""
        return self._select(
            "WHERE file_id = ? AND status IS NOT 'replaced' AND signature <> 0 ORDER BY path", file_id
        )

    def waiting(self, valid: Collection[str]) -> list[Entry]:
        """Primaries to be read: not read yet, read otherwise than any of ``valid`` says, or under another
        path."""
        found = self._connection.execute("SELECT DISTINCT parsed_by FROM entries WHERE is_primary = 1")
        stale = [by for (by,) in found if by and by not in valid]
        entries = self._select("WHERE is_primary = 1 AND parsed_by IS NULL")
        entries += self._select(
            "INDEXED BY elsewhere WHERE is_primary = 1 AND parsed_path IS NOT path AND +parsed_by IS NOT NULL"
        )
        for by in stale:
            entries += self._select("WHERE is_primary = 1 AND parsed_by = ? AND parsed_path IS path", by)
        return sorted(entries, key=lambda entry: entry.path)

    def held_contents(self) -> set[str]:
        """The contents that entries hold and raw must have, but for replaced versions and what was never
        copied."""
        found = self._connection.execute(
            "SELECT DISTINCT file_id FROM entries WHERE status IS NOT 'replaced' AND signature <> 0"
            " AND parsed_by IS NOT ''"
        )
        return {file_id for (file_id,) in found}

    def duplicates_since(self, revision: int) -> int:
        """How many paths were found, since a revision, to hold the same as another."""
        (count,) = self._connection.execute(
            "SELECT count(*) FROM entries WHERE status = ? AND revision > ?", [DUPLICATE, revision]
        ).fetchone()
        return count

    def batches(self) -> set[int]:
        """The batches of parts that entries name."""
        return {
            batch
            for (batch,) in self._connection.execute(
                "SELECT DISTINCT batch FROM entries WHERE batch IS NOT NULL"
            )
        }

    def changed_since(self, revision: int | None) -> tuple[list[Entry], list[tuple[str, str]]]:
        """Entries that changed after a revision, and (path, file_id) of those removed since; all for None."""
        if revision is None:
            return self.entries(), []
        gone = self._connection.execute("SELECT path, file_id FROM removed WHERE revision > ?", [revision])
        return self._select("WHERE revision > ? ORDER BY path, file_id", revision), gone.fetchall()

    def replaced_before(self, moment: datetime) -> list[str]:
        """Contents that were replaced before a moment and that no other entry holds."""
        found = self._connection.execute(
            "SELECT DISTINCT file_id FROM entries AS e INDEXED BY replaced"
            " WHERE replaced_at IS NOT NULL AND replaced_at < ? AND NOT EXISTS"
            " (SELECT 1 FROM entries AS o WHERE o.file_id = e.file_id AND o.status IS NOT 'replaced')",
            [moment.isoformat()],
        )
        return [file_id for (file_id,) in found]

    def origin(self, origin: str) -> str | None:
        """The name in drops to which a path from elsewhere was copied before."""
        row = self._connection.execute("SELECT name FROM origins WHERE origin = ?", [origin]).fetchone()
        return row[0] if row else None

    def origin_names(self) -> set[str]:
        """The names in drops that copies from elsewhere have."""
        return {name for (name,) in self._connection.execute("SELECT name FROM origins")}

    def note_origin(self, origin: str, name: str) -> None:
        """Remember to which name in drops a path from elsewhere is copied."""
        self._connection.execute("INSERT OR REPLACE INTO origins VALUES (?, ?)", [origin, name])

    def damaged(self) -> list[str]:
        """Paths of entries whose row is not what was written."""
        rows = self._connection.execute(f"SELECT {', '.join(_COLUMNS)}, checksum FROM entries")  # noqa: S608
        return [row[0] for row in rows if _checksum(row[:-1]) != row[-1]]

    # What changes --------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Begin a change; all of it appears with :meth:`commit`."""
        if not self._connection.in_transaction:
            self._connection.execute("BEGIN IMMEDIATE")
            self._revision = self.revision + 1

    def commit(self, now: datetime) -> None:
        """Settle what touched contents follow from each other, and keep the change."""
        for file_id in sorted(self._touched):
            self._settle(file_id, now)
        self._touched.clear()
        if self._connection.in_transaction:
            self._connection.execute("UPDATE facts SET value = ? WHERE name = 'revision'", [self._revision])
            self._connection.execute("COMMIT")

    def checkpoint(self) -> None:
        """Bring everything into the one file, so that it can be moved."""
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.execute("PRAGMA journal_mode = DELETE")

    def note(self, drop: Drop, file_id: str, now: datetime) -> list[Entry]:
        """A path now holds this content; returns the versions that it replaces.

        So is a file that was taken for a drop of its own before the rest of its run directory came.
        """
        replaced = self._select(
            "WHERE path = ? AND file_id <> ? AND status IS NOT 'replaced'", drop.path, file_id
        )
        for name in filter(None, drop.members):
            replaced += self._select("WHERE path = ? AND status IS NOT 'replaced'", f"{drop.path}/{name}")
        for entry in replaced:
            entry.status, entry.is_present, entry.is_primary = REPLACED, False, False
            entry.batch = entry.parsed_by = entry.parsed_path = None
            entry.replaced_at = now
            self._write(entry)
        found = self._select("WHERE path = ? AND file_id = ?", drop.path, file_id)
        entry = found[0] if found else Entry(drop.path, file_id, drop.size_bytes)
        if entry.status in (REPLACED, REJECTED):
            entry.forget_reading()
        entry.signature, entry.is_present, entry.replaced_at = drop.signature, True, None
        entry.bytes, entry.modified_at = drop.size_bytes, drop.modified_at
        self._write(entry)
        return [each for each in replaced if each.signature != ODD]

    def note_unreadable(self, drop: Drop, error: str, now: datetime) -> None:
        """A drop that cannot be copied is rejected until it changes (its permissions count)."""
        file_id = hashlib.sha256(f"{drop.path}\0{error}".encode()).hexdigest()
        self.note(drop, file_id, now)
        entry = self._select("WHERE path = ? AND file_id = ?", drop.path, file_id)[0]
        entry.status, entry.error, entry.ingested_at = REJECTED, error, now
        entry.parsed_by, entry.parsed_path = "", drop.path
        self._write(entry)

    def note_oddities(self, oddities: Iterable[Oddity], now: datetime) -> None:
        """What lies there that is no drop; such entries last as long as the thing itself."""
        wanted = {}
        for odd in oddities:
            file_id = hashlib.sha256(f"{odd.path}\0{odd.error}".encode()).hexdigest()
            wanted[odd.path, file_id] = odd
        held = {(entry.path, entry.file_id) for entry in self._select("WHERE signature = 0")}
        for key in held - wanted.keys():
            self._remove(*key)
        for key in wanted.keys() - held:
            odd = wanted[key]
            entry = Entry(*key, 0, status=odd.status, error=odd.error, ingested_at=now, signature=ODD)
            self._write(entry)

    def note_absent(self, paths: Iterable[str]) -> None:
        """Paths that no longer exist keep their rows, unless the same content lies elsewhere: it was
        moved."""
        for path in paths:
            for entry in self._select("WHERE path = ? AND is_present = 1 AND signature <> 0", path):
                others = [
                    other
                    for other in self.of_content(entry.file_id)
                    if other.path != path and other.is_present
                ]
                if others or entry.parsed_by == "":
                    self._remove(entry.path, entry.file_id)
                else:
                    entry.is_present = False
                    self._write(entry)

    def note_reading(self, entry: Entry) -> None:
        """Keep what became of an entry that was read."""
        entry.parsed_path = entry.path
        self._write(entry)

    def forget_readings(self, batch: int | None = None) -> None:
        """Let everything (of one batch of parts) be read again."""
        where, values = ("WHERE is_primary = 1", []) if batch is None else ("WHERE batch = ?", [batch])
        for entry in self._select(where, *values):
            if entry.parsed_by != "":
                entry.parsed_by = entry.parsed_path = entry.batch = None
                self._write(entry)

    def add(self, entry: Entry) -> None:
        """Add an entry as it is (when a ledger is made again)."""
        self._write(entry)

    def _settle(self, file_id: str, now: datetime) -> None:
        """Choose the primary of a content; the others are duplicates, or share the fate of one not taken
        in."""
        entries = self.of_content(file_id)
        if not entries:
            return
        primary = next((entry for entry in entries if entry.is_present), entries[0])
        if not primary.is_primary:
            if primary.status == DUPLICATE:
                primary.forget_reading()
            primary.is_primary = True
            self._write(primary, touch=False)
        for entry in entries:
            if entry is primary:
                continue
            before = [getattr(entry, name) for name in _COLUMNS]
            entry.forget_reading()
            entry.is_primary, entry.format = False, primary.format
            if primary.status == INGESTED:
                entry.status, entry.error = DUPLICATE, f"same content as {primary.path}"
            else:
                entry.status, entry.error = primary.status, primary.error
            entry.ingested_at = entry.ingested_at or now
            if before != [getattr(entry, name) for name in _COLUMNS]:
                self._write(entry, touch=False)

    # Rows ----------------------------------------------------------------------------------------------

    def _select(self, where: str, *values: Any) -> list[Entry]:
        rows = self._connection.execute(f"SELECT {', '.join(_COLUMNS)} FROM entries {where}", values)  # noqa: S608
        return [_entry(row) for row in rows]

    def _write(self, entry: Entry, *, touch: bool = True) -> None:
        self.begin()
        row = tuple(
            value.isoformat()
            if isinstance(value, datetime)
            else int(value)
            if isinstance(value, bool)
            else value
            for value in (getattr(entry, name) for name in _COLUMNS)
        )
        marks = ", ".join("?" * (len(_COLUMNS) + 2))
        self._connection.execute(
            f"INSERT OR REPLACE INTO entries ({', '.join(_COLUMNS)}, checksum, revision) VALUES ({marks})",  # noqa: S608
            (*row, _checksum(row), self._revision),
        )
        self._connection.execute(
            "DELETE FROM removed WHERE path = ? AND file_id = ?", [entry.path, entry.file_id]
        )
        if touch and entry.signature != ODD:
            self._touched.add(entry.file_id)

    def _remove(self, path: str, file_id: str) -> None:
        self.begin()
        self._connection.execute("DELETE FROM entries WHERE path = ? AND file_id = ?", [path, file_id])
        self._connection.execute("INSERT INTO removed VALUES (?, ?, ?)", [path, file_id, self._revision])
        self._touched.add(file_id)

    def _fact(self, name: str) -> Any:
        row = self._connection.execute("SELECT value FROM facts WHERE name = ?", [name]).fetchone()
        if row is None:
            raise sqlite3.DatabaseError(f"no fact {name!r}")
        return row[0]


def _create(connection: sqlite3.Connection) -> None:
    connection.executescript(f"BEGIN;{_SCHEMA}COMMIT;")
    facts = (("identity", uuid.uuid4().hex), ("revision", 0))
    connection.executemany("INSERT INTO facts VALUES (?, ?)", facts)


def _entry(row: tuple) -> Entry:
    values = dict(zip(_COLUMNS, row, strict=True))
    for name in _TIMES:
        if values[name] is not None:
            values[name] = datetime.fromisoformat(values[name])
    values["is_present"], values["is_primary"] = bool(values["is_present"]), bool(values["is_primary"])
    return Entry(**values)


def _checksum(row: tuple) -> str:
    return hashlib.blake2b(repr(row).encode(), digest_size=8).hexdigest()
