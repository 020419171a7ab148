"""Asset checks: the invariants of ``perf_assets.store.invariants``, those of a table in one step."""

from collections.abc import Iterator

import dagster as dg

from perf_assets.defs.metadata import record_table
from perf_assets.defs.resources import DataFolder
from perf_assets.store.database import open_readonly, query
from perf_assets.store.invariants import CHECKS, Check

SHOWN_ROWS = 20


def table_checks() -> list[dg.AssetChecksDefinition]:
    """One definition a table: a step for each check would cost more than the check."""
    by_table: dict[str, list[Check]] = {}
    for check in CHECKS:
        by_table.setdefault(check.table, []).append(check)
    return [_checks_of(table, checks) for table, checks in by_table.items()]


def _checks_of(table: str, checks: list[Check]) -> dg.AssetChecksDefinition:
    specs = [
        dg.AssetCheckSpec(check.name, asset=table, description=check.description, blocking=check.is_blocking)
        for check in checks
    ]

    @dg.multi_asset_check(name=f"{table}_checks", specs=specs, can_subset=True)
    def run_checks(
        context: dg.AssetCheckExecutionContext, data_folder: DataFolder
    ) -> Iterator[dg.AssetCheckResult]:
        asked = {key.name for key in context.selected_asset_check_keys}
        with open_readonly(data_folder.paths().database) as connection:
            for check in checks:
                if check.name not in asked:
                    continue
                columns, rows = query(connection, check.sql)
                yield dg.AssetCheckResult(
                    check_name=check.name,
                    asset_key=table,
                    passed=not rows,
                    severity=dg.AssetCheckSeverity.ERROR if check.is_error else dg.AssetCheckSeverity.WARN,
                    metadata={"offending": len(rows), "first": record_table(columns, rows[:SHOWN_ROWS])},
                )

    return run_checks
