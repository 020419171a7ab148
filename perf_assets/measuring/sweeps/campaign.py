"""A campaign: what a sweep asks for and SQL does not hold yet, measured by an engine where a place says, and
taken in.

The one way from a sweep to rows, for the command line, the asset and schedules. The measuring itself runs on
the node: ``python -m perf_assets.measuring.sweeps``. Nothing here knows Dagster.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from perf_assets.intake.pipeline import IngestReport, ingest
from perf_assets.measuring.devices.nvml import auto_device, gpu_name
from perf_assets.measuring.engines.engine import (
    JOB_FILE,
    Engine,
    EngineError,
    Job,
    JobFailedError,
    Status,
    Watcher,
    run_job,
)
from perf_assets.measuring.engines.local import LocalEngine
from perf_assets.measuring.engines.site import load_site, torch_device_of
from perf_assets.measuring.engines.slurm import SlurmEngine
from perf_assets.measuring.profiling.spec import label_problem
from perf_assets.measuring.sweeps.boards import pack
from perf_assets.measuring.sweeps.grid import POINTS_LEFT_EXIT_CODE, SWEEP_STAGES, Sweep
from perf_assets.schema.device_catalog import catalog
from perf_assets.store.database import NoDatabaseError, open_readonly, query
from perf_assets.workspace.paths import DataPaths
from perf_assets.workspace.validation import InvalidInputError, one_of

JOB_PREFIX = "perf-assets."
FILES = ("module_folder", "weights")
"""Options that name a place on disk."""
EXECUTORS = ("local", "slurm")

_KNOWN = """
    SELECT config->>'key' AS key, config->>'outcome' AS outcome
    FROM cleaned_runs
    WHERE tool = 'perf_assets' AND (config->>'outcome') IS NOT NULL
    ORDER BY started_at
"""


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


@dataclass
class CampaignReport:
    """What a campaign did: the jobs that measured, and what was taken in of their logs."""

    sweep: str
    stage: str
    place: Place
    jobs: list[str] = field(default_factory=list)
    ingested: IngestReport = field(default_factory=IngestReport)


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
    raise CampaignError(f"unknown executor {executor!r}: use {' or '.join(EXECUTORS)}")


def run_campaign(
    paths: DataPaths,
    sweep: Sweep,
    stage: str,
    place: Place,
    *,
    again: bool = False,
    site_file: Path | None = None,
    limits: Limits | None = None,
    owner: str | None = None,
    on_output: Callable[[str], None] = print,
    on_status: Callable[[str, str, Status], None] = lambda engine, job_id, status: None,
) -> CampaignReport:
    """Measure a sweep's stage at a place and take its logs in.

    The same sweep, stage and place started again while its job still runs follows that job.

    Args:
        paths: the data folder; its ``drops`` and ``work`` must be seen by the node.
        sweep: the grid.
        stage: ``sanity``, ``quick`` or ``full``.
        place: executor and device.
        again: measure what is known as well.
        site_file: the cluster's; None for the default one.
        limits: of jobs.
        owner: goes into the names of jobs, so that orphans are found by it.
        on_output: told each line that a job prints.
        on_status: told (engine, job id, status) when a job's state changes.

    Raises:
        CampaignError: a sweep, stage, place and site that do not fit; nothing was started. Or a job failed.
    """
    limits = limits or Limits()
    try:
        one_of("stage of a sweep", stage, SWEEP_STAGES)
        if place.device == "auto":
            place = auto_place(place.executor)
            sweep = sweep.model_copy(update={"devices": sweep.devices or ("auto",)})
        engine = engine_of(place.executor, site_file)
        placed = placed_sweep(sweep, place, engine, paths)
        report = CampaignReport(sweep.name, stage, place)
        folder = _work_folder(paths, placed, stage, place)
        out = paths.drops / "perf_assets" / sweep.name
        command = _command(engine, place, folder, out, stage, limits, again=again)
        (folder / "sweep.json").write_text(placed.model_dump_json(exclude_unset=True))
        owner = owner or f"shell-{int(time.time() * 1000):x}"
        while True:
            (folder / "known.json").write_text(json.dumps(known_points(paths)))
            job = Job(
                name=f"{JOB_PREFIX}{owner}.{len(report.jobs)}",
                command=command,
                work_dir=folder,
                environment={"PERF_ASSETS_ENGINE": engine.name},
                device=place.device,
                run_timeout_s=limits.run_timeout_s,
                queue_timeout_s=limits.queue_timeout_s,
            )
            points_left = run_to_end(engine, job, report.jobs, limits.lost_retries, on_output, on_status)
            # What it measured is in its logs; nothing is left to attach to.
            (folder / JOB_FILE).unlink(missing_ok=True)
            if not points_left or again:
                break
    except (EngineError, InvalidInputError, ValueError) as error:
        raise CampaignError(str(error)) from error
    report.ingested = ingest(paths)
    return report


def placed_sweep(sweep: Sweep, place: Place, engine: Engine, paths: DataPaths) -> Sweep:
    """Fill in what a sweep leaves to its place: the torch device, the label, the folder of pruned models.

    Raises:
        InvalidInputError: the sweep names another kind of device than the place has.
    """
    if isinstance(engine, SlurmEngine):
        runs_on = engine.site.torch_device(place.device)
        source = engine.site.source
    else:
        asked = [device for device in sweep.devices if device != "auto"]
        unnamed = auto_device() if "auto" in sweep.devices else "cpu"
        runs_on = torch_device_of(place.device) or (asked[0] if asked else unnamed)
        source = "this machine"
    if problem := label_problem(runs_on, place.device):
        raise InvalidInputError(f"{source}: [devices.{place.device}] torch_device: {problem}")
    devices = (runs_on,) if sweep.devices in ((), ("auto",)) else sweep.devices
    for device in devices:
        kinds = device.partition(":")[0], runs_on.partition(":")[0]
        problem = label_problem(device, place.device)
        if problem or kinds[0] != kinds[1]:
            raise InvalidInputError(
                f"sweep {sweep.name}: devices {device!r} on {place.device!r}: {place.device} is measured on "
                f"{runs_on!r}"
                f" ({source}); leave 'devices' out of the sweep, or choose another device"
            )
    # A node may work in another folder than this one.
    files = {name: str(Path(sweep.options[name]).resolve()) for name in FILES if sweep.options.get(name)}
    update = {
        "devices": devices,
        "options": {"device_label": place.device, **sweep.options, **files},
        "pruned_models": sweep.pruned_models
        if "pruned_models" in sweep.model_fields_set
        else str(paths.pruned_models),
    }
    return Sweep.model_validate(sweep.model_dump(exclude_unset=True) | update)


def pack_campaign(paths: DataPaths, sweep: Sweep, stage: str, device: str, file: Path) -> int:
    """Pack a sweep's stage for a board that nothing reaches; returns how many points it holds.

    Raises:
        CampaignError: a sweep, stage and device that do not fit; nothing was written.
    """
    try:
        one_of("stage of a sweep", stage, SWEEP_STAGES)
        placed = placed_sweep(sweep, Place("local", device), LocalEngine(), paths)
        return pack(placed, stage, known_points(paths), file)
    except (OSError, ValueError) as error:
        raise CampaignError(str(error)) from error


def auto_place(executor: str) -> Place:
    """This machine's first GPU by its own name, or its processor where it has none.

    Raises:
        InvalidInputError: the executor is not this machine.
    """
    if executor != "local":
        raise InvalidInputError(f"device 'auto' with executor {executor!r}: name a device of cluster.toml")
    if auto_device() == "cpu":
        return Place(executor, "cpu")
    return Place(executor, catalog().name(gpu_name())[0] or "gpu")


def known_points(paths: DataPaths) -> dict[str, str]:
    """Outcome by key of every point that SQL holds."""
    try:
        with open_readonly(paths.database) as connection:
            return dict(query(connection, _KNOWN)[1])
    except NoDatabaseError:
        return {}


def _work_folder(paths: DataPaths, sweep: Sweep, stage: str, place: Place) -> Path:
    """The folder of a sweep's stage at a place: the same for the same request, whatever was measured
    meanwhile."""
    request = json.dumps([sweep.model_dump(mode="json"), stage, place.executor, place.device], sort_keys=True)
    folder = paths.work / hashlib.sha256(request.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _command(
    engine: Engine, place: Place, folder: Path, out: Path, stage: str, limits: Limits, *, again: bool
) -> list[str]:
    out.mkdir(parents=True, exist_ok=True)
    python = sys.executable
    if isinstance(engine, SlurmEngine):
        python = engine.site.nodes_of(place.device).python or python
    return [
        *(python, "-m", "perf_assets.measuring.sweeps", "--sweep", str(folder / "sweep.json")),
        *("--stage", stage, "--known", str(folder / "known.json"), "--out", str(out)),
        *("--progress", str(folder / "progress.json"), "--points", str(limits.points_per_job)),
        *(["--again"] if again else []),
    ]


def run_to_end(
    engine: Engine,
    job: Job,
    jobs: list[str],
    lost_retries: int,
    on_output: Callable[[str], None],
    on_status: Callable[[str, str, Status], None],
) -> bool:
    """Run one job; True when its point limit left something undone."""
    last_lines: deque[str] = deque(maxlen=5)

    def output(line: str) -> None:
        last_lines.append(line)
        on_output(line)

    def changed(job_id: str, status: Status) -> None:
        if job_id not in jobs:
            jobs.append(job_id)
        on_status(engine.name, job_id, status)

    try:
        run_job(engine, job, Watcher(output, changed), lost_retries)
    except JobFailedError as error:
        if error.status.exit_code == POINTS_LEFT_EXIT_CODE:
            return True
        said = "".join(f"\n  {line}" for line in last_lines)
        raise CampaignError(f"{error}; it said last:{said or ' nothing'}") from error
    return False
