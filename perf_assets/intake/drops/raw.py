"""Immutable copies of drops, addressed by content: what the parsers read, and the truth that all else follows
from.

``raw/ab/<file_id>`` is the copy of a content, a file or for a run directory a folder of its files. Beside the
copies of a shard, ``raw/ab/seen.jsonl`` has a line for each path under which one of them was ever seen, so
that a lost ledger can be made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from perf_assets.intake.drops.scan import Drop
from perf_assets.intake.parsing.source import PLAIN
from perf_assets.workspace.filesystems import file_sha256

_CHUNK_BYTES = 1024 * 1024
_PARTIAL = "partial"
_SEEN = "seen.jsonl"
_HEX = frozenset("0123456789abcdef")
READING = ("format", "lines", "runs", "records", "rejected", "ignored", "parser_version")


@dataclass(frozen=True)
class Stored:
    """A content that lies in raw. ``begins_with`` is the file_id of its beginning, where that was asked
    for."""

    file_id: str
    begins_with: str | None = None


@dataclass(frozen=True)
class Sighting:
    """A content was seen at a path."""

    file_id: str
    path: str
    bytes: int
    modified_at: datetime
    seen_at: datetime
    reading: dict[str, str | int | None] | None = None
    """What became of it, noted when another content took its place."""


def store(drop: Drop, raw: Path, previous_bytes: int | None = None) -> Stored:
    """Copy a drop's files into ``raw``. A copy, not a hard link: the drop may still grow.

    A copy that lies there already is replaced by this one, which heals it where it was damaged.

    Args:
        drop: what to copy.
        raw: the folder of copies.
        previous_bytes: size of the content that this path had before, to tell whether it has only grown.

    Raises:
        OSError: a file cannot be read, is gone, or there is no space.
    """
    partial = raw / _PARTIAL / str(os.getpid())
    remove(partial)
    if not partial.parent.is_dir():
        partial.parent.mkdir(parents=True, exist_ok=True)
    if not drop.is_directory:
        file_id, begins_with = _copy(drop.members[PLAIN], partial, previous_bytes)
        _keep(partial, path_of(file_id, raw))
        return Stored(file_id, begins_with)
    partial.mkdir()
    digest = hashlib.sha256()
    for name, path in sorted(drop.members.items()):
        digest.update(f"{name}\0{_copy(path, partial / name)[0]}\n".encode())
    file_id = digest.hexdigest()
    _keep(partial, path_of(file_id, raw))
    return Stored(file_id)


def path_of(file_id: str, raw: Path) -> Path:
    """Where the copy of a content lies."""
    return raw / file_id[:2] / file_id


def stored_members(file_id: str, raw: Path) -> dict[str, Path]:
    """The files of a raw copy by member name.

    Raises:
        FileNotFoundError: there is no such copy.
    """
    path = path_of(file_id, raw)
    if path.is_dir():
        return {member.name: member for member in sorted(path.iterdir())}
    if not path.exists():
        raise FileNotFoundError(f"the raw copy {path} is gone; drop the file again")
    return {PLAIN: path}


def is_intact(file_id: str, raw: Path) -> bool:
    """Is the copy there, and does it hold the bytes that its name promises?"""
    try:
        members = stored_members(file_id, raw)
        if PLAIN in members:
            return file_sha256(members[PLAIN]) == file_id
        digest = hashlib.sha256()
        for name, path in sorted(members.items()):
            digest.update(f"{name}\0{file_sha256(path)}\n".encode())
        return digest.hexdigest() == file_id
    except OSError:
        return False


def note_sighting(sighting: Sighting, raw: Path) -> None:
    """Note beside the copies that a content was seen at a path."""
    record = {
        "file_id": sighting.file_id,
        "path": sighting.path,
        "bytes": sighting.bytes,
        "modified_at": sighting.modified_at.isoformat(),
        "seen_at": sighting.seen_at.isoformat(),
        **({"reading": sighting.reading} if sighting.reading is not None else {}),
    }
    folder = raw / sighting.file_id[:2]
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
    with (folder / _SEEN).open("a") as seen:
        seen.write(json.dumps(record) + "\n")


def sightings(raw: Path) -> Iterator[Sighting]:
    """Every sighting that can be read, and one for each copy that lost its own, oldest first in each
    shard."""
    for folder in sorted(path for path in raw.glob("??") if path.is_dir()):
        contents = {path.name: path for path in folder.iterdir() if _is_file_id(path.name)}
        told: set[str] = set()
        for sighting in _read_seen(folder / _SEEN):
            told.add(sighting.file_id)
            yield sighting
        for file_id in sorted(contents.keys() - told):
            files = [contents[file_id]] if contents[file_id].is_file() else list(contents[file_id].iterdir())
            changed_at = datetime.fromtimestamp(max((file.stat().st_mtime for file in files), default=0.0))
            size_bytes = sum(file.stat().st_size for file in files)
            yield Sighting(file_id, f"recovered/{file_id}", size_bytes, changed_at, changed_at)


def contents(raw: Path) -> Iterator[str]:
    """The file_id of every copy."""
    for folder in sorted(raw.glob("??")):
        if folder.is_dir():
            yield from sorted(path.name for path in folder.iterdir() if _is_file_id(path.name))


def remove(path: Path) -> None:
    """Remove a copy, file or folder; one that is gone is no error."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def remove_partial(raw: Path) -> None:
    """Remove what an interrupted copy left."""
    remove(raw / _PARTIAL)


def shard_flat_copies(raw: Path) -> None:
    """Move copies of an earlier layout, all in one folder, into their shards."""
    for path in list(raw.iterdir()) if raw.is_dir() else []:
        if _is_file_id(path.name):
            target = path_of(path.name, raw)
            target.parent.mkdir(exist_ok=True)
            path.rename(target)
        elif path.name.startswith("partial-"):
            remove(path)


def _read_seen(file: Path) -> Iterator[Sighting]:
    try:
        lines = file.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        try:
            record = json.loads(line)
            yield Sighting(
                str(record["file_id"]),
                str(record["path"]),
                int(record["bytes"]),
                datetime.fromisoformat(record["modified_at"]),
                datetime.fromisoformat(record["seen_at"]),
                {name: value for name, value in dict(record.get("reading") or {}).items() if name in READING},
            )
        except (ValueError, KeyError, TypeError):
            continue  # damaged, or cut by a crash; its content is found by its name


def _copy(source: Path, target: Path, checkpoint_bytes: int | None = None) -> tuple[str, str | None]:
    """Copy a file; returns its hash, and that of its first ``checkpoint_bytes`` where it has more."""
    digest, beginning, copied = hashlib.sha256(), None, 0
    # O_NOFOLLOW: a file may have become a symbolic link since the scan.
    with os.fdopen(os.open(source, os.O_RDONLY | os.O_NOFOLLOW), "rb") as reader, target.open("wb") as writer:
        while chunk := reader.read(_CHUNK_BYTES):
            if checkpoint_bytes is not None and copied <= checkpoint_bytes < copied + len(chunk):
                head = digest.copy()
                head.update(chunk[: checkpoint_bytes - copied])
                beginning = head.hexdigest()
            digest.update(chunk)
            writer.write(chunk)
            copied += len(chunk)
    return digest.hexdigest(), beginning


def _keep(partial: Path, target: Path) -> None:
    if not target.parent.is_dir():
        target.parent.mkdir(exist_ok=True)
    if partial.is_dir() and target.exists():
        aside = partial.with_name(f"{partial.name}-old")
        remove(aside)
        target.rename(aside)
        partial.rename(target)
        remove(aside)
    else:
        os.replace(partial, target)


def _is_file_id(name: str) -> bool:
    return len(name) == 64 and _HEX.issuperset(name)
