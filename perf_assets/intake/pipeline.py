"""From the drops folder to published tables: the one thing that the command line, sensor, schedule and UI do.

    drops  -> take in: hash, copy to raw, note in the ledger
    raw    -> read: sniff, parse, write parts, note in the ledger
    parts  -> publish

It is a function of what lies in drops. Each step leaves a state from which the next ingest goes on, whenever
it is interrupted; running it twice, or with the drops in another order, gives the same tables.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from perf_assets.intake.drops import raw
from perf_assets.intake.drops.ledger import INGESTED, REJECTED, UNSUPPORTED, Entry, Ledger
from perf_assets.intake.drops.scan import Drop, is_settled, lies_in, scan, settle_s, shown_path
from perf_assets.intake.parsing import registry
from perf_assets.intake.parsing.records import Records
from perf_assets.intake.parsing.source import Source, UnreadableSourceError
from perf_assets.store.parts import BatchWriter, next_batch, remove_unnamed
from perf_assets.store.publish import Contents, Publication, publish
from perf_assets.workspace.locks import exclusive
from perf_assets.workspace.paths import DataPaths
from perf_assets.workspace.settings import local_timezone

# An interrupted ingest loses what it read since the last commit. A commit writes the ledger anew.
COMMIT_FILES = 2000
COMMIT_BYTES = 256 * 1024 * 1024

Progress = Callable[[str, int, int], None]
"""Told what is being done, how many are done, and of how many."""


@dataclass
class IngestReport:
    """What an ingest did: the entries read in it, what is still being written, and the publication."""

    read: list[Entry] = field(default_factory=list)
    unsettled: list[str] = field(default_factory=list)
    publication: Publication = field(default_factory=lambda: Publication(changed=False))

    def count(self, status: str) -> int:
        """How many of the entries read have this status."""
        return sum(entry.status == status for entry in self.read)


def pending(paths: DataPaths) -> list[Drop]:
    """Drops that the ledger does not hold in their present state. Reads no content."""
    signatures = {path: entry.signature for path, entry in Ledger.load(paths.ledger).current().items()}
    return [drop for drop in scan(paths.drops)[0] if signatures.get(drop.path) != drop.signature]


def register_drops(paths: DataPaths, progress: Progress | None = None) -> IngestReport:
    """Copy new and changed drops to ``raw`` and note them in the ledger; nothing is parsed.

    Returns what is still being written; such files are left for the next time.
    """
    with exclusive(paths.lock):
        ledger, report = _begin(paths), IngestReport()
        _register(paths, ledger, report, progress)
        ledger.save(paths.ledger)
        return report


def ingest(
    paths: DataPaths,
    progress: Progress | None = None,
    on_wait: Callable[[str], None] | None = None,
    only: Sequence[Path] | None = None,
) -> IngestReport:
    """Take in, parse and publish whatever is pending. Waits for another ingest to end.

    ``only`` takes in no more than these files and folders under drops; the rest stays pending.
    """
    places = None if only is None else [shown_path(path, paths.drops) for path in only]
    with exclusive(paths.lock, on_wait):
        ledger, report = _begin(paths), IngestReport()
        _register(paths, ledger, report, progress, places)
        _read_pending(paths, ledger, report, progress)
        report.publication = _publish(paths, ledger)
        return report


def rebuild(paths: DataPaths, progress: Progress | None = None) -> IngestReport:
    """Make every table again from the raw copies, with the parsers as they are now."""
    with exclusive(paths.lock):
        ledger, report = _begin(paths), IngestReport()
        _register(paths, ledger, report, progress)
        for entry in ledger.primaries().values():
            entry.read_as = None
        _read_pending(paths, ledger, report, progress)
        report.publication = _publish(paths, ledger, from_scratch=True)
        return report


def _publish(paths: DataPaths, ledger: Ledger, *, from_scratch: bool = False) -> Publication:
    """Publish what the saved ledger says."""
    loaded = {
        (entry.file_id, entry.batch): entry.format in registry.LINKED_FORMATS
        for entry in ledger.primaries().values()
        if entry.status == INGESTED and entry.batch is not None
    }
    linked = frozenset(pair for pair, is_linked in loaded.items() if is_linked)
    return publish(paths, Contents(paths.ledger, frozenset(loaded), linked), from_scratch=from_scratch)


def _begin(paths: DataPaths) -> Ledger:
    """The ledger, after removing what an interrupted ingest left."""
    ledger = Ledger.load(paths.ledger)
    raw.remove_partial(paths.raw)
    remove_unnamed(paths.parts, {entry.batch for entry in ledger.entries() if entry.batch is not None})
    return ledger


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def _register(
    paths: DataPaths,
    ledger: Ledger,
    report: IngestReport,
    progress: Progress | None,
    places: list[str] | None = None,
) -> None:
    drops, oddities = _settled_scan(paths)
    signatures = {path: entry.signature for path, entry in ledger.current().items()}
    changed = [
        drop
        for drop in drops
        if signatures.get(drop.path) != drop.signature
        and (places is None or any(lies_in(drop, place) for place in places))
    ]
    for done, drop in enumerate(changed):
        if progress is not None:
            progress("taking in", done, len(changed))
        if not is_settled(drop):
            report.unsettled.append(drop.path)
            continue
        try:
            file_id = raw.store(drop.members, paths.raw)
        except OSError:
            report.unsettled.append(drop.path)  # gone or changed since the scan: the next one tells
            continue
        ledger.note(drop, file_id)
    ledger.note_oddities(oddities, _now())
    ledger.note_absent({drop.path for drop in drops})


def _settled_scan(paths: DataPaths) -> tuple[list[Drop], list]:
    """Scan; where something changed a moment ago, wait once for it to stand still and look again."""
    drops, oddities = scan(paths.drops)
    if all(is_settled(drop) for drop in drops):
        return drops, oddities
    newest_s = max(drop.changed_at_s for drop in drops)
    time.sleep(max(0.0, min(settle_s(), newest_s + settle_s() - time.time())) + 0.01)
    return scan(paths.drops)


def _read_pending(paths: DataPaths, ledger: Ledger, report: IngestReport, progress: Progress | None) -> None:
    timezone = local_timezone()
    waiting = [entry for entry in ledger.primaries().values() if entry.read_as != _parse_key(entry, timezone)]
    done = 0
    for chunk in _chunks(waiting):
        batch = next_batch(paths.parts)
        writer = BatchWriter(paths.parts, batch)
        for entry in chunk:
            if progress is not None:
                progress("reading", done, len(waiting))
            _read(entry, paths, timezone, writer, batch)
            done += 1
        writer.commit()
        report.read.extend(chunk)
        ledger.settle_duplicates(_now())
        ledger.save(paths.ledger)
    ledger.settle_duplicates(_now())
    ledger.save(paths.ledger)


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


def _parse_key(entry: Entry, timezone: str) -> str:
    """How an entry is read now; another reading than the stored one is made again.

    What no parser recognised depends on all of them. The path counts, because some facts stand only there.
    """
    by = f"{entry.format}:{registry.version(entry.format)}" if entry.format in registry.FORMATS else ""
    return f"{entry.path}\n{by or registry.fingerprint()}\n{timezone}"


def _read(entry: Entry, paths: DataPaths, timezone: str, writer: BatchWriter, batch: int) -> None:
    """Parse one raw copy. Whatever is wrong with it ends in its entry, never in an exception."""
    entry.forget_reading()
    entry.ingested_at = _now()
    records = Records(entry.file_id, writer)
    try:
        source = Source(PurePosixPath(entry.path), raw.stored_members(entry.file_id, paths.raw), timezone)
        if entry.bytes == 0:
            raise UnreadableSourceError("an empty file; if a tool is about to write it, it is taken in then")
        head = source.head()
        entry.format = registry.sniff(head)
        if entry.format is None:
            entry.status, entry.error = UNSUPPORTED, _why_unsupported(head.text)
        else:
            registry.parser(entry.format).parse(source, records)
            records.close()
            entry.status, entry.batch = INGESTED, batch
            entry.parser_version = registry.version(entry.format)
            entry.lines, entry.runs = records.lines_read, records.runs
            entry.records, entry.rejected, entry.ignored = records.records, records.rejected, records.ignored
    except UnreadableSourceError as error:
        entry.status, entry.error = REJECTED, str(error)
    except Exception as error:  # noqa: BLE001 - see below
        # A parser met what its author did not foresee: this file waits for a fix, the others go on.
        entry.status = REJECTED
        entry.error = (
            f"the parser {entry.format} failed near line {records.current_line} with"
            f" {type(error).__name__}: {str(error)[:300]}; please report it with this file"
        )
    entry.read_as = _parse_key(entry, timezone)


def _why_unsupported(text: str) -> str:
    if "\0" in text:
        return "a binary file, not a log; remove it from drops"
    return "no parser recognises its content; README.md lists the formats and how to add one"


def copy_in(outside: Iterable[Path], paths: DataPaths) -> list[Path]:
    """Copy files and folders from elsewhere into drops; returns where each of them lies there.

    They land in ``drops/<name>``, or ``<name>-2`` and so on where that is taken by something else; what lies under
    drops already stays where it is.

    Raises:
        FileNotFoundError: there is no such file or folder.
    """
    import filecmp
    import shutil

    copied = []
    for path in outside:
        path = path.absolute()
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist")
        if path.is_relative_to(paths.drops):
            copied.append(path)
            continue
        target, number = paths.drops / path.name, 1
        while target.exists() and not (
            target.is_file() and path.is_file() and filecmp.cmp(path, target, shallow=False)
        ):
            number += 1
            target = paths.drops / f"{path.stem}-{number}{path.suffix}"
        if not target.exists():
            if path.is_dir():
                shutil.copytree(path, target, symlinks=True)
            else:
                shutil.copy2(path, target)
        copied.append(target)
    return copied
