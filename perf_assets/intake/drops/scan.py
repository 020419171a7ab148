"""Look through the drops folder: what lies there, without reading any content."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from perf_assets.intake.parsing import registry
from perf_assets.intake.parsing.source import PLAIN

SETTLE_VARIABLE = "PERF_ASSETS_SETTLE_S"
DEFAULT_SETTLE_S = 1.0

# Half-written files: dot files are what rsync and editors write first, .part what downloads and profilers do.
_UNFINISHED_SUFFIXES = (".part", ".tmp", ".swp")
_FILE_LIKE_SUFFIXES = (".csv", ".txt", ".log", ".json", ".jsonl", ".gz")


@dataclass(frozen=True)
class Drop:
    """A file, or a directory whose files together are one run.

    ``path`` is relative to the drops folder, with / between folders and undecodable bytes escaped.
    ``signature`` changes whenever the content may have changed.
    """

    path: str
    members: dict[str, Path]
    signature: str
    size_bytes: int
    changed_at_s: float

    @property
    def is_directory(self) -> bool:
        """Is it a run directory?"""
        return PLAIN not in self.members

    @property
    def modified_at(self) -> datetime:
        """When it last changed, naive UTC."""
        return datetime.fromtimestamp(self.changed_at_s, UTC).replace(tzinfo=None)


@dataclass(frozen=True)
class Oddity:
    """Something in the drops folder that is not taken in, and why."""

    path: str
    status: str
    error: str


def settle_s() -> float:
    """For how long a file must have stood still to be taken in, in seconds."""
    return float(os.environ.get(SETTLE_VARIABLE, DEFAULT_SETTLE_S))


def is_settled(drop: Drop, now_s: float | None = None) -> bool:
    """Has it stood still for long enough?"""
    return (time.time() if now_s is None else now_s) - drop.changed_at_s >= settle_s()


def scan(drops: Path) -> tuple[list[Drop], list[Oddity]]:
    """All drops and oddities, sorted by path. Symbolic links are never followed."""
    found: list[Drop] = []
    odd: list[Oddity] = []
    folders = [drops]
    while folders:
        for each in _scan_folder(folders.pop(), drops):
            if isinstance(each, Drop):
                found.append(each)
            elif isinstance(each, Oddity):
                odd.append(each)
            else:
                folders.append(each)
    return sorted(found, key=lambda drop: drop.path), sorted(odd, key=lambda oddity: oddity.path)


def lies_in(drop: Drop, place: str) -> bool:
    """Is the drop this file, in this folder, or a run directory with this file? ``place`` is a path under drops."""
    return f"{drop.path}/".startswith(f"{place}/") or place.startswith(f"{drop.path}/") or place == "."


def shown_path(path: Path, drops: Path) -> str:
    """A path under drops as text that any database holds."""
    return os.fsencode(path.relative_to(drops)).decode("utf-8", "backslashreplace")


def _scan_folder(folder: Path, drops: Path) -> Iterator[Drop | Oddity | Path]:
    files: dict[str, tuple[Path, os.stat_result]] = {}
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        yield Oddity(
            shown_path(folder, drops), "rejected", f"cannot be read: {error.strerror}; check its permissions"
        )
        return
    for entry in entries:
        if entry.name.startswith(".") or entry.name.endswith(_UNFINISHED_SUFFIXES):
            continue
        path = Path(entry.path)
        shown = shown_path(path, drops)
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError:
            continue  # gone since it was listed
        if stat.S_ISLNK(status.st_mode):
            yield Oddity(
                shown,
                "rejected",
                "a symbolic link, which is never followed; drop the file itself, or use 'perf-assets ingest PATH'",
            )
        elif stat.S_ISDIR(status.st_mode):
            if path.suffix in _FILE_LIKE_SUFFIXES:
                yield Oddity(
                    shown, "unsupported", "a directory named like a file; the files in it are taken in"
                )
            yield path
        elif stat.S_ISREG(status.st_mode):
            files[entry.name] = (path, status)
        else:
            yield Oddity(shown, "unsupported", "neither a file nor a directory; remove it")
    for members, keys in registry.directory_members().values():
        if any(key in files for key in keys):
            yield _drop(
                shown_path(folder, drops), {name: files.pop(name) for name in members if name in files}
            )
    for path, status in files.values():
        yield _drop(shown_path(path, drops), {PLAIN: (path, status)})


def _drop(path: str, files: dict[str, tuple[Path, os.stat_result]]) -> Drop:
    digest = hashlib.blake2b(digest_size=16)
    for name, (_, status) in sorted(files.items()):
        # ctime as well: a file can be replaced by an older one of the same size and time stamp.
        digest.update(
            f"{name}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ctime_ns}\0{status.st_ino}\0".encode()
        )
    return Drop(
        path=path,
        members={name: path for name, (path, _) in sorted(files.items())},
        signature=digest.hexdigest(),
        size_bytes=sum(status.st_size for _, status in files.values()),
        changed_at_s=max(max(status.st_mtime, status.st_ctime) for _, status in files.values()),
    )
