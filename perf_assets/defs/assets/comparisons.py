"""Regressions: the newest runs of each configuration against its history, with a check that fails by name."""

import dagster as dg

from perf_assets.defs.metadata import OWNERS, lineage, record_table, table_metadata
from perf_assets.defs.resources import DataFolder
from perf_assets.schema import tables as schema

_SHOWN = (
    "configuration",
    "metric",
    "run_group",
    "n",
    "baseline_n",
    "median",
    "baseline_median",
    "ratio",
    "detectable",
    "verdict",
)


@dg.asset(
    deps=["cleaned_runs", "cleaned_load_levels"],
    group_name="comparisons",
    kinds={"duckdb", "table"},
    description=schema.REGRESSIONS.description,
    owners=OWNERS,
    metadata=table_metadata(schema.REGRESSIONS),
    check_specs=[
        dg.AssetCheckSpec(
            "nothing_became_worse",
            asset="regressions",
            description="No configuration's newest runs are slower or need more than those before them.",
        )
    ],
)
def regressions(data_folder: DataFolder) -> dg.MaterializeResult:
    """Test each configuration's run groups against their history."""
    from perf_assets.analysis.comparisons.pipeline import publish_regressions
    from perf_assets.analysis.comparisons.regressions import alarms

    rows = publish_regressions(data_folder.paths())
    worse, better = alarms(rows)
    newest = [row for row in rows if row["is_newest"]]
    shown = {
        name: record_table(_SHOWN, [[row[column] for column in _SHOWN] for row in found])
        for name, found in (("worse", worse), ("better", better))
        if found
    }
    counts = {
        "alarms_up": len(worse),
        "alarms_down": len(better),
        "histories": len(newest),
        "cannot_tell": sum(row["verdict"] == "cannot tell" for row in newest),
    }
    check = dg.AssetCheckResult(
        check_name="nothing_became_worse",
        passed=not worse,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={**counts, **shown},
    )
    return dg.MaterializeResult(
        metadata={"dagster/row_count": len(rows), **lineage("regressions"), **counts, **shown},
        check_results=[check],
    )
