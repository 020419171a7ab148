"""Reading: raw copies are sniffed and parsed, their rows become parts, their fate an entry of the ledger."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from perf_assets.intake.drops import raw
from perf_assets.intake.drops.entry import INGESTED, REJECTED, UNSUPPORTED, Entry
from perf_assets.intake.drops.ledger import Ledger
from perf_assets.intake.parsing import registry
from perf_assets.intake.parsing.budget import OverBudgetError, cpu_budget
from perf_assets.intake.parsing.records import Records
from perf_assets.intake.parsing.source import Source, UnreadableSourceError
from perf_assets.store.parts import BatchWriter, next_batch
from perf_assets.workspace.clock import utc_now
from perf_assets.workspace.filesystems import flush
from perf_assets.workspace.paths import DataPaths
from perf_assets.workspace.settings import local_timezone

if TYPE_CHECKING:
    from perf_assets.intake.pipeline import IngestReport, Progress

# An interrupted ingest loses what it read since the last commit.
COMMIT_FILES = 2000
COMMIT_BYTES = 256 * 1024 * 1024

GZIP_FACTOR = 50
"""Logs inflate up to about 60 times; a compressed one is granted the time of one so much larger."""


def read_pending(
    paths: DataPaths,
    ledger: Ledger,
    report: IngestReport,
    progress: Progress | None = None,
) -> None:
    """Read whatever was not read yet, or was read by another version, in another zone or under another
    path."""
    timezone = local_timezone()
    valid = {parsed_by(name, timezone) for name in (*registry.FORMATS, None)}
    waiting = ledger.waiting(valid)
    done = 0
    for chunk in _chunks(waiting):
        batch = next_batch(paths.parts)
        writer = BatchWriter(paths.parts, batch)
        try:
            for entry in chunk:
                if progress is not None:
                    progress("reading", done, len(waiting))
                _read(entry, paths, timezone, writer, batch)
                done += 1
            writer.commit()
        except BaseException:
            writer.abort()
            raise
        flush(paths.parts)
        ledger.begin()
        for entry in chunk:
            ledger.note_reading(entry)
        ledger.commit(utc_now())
        report.read.extend(chunk)
    ledger.commit(utc_now())


def parsed_by(format_name: str | None, timezone: str) -> str:
    """Name what reads a format now; another than the stored one reads it again.

    What no parser recognised depends on all of them, and so does a drop that holds files of others.
    """
    if format_name in registry.NESTING_FORMATS:
        return f"{format_name}:{_all_formats()}|{timezone}"
    if format_name in registry.FORMATS:
        return f"{format_name}:{registry.version(format_name)}|{timezone}"
    return f"{_all_formats()}|{timezone}"


def _all_formats() -> str:
    return hashlib.sha256(registry.fingerprint().encode()).hexdigest()[:16]


def _chunks(entries: Iterable[Entry]) -> Iterable[list[Entry]]:
    chunk: list[Entry] = []
    size_bytes = 0
    for entry in entries:
        chunk.append(entry)
        size_bytes += entry.bytes
        if len(chunk) >= COMMIT_FILES or size_bytes >= COMMIT_BYTES:
            yield chunk
            chunk, size_bytes = [], 0
    if chunk:
        yield chunk


def _read(entry: Entry, paths: DataPaths, timezone: str, writer: BatchWriter, batch: int) -> None:
    """Parse one raw copy. Whatever is wrong with it ends in its entry, never in an exception."""
    entry.forget_reading()
    entry.ingested_at = utc_now()
    records = Records(entry.file_id, writer)
    try:
        source = Source(PurePosixPath(entry.path), raw.stored_members(entry.file_id, paths.raw), timezone)
        if entry.bytes == 0:
            raise UnreadableSourceError("an empty file; if a tool is about to write it, it is taken in then")
        with cpu_budget(entry.bytes * (GZIP_FACTOR if entry.path.endswith(".gz") else 1)):
            head = source.head()
            claimants = registry.claimants(head)
            entry.format = claimants[0] if len(claimants) == 1 else None
            if entry.format is None:
                entry.status, entry.error = UNSUPPORTED, _why_unsupported(head.text, claimants)
            else:
                registry.parser(entry.format).parse(source, records)
                records.close()
                entry.status, entry.batch = INGESTED, batch
                entry.parser_version = registry.version(entry.format)
                entry.lines, entry.runs = records.lines_read, records.runs
                entry.records, entry.rejected, entry.ignored = (
                    records.records,
                    records.rejected,
                    records.ignored,
                )
    except (UnreadableSourceError, OverBudgetError) as error:
        entry.status, entry.error = REJECTED, str(error)
    except FileNotFoundError as error:
        entry.status, entry.error = REJECTED, str(error)
    except OSError:
        raise  # of the data folder (no space left, say), not of this file
    except Exception as error:  # noqa: BLE001 - see below
        # A parser met what its author did not foresee: this file waits for a fix, the others go on.
        entry.status = REJECTED
        entry.error = (
            f"the parser {entry.format} failed near line {records.current_line} with"
            f" {type(error).__name__}: {str(error)[:300]}; please report it with this file"
        )
    entry.parsed_by = parsed_by(entry.format, timezone)


def _why_unsupported(text: str, claimants: list[str]) -> str:
    if "\0" in text:
        return "a binary file, not a log; remove it from drops"
    if claimants:
        return f"{' and '.join(claimants)} both claim it; split it into one file a tool"
    return (
        "no parser recognises its content; perf-assets explain FILE says what each missed, "
        "docs/adding-a-format.md how to add one"
    )
