"""The far side of the executor ``ssh``: ``python -m perf_assets.measuring.engines.board`` on a board.

One call answers one request. On its input comes a line of JSON, and behind it a tar archive where files are sent;
on its output goes a line with the version, so that what a login shell printed before can be told from the answer,
then a line of JSON (of ``follow`` the job's output instead), and behind it a tar archive where files are fetched.
Jobs are those of the engine ``local`` of the board, so they outlive the connection that started them.

A job's files lie in a folder by its key: ``work``, which is sent anew with each job, and ``out``, which stays, so
that logs that a broken connection left behind are fetched with the next job's.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from perf_assets.measuring.devices.host import versions
from perf_assets.measuring.engines.engine import OUTPUT_FILE, EngineError, Job, State, Status, exit_status
from perf_assets.measuring.engines.local import LocalEngine

MARK = "perf-assets-board"
WORK_FOLDER, OUT_FOLDER = "work", "out"
_STARTED_FILE = "started.json"
_LOOK_S = 0.5
"""How often the output is looked at: one stat, so that what is measured meanwhile is not disturbed."""
_PIECE_BYTES = 1 << 16


def version() -> str:
    """The version of this package, or ``unknown`` where it runs without having been installed."""
    return versions("perf-assets")["perf_assets"] or "unknown"


def main() -> int:
    """Answer the request on the standard input; returns the exit code."""
    verbs: dict[str, Callable[[dict[str, Any]], None]] = {
        "submit": _submit,
        "follow": _follow,
        "fetch": _fetch,
        "cancel": lambda asked: _say(_cancel(asked["id"])),
        "find": lambda asked: _say(
            [[_full_id(of), name] for of, name in LocalEngine().find(asked["prefix"])]
        ),
        "check": lambda asked: _say({}),
    }
    request = json.loads(sys.stdin.buffer.readline())
    sys.stdout.buffer.write(f"{MARK} {version()}\n".encode())
    sys.stdout.buffer.flush()
    try:
        verbs[request["verb"]](request)
    except (OSError, EngineError, tarfile.TarError) as error:
        _say({"error": str(error)})
    return 0


def _submit(asked: dict[str, Any]) -> None:
    """Take the work folder in, start the job, and say its id. The same request again starts nothing."""
    folder = _folder(asked)
    work, out, started = folder / WORK_FOLDER, folder / OUT_FOLDER, folder / _STARTED_FILE
    if started.exists() and (known := json.loads(started.read_text()))["request"] == asked["request"]:
        _say({"id": known["id"]})
        return
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    out.mkdir(exist_ok=True)
    with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as archive:
        archive.extractall(work, filter="data")
    here = {asked["work"]: str(work), asked["out"]: str(out)}
    command = [_translated(argument, here) for argument in asked["command"]]
    job_id = LocalEngine().submit(Job(asked["name"], command, work, asked["environment"]))
    partial = started.with_suffix(".partial")
    partial.write_text(json.dumps({"request": asked["request"], "id": _full_id(job_id)}))
    os.replace(partial, started)
    _say({"id": _full_id(job_id)})


def _translated(argument: str, here: dict[str, str]) -> str:
    """An argument of a command with the board's own paths in it."""
    for theirs, ours in here.items():
        if theirs and (argument == theirs or argument.startswith(f"{theirs}/")):
            return ours + argument[len(theirs) :]
    return os.path.expanduser(argument) if argument.startswith("~/") else argument


def _follow(asked: dict[str, Any]) -> None:
    """Pass on the job's output from an offset in bytes as it comes, until the job or the connection ends."""
    path = _folder(asked) / WORK_FOLDER / OUTPUT_FILE
    offset = asked["offset"]
    while True:
        is_over = _status(asked).state.is_final
        with path.open("rb") as output:
            output.seek(offset)
            while piece := output.read(_PIECE_BYTES):
                sys.stdout.buffer.write(piece)
                offset += len(piece)
        sys.stdout.buffer.flush()
        # Nobody writes to this input any more: it becomes readable when the other side has gone.
        if is_over or select.select([sys.stdin], [], [], _LOOK_S)[0]:
            return


def _fetch(asked: dict[str, Any]) -> None:
    """Say how the job is, and send the logs that the other side lacks or has in another size."""
    status = _status(asked)
    _say(
        {
            "state": status.state,
            "reason": status.reason,
            "exit_code": status.exit_code,
            "host": status.host,
        }
    )
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as archive:
        for name, path in _logs(_folder(asked) / OUT_FOLDER):
            if asked["have"].get(name) != path.stat().st_size:
                archive.add(path, name, recursive=False)
    sys.stdout.buffer.flush()


def _logs(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield path.relative_to(folder).as_posix(), path


def _cancel(job_id: str) -> dict[str, Any]:
    boot, _, own_id = job_id.partition("-")
    if boot == _boot():
        LocalEngine().cancel(own_id)
    return {}


def _status(asked: dict[str, Any]) -> Status:
    """How a job of this board is; one that a restart of the board ended is lost, and no fault of its command."""
    boot, _, own_id = asked["id"].partition("-")
    work = _folder(asked) / WORK_FOLDER
    if boot != _boot():
        host = os.uname().nodename
        return exit_status(work, host) or Status(State.LOST, "the board was started anew", host=host)
    return LocalEngine().poll(own_id, work)


def _full_id(local_id: str) -> str:
    """A job's id, the same on no other start of the board: process numbers are given out again."""
    return f"{_boot()}-{local_id}"


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text()[:8]


def _folder(asked: dict[str, Any]) -> Path:
    return Path(asked["folder"]).expanduser() / asked["key"]


def _say(answer: object) -> None:
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
