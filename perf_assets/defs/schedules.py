"""Schedules: what happens every night."""

import dagster as dg

from perf_assets.defs.assets.load_tests import record_commands
from perf_assets.defs.jobs import (
    causal_job,
    full_sweep,
    ingest_job,
    load_study,
    predictors_job,
    quick_sweep,
    regressions_job,
    report_job,
)


def _schedule(name: str, job, cron: str, description: str, *, runs: bool = True) -> dg.ScheduleDefinition:
    status = dg.DefaultScheduleStatus.RUNNING if runs else dg.DefaultScheduleStatus.STOPPED
    return dg.ScheduleDefinition(
        name=name, job=job, cron_schedule=cron, default_status=status, description=description
    )


schedules = [
    _schedule(
        "nightly_ingest",
        ingest_job,
        "0 2 * * *",
        "Takes in whatever the sensor left: drops that failed once, or were still being written.",
    ),
    _schedule(
        "nightly_predictors",
        predictors_job,
        "0 5 * * *",
        "Fits the predictors to what the night brought, and checks the earlier predictions against it.",
    ),
    _schedule(
        "nightly_causal_graphs",
        causal_job,
        "15 5 * * *",
        "Searches what drives time, memory and outcomes in what the nights brought.",
    ),
    _schedule(
        "nightly_regressions",
        regressions_job,
        "30 5 * * *",
        "Tests what the night brought against the nights before.",
    ),
    _schedule("nightly_report", report_job, "0 6 * * *", "Writes the report of what the night brought."),
    # These measure: switch them on where the machine is quiet at night.
    _schedule(
        "nightly_quick_sweep",
        quick_sweep,
        "0 3 * * *",
        "Measures ten sizes of every combination of sweeps/nightly.toml that are not known yet.",
        runs=False,
    ),
    _schedule(
        "weekly_full_sweep",
        full_sweep,
        "0 4 * * 6",
        "Measures what sweeps/nightly.toml's budget allows, where the sanity point is ok.",
        runs=False,
    ),
    _schedule(
        "nightly_load_study",
        load_study,
        "30 3 * * *",
        "Runs the load study of studies/nightly.toml.",
        runs=False,
    ),
    _schedule(
        "nightly_recordings",
        record_commands,
        "30 4 * * *",
        "Records the commands of studies/record.toml.",
        runs=False,
    ),
]
