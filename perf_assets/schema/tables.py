"""Every published table, column by column: the one source of DDL, Parquet types, checks, UI columns and docs.

A column is named once here, with its type, unit and meaning. Parsers fill rows by these names, storage
creates and describes the DuckDB tables from them, and ``docs/tables.md`` is printed from them.
Absent values are NULL, never 0 and never a magic word. Times are UTC.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from perf_assets.schema.causal import CAUSAL_EDGES
from perf_assets.schema.columns import (
    FLAG,
    FLAGS,
    INTEGER,
    JSON,
    LABELS,
    METRICS,
    NUMBER,
    TEXT,
    TIME,
    Table,
)
from perf_assets.schema.files import REJECTED_LINES, SOURCE_FILES
from perf_assets.schema.load_tests import (
    CLEANED_LOAD_GPUS,
    CLEANED_LOAD_LEVELS,
    LOAD_KNEES,
    LOAD_LEVEL_SOURCES,
)
from perf_assets.schema.networks import CLEANED_LAYER_TABLES, NETWORK_FEATURES, PRUNED_MODELS
from perf_assets.schema.predictions import PREDICTIONS, PREDICTOR_SCORES
from perf_assets.schema.regressions import REGRESSIONS
from perf_assets.schema.runs import (
    CLEANED_COUNTERS,
    CLEANED_EPOCHS,
    CLEANED_LAYERS,
    CLEANED_RUNS,
    CLEANED_SAMPLES,
    CLEANED_STAGES,
    RUN_ANNOTATIONS,
    RUN_SOURCES,
)
from perf_assets.schema.telemetry import CLEANED_TELEMETRY, RUN_TELEMETRY, TELEMETRY_SESSIONS

if TYPE_CHECKING:
    import pyarrow as pa

TABLES: dict[str, Table] = {
    declared.name: declared
    for declared in (
        SOURCE_FILES,
        REJECTED_LINES,
        CLEANED_TELEMETRY,
        CLEANED_RUNS,
        CLEANED_EPOCHS,
        CLEANED_LAYERS,
        CLEANED_LOAD_LEVELS,
        CLEANED_LOAD_GPUS,
        LOAD_KNEES,
        CLEANED_STAGES,
        CLEANED_COUNTERS,
        CLEANED_SAMPLES,
        CLEANED_LAYER_TABLES,
        RUN_ANNOTATIONS,
        RUN_SOURCES,
        LOAD_LEVEL_SOURCES,
        RUN_TELEMETRY,
        PREDICTOR_SCORES,
        PREDICTIONS,
        PRUNED_MODELS,
        NETWORK_FEATURES,
        CAUSAL_EDGES,
        REGRESSIONS,
    )
}
"""All stored tables, by name."""

DERIVED_TABLES: dict[str, Table] = {
    declared.name: declared for declared in (RUN_SOURCES, LOAD_LEVEL_SOURCES, RUN_TELEMETRY)
}
"""The tables that publishing fills from the others (``store/sql/link_runs.sql``, ``run_telemetry.sql``)."""

COMPUTED_TABLES: dict[str, Table] = {
    declared.name: declared
    for declared in (
        PREDICTOR_SCORES,
        PREDICTIONS,
        PRUNED_MODELS,
        NETWORK_FEATURES,
        CAUSAL_EDGES,
        REGRESSIONS,
    )
}
"""The tables that assets compute from the others; each is one Parquet file under ``data/computed``."""

PARSED_TABLES: dict[str, Table] = {
    name: declared
    for name, declared in TABLES.items()
    if name != "source_files" and name not in DERIVED_TABLES and name not in COMPUTED_TABLES
}
"""The tables that parsers fill."""


VIEWS: dict[str, Table] = {view.name: view for view in (TELEMETRY_SESSIONS,)}
"""Views over the tables; each is defined in ``store/sql/<name>.sql``."""


@cache
def arrow_schema(table_name: str) -> pa.Schema:
    """Arrow schema of a table, for Parquet parts. JSON travels as text."""
    import pyarrow as pa

    types = {
        TEXT: pa.string(),
        JSON: pa.string(),
        INTEGER: pa.int64(),
        NUMBER: pa.float64(),
        FLAG: pa.bool_(),
        TIME: pa.timestamp("us"),
        FLAGS: pa.list_(pa.string()),
        METRICS: pa.map_(pa.string(), pa.float64()),
        LABELS: pa.map_(pa.string(), pa.string()),
    }
    return pa.schema([(column.name, types[column.type]) for column in TABLES[table_name].columns])
