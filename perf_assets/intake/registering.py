"""Registering: new and changed drops are copied to raw and noted in the ledger. Nothing is parsed here."""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING

from perf_assets.intake.drops import raw
from perf_assets.intake.drops.ledger import Ledger
from perf_assets.intake.drops.scan import Drop, Scan, is_in_future, is_settled, lies_in, scan
from perf_assets.workspace.clock import utc_now
from perf_assets.workspace.filesystems import flush
from perf_assets.workspace.paths import DataPaths
from perf_assets.workspace.settings import settle_s

if TYPE_CHECKING:
    from perf_assets.intake.pipeline import IngestReport, Progress

COMMIT_FILES = 2000
"""An interrupted ingest loses what it registered since the last commit."""

_OUR_FOLDER = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors that are of the data folder, not of the drop: the ingest ends, nothing is held against the file."""


def register(
    paths: DataPaths,
    ledger: Ledger,
    report: IngestReport,
    progress: Progress | None = None,
    places: list[str] | None = None,
) -> list[str]:
    """Register what changed under drops, or of that only what lies in ``places``.

    Returns:
        Contents that are the beginning of what took their place: logs that grew.

    Raises:
        OSError: no space is left in the data folder, or it cannot be written to.
    """
    looked, settled_paths = _settled_scan(paths, ledger)
    changed = [
        drop for drop in looked.changed if places is None or any(lies_in(drop, place) for place in places)
    ]
    grown: list[str] = []
    since_commit = 0
    for done, drop in enumerate(changed):
        if progress is not None:
            progress("taking in", done, len(changed))
        if not is_settled(drop) and drop.path not in settled_paths:
            report.unsettled.append(drop.path)
            continue
        grown += _register(drop, paths, ledger)
        since_commit += 1
        if since_commit >= COMMIT_FILES:
            _commit(paths, ledger)
            since_commit = 0
    ledger.note_oddities(looked.oddities, utc_now())
    report.oddities = looked.oddities
    ledger.note_absent(looked.absent)
    _commit(paths, ledger)
    raw.remove_partial(paths.raw)
    return grown


def _register(drop: Drop, paths: DataPaths, ledger: Ledger) -> list[str]:
    """Register one drop; returns the version that it began with, where it replaces that."""
    now = utc_now()
    earlier = [entry for entry in ledger.at_path(drop.path) if entry.bytes < drop.size_bytes]
    try:
        stored = raw.store(drop, paths.raw, max((entry.bytes for entry in earlier), default=None))
    except FileNotFoundError:
        return []  # gone since the scan
    except OSError as error:
        if error.errno in _OUR_FOLDER:
            raise OSError(
                error.errno,
                f"{error.strerror}: free some space for {paths.root}, or make it writable, and ingest again",
            ) from error
        cure = "check its permissions" if isinstance(error, PermissionError) else "check the disk it lies on"
        ledger.note_unreadable(drop, f"cannot be read: {error.strerror}; {cure}", now)
        return []
    is_new = not any(entry.file_id == stored.file_id for entry in ledger.at_path(drop.path))
    replaced = ledger.note(drop, stored.file_id, now)
    for entry in replaced:
        reading = {name: getattr(entry, name) for name in raw.READING}
        modified_at = entry.modified_at or now
        raw.note_sighting(
            raw.Sighting(entry.file_id, entry.path, entry.bytes, modified_at, now, reading), paths.raw
        )
    if is_new:  # after those it replaces, so that it is the newest of its path
        sighting = raw.Sighting(stored.file_id, drop.path, drop.size_bytes, drop.modified_at, utc_now())
        raw.note_sighting(sighting, paths.raw)
    return [entry.file_id for entry in replaced if entry.file_id == stored.begins_with]


def _settled_scan(paths: DataPaths, ledger: Ledger) -> tuple[Scan, set[str]]:
    """Scan; where something changed a moment ago, wait once for it to stand still and look again.

    Returns:
        The second look, and the paths whose times are in the future and that stood still between both.
    """
    known = ledger.signatures()
    looked = scan(paths.drops, known)
    restless = [drop for drop in looked.changed if not is_settled(drop)]
    if not restless:
        return looked, set()
    now_s = time.time()
    wait_s = max(
        settle_s() if is_in_future(drop, now_s) else drop.changed_at_s + settle_s() - now_s
        for drop in restless
    )
    time.sleep(max(0.0, min(settle_s(), wait_s)) + 0.01)
    again = scan(paths.drops, known)
    before = {drop.path: drop.signature for drop in restless if is_in_future(drop, now_s)}
    return again, {drop.path for drop in again.changed if before.get(drop.path) == drop.signature}


def _commit(paths: DataPaths, ledger: Ledger) -> None:
    if ledger.is_changing:
        if paths.raw.exists():
            flush(paths.raw)  # what the ledger promises to hold must not be lost with the power
        ledger.commit(utc_now())
