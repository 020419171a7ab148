"""From the drops folder to published tables: the one thing that the command line, sensor, schedule and UI do.

    drops  -> register: hash, copy to raw, note in the ledger
    raw    -> read: sniff, parse, write parts, note in the ledger
    parts  -> publish

It is a function of what lies in drops. Each step leaves a state from which the next ingest goes on, whenever
it is interrupted; running it twice, or with the drops in another order, gives the same tables. How each step
is done stands in ``registering``, ``reading`` and the store.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from perf_assets.intake import health, reading, registering
from perf_assets.intake.drops import raw
from perf_assets.intake.drops.entry import INGESTED, REJECTED, Entry
from perf_assets.intake.drops.ledger import Ledger
from perf_assets.intake.drops.recovery import open_ledger
from perf_assets.intake.drops.scan import Drop, Oddity, is_in_future, is_settled, scan, shown_path
from perf_assets.intake.parsing import registry
from perf_assets.store.parts import DamagedPartsError, missing_batches, remove_unnamed
from perf_assets.store.publish import Contents, Publication, UnpublishableError, publish
from perf_assets.workspace.clock import utc_now
from perf_assets.workspace.locks import exclusive
from perf_assets.workspace.paths import DataPaths
from perf_assets.workspace.settings import keep_replaced_s

Progress = Callable[[str, int, int], None]
"""Told what is being done, how many are done, and of how many."""


@dataclass
class IngestReport:
    """What an ingest did: entries read, what is still being written or cannot be seen, what was healed."""

    read: list[Entry] = field(default_factory=list)
    unsettled: list[str] = field(default_factory=list)
    oddities: list[Oddity] = field(default_factory=list)
    healed: list[str] = field(default_factory=list)
    duplicates: int = 0
    """Paths that hold the same as another: their runs count once."""
    publication: Publication = field(default_factory=lambda: Publication(changed=False))

    def count(self, status: str) -> int:
        """How many of the entries read have this status."""
        return sum(entry.status == status for entry in self.read)


def pending(paths: DataPaths) -> list[Drop]:
    """Drops that the ledger does not hold in their present state and that stand still. Reads no content."""
    known: dict[str, int] = {}
    if paths.ledger.exists():
        with Ledger.open(paths.ledger) as ledger:
            known = ledger.signatures()
    changed = scan(paths.drops, known).changed
    return [drop for drop in changed if is_settled(drop) or is_in_future(drop)]


def register_drops(paths: DataPaths, progress: Progress | None = None) -> IngestReport:
    """Copy new and changed drops to ``raw`` and note them in the ledger; nothing is parsed.

    Returns what is still being written; such files are left for the next time.
    """
    with exclusive(paths.lock), _ledger(paths) as (ledger, report):
        registering.register(paths, ledger, report, progress)
        return report


def ingest(
    paths: DataPaths,
    progress: Progress | None = None,
    on_wait: Callable[[str], None] | None = None,
    only: Sequence[Path] | None = None,
) -> IngestReport:
    """Take in, parse and publish whatever is pending. Waits for another ingest to end.

    ``only`` takes in no more than these files and folders under drops; the rest stays pending.

    Raises:
        LedgerError: the data folder cannot hold a ledger.
        OSError: no space is left, or the folder cannot be written to; what was done is kept.
    """
    places = None if only is None else [shown_path(path, paths.drops) for path in only]
    with exclusive(paths.lock, on_wait), _ledger(paths) as (ledger, report):
        before = ledger.revision
        replaced = registering.register(paths, ledger, report, progress, places)
        health.forget_parts(paths, ledger, missing_batches(paths.parts, ledger.batches()), report.healed)
        reading.read_pending(paths, ledger, report, progress)
        report.duplicates = ledger.duplicates_since(before)
        _publish(paths, ledger, report)
        _tidy_raw(paths, ledger, replaced)
        return report


def rebuild(paths: DataPaths, progress: Progress | None = None) -> IngestReport:
    """Make every table again from the raw copies, with the parsers as they are now.

    Copies that do not hold the bytes that their name promises are healed first, or set aside.
    """
    with exclusive(paths.lock), _ledger(paths) as (ledger, report):
        registering.register(paths, ledger, report, progress)
        health.heal_raw(paths, ledger, report.healed, progress)
        ledger.begin()
        ledger.forget_readings()
        reading.read_pending(paths, ledger, report, progress)
        _publish(paths, ledger, report, from_scratch=True)
        return report


@contextmanager
def _ledger(paths: DataPaths) -> Generator[tuple[Ledger, IngestReport]]:
    """The ledger and an empty report, after removing what an interrupted ingest left."""
    report = IngestReport()
    with open_ledger(paths, report.healed) as ledger:
        raw.remove_partial(paths.raw)
        remove_unnamed(paths.parts, ledger.batches())
        yield ledger, report


def _publish(paths: DataPaths, ledger: Ledger, report: IngestReport, *, from_scratch: bool = False) -> None:
    """Publish what the ledger says; a file whose rows cannot be published is rejected, and the others go
    on."""
    while True:
        try:
            report.publication = publish(paths, _contents(ledger), report.healed, from_scratch=from_scratch)
            return
        except UnpublishableError as error:
            for file_id, reason in error.reasons.items():
                for entry in ledger.of_content(file_id):
                    if entry.is_primary and entry.status == INGESTED:
                        entry.status, entry.batch = REJECTED, None
                        entry.error = (
                            f"its rows cannot be published ({reason}); please report it with this file"
                        )
                        ledger.note_reading(entry)
                        report.read = [each for each in report.read if each.file_id != file_id] + [entry]
            ledger.commit(utc_now())
        except DamagedPartsError as error:
            health.forget_parts(paths, ledger, [error.batch], report.healed)
            reading.read_pending(paths, ledger, report)


def _contents(ledger: Ledger) -> Contents:
    def changed_since(revision: int | None) -> tuple[list[dict], list[tuple[str, str]]]:
        entries, removed = ledger.changed_since(revision)
        rows = []
        for entry in entries:
            counts = entry.is_primary and entry.status == INGESTED
            rows.append(
                {
                    **vars(entry),
                    "batch": entry.batch if counts else None,
                    "is_linked": counts and entry.format in registry.LINKED_FORMATS,
                }
            )
        return rows, removed

    return Contents(ledger.identity, ledger.revision, changed_since)


def _tidy_raw(paths: DataPaths, ledger: Ledger, grown: list[str]) -> None:
    """Remove copies that nothing needs: beginnings of logs that grew, and versions that were replaced long
    ago."""
    old = ledger.replaced_before(utc_now() - timedelta(seconds=keep_replaced_s()))
    for file_id in [*grown, *old]:
        if not ledger.of_content(file_id):
            raw.remove(raw.path_of(file_id, paths.raw))
