"""Sensors: what happens on its own when something is dropped."""

import hashlib

import dagster as dg

from perf_assets.defs.jobs import ingest_job
from perf_assets.defs.resources import DataFolder
from perf_assets.drops.scan import is_settled
from perf_assets.ingest import pending


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
    drops = [drop for drop in pending(data_folder.paths()) if is_settled(drop)]
    if not drops:
        return dg.SkipReason("nothing new under drops")
    digest = hashlib.sha256("\n".join(f"{drop.path} {drop.signature}" for drop in drops).encode())
    context.log.info("%d drops are pending, the first is %s", len(drops), drops[0].path)
    return dg.RunRequest(run_key=digest.hexdigest())
