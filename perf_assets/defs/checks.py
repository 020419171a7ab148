"""Asset checks: the invariants of ``perf_assets.store.invariants``, one check each."""

import dagster as dg

from perf_assets.defs.metadata import record_table
from perf_assets.defs.resources import DataFolder
from perf_assets.store.database import open_readonly, query
from perf_assets.store.invariants import CHECKS, Check

SHOWN_ROWS = 20


def table_checks() -> list[dg.AssetChecksDefinition]:
    """One asset check an invariant."""
    return [_asset_check(check) for check in CHECKS]


def _asset_check(check: Check) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=check.table, name=check.name, description=check.description)
    def run_check(data_folder: DataFolder) -> dg.AssetCheckResult:
        with open_readonly(data_folder.paths().database) as connection:
            columns, rows = query(connection, check.sql)
            return dg.AssetCheckResult(
                passed=not rows,
                severity=dg.AssetCheckSeverity.ERROR if check.is_error else dg.AssetCheckSeverity.WARN,
                metadata={"offending": len(rows), "first": record_table(columns, rows[:SHOWN_ROWS])},
            )

    return run_check
