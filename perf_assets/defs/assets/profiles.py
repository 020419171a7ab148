"""Profiles measured on devices: a sweep runs where the tags say, and its logs go through drops like any other."""

import json
import tomllib
from pathlib import Path

import dagster as dg
from pydantic import Field

from perf_assets.defs.assets import ingestion
from perf_assets.defs.device_runner import DEVICE_TAG, EXECUTOR_TAG, DeviceRunner, place_of
from perf_assets.defs.metadata import record_table
from perf_assets.defs.resources import DataFolder
from perf_assets.ingest import ingest
from perf_assets.paths import DataPaths
from perf_assets.storage.database import NoDatabaseError, open_readonly, query

POOL = "device_profiles"
_KNOWN = """
    SELECT config->>'key' AS key, config->>'outcome' AS outcome
    FROM cleaned_runs
    WHERE tool = 'perf_assets' AND (config->>'outcome') IS NOT NULL
    ORDER BY started_at
"""
_MEASURED = """
    SELECT model, batch_size, input_size, stage, algorithm, device, host, status, latency_ms, throughput_per_s,
        memory_used_mib, energy_j, array_to_string(quality, ', ') AS quality
    FROM cleaned_runs
    WHERE tool = 'perf_assets' AND (config->'spec'->>'sweep') = ?
    ORDER BY started_at DESC
    LIMIT 50
"""


class SweepConfig(dg.Config):
    """Which sweep to measure, how far, and where."""

    sweep: str = Field(default="sweeps/demo.toml", description="TOML file of the sweep.")
    stage: str = Field(
        default="sanity", description="sanity (one point), quick (10 sizes) or full (100 sizes)."
    )
    executor: str | None = Field(
        default=None, description=f"local or slurm; overrides the tag {EXECUTOR_TAG}."
    )
    device: str | None = Field(default=None, description=f"cpu, l40s, ...; overrides the tag {DEVICE_TAG}.")
    again: bool = Field(default=False, description="Measure points that were measured before as well.")


@dg.asset(
    deps=[ingestion.raw_device_logs],
    group_name="profiles",
    kinds={"torch"},
    pool=POOL,
    op_tags={EXECUTOR_TAG: "local", DEVICE_TAG: "cpu"},
)
def device_profiles(
    context: dg.AssetExecutionContext,
    config: SweepConfig,
    data_folder: DataFolder,
    device_runner: DeviceRunner,
) -> dg.MaterializeResult:
    """Runs of the profiler: what a sweep asks for and SQL does not hold yet, measured and taken in."""
    paths = data_folder.paths()
    place = place_of(context, {"executor": config.executor, "device": config.device})
    sweep = _read_sweep(config.sweep)
    # People call a device by its label; what torch calls it (cpu, cuda) stands in the sweep.
    sweep["options"] = {"device_label": place.device, **sweep.get("options", {})}
    jobs = device_runner.run_sweep(
        context,
        place=place,
        sweep=sweep,
        stage=config.stage,
        known=_known(paths),
        again=config.again,
        out=paths.drops / "perf_assets" / sweep["name"],
        work=paths.root / "work",
    )
    ingest(paths)
    with open_readonly(paths.database) as connection:
        columns, rows = query(connection, _MEASURED, parameters=[sweep["name"]])
    return dg.MaterializeResult(
        metadata={
            "sweep": sweep["name"],
            "stage": config.stage,
            "executor": place.executor,
            "device": place.device,
            "jobs": json.dumps(jobs),
            "runs": record_table(columns, rows),
        }
    )


def _read_sweep(path: str) -> dict:
    try:
        return tomllib.loads(Path(path).read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise dg.Failure(f"sweep {path}: {error}; name a TOML file like sweeps/demo.toml") from error


def _known(paths: DataPaths) -> dict[str, str]:
    """Outcome by key of every point that SQL holds."""
    try:
        with open_readonly(paths.database) as connection:
            return dict(query(connection, _KNOWN)[1])
    except NoDatabaseError:
        return {}
