"""From drops to tables: ``raw_device_logs`` and one asset a published table."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import dagster as dg

from perf_assets.defs.metadata import OWNERS, lineage, record_table, table_metadata
from perf_assets.defs.resources import DataFolder
from perf_assets.intake.parsing import registry
from perf_assets.intake.pipeline import IngestReport, ingest, register_drops
from perf_assets.schema import tables as schema
from perf_assets.store.database import open_readonly, query

FRESH = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=50), warn_window=timedelta(hours=26))
"""Every night an ingest runs, pending drops or not: one missed night warns, two fail."""


@dg.asset(group_name="ingestion", kinds={"file"}, owners=OWNERS)
def raw_device_logs(data_folder: DataFolder) -> dg.MaterializeResult:
    """Every file under drops, copied by content to ``raw`` and noted in the ledger."""
    paths = data_folder.paths()
    report = register_drops(paths)
    files = [path for path in paths.raw.rglob("*") if path.is_file()] if paths.raw.exists() else []
    return dg.MaterializeResult(
        metadata={
            "files": len(files),
            "bytes": sum(path.stat().st_size for path in files),
            "still_being_written": len(report.unsettled),
            "drops": dg.MetadataValue.path(str(paths.drops)),
        }
    )


@dg.multi_asset(
    specs=[
        dg.AssetSpec(
            table.name,
            deps=[raw_device_logs],
            description=table.description,
            group_name="ingestion",
            kinds={"duckdb", "table"},
            code_version=registry.fingerprint(),
            owners=OWNERS,
            metadata=table_metadata(table),
            freshness_policy=FRESH if table.name in ("source_files", "cleaned_runs") else None,
        )
        for table in schema.TABLES.values()
        if table.name not in schema.COMPUTED_TABLES
    ],
    can_subset=True,
)
def tables(context: dg.AssetExecutionContext, data_folder: DataFolder) -> Iterator[dg.MaterializeResult]:
    """Take in, parse and publish whatever is pending. Every table is up to date after it, selected or not."""
    paths = data_folder.paths()
    report = ingest(
        paths, on_wait=lambda holder: context.log.info("process %s is ingesting; waiting", holder)
    )
    for entry in report.read:
        if entry.error:
            context.log.warning("%s: %s", entry.path, entry.error)
    with open_readonly(paths.database) as connection:
        for key in sorted(context.selected_asset_keys):
            name = key.to_user_string()
            _, [(count,)] = query(connection, f"SELECT count(*) FROM {schema.TABLES[name].name}")  # noqa: S608
            yield dg.MaterializeResult(
                asset_key=key,
                metadata={
                    "dagster/row_count": count,
                    **lineage(name),
                    **_report_metadata(report),
                    **_details(name, connection),
                },
            )


def _report_metadata(report: IngestReport) -> dict[str, Any]:
    lines = sum(entry.lines or 0 for entry in report.read)
    rejected = sum(entry.rejected or 0 for entry in report.read)
    return {
        "files_read": len(report.read),
        "files_not_taken_in": len(report.read) - report.count("ingested"),
        "lines_rejected": rejected,
        "rejected_share": rejected / lines if lines else 0.0,
        "still_being_written": len(report.unsettled),
    }


_DETAILS = {
    "source_files": "SELECT format, status, count(*) AS files, sum(lines) AS lines, sum(rejected) AS rejected"
    " FROM source_files GROUP BY ALL ORDER BY ALL",
    "rejected_lines": "SELECT path, line_number, reason, detail FROM rejected_lines JOIN source_files USING "
    "(file_id)"
    " WHERE status = 'ingested' ORDER BY ALL LIMIT 20",
    "cleaned_runs": "SELECT tool, status, count(*) AS runs FROM cleaned_runs GROUP BY ALL ORDER BY ALL",
    "cleaned_telemetry": "SELECT device_id, session, samples, energy_j, mean_power_w FROM telemetry_sessions"
    " ORDER BY file_id, device_id, session LIMIT 20",
}
"""What is worth seeing of a table beside its row count."""


def _details(table: str, connection) -> dict[str, Any]:
    if table not in _DETAILS:
        return {}
    return {"overview": record_table(*query(connection, _DETAILS[table]))}
