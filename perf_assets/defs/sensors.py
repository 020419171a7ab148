"""Sensors: what happens on its own when something is dropped."""

import hashlib

import dagster as dg

from perf_assets.defs.device_runner import DeviceRunner, end_orphans
from perf_assets.defs.jobs import ingest_job
from perf_assets.defs.resources import DataFolder
from perf_assets.intake.pipeline import pending
from perf_assets.measuring.engines.engine import EngineError
from perf_assets.measuring.engines.jobs import EXECUTORS


@dg.sensor(
    job=ingest_job,
    minimum_interval_seconds=15,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Starts an ingest when drops are new or have changed, and have stood still.",
)
def drop_sensor(context: dg.SensorEvaluationContext, data_folder: DataFolder):
    """One run a tick for all pending drops.

    The run key is made of what is pending: a set that failed once is not tried again every tick, any further
    change is; the nightly schedule takes in what is left.
    """
    drops = pending(data_folder.paths())
    if not drops:
        return dg.SkipReason("nothing new under drops")
    digest = hashlib.sha256("\n".join(f"{drop.path} {drop.signature}" for drop in drops).encode())
    context.log.info("%d drops are pending, the first is %s", len(drops), drops[0].path)
    return dg.RunRequest(run_key=digest.hexdigest())


@dg.sensor(
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Ends profiling jobs whose run is over (its worker was killed, say), on this machine, on Slurm "
    "and on boards.",
)
def orphan_sensor(context: dg.SensorEvaluationContext, device_runner: DeviceRunner, data_folder: DataFolder):
    """Find this instance's jobs by name and cancel those of finished runs. Their logs are drops like any
    other."""
    ended: list[str] = []
    work = data_folder.paths().work
    for executor in EXECUTORS:
        try:
            ended += end_orphans(device_runner.engine(executor), context.instance, work)
        except EngineError as error:
            context.log.debug("no orphans to look for on %s: %s", executor, error)
    return dg.SkipReason(f"ended {', '.join(ended)}" if ended else "no orphans")


plot_sensor = dg.AutomationConditionSensorDefinition(
    "plot_sensor",
    target=dg.AssetSelection.groups("plots"),
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Draws the plots whose tables were made again.",
)
