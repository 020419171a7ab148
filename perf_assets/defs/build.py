"""Wiring: every definition, listed once."""

from __future__ import annotations

import dagster as dg

from perf_assets.defs.assets import ingestion, plots, predictors
from perf_assets.defs.checks import table_checks
from perf_assets.defs.jobs import ingest_job
from perf_assets.defs.resources import DataFolder
from perf_assets.defs.schedules import nightly_ingest
from perf_assets.defs.sensors import drop_sensor


def build_defs(resources: dict[str, object] | None = None) -> dg.Definitions:
    """All definitions; ``resources`` replaces resources by name, for tests and other sites."""
    return dg.Definitions(
        assets=[
            ingestion.raw_device_logs,
            ingestion.tables,
            *plots.plot_assets,
            *predictors.predictor_assets,
            predictors.predictor_scores,
            predictors.predictions,
        ],
        asset_checks=[*table_checks(), *predictors.predictor_checks()],
        jobs=[ingest_job],
        schedules=[nightly_ingest],
        sensors=[drop_sensor],
        resources={"data_folder": DataFolder(), **(resources or {})},
        # Steps of the light jobs take milliseconds, a process for each would take seconds.
        executor=dg.in_process_executor,
    )
