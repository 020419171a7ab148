"""Tables that are computed from other tables: one Parquet file each, which publishing loads like it loads
parts.

The database is only ever made from files, so a computed table survives a rebuild, and whoever computes one
never opens the database to write.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perf_assets.schema.tables import COMPUTED_TABLES
from perf_assets.store.parts import to_arrow
from perf_assets.workspace.paths import DataPaths

if TYPE_CHECKING:
    import pyarrow as pa


class DamagedComputedError(Exception):
    """The file of a computed table is not what was written."""


MAKERS = {
    "predictor_scores": "perf-assets fit",
    "predictions": "perf-assets fit",
    "pruned_models": "dagster asset materialize --select pruned_models",
    "network_features": "dagster asset materialize --select network_features",
    "causal_edges": "perf-assets causal",
    "regressions": "perf-assets regressions",
}
"""Computed table → the command that makes it again."""


def computed_file(paths: DataPaths, table: str) -> Path:
    """Where the rows of a computed table lie; there may be none."""
    return paths.computed / f"{table}.parquet"


def read_computed(paths: DataPaths, table: str) -> pa.Table | None:
    """The rows of a computed table with the columns that the schema has; None where there are none.

    Raises:
        DamagedComputedError: the file is not what was written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = computed_file(paths, table)
    if not file.exists():
        return None
    try:
        rows = pq.read_table(file, page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        raise DamagedComputedError(str(error).splitlines()[0]) from error
    return rows.select([name for name in COMPUTED_TABLES[table].column_names if name in rows.column_names])


def write_computed(paths: DataPaths, tables: Mapping[str, list[dict[str, Any]]]) -> None:
    """Replace the rows of computed tables, each file in one rename. Columns that a row leaves out are NULL.

    The database shows them after the next publish (:func:`perf_assets.intake.pipeline.publish_computed` does
    both).

    Raises:
        ValueError: a table that is not computed, or a column that it does not have.
    """
    import pyarrow.parquet as pq

    for table, rows in tables.items():
        if table not in COMPUTED_TABLES:
            raise ValueError(f"{table!r} is no computed table: use one of {', '.join(COMPUTED_TABLES)}")
        unknown = {name for row in rows for name in row} - set(COMPUTED_TABLES[table].column_names)
        if unknown:
            raise ValueError(f"{table} has no column {', '.join(sorted(unknown))}: declare it in schema.py")
    paths.computed.mkdir(parents=True, exist_ok=True)
    for table, rows in tables.items():
        file = computed_file(paths, table)
        partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
        pq.write_table(to_arrow(table, rows), partial, write_page_checksum=True)
        os.replace(partial, file)
