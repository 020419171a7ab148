"""Kernel file locks: one holder at a time, free the moment its holder dies. What is locked, callers
decide."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Generator
from pathlib import Path

_RETRY_S = 0.05
_NOTE_BYTES = 100_000


class LockTimeoutError(Exception):
    """Another process still held the lock when the time was over."""


@contextlib.contextmanager
def exclusive(
    path: Path,
    on_wait: Callable[[str], None] | None = None,
    *,
    timeout_s: float | None = None,
    note: str | None = None,
    all_users: bool = False,
) -> Generator[None]:
    """Hold a lock file for the duration of a ``with`` block; wait for it while another process does.

    Args:
        path: the lock file; it is made where it is missing, and stays.
        on_wait: is told the holder's note before the wait begins.
        timeout_s: how long to wait, in seconds; None waits for ever.
        note: what the file tells of its holder, by default the process id.
        all_users: let every user of the machine take the lock.

    Raises:
        LockTimeoutError: another process held it for all of ``timeout_s``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666 if all_users else 0o644)
    try:
        if all_users:
            with contextlib.suppress(PermissionError):  # another user's file, who has opened it already
                os.fchmod(descriptor, 0o666)
        if not _try(descriptor, fcntl.LOCK_EX):
            if on_wait is not None:
                on_wait(_note(descriptor) or "unknown")
            _wait(descriptor, timeout_s)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, (note or str(os.getpid())).encode(), 0)
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def holder_note(path: Path) -> str | None:
    """The note of whoever holds a lock: "" where it was taken an instant ago, None where nobody holds it.

    The kernel decides who holds it, whatever a killed holder left in the file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        return None if _try(descriptor, fcntl.LOCK_SH) else _note(descriptor)
    finally:
        os.close(descriptor)


def _wait(descriptor: int, timeout_s: float | None) -> None:
    if timeout_s is None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return
    deadline_s = time.monotonic() + timeout_s
    while not _try(descriptor, fcntl.LOCK_EX):
        if time.monotonic() >= deadline_s:
            raise LockTimeoutError
        time.sleep(_RETRY_S)


def _try(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _note(descriptor: int) -> str:
    return os.pread(descriptor, _NOTE_BYTES, 0).decode(errors="replace").strip()
