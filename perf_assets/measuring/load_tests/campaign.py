"""A load study at a place, and its logs taken in: the one way from a study to rows, for the command line, the
asset and schedules. Studies of commands, which are recordings, go the same way. Nothing here knows Dagster."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from perf_assets.intake.pipeline import IngestReport, ingest
from perf_assets.measuring.engines.engine import JOB_FILE, EngineError, Job, Status
from perf_assets.measuring.engines.slurm import SlurmEngine
from perf_assets.measuring.load_tests.requests import LoadError
from perf_assets.measuring.load_tests.study import Study
from perf_assets.measuring.recording.telling import default_out
from perf_assets.measuring.sweeps.campaign import (
    JOB_PREFIX,
    CampaignError,
    Limits,
    Place,
    engine_of,
    run_to_end,
)
from perf_assets.workspace.paths import DataPaths


@dataclass
class LoadReport:
    """What a study at a place did: its jobs, and what was taken in of its logs."""

    study: str
    place: Place
    jobs: list[str] = field(default_factory=list)
    ingested: IngestReport = field(default_factory=IngestReport)
    answers: list[str] = field(default_factory=list)


def logs_of(paths: DataPaths, study: Study) -> Path:
    """The folder in drops that the logs of a study go to."""
    return default_out(paths.drops) if study.commands else paths.drops / "perf_assets" / "load_tests"


def run_here(
    paths: DataPaths, study: Study, say: Callable[[str], None] = print, *, again: bool = False
) -> LoadReport:
    """Run a study in this process and take its logs in, those of a study that had to stop as well.

    Raises:
        LoadError, CommandError: it had to stop; the message says why and what helps.
    """
    from perf_assets.measuring.load_tests.runner import run_study

    report = LoadReport(study.name, Place())
    out = logs_of(paths, study)
    try:
        done = run_study(study, out, say, again=again)
        report.answers = done.answers
        if any(done.exit_codes):
            failed = sum(code != 0 for code in done.exit_codes)
            raise LoadError(
                f"study {study.name}: {failed} of {len(done.exit_codes)} commands failed; see their recordings in {out}"
            )
    finally:
        report.ingested = ingest(paths, only=[out] if out.exists() else None)
    return report


def run_at(
    paths: DataPaths,
    study: Study,
    place: Place,
    *,
    again: bool = False,
    site_file: Path | None = None,
    limits: Limits | None = None,
    owner: str | None = None,
    on_output: Callable[[str], None] = print,
    on_status: Callable[[str, str, Status], None] = lambda engine, job_id, status: None,
) -> LoadReport:
    """Run a study as a job of an engine and take its logs in.

    Args:
        paths: the data folder; its ``drops`` and ``work`` must be seen by the node.
        study: what is declared; files that it names must be seen by the node.
        place: executor and device.
        again: begin anew, even where a log waits to be finished.
        site_file: the cluster's; None for the default one.
        limits: of the job.
        owner: goes into the job's name, so that orphans are found by it.
        on_output: told each line that the job prints.
        on_status: told (engine, job id, status) when the job's state changes.

    Raises:
        CampaignError: the place does not exist, or the job failed; the message says what it said last.
    """
    limits = limits or Limits()
    report = LoadReport(study.name, place)
    try:
        engine = engine_of(place.executor, site_file)
        request = json.dumps([study.model_dump(mode="json"), place.executor, place.device], sort_keys=True)
        folder = paths.work / hashlib.sha256(request.encode()).hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "study.json").write_text(study.model_dump_json(exclude_unset=True))
        python = sys.executable
        if isinstance(engine, SlurmEngine):
            python = engine.site.nodes_of(place.device).python or python
        command = [python, "-m", "perf_assets.measuring.load_tests", "--study", str(folder / "study.json")]
        command += ["--out", str(logs_of(paths, study)), *(["--again"] if again else [])]
        job = Job(
            name=f"{JOB_PREFIX}{owner or f'shell-{int(time.time() * 1000):x}'}.0",
            command=command,
            work_dir=folder,
            environment={"PERF_ASSETS_ENGINE": engine.name},
            device=place.device,
            run_timeout_s=limits.run_timeout_s,
            queue_timeout_s=limits.queue_timeout_s,
        )
        run_to_end(engine, job, report.jobs, limits.lost_retries, on_output, on_status)
        (folder / JOB_FILE).unlink(missing_ok=True)
    except EngineError as error:
        raise CampaignError(str(error)) from error
    finally:
        report.ingested = ingest(paths)
    return report
