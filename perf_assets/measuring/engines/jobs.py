"""A job at a place: an engine by its name, a command run there to its end, output and state passed on. What the
command measures is no matter here."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from perf_assets.measuring.engines.engine import (
    JOB_FILE,
    WORK_LEFT_EXIT_CODE,
    Engine,
    Job,
    JobFailedError,
    Status,
    Watcher,
    run_job,
)
from perf_assets.measuring.engines.local import LocalEngine
from perf_assets.measuring.engines.site import load_site
from perf_assets.measuring.engines.slurm import SlurmEngine
from perf_assets.measuring.engines.ssh import SshEngine

JOB_PREFIX = "perf-assets."
EXECUTORS = ("local", "slurm", "ssh")


class CampaignError(Exception):
    """A campaign cannot start, or a job of it failed: the message says why and what helps."""


@dataclass(frozen=True)
class Place:
    """Where to measure: an executor's name and a device's, as people call it."""

    executor: str = "local"
    device: str = "cpu"


@dataclass(frozen=True)
class Limits:
    """How long jobs may take, in seconds; None waits for ever."""

    points_per_job: int = 100
    run_timeout_s: float | None = None
    queue_timeout_s: float | None = None
    lost_retries: int = 2


@dataclass(frozen=True)
class Launch:
    """How jobs are started and who is told of them."""

    limits: Limits = field(default_factory=Limits)
    site_file: Path | None = None
    """The cluster's; None for the default one."""
    owner: str = field(default_factory=lambda: f"shell-{int(time.time() * 1000):x}")
    """Goes into the names of jobs, so that orphans are found by it."""
    on_output: Callable[[str], None] = print
    """Told each line that a job prints."""
    on_status: Callable[[str, str, Status], None] = lambda engine, job_id, status: None
    """Told (engine, job id, status) when a job's state changes."""


def engine_of(executor: str, site_file: Path | None = None) -> Engine:
    """Make the engine of this name.

    Raises:
        CampaignError: there is none of this name.
        EngineError: its site file is missing or wrong.
    """
    if executor == "local":
        return LocalEngine()
    if executor == "slurm":
        return SlurmEngine(load_site(site_file))
    if executor == "ssh":
        return SshEngine(load_site(site_file))
    raise CampaignError(f"unknown executor {executor!r}: use {', '.join(EXECUTORS[:-1])} or {EXECUTORS[-1]}")


def python_at(engine: Engine, place: Place) -> str:
    """The interpreter that runs the measuring side there."""
    found = engine.site.device(place.device).python if engine.site else None
    return found or sys.executable


def work_folder(work: Path, request: object) -> Path:
    """A folder for the files of a job: the same for the same request, which is anything that JSON can hold."""
    digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
    folder = work / digest[:16]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def run_at_place(
    engine: Engine,
    place: Place,
    command: list[str],
    folder: Path,
    out: Path,
    jobs: list[str],
    launch: Launch,
) -> bool:
    """Run a command as a job to its end, or follow the job of the folder that still runs.

    Args:
        engine: of the place.
        place: where.
        command: what to run there.
        folder: of the job's files; see :func:`work_folder`.
        out: folder in drops that the command writes its logs to.
        jobs: ids of the campaign's jobs so far; the new job's is added.
        launch: how, and who is told.

    Returns:
        True when the command left something undone, and wants another job.

    Raises:
        CampaignError: the command failed; the message says what it said last.
        EngineError: the job was refused, or lost too often.
    """
    job = Job(
        name=f"{JOB_PREFIX}{launch.owner}.{len(jobs)}",
        command=command,
        work_dir=folder,
        environment={"PERF_ASSETS_ENGINE": engine.name},
        device=place.device,
        out=out,
        run_timeout_s=launch.limits.run_timeout_s,
        queue_timeout_s=launch.limits.queue_timeout_s,
    )
    last_lines: deque[str] = deque(maxlen=5)

    def output(line: str) -> None:
        last_lines.append(line)
        launch.on_output(line)

    def changed(job_id: str, status: Status) -> None:
        if job_id not in jobs:
            jobs.append(job_id)
        launch.on_status(engine.name, job_id, status)

    is_undone = False
    try:
        run_job(engine, job, Watcher(output, changed), launch.limits.lost_retries)
    except JobFailedError as error:
        is_undone = error.status.exit_code == WORK_LEFT_EXIT_CODE
        if not is_undone:
            said = "".join(f"\n  {line}" for line in last_lines)
            raise CampaignError(f"{error}; it said last:{said or ' nothing'}") from error
    # What it measured is in its logs; nothing is left to attach to.
    (folder / JOB_FILE).unlink(missing_ok=True)
    return is_undone
