"""What a person sees of an asset in the UI: columns, counts, small tables, thumbnails."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from perf_assets.defs.resources import DataFolder
from perf_assets.schema.lineage import LINEAGE
from perf_assets.schema.tables import Table
from perf_assets.workspace.paths import DataPaths

if TYPE_CHECKING:
    from matplotlib.figure import Figure


OWNERS = ["team:performance"]


def table_metadata(table: Table) -> dict[str, Any]:
    """What is known of a table before any row is: its columns with units and keys, and its place in
    DuckDB."""
    columns = [
        dg.TableColumn(
            column.name,
            column.type,
            f"{column.description} [{column.unit}]" if column.unit else column.description,
            constraints=dg.TableColumnConstraints(
                nullable=column.name not in table.key, unique=table.key == (column.name,)
            ),
        )
        for column in table.columns
    ]
    return {
        "dagster/column_schema": dg.TableSchema(columns=columns),
        "dagster/table_name": f"perf.{table.name}",
    }


def lineage(table_name: str) -> dict[str, Any]:
    """Which columns those of a derived table are made of; nothing for a table that comes from logs."""
    made_of = LINEAGE.get(table_name)
    if not made_of:
        return {}
    deps = {
        column: [dg.TableColumnDep(dg.AssetKey(source), name) for source, name in sources]
        for column, sources in made_of.items()
    }
    return {"dagster/column_lineage": dg.TableColumnLineage(deps)}


def problem_checks(
    asset: str, checks: Mapping[str, str], find: Callable[[DataPaths, str], list[str]]
) -> list[dg.AssetChecksDefinition]:
    """Checks of one asset.

    Args:
        asset: its name.
        checks: name of a check → what must hold.
        find: gives for the name of a check what does not hold, in words.
    """
    return [_problem_check(asset, name, description, find) for name, description in checks.items()]


def _problem_check(
    asset: str, name: str, description: str, find: Callable[[DataPaths, str], list[str]]
) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=asset, name=name, description=description)
    def run_check(data_folder: DataFolder) -> dg.AssetCheckResult:
        problems = find(data_folder.paths(), name)
        return dg.AssetCheckResult(passed=not problems, metadata={"problems": problems})

    return run_check


def record_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> dg.TableMetadataValue:
    """Rows as a small table; what is no plain scalar is shown as text."""
    records = [
        dg.TableRecord(
            {
                name: value if isinstance(value, (str, int, float, bool)) or value is None else str(value)
                for name, value in zip(columns, row, strict=True)
            }
        )
        for row in rows
    ]
    schema = dg.TableSchema(columns=[dg.TableColumn(name) for name in columns])
    return dg.MetadataValue.table(records, schema)


def plot(figure: Figure, path: Path) -> Mapping[str, Any]:
    """Save a figure to ``path`` and return metadata with the path and a thumbnail of at most 50 KB."""
    from perf_assets.analysis.plots.rendering import save, thumbnail

    save(figure, path)
    encoded = base64.b64encode(thumbnail(figure)).decode()
    return {
        "figure": dg.MetadataValue.path(str(path)),
        "thumbnail": dg.MetadataValue.md(f"![{path.stem}](data:image/png;base64,{encoded})"),
    }
