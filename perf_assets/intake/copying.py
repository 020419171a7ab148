"""``ingest PATH``: files and folders from elsewhere are copied into drops, each to one place, however often
it is asked.

Where a path was copied to stands in the ledger, so that a log or folder that grew updates its copy instead of
getting a second one. Each file is copied aside and appears by one rename.
"""

from __future__ import annotations

import filecmp
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from perf_assets.intake.drops.recovery import open_ledger
from perf_assets.workspace.locks import exclusive
from perf_assets.workspace.paths import DataPaths

_INCOMING = ".incoming-"


def copy_in(outside: Iterable[Path], paths: DataPaths) -> list[Path]:
    """Copy files and folders from elsewhere into drops; returns where each of them lies there.

    They land in ``drops/<name>``, or ``<name>-2`` and so on where that is taken by something else; what lies
    under drops already stays where it is.

    Raises:
        FileNotFoundError: there is no such file or folder.
    """
    copied = []
    for path in outside:
        origin = path.absolute()
        if not origin.exists():
            raise FileNotFoundError(f"{path} does not exist: name a file or folder that does")
        if origin.is_relative_to(paths.drops):
            copied.append(origin)
            continue
        with exclusive(paths.lock), open_ledger(paths) as ledger:
            name = ledger.origin(str(origin)) or _free_name(origin, paths.drops, ledger.origin_names())
            ledger.note_origin(str(origin), name)
        target = paths.drops / name
        for source, place in _files(origin, target):
            _copy(source, place)
        copied.append(target)
    return copied


def _free_name(origin: Path, drops: Path, taken: set[str]) -> str:
    """A name in drops that nothing else has; one that holds an earlier copy of the same thing is its own."""
    number = 1
    while True:
        name = origin.name if number == 1 else f"{origin.stem}-{number}{origin.suffix}"
        target = drops / name
        if name not in taken and (not os.path.lexists(target) or _is_copy(target, origin)):
            return name
        number += 1


def _is_copy(target: Path, origin: Path) -> bool:
    """Does everything in the target stand in the origin as well, with the same content or as its
    beginning?"""
    if target.is_symlink() or target.is_dir() != origin.is_dir():
        return False
    if target.is_file():
        return _begins_with(origin, target)
    files = [path for path in target.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return all(
        (twin := origin / path.relative_to(target)).is_file() and _begins_with(twin, path) for path in files
    )


def _begins_with(whole: Path, beginning: Path) -> bool:
    if whole.stat().st_size == beginning.stat().st_size:
        return filecmp.cmp(whole, beginning, shallow=False)
    if whole.stat().st_size < beginning.stat().st_size:
        return False
    with whole.open("rb") as a, beginning.open("rb") as b:
        while chunk := b.read(1024 * 1024):
            if a.read(len(chunk)) != chunk:
                return False
    return True


def _files(origin: Path, target: Path) -> Iterator[tuple[Path, Path]]:
    if origin.is_file():
        yield origin, target
        return
    for folder, _, names in os.walk(origin):
        place = target / Path(folder).relative_to(origin)
        place.mkdir(parents=True, exist_ok=True)
        for name in names:
            source = Path(folder) / name
            if not source.is_symlink():
                yield source, place / name
            elif not os.path.lexists(place / name):
                os.symlink(source.readlink(), place / name)  # reported there as what it is, never followed


def _copy(source: Path, target: Path) -> None:
    """Copy one file aside and let it appear; one that is there already, byte for byte or by its times,
    stays."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not source.is_file():
        return  # a pipe, a device
    status = source.stat()
    if target.exists() and not target.is_symlink():
        there = target.stat()
        if (there.st_size, there.st_mtime_ns) == (status.st_size, status.st_mtime_ns):
            return
        if there.st_size == status.st_size and filecmp.cmp(source, target, shallow=False):
            return
    aside = target.with_name(f"{_INCOMING}{target.name}"[:200])
    shutil.copy2(source, aside)
    os.replace(aside, target)
