"""What an engine is, and running a job on one from its submission to its end.

An engine submits, tells the state, cancels and finds. Everything else is the same for all of them and lives
in
``run_job``: output as it comes, time-outs in seconds, a new job when a node was lost, attaching to a job that
an earlier attempt left running, and leaving nothing behind when the caller is interrupted.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from perf_assets.measuring.engines.site import Site

LOOK_S = 0.25
"""How often output and exit code are looked at: files, which cost the engine nothing."""
CONTROLLER_GRACE_S = 300.0
JOB_FILE = "job.json"
WORK_LEFT_EXIT_CODE = 75
"""What a command ends with that left something undone and wants another job (EX_TEMPFAIL)."""
OUTPUT_FILE = "output.txt"
EXIT_CODE_FILE = "exit_code"


class State(StrEnum):
    """Where a job is."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"
    """The node died, or the job was preempted: not the command's fault, so it may be run again."""

    @property
    def is_final(self) -> bool:
        """Does it stay like this?"""
        return self not in (State.PENDING, State.RUNNING)


@dataclass(frozen=True)
class Status:
    """A job's state; ``reason`` in the engine's words, ``host`` where it runs or ran."""

    state: State
    reason: str = ""
    exit_code: int | None = None
    host: str | None = None


@dataclass(frozen=True)
class Job:
    """What to run.

    ``name`` is unique and says whose it is, so that orphans are found by it. ``work_dir`` is seen by this
    machine and the node; output and exit code land there. ``device`` chooses the node (``cluster.toml``).
    ``out`` is a folder that the command writes logs to. An engine whose nodes do not share this machine's disk
    copies the work folder there and back, brings what is in ``out`` there into ``out`` here, and puts its own
    paths into the command. Time-outs are in seconds; None waits for ever.
    """

    name: str
    command: Sequence[str]
    work_dir: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    device: str | None = None
    out: Path | None = None
    run_timeout_s: float | None = None
    queue_timeout_s: float | None = None


class EngineError(Exception):
    """The engine refused a job, or cannot be used: the message says why and what helps."""


class EngineUnreachableError(EngineError):
    """The engine does not answer at the moment; its jobs may well go on.

    ``had_answered`` says that it broke off, so that what was asked for may have happened.
    """

    def __init__(self, message: str, *, had_answered: bool = False) -> None:
        super().__init__(message)
        self.had_answered = had_answered


class JobFailedError(EngineError):
    """A job came to an end that is not success; ``status`` is its last."""

    def __init__(self, message: str, status: Status) -> None:
        super().__init__(message)
        self.status = status


class Engine(Protocol):
    """A place to run jobs. ``name`` is what tags say.

    ``poll_s`` is how often a job's state may be asked for, in seconds: at first, and at most, when nothing
    happens. ``shares_disk`` says that paths of this machine mean the same where jobs run.
    """

    name: str
    poll_s: tuple[float, float]
    shares_disk: bool

    @property
    def site(self) -> Site | None:
        """The site file's content, for engines that have one."""
        ...

    def submit(self, job: Job) -> str:
        """Start (or queue) a job; returns its id. Raises EngineError with the cure when it is refused."""
        ...

    def poll(self, job_id: str, work_dir: Path) -> Status:
        """The state of a job. Raises EngineUnreachableError when it cannot be told at the moment."""
        ...

    def cancel(self, job_id: str) -> None:
        """End a job, politely first. A job that has ended is no error."""
        ...

    def find(self, prefix: str) -> list[tuple[str, str]]:
        """(id, name) of all jobs that have not ended and whose name begins with ``prefix``."""
        ...


@dataclass(frozen=True)
class Watcher:
    """What the caller wants to be told while a job runs."""

    on_output: Callable[[str], None] = lambda line: None
    on_status: Callable[[str, Status], None] = lambda job_id, status: None


_SILENT = Watcher()


def run_job(engine: Engine, job: Job, watcher: Watcher = _SILENT, lost_retries: int = 2) -> Status:
    """Run a job to its end and return its last status, which is success.

    A work folder in which an earlier attempt left a job attaches to that job: one that still runs is
    followed, one that succeeded is not run again. A lost job is submitted again at most ``lost_retries``
    times. Whatever interrupts the caller cancels the job.

    Raises:
        JobFailedError: it failed, was cancelled by others, was lost too often, or ran into a time-out.
        EngineError: it was refused.
    """
    job.work_dir.mkdir(parents=True, exist_ok=True)
    for attempt in range(lost_retries + 1):
        job_id = _attach(engine, job, watcher) if attempt == 0 else None
        status = _follow(engine, job, job_id or _submit(engine, job), watcher)
        if status.state is State.SUCCEEDED:
            return status
        if status.state is not State.LOST:
            break
        watcher.on_output(
            f"lost with its node ({status.reason}), attempt {attempt + 1} of {lost_retries + 1}"
        )
    raise JobFailedError(_ending(job, status), status)


def _submit(engine: Engine, job: Job) -> str:
    for name in (JOB_FILE, EXIT_CODE_FILE):
        (job.work_dir / name).unlink(missing_ok=True)
    job_id = engine.submit(job)
    partial = job.work_dir / f"{JOB_FILE}.partial"
    partial.write_text(json.dumps({"engine": engine.name, "job_id": job_id, "name": job.name}))
    os.replace(partial, job.work_dir / JOB_FILE)
    return job_id


def _attach(engine: Engine, job: Job, watcher: Watcher) -> str | None:
    """The id of the job that an earlier attempt submitted for this folder, if following it makes sense."""
    try:
        known = json.loads((job.work_dir / JOB_FILE).read_text())
    except (OSError, ValueError):
        return None
    if known.get("engine") != engine.name:
        return None
    try:
        status = engine.poll(known["job_id"], job.work_dir)
    except EngineUnreachableError:
        return known["job_id"]  # it may well run; whoever follows it waits for the engine
    if status.state in (State.PENDING, State.RUNNING, State.SUCCEEDED):
        watcher.on_output(f"attached to {engine.name} job {known['job_id']}, which is {status.state}")
        return known["job_id"]
    return None


def _follow(engine: Engine, job: Job, job_id: str, watcher: Watcher) -> Status:
    tail = _Tail(job.work_dir / OUTPUT_FILE, watcher.on_output)
    pace = _Pace(*engine.poll_s)
    submitted_s = time.monotonic()
    started_s = unreachable_since_s = None
    status: Status | None = None
    told: Status | None = None
    try:
        while True:
            now_s = time.monotonic()
            has_ended = (job.work_dir / EXIT_CODE_FILE).exists()
            if status is None or pace.is_due(now_s, has_ended=has_ended):
                try:
                    status = engine.poll(job_id, job.work_dir)
                    unreachable_since_s = None
                except EngineUnreachableError as error:
                    # A controller that restarts does not end its jobs; a job must not be given up for it.
                    unreachable_since_s = unreachable_since_s or now_s
                    if now_s - unreachable_since_s > CONTROLLER_GRACE_S:
                        raise
                    status = told or Status(State.PENDING, str(error))
                pace.asked(now_s, is_news=status != told)
            if status != told:
                watcher.on_status(job_id, status)
                told = status
            tail.read()
            if status.state.is_final:
                tail.read(last=True)
                return status
            if status.state is State.RUNNING:
                started_s = started_s or now_s
            _check_timeouts(job, status, now_s, submitted_s, started_s)
            time.sleep(LOOK_S)
    except BaseException:
        engine.cancel(job_id)
        tail.read(last=True)
        raise


class _Pace:
    """When to ask an engine for a job's state: soon after news, then ever more rarely."""

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._first_s, self._longest_s = first_s, longest_s
        self._wait_s = first_s
        self._asked_s = 0.0
        self._saw_end = False

    def is_due(self, now_s: float, *, has_ended: bool) -> bool:
        """Is it time? An exit code that has just appeared is worth a question at once."""
        is_news = has_ended and not self._saw_end
        self._saw_end = has_ended
        if is_news:
            self._wait_s = self._first_s
        return is_news or now_s - self._asked_s >= self._wait_s

    def asked(self, now_s: float, *, is_news: bool) -> None:
        """Note a question and whether it brought news."""
        self._asked_s = now_s
        self._wait_s = self._first_s if is_news else min(self._wait_s * 1.5, self._longest_s)


def _check_timeouts(
    job: Job, status: Status, now_s: float, submitted_s: float, started_s: float | None
) -> None:
    if started_s is None:
        if job.queue_timeout_s is not None and now_s - submitted_s > job.queue_timeout_s:
            raise JobFailedError(
                f"{job.name} waited more than {job.queue_timeout_s:g} s in the queue "
                f"({status.reason or 'no reason'});"
                " is a node of this kind up? Raise the queue time-out, or choose another device",
                Status(State.CANCELLED, "queue time-out", host=status.host),
            )
    elif job.run_timeout_s is not None and now_s - started_s > job.run_timeout_s:
        raise JobFailedError(
            f"{job.name} ran more than {job.run_timeout_s:g} s and was ended; raise its run time-out",
            Status(State.CANCELLED, "run time-out", host=status.host),
        )


def _ending(job: Job, status: Status) -> str:
    code = status.exit_code
    how = f", exit code {code}" if code is not None and code < 128 else ""
    if code is not None and code > 128:
        how = f", by signal {code - 128}"
    reason = f" ({status.reason})" if status.reason else ""
    return f"{job.name} {status.state}{how}{reason}; its output is {job.work_dir / OUTPUT_FILE}"


def cancel_orphans(engine: Engine, prefix: str, is_alive: Callable[[str], bool]) -> list[str]:
    """Cancel jobs whose name begins with ``prefix`` and whose owner is gone; returns their names.

    ``is_alive`` is asked with the job's name without the prefix.
    """
    ended = []
    for job_id, name in engine.find(prefix):
        if not is_alive(name.removeprefix(prefix)):
            engine.cancel(job_id)
            ended.append(name)
    return ended


def jobs_left(work: Path, engine: str) -> list[tuple[Path, str, str]]:
    """Work folder, id and name of the jobs of an engine that nobody has followed to success, as noted under a folder
    of work folders; whether they still run is not known."""
    found = []
    for file in sorted(work.glob(f"*/{JOB_FILE}")):
        try:
            known = json.loads(file.read_text())
        except (OSError, ValueError):
            continue
        if known.get("engine") == engine:
            found.append((file.parent, known["job_id"], known["name"]))
    return found


def exit_status(work_dir: Path, host: str | None = None) -> Status | None:
    """How a job ended by the exit code that its command left in the work folder; None where it left none."""
    try:
        code = int((work_dir / EXIT_CODE_FILE).read_text())
    except (OSError, ValueError):
        return None
    return Status(State.SUCCEEDED if code == 0 else State.FAILED, exit_code=code, host=host)


def check_name(name: str) -> str:
    """A job name that every engine takes: letters, digits, ``.``, ``_`` and ``-``.

    Raises:
        ValueError: it is not.
    """
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,200}", name):
        raise ValueError(f"{name!r} is no job name: use letters, digits, '.', '_' and '-'")
    return name


def device_of(job: Job) -> str:
    """The device that a job is tagged with; its name is seen to be one that every engine takes.

    Raises:
        ValueError: the name is none.
        EngineError: it is tagged with no device.
    """
    check_name(job.name)
    if job.device is None:
        raise EngineError(f"{job.name} names no device; tag it with perf_assets/device")
    return job.device


class _Tail:
    """Hands over new whole lines of a growing file."""

    def __init__(self, path: Path, on_line: Callable[[str], None]) -> None:
        self._path = path
        self._on_line = on_line
        self._position = 0
        self._rest = b""

    def read(self, *, last: bool = False) -> None:
        """Hand over what has come since; with ``last`` also a line without an end."""
        if self._path.exists():
            with self._path.open("rb") as output:
                output.seek(self._position)
                data = output.read()
            self._position += len(data)
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                self._on_line(line.decode("utf-8", "replace").rstrip("\r"))
        if last and self._rest:
            self._on_line(self._rest.decode("utf-8", "replace"))
            self._rest = b""
