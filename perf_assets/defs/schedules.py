"""Schedules: what happens every night."""

import dagster as dg

from perf_assets.defs.assets.load_tests import record_commands
from perf_assets.defs.jobs import (
    full_sweep,
    ingest_job,
    load_study,
    predictors_job,
    quick_sweep,
    regressions_job,
    report_job,
)

nightly_ingest = dg.ScheduleDefinition(
    name="nightly_ingest",
    job=ingest_job,
    cron_schedule="0 2 * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Takes in whatever the sensor left: drops that failed once, or were still being written.",
)

nightly_predictors = dg.ScheduleDefinition(
    name="nightly_predictors",
    job=predictors_job,
    cron_schedule="0 5 * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Fits the predictors to what the night brought, and checks the earlier predictions against "
    "it.",
)

nightly_regressions = dg.ScheduleDefinition(
    name="nightly_regressions",
    job=regressions_job,
    cron_schedule="30 5 * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Tests what the night brought against the nights before.",
)

nightly_report = dg.ScheduleDefinition(
    name="nightly_report",
    job=report_job,
    cron_schedule="0 6 * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Writes the report of what the night brought.",
)

# These measure: switch them on where the machine is quiet at night.
nightly_quick_sweep = dg.ScheduleDefinition(
    name="nightly_quick_sweep",
    job=quick_sweep,
    cron_schedule="0 3 * * *",
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Measures ten sizes of every combination of sweeps/nightly.toml that are not known yet.",
)
weekly_full_sweep = dg.ScheduleDefinition(
    name="weekly_full_sweep",
    job=full_sweep,
    cron_schedule="0 4 * * 6",
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Measures what sweeps/nightly.toml's budget allows, where the sanity point is ok.",
)
nightly_load_study = dg.ScheduleDefinition(
    name="nightly_load_study",
    job=load_study,
    cron_schedule="30 3 * * *",
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Runs the load study of studies/nightly.toml.",
)
nightly_recordings = dg.ScheduleDefinition(
    name="nightly_recordings",
    job=record_commands,
    cron_schedule="30 4 * * *",
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Records the commands of studies/record.toml.",
)
