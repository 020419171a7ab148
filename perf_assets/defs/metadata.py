"""What a person sees of an asset in the UI: columns, counts, small tables, thumbnails."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from perf_assets.schema.tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

THUMBNAIL_BYTES = 50_000


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
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    for dpi in (72, 60, 50, 40, 30, 20):
        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=dpi, format="png")
        if buffer.tell() <= THUMBNAIL_BYTES:
            break
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return {
        "figure": dg.MetadataValue.path(str(path)),
        "thumbnail": dg.MetadataValue.md(f"![{path.stem}](data:image/png;base64,{encoded})"),
    }
