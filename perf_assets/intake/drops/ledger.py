"""The ledger: every version of every file ever seen under drops, and what became of it.

It is one Parquet file, replaced as a whole: replacing it is what commits an ingest. The published
``source_files`` is this table without its bookkeeping columns.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path

from perf_assets.intake.drops.scan import Drop, Oddity

INGESTED, DUPLICATE, REPLACED, REJECTED, UNSUPPORTED = (
    "ingested",
    "duplicate",
    "replaced",
    "rejected",
    "unsupported",
)


@dataclass
class Entry:
    """One version of one file. The first fields are columns of ``source_files``; the rest is bookkeeping.

    ``status`` is None until the file was read. ``batch`` holds its rows; ``read_as`` says how they were made
    (path, parser and its version, time zone), so that they are made again when any of it changes.
    """

    path: str
    file_id: str
    bytes: int
    format: str | None = None
    status: str | None = None
    lines: int | None = None
    runs: int | None = None
    records: int | None = None
    rejected: int | None = None
    ignored: int | None = None
    parser_version: int | None = None
    error: str | None = None
    ingested_at: datetime | None = None
    modified_at: datetime | None = None
    signature: str = ""
    is_present: bool = True
    batch: int | None = None
    read_as: str | None = None

    def forget_reading(self) -> None:
        """Back to "not read yet"."""
        self.format = self.status = self.error = self.batch = self.read_as = self.parser_version = None
        self.lines = self.runs = self.records = self.rejected = self.ignored = None


class Ledger:
    """Entries by path and file_id, with the rules of what follows from what lies in drops."""

    def __init__(self, entries: list[Entry] | None = None) -> None:
        self._entries = {(entry.path, entry.file_id): entry for entry in entries or []}

    @classmethod
    def load(cls, path: Path) -> Ledger:
        """The ledger of a data folder; empty where there is none yet."""
        import pyarrow.parquet as pq

        if not path.exists():
            return cls()
        names = {each.name for each in fields(Entry)}
        rows = pq.read_table(path).to_pylist()
        return cls([Entry(**{name: value for name, value in row.items() if name in names}) for row in rows])

    def save(self, path: Path) -> None:
        """Replace the ledger: the commit."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        kinds = {"str": pa.string(), "int": pa.int64(), "bool": pa.bool_(), "datetime": pa.timestamp("us")}
        schema = pa.schema([(each.name, kinds[str(each.type).split(" ")[0]]) for each in fields(Entry)])
        partial = path.with_suffix(".partial")
        pq.write_table(
            pa.Table.from_pylist([vars(entry) for entry in self.entries()], schema=schema), partial
        )
        os.replace(partial, path)

    def entries(self) -> list[Entry]:
        """All entries, by path."""
        return [self._entries[key] for key in sorted(self._entries)]

    def current(self) -> dict[str, Entry]:
        """The latest version of every path."""
        return {entry.path: entry for entry in self._entries.values() if entry.status != REPLACED}

    def note(self, drop: Drop, file_id: str) -> None:
        """A path now holds this content; what it held before is replaced."""
        for entry in self._entries.values():
            if entry.path == drop.path and entry.file_id != file_id:
                entry.status, entry.is_present = REPLACED, False
                entry.batch = entry.read_as = None
        entry = self._entries.setdefault((drop.path, file_id), Entry(drop.path, file_id, drop.size_bytes))
        if entry.status == REPLACED:
            entry.forget_reading()
        entry.signature, entry.is_present = drop.signature, True
        entry.bytes, entry.modified_at = drop.size_bytes, drop.modified_at

    def note_oddities(self, oddities: list[Oddity], now: datetime) -> None:
        """What lies there that is no drop; such entries last as long as the thing itself."""
        import hashlib

        for key in [key for key, entry in self._entries.items() if entry.signature == _ODD]:
            del self._entries[key]
        for odd in oddities:
            file_id = hashlib.sha256(f"{odd.path}\0{odd.error}".encode()).hexdigest()
            self._entries[odd.path, file_id] = Entry(
                odd.path, file_id, 0, status=odd.status, error=odd.error, ingested_at=now, signature=_ODD
            )

    def note_absent(self, present: set[str]) -> None:
        """Paths that no longer exist keep their rows, unless the same content lies elsewhere: it was moved."""
        held = {
            entry.file_id
            for entry in self._entries.values()
            if entry.path in present and entry.status != REPLACED
        }
        for key, entry in list(self._entries.items()):
            if entry.signature != _ODD and entry.status != REPLACED:
                entry.is_present = entry.path in present
                if not entry.is_present and entry.file_id in held:
                    del self._entries[key]

    def primaries(self) -> dict[str, Entry]:
        """Of every content now held, the one entry that stands for it: the first path that is present."""
        chosen: dict[str, Entry] = {}
        for entry in self.entries():
            if entry.status == REPLACED or entry.signature == _ODD:
                continue
            held = chosen.get(entry.file_id)
            if held is None or (entry.is_present and not held.is_present):
                chosen[entry.file_id] = entry
        return chosen

    def settle_duplicates(self, now: datetime) -> None:
        """Entries that are not primary are duplicates, or share the fate of a primary that was not taken in."""
        primaries = self.primaries()
        for entry in self._entries.values():
            primary = primaries.get(entry.file_id)
            if primary is None or primary is entry or entry.status == REPLACED or entry.signature == _ODD:
                continue
            entry.forget_reading()
            entry.format = primary.format
            if primary.status == INGESTED:
                entry.status, entry.error = DUPLICATE, f"same content as {primary.path}"
            else:
                entry.status, entry.error = primary.status, primary.error
            entry.ingested_at = entry.ingested_at or now


_ODD = "odd"
"""The signature of an entry that is no drop."""
