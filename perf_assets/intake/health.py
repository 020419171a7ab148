"""Is everything as it was written? Finds what a disk or a person damaged, heals what can be healed, names the
rest.

Drops and raw are the truth: a copy is healed from its drop; the ledger, parts and the database are made again
from raw.
Computed tables and predictors cannot be made here: they are withdrawn, with the command that makes them
again.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from perf_assets.intake.drops import raw
from perf_assets.intake.drops.entry import REJECTED
from perf_assets.intake.drops.ledger import DamagedLedgerError, Ledger
from perf_assets.intake.drops.recovery import make_ledger_again, open_ledger, set_aside
from perf_assets.intake.drops.scan import scan
from perf_assets.store.parts import is_intact
from perf_assets.store.publish import database_problem
from perf_assets.store.swapping import spare_file
from perf_assets.workspace.clock import utc_now
from perf_assets.workspace.locks import exclusive
from perf_assets.workspace.paths import DataPaths

if TYPE_CHECKING:
    from perf_assets.intake.pipeline import Progress


@dataclass
class Findings:
    """What a check found: lines for what was healed or will be by the next ingest, and for what is lost."""

    healed: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    copies: int = 0


def check(paths: DataPaths, progress: Progress | None = None) -> Findings:
    """Look at every byte of raw, ledger, parts and database; heal what is damaged. Waits for an ingest to
    end.

    What is derived is only taken away here; the ingest after it makes it again.
    """
    findings = Findings()
    with exclusive(paths.lock):
        try:
            with open_ledger(paths, findings.healed) as ledger:
                damaged = ledger.damaged()
            if damaged:
                raise DamagedLedgerError(f"{len(damaged)} entries are damaged, the first is {damaged[0]}")
        except DamagedLedgerError as error:
            make_ledger_again(paths, findings.healed, str(error))
        with open_ledger(paths, findings.healed) as ledger:
            findings.copies = sum(1 for _ in raw.contents(paths.raw))
            findings.lost = heal_raw(paths, ledger, findings.healed, progress)
            broken = [batch for batch in sorted(ledger.batches()) if not is_intact(paths.parts, batch)]
            forget_parts(paths, ledger, broken, findings.healed)
        problem = database_problem(paths.database)
        if problem is not None:
            set_aside(paths.database, paths)
            findings.healed.append(f"{paths.database.name} is damaged ({problem}): made again from parts")
        spare = spare_file(paths)
        problem = database_problem(spare)
        if problem is not None:
            spare.unlink()  # the next publish would begin with it
            findings.healed.append(f"{spare.name} was damaged ({problem}): a copy takes its place")
    return findings


def heal_raw(
    paths: DataPaths, ledger: Ledger, healed: list[str], progress: Progress | None = None
) -> list[str]:
    """Compare every copy with its name; copy broken ones again from drops, else set them aside.

    Returns:
        A line for each content that is lost: its rows are withdrawn, and its entry is rejected.
    """
    held = ledger.held_contents()
    broken = []
    for done, file_id in enumerate(sorted(held)):
        if progress is not None:
            progress("checking", done, len(held))
        if not raw.is_intact(file_id, paths.raw):
            broken.append(file_id)
    if not broken:
        return []
    drops = {drop.path: drop for drop in scan(paths.drops).changed}
    lost = []
    for file_id in broken:
        entries = ledger.of_content(file_id)
        copy = raw.path_of(file_id, paths.raw)
        for entry in entries:
            drop = drops.get(entry.path)
            if drop is not None and raw.store(drop, paths.raw).file_id == file_id:
                healed.append(f"the raw copy of {entry.path} was damaged: copied again from drops")
                break
        else:
            where = f"was damaged and lies in {set_aside(copy, paths)} now" if copy.exists() else "is gone"
            ledger.begin()
            for entry in entries:
                if entry.is_primary:
                    entry.forget_reading()
                    entry.status, entry.ingested_at = REJECTED, utc_now()
                    entry.error = f"its raw copy {where}, and drops has it no more; drop the file again"
                    entry.parsed_by = ""
                    ledger.note_reading(entry)
                    lost.append(f"{entry.path}: {entry.error}")
            ledger.commit(utc_now())
    return lost


def forget_parts(paths: DataPaths, ledger: Ledger, batches: Iterable[int], healed: list[str]) -> None:
    """Let the files of damaged parts be read again."""
    for batch in batches:
        healed.append(f"the parts of batch {batch} were damaged: read again from raw")
        ledger.begin()
        ledger.forget_readings(batch)
        shutil.rmtree(paths.parts / str(batch), ignore_errors=True)
    ledger.commit(utc_now())
