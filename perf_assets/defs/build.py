"""Wiring: every definition, listed once."""

from __future__ import annotations

import dagster as dg

from perf_assets.defs.assets import (
    causal,
    comparisons,
    ingestion,
    load_tests,
    plots,
    predictors,
    profiles,
    reports,
)
from perf_assets.defs.checks import table_checks
from perf_assets.defs.device_runner import DeviceRunner
from perf_assets.defs.jobs import (
    causal_job,
    full_sweep,
    ingest_job,
    load_study,
    predictors_job,
    quick_sweep,
    regressions_job,
    report_job,
    sanity_sweep,
)
from perf_assets.defs.resources import DataFolder
from perf_assets.defs.schedules import schedules
from perf_assets.defs.sensors import drop_sensor, orphan_sensor, plot_sensor


def build_defs(resources: dict[str, object] | None = None) -> dg.Definitions:
    """All definitions; ``resources`` replaces resources by name, for tests and other sites."""
    return dg.Definitions(
        assets=[
            ingestion.raw_device_logs,
            ingestion.tables,
            *profiles.profile_assets,
            load_tests.load_studies,
            *predictors.predictor_assets,
            predictors.predictor_scores,
            predictors.predictions,
            causal.causal_graph,
            comparisons.regressions,
            *plots.plot_assets,
            reports.report,
        ],
        asset_checks=[*table_checks(), *predictors.predictor_checks(), *causal.causal_checks()],
        jobs=[
            ingest_job,
            predictors_job,
            causal_job,
            regressions_job,
            report_job,
            sanity_sweep,
            quick_sweep,
            full_sweep,
            load_study,
            load_tests.record_commands,
        ],
        schedules=schedules,
        sensors=[drop_sensor, orphan_sensor, plot_sensor],
        resources={"data_folder": DataFolder(), "device_runner": DeviceRunner(), **(resources or {})},
        # Steps of the light jobs take milliseconds, a process for each would take seconds.
        executor=dg.in_process_executor,
    )
