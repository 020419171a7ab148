"""Making a ledger again: from raw, where it was lost or damaged, and from the Parquet file of earlier
versions."""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from perf_assets.intake.drops import raw
from perf_assets.intake.drops.entry import REPLACED, Entry
from perf_assets.intake.drops.ledger import DamagedLedgerError, Ledger, LedgerError
from perf_assets.workspace.clock import utc_now
from perf_assets.workspace.filesystems import network_type
from perf_assets.workspace.paths import DataPaths

_EARLIER_LEDGER = "ledger.parquet"


@contextmanager
def open_ledger(paths: DataPaths, healed: list[str] | None = None) -> Generator[Ledger]:
    """Open the ledger; one that is gone or damaged is first made again from raw. The caller holds the ingest
    lock.

    Args:
        paths: the data folder.
        healed: gets a line for what had to be made again.

    Raises:
        LedgerError: the data folder lies on a network file system, where SQLite's locks cannot be trusted.
    """
    if shared := network_type(paths.root if paths.root.exists() else paths.root.parent):
        raise LedgerError(
            f"{paths.root} lies on {shared}, where the ledger and its locks are not safe: let "
            "PERF_ASSETS_DATA name a"
            " local folder; only drops and work may be shared (PERF_ASSETS_DROPS, PERF_ASSETS_WORK)"
        )
    said = healed if healed is not None else []
    raw.shard_flat_copies(paths.raw)
    earlier = paths.root / _EARLIER_LEDGER
    if not paths.ledger.exists():
        if earlier.exists() and earlier.stat().st_size:
            _migrate(earlier, paths)
        elif paths.raw.is_dir() and any(raw.contents(paths.raw)):
            said.append(f"the ledger was gone: made again from {paths.raw}")
            _from_raw(paths)
    elif paths.ledger.stat().st_size == 0:
        make_ledger_again(paths, said, "it was empty")
    try:
        with Ledger.open(paths.ledger) as ledger:
            ledger.signatures()  # reads the index that every ingest needs
            ledger.batches()
    except DamagedLedgerError as error:
        make_ledger_again(paths, said, str(error))
    with Ledger.open(paths.ledger) as ledger:
        yield ledger


def set_aside(path: Path, paths: DataPaths) -> Path:
    """Move something damaged out of the way, into the quarantine; returns where it lies now."""
    paths.quarantine.mkdir(parents=True, exist_ok=True)
    target = paths.quarantine / f"{path.name}.{time.time_ns()}"
    os.replace(path, target)
    return target


def make_ledger_again(paths: DataPaths, said: list[str], reason: str) -> None:
    """Set the ledger aside and make it again from raw; ``said`` gets a line with the reason."""
    aside = set_aside(paths.ledger, paths)
    for suffix in ("-wal", "-shm"):
        paths.ledger.with_name(paths.ledger.name + suffix).unlink(missing_ok=True)
    _from_raw(paths)
    said.append(
        f"the ledger could not be used ({reason}): made again from {paths.raw}; the old one is {aside}"
    )


def _from_raw(paths: DataPaths) -> None:
    """Every content that was seen, under the paths where it was seen; of each path the last content
    counts."""
    history: dict[str, list[raw.Sighting]] = {}
    for sighting in raw.sightings(paths.raw):
        history.setdefault(sighting.path, []).append(sighting)
    present = set(raw.contents(paths.raw))
    entries = []
    for path, seen in history.items():
        seen.sort(key=lambda sighting: sighting.seen_at)
        newest = seen[-1]
        for file_id in dict.fromkeys(sighting.file_id for sighting in seen):
            last = next(sighting for sighting in reversed(seen) if sighting.file_id == file_id)
            entry = Entry(path, file_id, last.bytes, modified_at=last.modified_at, is_present=False)
            if file_id != newest.file_id:
                for name, value in (last.reading or {}).items():
                    setattr(entry, name, value)
                entry.status, entry.replaced_at = REPLACED, newest.seen_at
                entry.ingested_at = last.seen_at
            elif file_id not in present:
                continue
            entries.append(entry)
    _write(entries, paths)


def _migrate(earlier: Path, paths: DataPaths) -> None:
    """Take over the entries of a Parquet ledger. What it names is not read again; signatures are made
    anew."""
    import pyarrow.parquet as pq

    now = utc_now()
    names = set(Entry.__dataclass_fields__)
    entries, primaries = [], set()
    for row in sorted(
        pq.read_table(earlier).to_pylist(), key=lambda row: (not row["is_present"], row["path"])
    ):
        entry = Entry(**{name: value for name, value in row.items() if name in names})
        if row["signature"] != "odd" and entry.status != REPLACED:
            raw.note_sighting(
                raw.Sighting(
                    entry.file_id, entry.path, entry.bytes, entry.modified_at or now, entry.ingested_at or now
                ),
                paths.raw,
            )
            entry.is_primary = entry.file_id not in primaries
            primaries.add(entry.file_id)
            # Read as (path, parser and version, time zone), as lines of one text.
            path, by, timezone = [*str(row.get("read_as") or "").split("\n"), "", ""][:3]
            if entry.is_primary and path == entry.path and entry.format is not None:
                entry.parsed_by, entry.parsed_path = f"{by}|{timezone}", path
        if entry.status == REPLACED:
            entry.replaced_at = entry.ingested_at or now
        if row["signature"] != "odd":
            entry.signature = -1
            entries.append(entry)
    _write(entries, paths)
    earlier.rename(earlier.with_suffix(".parquet.migrated"))


def _write(entries: list[Entry], paths: DataPaths) -> None:
    partial = paths.ledger.with_name(f"{paths.ledger.name}.partial")
    for suffix in ("", "-wal", "-shm"):
        partial.with_name(partial.name + suffix).unlink(missing_ok=True)
    with Ledger.open(partial) as ledger:
        ledger.begin()
        for entry in entries:
            ledger.add(entry)
        ledger.commit(utc_now())
        ledger.checkpoint()
    os.replace(partial, paths.ledger)
    for suffix in ("-wal", "-shm"):
        partial.with_name(partial.name + suffix).unlink(missing_ok=True)
