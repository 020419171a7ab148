"""Load studies and recordings: what a study file declares, measured where the tags say, and taken in."""

import json

import dagster as dg
from pydantic import Field

from perf_assets.defs.assets import ingestion
from perf_assets.defs.device_runner import DEVICE_TAG, EXECUTOR_TAG, DeviceRunner
from perf_assets.defs.metadata import record_table
from perf_assets.defs.resources import DataFolder
from perf_assets.measuring.load_tests.campaign import found_knees, measured_levels, recordings
from perf_assets.measuring.load_tests.study import Study, read_study
from perf_assets.workspace.paths import launchable_study

POOL = "load_studies"
_TAGS = {EXECUTOR_TAG: "local", DEVICE_TAG: "cpu"}


class StudyConfig(dg.Config):
    """Which study to run, and where."""

    study: str = Field(default="studies/demo_load.toml", description="TOML file of the study.")
    executor: str | None = Field(
        default=None, description=f"local, slurm or ssh; overrides the tag {EXECUTOR_TAG}."
    )
    device: str | None = Field(default=None, description=f"cpu, l40s, ...; overrides the tag {DEVICE_TAG}.")
    again: bool = Field(default=False, description="Begin anew, even where a log waits to be finished.")


class RecordingConfig(StudyConfig):
    """Which commands to record, and where."""

    study: str = Field(default="studies/record.toml", description="TOML file with the commands.")


@dg.asset(
    deps=[ingestion.raw_device_logs],
    group_name="load_tests",
    kinds={"duckdb"},
    pool=POOL,
    op_tags=_TAGS,
)
def load_studies(
    context: dg.AssetExecutionContext,
    config: StudyConfig,
    data_folder: DataFolder,
    device_runner: DeviceRunner,
) -> dg.MaterializeResult:
    """Load levels of a server: what a study asks for, measured, searched and taken in."""
    study = _declared(config, of_commands=False)
    paths = data_folder.paths()
    report = device_runner.run_study(context, paths, study, config)
    return dg.MaterializeResult(
        metadata={
            "study": study.name,
            "executor": report.place.executor,
            "device": report.place.device,
            "jobs": json.dumps(report.jobs),
            "levels": record_table(*measured_levels(paths, study)),
            "knees": record_table(*found_knees(paths, study)),
        }
    )


@dg.op(pool=POOL, tags=_TAGS, description="Record the commands of a study file where the tags say.")
def record_command(
    context: dg.OpExecutionContext,
    config: RecordingConfig,
    data_folder: DataFolder,
    device_runner: DeviceRunner,
) -> None:
    """Record commands with their telemetry, and take the recordings in."""
    study = _declared(config, of_commands=True)
    report = device_runner.run_study(context, data_folder.paths(), study, config)
    shown = record_table(*recordings(data_folder.paths()))
    context.add_output_metadata({"jobs": json.dumps(report.jobs), "recordings": shown})


@dg.job(description="Record the commands of studies/record.toml with their telemetry.")
def record_commands() -> None:
    """One op: the recording."""
    record_command()


def _declared(config: StudyConfig, *, of_commands: bool) -> Study:
    """The study of a launch.

    Raises:
        dagster.Failure: it cannot be read, or is of the other kind.
    """
    try:
        study = read_study(launchable_study(config.study))
    except ValueError as error:
        raise dg.Failure(str(error)) from error
    if (study.commands is not None) != of_commands:
        other = "the asset load_studies" if of_commands else "the job record_commands"
        raise dg.Failure(
            f"study {study.name} is for {other}: it has {'no' if of_commands else ''} [commands]"
        )
    return study
