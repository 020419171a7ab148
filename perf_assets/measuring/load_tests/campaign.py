"""A load study at a place, and its logs taken in: the one way from a study to rows, for the command line, the
asset and schedules. Studies of commands, which are recordings, go the same way. Nothing here knows Dagster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from perf_assets.intake.pipeline import IngestReport, ingest
from perf_assets.measuring.engines.engine import EngineError
from perf_assets.measuring.engines.jobs import (
    CampaignError,
    Launch,
    Place,
    engine_of,
    python_at,
    run_at_place,
    work_folder,
)
from perf_assets.measuring.load_tests.requests import LoadError
from perf_assets.measuring.load_tests.study import Study
from perf_assets.measuring.recording.telling import default_out
from perf_assets.store.database import open_readonly, query
from perf_assets.workspace.paths import DataPaths

_LEVELS = """
    SELECT r.model, l.model_instances AS instances, l.mode, l.level, round(l.throughput_per_s, 1) AS throughput_per_s,
        round(l.p50_us / 1000, 2) AS p50_ms, round(l.p99_us / 1000, 2) AS p99_ms,
        round(l.queue_us / 1000, 2) AS queue_ms, l.joules_per_request, l.repeats, l.verdict
    FROM cleaned_load_levels AS l JOIN cleaned_runs AS r USING (run_id)
    WHERE r.file_id = (
        SELECT file_id FROM cleaned_runs
        WHERE tool = 'perf_assets' AND (config->>'study_key') = ? ORDER BY started_at DESC LIMIT 1
    )
    ORDER BY instances, l.batch_size, l.mode, l.level
"""
_KNEES = "SELECT instances, objective, level, lower, upper, answer FROM load_knees WHERE study = ? LIMIT 50"
_RECORDINGS = """
    SELECT r.name, r.status, r.duration_s, p.tool, p.throughput_per_s, p.status AS outcome
    FROM cleaned_runs AS r LEFT JOIN cleaned_runs AS p ON p.config->>'recorded_in' = r.run_id
    WHERE r.workload = 'command'
    ORDER BY r.started_at DESC LIMIT 20
"""


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
    launch: Launch | None = None,
) -> LoadReport:
    """Run a study as a job of an engine and take its logs in.

    Args:
        paths: the data folder; its ``drops`` and ``work`` must be seen by the node.
        study: what is declared; files that it names must be seen by the node.
        place: executor and device.
        again: begin anew, even where a log waits to be finished.
        launch: how the job is started and who is told of it.

    Raises:
        CampaignError: the place does not exist, or the job failed; the message says what it said last.
    """
    launch = launch or Launch()
    report = LoadReport(study.name, place)
    try:
        engine = engine_of(place.executor, launch.site_file)
        request = [study.model_dump(mode="json"), place.executor, place.device]
        folder = work_folder(paths.work, request)
        (folder / "study.json").write_text(study.model_dump_json(exclude_unset=True))
        command = [
            *(python_at(engine, place), "-m", "perf_assets.measuring.load_tests"),
            *("--study", str(folder / "study.json"), "--out", str(logs_of(paths, study))),
            *(["--again"] if again else []),
        ]
        run_at_place(engine, place, command, folder, logs_of(paths, study), report.jobs, launch)
    except EngineError as error:
        raise CampaignError(str(error)) from error
    finally:
        report.ingested = ingest(paths)
    return report


def measured_levels(paths: DataPaths, study: Study) -> tuple[list[str], list[tuple]]:
    """Columns and rows of the levels in the newest log of a study, for a person to see."""
    with open_readonly(paths.database) as connection:
        return query(connection, _LEVELS, parameters=[study.key])


def found_knees(paths: DataPaths, study: Study) -> tuple[list[str], list[tuple]]:
    """Columns and rows of what the searches of a study found."""
    with open_readonly(paths.database) as connection:
        return query(connection, _KNEES, parameters=[study.name])


def recordings(paths: DataPaths) -> tuple[list[str], list[tuple]]:
    """Columns and rows of the newest recordings, with what their commands printed."""
    with open_readonly(paths.database) as connection:
        return query(connection, _RECORDINGS)
