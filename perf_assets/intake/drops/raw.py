"""Immutable copies of drops, addressed by content: what the parsers read."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from perf_assets.intake.parsing.source import PLAIN

_CHUNK_BYTES = 1024 * 1024


def store(members: Mapping[str, Path], raw: Path) -> str:
    """Copy a drop's files into ``raw`` and return its file_id.

    A plain file becomes ``raw/<sha256>``, a run directory ``raw/<file_id>/<member>``. A copy, not a hard link:
    the drop may still grow.

    Raises:
        OSError: a file cannot be read, or is gone.
    """
    raw.mkdir(parents=True, exist_ok=True)
    if PLAIN in members:
        partial = raw / f"partial-{os.getpid()}"
        file_id = _copy(members[PLAIN], partial)
        _keep(partial, raw / file_id)
        return file_id
    partial = raw / f"partial-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    digest = hashlib.sha256()
    for name, path in sorted(members.items()):
        digest.update(f"{name}\0{_copy(path, partial / name)}\n".encode())
    file_id = digest.hexdigest()
    _keep(partial, raw / file_id)
    return file_id


def stored_members(file_id: str, raw: Path) -> dict[str, Path]:
    """The files of a raw copy by member name.

    Raises:
        FileNotFoundError: there is no such copy.
    """
    path = raw / file_id
    if path.is_dir():
        return {member.name: member for member in sorted(path.iterdir())}
    if not path.exists():
        raise FileNotFoundError(f"the raw copy {path} is gone; drop the file again")
    return {PLAIN: path}


def remove_partial(raw: Path) -> None:
    """Remove what an interrupted copy left."""
    if raw.is_dir():
        for path in raw.glob("partial-*"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> str:
    digest = hashlib.sha256()
    # O_NOFOLLOW: a file may have become a symbolic link since the scan.
    with os.fdopen(os.open(source, os.O_RDONLY | os.O_NOFOLLOW), "rb") as reader, target.open("wb") as writer:
        while chunk := reader.read(_CHUNK_BYTES):
            digest.update(chunk)
            writer.write(chunk)
    return digest.hexdigest()


def _keep(partial: Path, target: Path) -> None:
    if not target.exists():
        partial.rename(target)
    elif partial.is_dir():
        shutil.rmtree(partial)
    else:
        partial.unlink()
