"""Jobs on boards that only ssh reaches: no Slurm, no shared disk, nothing to install there but this package.

What answers there is :mod:`perf_assets.measuring.engines.board`. A job is followed by one connection that waits
there and passes its output on, so that nothing is started on the board while it measures. When that connection
breaks, the job goes on, and the next poll makes another one. Logs come back when the job is over: whole files under
their final names, those first that an earlier connection left behind.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import tarfile
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, NamedTuple

from perf_assets.measuring.engines.connection import Follower, Link
from perf_assets.measuring.engines.engine import (
    EXIT_CODE_FILE,
    JOB_FILE,
    OUTPUT_FILE,
    EngineError,
    EngineUnreachableError,
    Job,
    State,
    Status,
    device_of,
)
from perf_assets.measuring.engines.site import Site

RECONNECT_S = 3.0
"""Pause after a connection that broke."""
_SUBMIT_TRIES = 3
_NOTE_FILE = "ssh.json"
_OWN_FILES = (OUTPUT_FILE, EXIT_CODE_FILE, JOB_FILE, _NOTE_FILE)


class BoardState(NamedTuple):
    """A board, and whether it answers."""

    device: str
    host: str
    state: str


class SshEngine:
    """Runs jobs on the boards of a site file; there is no queue but the lock of the device there."""

    name = "ssh"
    poll_s = (0.25, 1.0)
    shares_disk = False

    def __init__(self, site: Site) -> None:
        self.site = site
        self._followers: dict[str, Follower] = {}
        self._broken: dict[str, tuple[float, str]] = {}
        self._folders: dict[str, Path] = {}

    def submit(self, job: Job) -> str:
        """Send the work folder and start the command there.

        Raises:
            EngineError: the board cannot be used as the site file says; the message says what to change.
        """
        device = device_of(job)
        link = Link(self.site, device)
        note = _begun(job)
        request = {
            "verb": "submit",
            "request": note["request"],
            "key": _key(job.work_dir),
            "name": job.name,
            "command": list(job.command),
            "environment": dict(job.environment),
            "work": str(job.work_dir),
            "out": note["out"],
        }
        files = sorted(path for path in job.work_dir.iterdir() if path.name not in _OWN_FILES)
        for left in reversed(range(_SUBMIT_TRIES)):
            try:
                answer = link.ask(request, sent=files, timeout_s=None)
                break
            except EngineUnreachableError as error:
                # Whether the job was started is not known; the same request again starts it once at most.
                if not left or not error.had_answered:
                    raise
                time.sleep(RECONNECT_S)
        _write_note(job.work_dir, note | {"id": answer["id"]})
        job_id = f"{job.device}/{answer['id']}"
        self._folders[job_id] = job.work_dir
        return job_id

    def poll(self, job_id: str, work_dir: Path) -> Status:
        """Its state by the connection that follows it; a new one is made where there is none."""
        self._folders[job_id] = work_dir
        device = job_id.partition("/")[0]
        broken_s, why = self._broken.get(job_id, (float("-inf"), ""))
        if time.monotonic() - broken_s < RECONNECT_S:
            raise EngineUnreachableError(why)
        follower = self._followers.get(job_id)
        if follower is None:
            follower = self._followers[job_id] = self._follow(device, job_id, work_dir)
        if follower.is_running():
            return Status(State.RUNNING, host=self.site.board_of(device).host)
        del self._followers[job_id]
        try:
            if follower.problem is not None:
                raise follower.problem
            status = self._bring_back(device, job_id, work_dir)
        except EngineError as error:
            self._broken[job_id] = time.monotonic(), str(error)
            raise EngineUnreachableError(str(error)) from error
        return status

    def cancel(self, job_id: str) -> None:
        """SIGTERM to its session there, SIGKILL to what is left; what it has measured comes back."""
        device, _, there = job_id.partition("/")
        Link(self.site, device).ask({"verb": "cancel", "id": there})
        if follower := self._followers.pop(job_id, None):
            follower.stop()
        if work_dir := self._folders.get(job_id):
            self._bring_back(device, job_id, work_dir)

    def find(self, prefix: str) -> list[tuple[str, str]]:
        """This user's jobs on all boards that answer, by name.

        Raises:
            EngineUnreachableError: none of them answers.
        """
        # Several tables may name one board: its processor and its GPU.
        hosts = {(board.host, board.ssh_options): name for name, board in self.site.boards.items()}
        answers = self._ask_all({"verb": "find", "prefix": prefix}, list(hosts.values()))
        problems = [answer for _, answer in answers if isinstance(answer, EngineError)]
        if problems and len(problems) == len(answers):
            raise EngineUnreachableError(str(problems[0]))
        return [
            (f"{device}/{job_id}", name)
            for device, answer in answers
            if not isinstance(answer, EngineError)
            for job_id, name in answer
        ]

    def boards(self) -> list[BoardState]:
        """Every board, and whether it answers."""
        answers = self._ask_all({"verb": "check"}, list(self.site.boards))
        return [
            BoardState(device, self.site.board_of(device).host, str(answer) if answer else "answers")
            for device, answer in answers
        ]

    def _follow(self, device: str, job_id: str, work_dir: Path) -> Follower:
        begins = _note(work_dir)["output_begins"]
        output = work_dir / OUTPUT_FILE
        have_bytes = output.stat().st_size if output.exists() else 0
        request = {
            "verb": "follow",
            "id": job_id.partition("/")[2],
            "key": _key(work_dir),
            "offset": max(0, have_bytes - begins),
        }
        return Follower(Link(self.site, device), request, output)

    def _bring_back(self, device: str, job_id: str, work_dir: Path) -> Status:
        """Fetch the logs and the exit code of a job that has ended; returns its status."""
        out = _note(work_dir)["out"]
        have = {}
        if out:
            folder = Path(out)
            folder.mkdir(parents=True, exist_ok=True)
            have = {
                path.relative_to(folder).as_posix(): path.stat().st_size
                for path in folder.rglob("*")
                if path.is_file()
            }
        request = {
            "verb": "fetch",
            "id": job_id.partition("/")[2],
            "key": _key(work_dir),
            "have": have,
        }
        with tempfile.TemporaryFile(dir=work_dir) as answered:
            told = Link(self.site, device).ask(request, into=answered, timeout_s=None)
            if out:
                _lay(answered, Path(out))
        status = Status(State(told["state"]), told["reason"], told["exit_code"], told["host"])
        if status.exit_code is not None:
            partial = work_dir / f"{EXIT_CODE_FILE}.partial"
            partial.write_text(f"{status.exit_code}\n")
            os.replace(partial, work_dir / EXIT_CODE_FILE)
        return status

    def _ask_all(self, request: dict[str, Any], devices: list[str]) -> list[tuple[str, Any]]:
        """The answer, or the EngineError, of boards, asked at the same time."""

        def ask(device: str) -> Any:
            try:
                return Link(self.site, device).ask(request)
            except EngineError as error:
                return error

        with ThreadPoolExecutor(max(1, len(devices))) as pool:
            return list(zip(devices, pool.map(ask, devices), strict=True))


def _lay(archive_file: IO[bytes], out: Path) -> None:
    """Take logs out of an archive and lay them into a folder, each under its name only when it is whole."""
    # Beside their places, so that they are moved within one file system; what begins with a dot is no drop.
    with tempfile.TemporaryDirectory(dir=out, prefix=".incoming-") as incoming:
        with tarfile.open(fileobj=archive_file, mode="r|") as archive:
            archive.extractall(incoming, filter="data")
        for path in sorted(Path(incoming).iterdir()):
            _move(path, out / path.name)


def _move(new: Path, place: Path) -> None:
    """Move a file or a folder to its place; a folder that is there already gets what is new."""
    if new.is_dir() and place.is_dir():
        for path in sorted(new.iterdir()):
            _move(path, place / path.name)
    else:
        os.replace(new, place)


def _begun(job: Job) -> dict[str, Any]:
    """The note of a submission that begins: of one whose answer never came, the same again, so that a job which
    was started then is followed and not started a second time."""
    out = str(job.out.absolute()) if job.out else ""
    with contextlib.suppress(OSError, ValueError):
        note = _note(job.work_dir)
        if note["id"] is None and note["out"] == out:
            return note
    output = job.work_dir / OUTPUT_FILE
    begins = output.stat().st_size if output.exists() else 0
    note = {"request": uuid.uuid4().hex, "id": None, "out": out, "output_begins": begins}
    _write_note(job.work_dir, note)
    return note


def _note(work_dir: Path) -> dict[str, Any]:
    """What is known of the last submission of a work folder."""
    return json.loads((work_dir / _NOTE_FILE).read_text())


def _write_note(work_dir: Path, note: dict[str, Any]) -> None:
    partial = work_dir / f"{_NOTE_FILE}.partial"
    partial.write_text(json.dumps(note))
    os.replace(partial, work_dir / _NOTE_FILE)


def _key(work_dir: Path) -> str:
    """Name of a job's folder on a board: the same for the same work folder of the same machine."""
    return hashlib.sha256(f"{socket.gethostname()}:{work_dir.absolute()}".encode()).hexdigest()[:16]
