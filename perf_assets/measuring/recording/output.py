"""A recorded command's output: a file that the command writes itself, shown while it grows."""

from __future__ import annotations

import os
from pathlib import Path

_CHUNK_BYTES = 256 * 1024


class OutputStream:
    """A file that the command writes to, shown while it grows."""

    def __init__(self, path: Path, target: int | None) -> None:
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        self._position = 0
        self._target = target

    def pass_on(self, *, last: bool = False) -> None:
        """Hand on what has come; with ``last`` all of it."""
        while self._target is not None:
            data = os.pread(self.descriptor, _CHUNK_BYTES, self._position)
            self._position += len(data)
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(self._target, view) :]
            except OSError:  # nobody reads any more; the file has it all
                self._target = None
            if len(data) < _CHUNK_BYTES and not (last and data):
                return

    def close(self) -> None:
        """Close the file."""
        os.close(self.descriptor)
