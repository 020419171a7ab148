"""Look through the drops folder: what lies there and has changed, without reading any content."""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from perf_assets.intake.parsing import registry
from perf_assets.intake.parsing.source import PLAIN
from perf_assets.workspace.settings import max_file_bytes, settle_s

# Half-written files: dot files are what rsync and editors write first, .part what downloads and profilers do.
_UNFINISHED_SUFFIXES = (".part", ".tmp", ".swp")
_FILE_LIKE_SUFFIXES = (".csv", ".txt", ".log", ".json", ".jsonl", ".gz")
# A file of more than so many bytes of which less than an eighth is stored has holes: no tool writes logs so.
_SPARSE_BYTES = 64 * 1024 * 1024
_BLOCK_BYTES = 512


@dataclass(frozen=True)
class Drop:
    """A file, or a directory whose files together are one run.

    ``path`` is relative to the drops folder, with / between folders and undecodable bytes escaped.
    ``signature`` changes whenever the content may have changed.
    """

    path: str
    members: dict[str, Path]
    signature: int
    size_bytes: int
    changed_at_s: float

    @property
    def is_directory(self) -> bool:
        """Is it a run directory?"""
        return PLAIN not in self.members

    @property
    def modified_at(self) -> datetime:
        """When it last changed, naive UTC."""
        return datetime.fromtimestamp(min(self.changed_at_s, 253402300799), UTC).replace(tzinfo=None)


@dataclass(frozen=True)
class Oddity:
    """Something in the drops folder that is not taken in, and why."""

    path: str
    status: str
    error: str


@dataclass
class Scan:
    """What lies under drops: what changed, what is odd, and the known paths that are gone."""

    changed: list[Drop] = field(default_factory=list)
    oddities: list[Oddity] = field(default_factory=list)
    absent: set[str] = field(default_factory=set)


def is_settled(drop: Drop, now_s: float | None = None) -> bool:
    """Has it stood still for long enough? A time in the future tells nothing: see :func:`is_in_future`."""
    return (time.time() if now_s is None else now_s) - drop.changed_at_s >= settle_s()


def is_in_future(drop: Drop, now_s: float | None = None) -> bool:
    """Is its time stamp later than now? Then only a second look tells whether it stands still."""
    return drop.changed_at_s > (time.time() if now_s is None else now_s)


def scan(drops: Path, known: dict[str, int] | None = None) -> Scan:
    """Look at everything under drops. Symbolic links are never followed.

    Args:
        drops: the folder.
        known: signature by path of what was taken in before; what is unchanged is not listed again.

    Returns:
        Changed drops and oddities by path, and the known paths that no longer exist.
    """
    found = Scan(absent=set())
    left = dict(known or {})
    limit_bytes = max_file_bytes()
    folders: list[tuple[Path, str]] = [(drops, "")]
    while folders:
        folder, shown = folders.pop()
        for each in _scan_folder(folder, shown, left, limit_bytes):
            if isinstance(each, Drop):
                found.changed.append(each)
            elif isinstance(each, Oddity):
                found.oddities.append(each)
            else:
                folders.append(each)
    found.changed.sort(key=lambda drop: drop.path)
    found.oddities.sort(key=lambda oddity: oddity.path)
    found.absent = set(left)
    return found


def lies_in(drop: Drop, place: str) -> bool:
    """Is the drop this file, in this folder, or a run directory with this file? ``place`` is a path under
    drops."""
    return f"{drop.path}/".startswith(f"{place}/") or place.startswith(f"{drop.path}/") or place == "."


def shown_path(path: Path, drops: Path) -> str:
    """A path under drops as text that any database holds; no two paths have the same."""
    return "/".join(shown_name(part) for part in path.relative_to(drops).parts) or "."


def shown_name(name: str) -> str:
    """A file name as text: bytes that are no UTF-8 become ``\\xff``, and a backslash that would read so
    ``\\x5c``."""
    if name.isascii() and "\\" not in name:
        return name
    escaped = re.sub(r"\\(?=x[0-9a-f]{2})", r"\\x5c", name)
    return os.fsencode(escaped).decode("utf-8", "backslashreplace")


def _scan_folder(
    folder: Path, shown: str, left: dict[str, int], limit_bytes: int
) -> Iterator[Drop | Oddity | tuple[Path, str]]:
    prefix = f"{shown}/" if shown else ""
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        yield Oddity(shown or ".", "rejected", f"cannot be read: {error.strerror}; check its permissions")
        return
    files: dict[str, os.stat_result] = {}
    unseen = 0
    for entry in entries:
        name = entry.name
        if name[0] == "." or name.endswith(_UNFINISHED_SUFFIXES):
            continue
        try:
            status = entry.stat(follow_symlinks=False)
        except PermissionError:
            unseen += 1
            continue
        except OSError:
            continue  # gone since it was listed
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFREG:
            files[name] = status
            continue
        path = prefix + shown_name(name)
        if kind == stat.S_IFLNK:
            yield Oddity(
                path,
                "rejected",
                "a symbolic link, which is never followed; drop the file itself, or use 'perf-assets ingest "
                "PATH'",
            )
        elif kind == stat.S_IFDIR:
            if Path(name).suffix in _FILE_LIKE_SUFFIXES:
                yield Oddity(
                    path, "unsupported", "a directory named like a file; the files in it are taken in"
                )
            yield Path(entry.path), path
        else:
            yield Oddity(path, "unsupported", "neither a file nor a directory; remove it")
    if unseen:
        yield Oddity(
            shown or ".",
            "rejected",
            f"{unseen} files in it cannot be looked at; give this folder the permission x",
        )
    for members, keys in registry.directory_members().values():
        if not keys.isdisjoint(files):
            run = {name: files.pop(name) for name in sorted(members) if name in files}
            signature = hash(tuple(_signature(status) for status in run.values())) or 1
            if left.pop(shown or ".", None) != signature:
                yield _drop(
                    shown or ".", signature, {name: folder / name for name in run}, list(run.values())
                )
    doubtful_bytes = min(limit_bytes, _SPARSE_BYTES)
    for name, status in files.items():
        path = prefix + (name if name.isascii() and "\\" not in name else shown_name(name))
        if status.st_size > doubtful_bytes and (refusal := _refusal(status, limit_bytes)):
            left.pop(path, None)
            yield Oddity(path, "rejected", refusal)
            continue
        signature = _signature(status)
        if left.pop(path, None) != signature:
            yield _drop(path, signature, {PLAIN: folder / name}, [status])


def _signature(status: os.stat_result) -> int:
    # ctime as well: a file can be replaced by an older one of the same size and time stamp. Hashes of whole
    # numbers are the same in every process; 0 stands for what is no drop.
    return hash((status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)) or 1


def _refusal(status: os.stat_result, limit_bytes: int) -> str | None:
    """Why a file is not even copied; None where it may be."""
    if status.st_size > limit_bytes:
        return (
            f"larger than {limit_bytes / 2**30:.3g} GiB, the limit of PERF_ASSETS_MAX_FILE; split it, "
            "compress it with gzip,"
            " or raise the limit"
        )
    if status.st_size > _SPARSE_BYTES and status.st_blocks * _BLOCK_BYTES * 8 < status.st_size:
        return "a sparse file: most of it is holes, which no log has; remove it from drops"
    return None


def _drop(path: str, signature: int, members: dict[str, Path], statuses: list[os.stat_result]) -> Drop:
    return Drop(
        path=path,
        members=members,
        signature=signature,
        size_bytes=sum(status.st_size for status in statuses),
        changed_at_s=max(max(status.st_mtime, status.st_ctime) for status in statuses),
    )
