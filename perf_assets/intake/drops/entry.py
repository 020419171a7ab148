"""One version of one file as the ledger keeps it, and the words for what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

INGESTED, DUPLICATE, REPLACED, REJECTED, UNSUPPORTED = (
    "ingested",
    "duplicate",
    "replaced",
    "rejected",
    "unsupported",
)
ODD = 0
"""The signature of an entry that is no drop."""


@dataclass
class Entry:
    """One version of one file. The first fields are columns of ``source_files``; the rest is bookkeeping.

    ``status`` is None until the file was read. ``batch`` holds its rows; ``parsed_by`` and ``parsed_path``
    say how they were made (parser and its version, time zone, path), so that they are made again when any of
    it changes. Of all paths with the same content one is the primary, whose rows count.
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
    signature: int = -1
    is_present: bool = True
    batch: int | None = None
    parsed_by: str | None = None
    parsed_path: str | None = None
    is_primary: bool = False
    replaced_at: datetime | None = None

    def forget_reading(self) -> None:
        """Back to "not read yet"."""
        self.format = self.status = self.error = self.batch = self.parser_version = None
        self.parsed_by = self.parsed_path = None
        self.lines = self.runs = self.records = self.rejected = self.ignored = None
