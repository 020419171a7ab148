"""Keeps one server, and sees to it that nothing of it is left over, however its starter ends.

    python -m perf_assets.measuring.load_tests.serving.keeper --grace 15 -- COMMAND ...

It runs the command in a session of its own and ends it, with all that came from it, when its own standard input
is closed (the starter ended it, or was killed) or it is told to end. The exit code is the command's.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time

from perf_assets.measuring.devices.processes import children_of, descendants, die_with_parent, process_state

_LOOK_S = 0.05
_PR_SET_CHILD_SUBREAPER = 36


def main(arguments: list[str] | None = None) -> int:
    """Run the keeper; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m perf_assets.measuring.load_tests.serving.keeper")
    parser.add_argument("--grace", type=float, default=15.0, help="seconds between asking and killing")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(arguments)
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    told = {"end": False}
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: told.update(end=True))
    try:
        server = subprocess.Popen(
            options.command,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            # Should this keeper be killed, too.
            preexec_fn=die_with_parent,  # noqa: PLW1509
        )
    except OSError as error:
        print(f"{options.command[0]}: {error.strerror}", file=sys.stderr)
        return 127
    while server.poll() is None and not told["end"]:
        readable, _, _ = select.select([0], [], [], _LOOK_S)
        if readable and not os.read(0, 1024):
            break
    _end_all(server, options.grace)
    code = server.wait()
    return code if code >= 0 else 128 - code


def _end_all(server: subprocess.Popen, grace_s: float) -> None:
    """Ask the server's session to end, and kill what is left of it and of all that it started."""
    deadline_s = time.monotonic() + grace_s
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGTERM)
    while time.monotonic() < deadline_s and (server.poll() is None or _alive()):
        _reap(server)
        time.sleep(_LOOK_S)
    while alive := _alive():
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        server.poll()
        _reap(server)
        time.sleep(_LOOK_S)


def _alive() -> list[int]:
    return [pid for pid in descendants(children_of(os.getpid())) if process_state(pid) not in ("Z", None)]


def _reap(server: subprocess.Popen) -> None:
    """Wait for what was handed to us."""
    for pid in children_of(os.getpid()):
        if pid != server.pid:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


if __name__ == "__main__":
    sys.exit(main())
