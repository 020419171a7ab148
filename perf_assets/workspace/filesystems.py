"""Files and the file systems they lie on: is one shared over a network, have writes reached the disk, what
is a file's hash?"""

from __future__ import annotations

import ctypes
import hashlib
import os
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
_NETWORK_TYPES = frozenset(
    (
        *(
            "nfs",
            "nfs4",
            "cifs",
            "smb3",
            "smbfs",
            "afs",
            "9p",
            "ceph",
            "lustre",
            "gpfs",
            "beegfs",
            "glusterfs",
        ),
        *(
            "fuse.sshfs",
            "fuse.glusterfs",
            "fuse.ceph-fuse",
            "fuse.juicefs",
            "pvfs2",
            "orangefs",
            "panfs",
            "wekafs",
        ),
    )
)


def network_type(folder: Path, mounts: Path = MOUNTS) -> str | None:
    """Tell the type of the network file system that a folder lies on; None where it is a local one.

    ``mounts`` is a mount table as Linux prints it (proc(5), mountinfo); without one everything counts as
    local.
    """
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return None
    place = str(folder.resolve())
    best, found = "", None
    for line in lines:
        fields, _, rest = line.partition(" - ")
        mount_point = fields.split(" ")[4].encode().decode("unicode_escape")
        is_above = place == mount_point or place.startswith(mount_point.rstrip("/") + "/")
        if is_above and len(mount_point) >= len(best):
            best, found = mount_point, rest.split(" ")[0]
    return found if found in _NETWORK_TYPES else None


def file_sha256(file: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal; the file is never held whole in memory."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def flush(folder: Path) -> None:
    """Wait until everything that was written to the file system of a folder has reached the disk.

    One call for any number of files (syncfs(2)); where the system has none, ``sync``.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if not hasattr(libc, "syncfs") or libc.syncfs(descriptor) != 0:
            os.sync()
    finally:
        os.close(descriptor)
