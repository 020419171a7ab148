"""What a person sees of an asset in the UI: columns, counts, small tables, thumbnails."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from perf_assets.schema.tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def column_schema(table: Table) -> dg.TableSchema:
    """A table's columns with their units, for the asset's page."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                column.name,
                column.type,
                f"{column.description} [{column.unit}]" if column.unit else column.description,
            )
            for column in table.columns
        ]
    )


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
