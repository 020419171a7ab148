"""One measuring process per device, from any number of programs: a kernel file lock per device.

The kernel frees the lock when its holder ends, however it ends. The file tells a person who holds it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import socket
import sys
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any


class DeviceBusyError(RuntimeError):
    """Another process measures on this device."""


def lock_folder() -> Path:
    """Folder of the lock files: ``PERF_ASSETS_LOCKS``, or one that all users of this machine share."""
    return Path(os.environ.get("PERF_ASSETS_LOCKS") or Path(tempfile.gettempdir()) / "perf_assets_locks")


@contextlib.contextmanager
def device_lock(device: str, timeout_s: float = 0.0, folder: Path | None = None) -> Generator[Path]:
    """Hold a device for the duration of a ``with`` block.

    Args:
        device: what is locked: ``cpu``, or a GPU's UUID, so that all its names mean one lock.
        timeout_s: how long to wait for another holder.
        folder: folder of the lock files, default :func:`lock_folder`.

    Raises:
        DeviceBusyError: still held by another process after the time-out; the message says by whom.
    """
    path = _lock_path(device, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(PermissionError):  # another user's folder, who has opened it already
        path.parent.chmod(0o1777)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        with contextlib.suppress(PermissionError):
            os.fchmod(descriptor, 0o666)
        deadline_s = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline_s:
                    raise DeviceBusyError(_busy_message(device, holder(device, folder), timeout_s)) from None
                time.sleep(0.05)
        facts = {"pid": os.getpid(), "command": " ".join(" ".join(sys.orig_argv).split()), "host": socket.gethostname(),
                 "since_unix_s": time.time()}  # fmt: skip
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(facts).encode(), 0)
        yield path
        os.truncate(descriptor, 0)
    finally:
        os.close(descriptor)


def holder(device: str, folder: Path | None = None) -> dict[str, Any] | None:
    """Who holds a device: ``pid``, ``command``, ``host``, ``since_unix_s``; None when it is free."""
    path = _lock_path(device, folder)
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None  # the kernel says that it is free, whatever a killed holder left in the file
    except BlockingIOError:
        try:
            return json.loads(os.pread(descriptor, 100_000, 0))
        except ValueError:  # taken an instant ago, or just let go
            return {
                "pid": None,
                "command": "unknown",
                "host": socket.gethostname(),
                "since_unix_s": time.time(),
            }
    finally:
        os.close(descriptor)


def _lock_path(device: str, folder: Path | None) -> Path:
    return (folder or lock_folder()) / (re.sub(r"[^A-Za-z0-9_.-]", "_", device) + ".lock")


def _busy_message(device: str, facts: dict[str, Any] | None, timeout_s: float) -> str:
    who = f"process {facts['pid']} ({facts['command']})" if facts else "another process"
    return f"device {device} is measured by {who}, still after {timeout_s:g} s: wait for it, or end it"
