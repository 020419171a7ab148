"""One measuring process per device, from any number of programs: which lock belongs to which device.

The kernel frees the lock when its holder ends, however it ends. The file tells a person who holds it.
"""

from __future__ import annotations

import contextlib
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

from perf_assets.workspace.locks import LockTimeoutError, exclusive, holder_note


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
    facts = {
        "pid": os.getpid(),
        "command": " ".join(" ".join(sys.orig_argv).split()),
        "host": socket.gethostname(),
        "since_unix_s": time.time(),
    }
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(exclusive(path, timeout_s=timeout_s, note=json.dumps(facts), all_users=True))
        except LockTimeoutError:
            raise DeviceBusyError(_busy_message(device, holder(device, folder), timeout_s)) from None
        yield path


def holder(device: str, folder: Path | None = None) -> dict[str, Any] | None:
    """Tell who holds a device: ``pid``, ``command``, ``host``, ``since_unix_s``; None when it is free."""
    note = holder_note(_lock_path(device, folder))
    if note is None:
        return None
    try:
        return json.loads(note)
    except ValueError:  # taken an instant ago, or just let go
        now_s = time.time()
        return {"pid": None, "command": "unknown", "host": socket.gethostname(), "since_unix_s": now_s}


def _lock_path(device: str, folder: Path | None) -> Path:
    return (folder or lock_folder()) / (re.sub(r"[^A-Za-z0-9_.-]", "_", device) + ".lock")


def _busy_message(device: str, facts: dict[str, Any] | None, timeout_s: float) -> str:
    who = f"process {facts['pid']} ({facts['command']})" if facts else "another process"
    return f"device {device} is measured by {who}, still after {timeout_s:g} s: wait for it, or end it"
