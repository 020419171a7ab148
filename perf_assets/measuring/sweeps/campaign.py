"""A campaign: what a sweep asks for and SQL does not hold yet, measured by an engine where a place says, and
taken in.

The one way from a sweep to rows, for the command line, the asset and schedules. The measuring itself runs on
the node: ``python -m perf_assets.measuring.sweeps``. Nothing here knows Dagster.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from perf_assets.intake.pipeline import IngestReport, ingest
from perf_assets.measuring.devices.nvml import auto_device, gpu_name
from perf_assets.measuring.engines.engine import Engine, EngineError
from perf_assets.measuring.engines.jobs import (
    CampaignError,
    Launch,
    Place,
    engine_of,
    python_at,
    run_at_place,
    work_folder,
)
from perf_assets.measuring.engines.local import LocalEngine
from perf_assets.measuring.engines.site import torch_device_of
from perf_assets.measuring.profiling.spec import label_problem
from perf_assets.measuring.sweeps.boards import pack
from perf_assets.measuring.sweeps.grid import SWEEP_STAGES, Sweep
from perf_assets.schema.device_catalog import catalog
from perf_assets.store.database import NoDatabaseError, open_readonly, query
from perf_assets.workspace.paths import DataPaths
from perf_assets.workspace.validation import InvalidInputError, one_of

FILES = ("module_folder", "weights", "image_folder")
"""Options that name a place on disk."""

_KNOWN = """
    SELECT config->>'key' AS key, config->>'outcome' AS outcome
    FROM cleaned_runs
    WHERE tool = 'perf_assets' AND (config->>'outcome') IS NOT NULL
    ORDER BY started_at
"""
_MEASURED = """
    SELECT model, batch_size, input_size, stage, algorithm, coalesce(device, device_kind) AS device, host, status,
        latency_ms, throughput_per_s, memory_used_mib, energy_j, array_to_string(quality, ', ') AS quality
    FROM cleaned_runs
    WHERE tool = 'perf_assets' AND (config->'spec'->>'sweep') = ?
    ORDER BY started_at DESC
    LIMIT 50
"""


@dataclass
class CampaignReport:
    """What a campaign did: the jobs that measured, and what was taken in of their logs."""

    sweep: str
    stage: str
    place: Place
    jobs: list[str] = field(default_factory=list)
    ingested: IngestReport = field(default_factory=IngestReport)


def run_campaign(
    paths: DataPaths,
    sweep: Sweep,
    stage: str,
    place: Place,
    *,
    again: bool = False,
    launch: Launch | None = None,
) -> CampaignReport:
    """Measure a sweep's stage at a place and take its logs in.

    The same sweep, stage and place started again while its job still runs follows that job.

    Args:
        paths: the data folder; its ``drops`` and ``work`` must be seen by the node.
        sweep: the grid.
        stage: ``sanity``, ``quick`` or ``full``.
        place: executor and device.
        again: measure what is known as well.
        launch: how jobs are started and who is told of them.

    Raises:
        CampaignError: a sweep, stage, place and site that do not fit; nothing was started. Or a job failed.
    """
    launch = launch or Launch()
    try:
        one_of("stage of a sweep", stage, SWEEP_STAGES)
        if place.device == "auto":
            place = auto_place(place.executor)
            sweep = sweep.model_copy(update={"devices": sweep.devices or ("auto",)})
        engine = engine_of(place.executor, launch.site_file)
        placed = placed_sweep(sweep, place, engine, paths)
        report = CampaignReport(sweep.name, stage, place)
        request = [placed.model_dump(mode="json"), stage, place.executor, place.device]
        folder = work_folder(paths.work, request)
        out = paths.drops / "perf_assets" / sweep.name
        out.mkdir(parents=True, exist_ok=True)
        command = [python_at(engine, place), "-m", "perf_assets.measuring.sweeps", "--out", str(out)]
        if engine.shares_disk:
            (folder / "sweep.json").write_text(placed.model_dump_json(exclude_unset=True))
            command += ["--sweep", str(folder / "sweep.json"), "--stage", stage]
            command += ["--known", str(folder / "known.json"), "--progress", str(folder / "progress.json")]
        else:
            command += ["--run", str(folder / "sweep.zip")]
        command += ["--points", str(launch.limits.points_per_job), *(["--again"] if again else [])]
        while True:
            known = known_points(paths)
            if engine.shares_disk:
                (folder / "known.json").write_text(json.dumps(known))
            else:
                pack(placed, stage, known, folder / "sweep.zip")
            points_left = run_at_place(engine, place, command, folder, out, report.jobs, launch)
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
    if engine.site:
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
    files = {
        name: str(path.resolve())
        for name in FILES
        # Of a board, the folder of images is a path there.
        if sweep.options.get(name) and (path := Path(sweep.options[name])).exists()
    }
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


def measured_runs(paths: DataPaths, sweep_name: str) -> tuple[list[str], list[tuple]]:
    """Columns and rows of the newest runs of a sweep, for a person to see."""
    with open_readonly(paths.database) as connection:
        return query(connection, _MEASURED, parameters=[sweep_name])


def known_points(paths: DataPaths) -> dict[str, str]:
    """Outcome by key of every point that SQL holds."""
    try:
        with open_readonly(paths.database) as connection:
            return dict(query(connection, _KNOWN)[1])
    except NoDatabaseError:
        return {}
