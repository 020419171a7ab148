"""Schedules: what happens every night."""

import dagster as dg

from perf_assets.defs.jobs import ingest_job

nightly_ingest = dg.ScheduleDefinition(
    name="nightly_ingest",
    job=ingest_job,
    cron_schedule="0 2 * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Takes in whatever the sensor left: drops that failed once, or were still being written.",
)
