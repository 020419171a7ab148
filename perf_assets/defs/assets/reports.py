"""The report as an asset: one page, made from whatever is published."""

import dagster as dg

from perf_assets.defs.metadata import OWNERS
from perf_assets.defs.resources import DataFolder


@dg.asset(
    deps=["source_files", "cleaned_runs", "cleaned_load_levels", "cleaned_telemetry"],
    group_name="reports",
    kinds={"html"},
    owners=OWNERS,
)
def report(data_folder: DataFolder) -> dg.MaterializeResult:
    """One HTML page of what is in the store: newest runs, load tests, energy, predictors, data quality."""
    from perf_assets.analysis.reports.page import write_report

    page = write_report(data_folder.paths())
    return dg.MaterializeResult(
        metadata={"page": dg.MetadataValue.path(str(page)), "bytes": page.stat().st_size}
    )
