"""The published database: opening it to read, and its tables as ``schema`` declares them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from perf_assets.schema import tables as schema
from perf_assets.schema.vocabularies import THROUGHPUT_TOLERANCE_PER_S, THROUGHPUT_TOLERANCE_SHARE

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import pyarrow as pa
    from duckdb import DuckDBPyConnection as Connection  # noqa: F401 - for who is handed one

SQL_FOLDER = Path(__file__).parent / "sql"

LINK_SCRIPTS = ("link_runs.sql", "merge_runs.sql")
"""What finds and joins the files of one run, in this order."""

FOLLOWING_SCRIPTS = ("curate_runs.sql", "run_telemetry.sql")
"""What fills columns and tables from all rows as they are after linking, in this order, whenever rows changed."""

# 1.x clients open this version; what 2.0 writes by default they cannot.
STORAGE_VERSION = "v1.4.0"
MEMORY_LIMIT = "600MB"
BOOKKEEPING = "5"
"""Version of the schema ``publication``, which is the publisher's own."""


class NoDatabaseError(Exception):
    """Nothing was published yet: the message says what to do."""


class QueryError(ValueError):
    """A query that the database does not take: the message says why."""


def open_readonly(database: Path) -> duckdb.DuckDBPyConnection:
    """A read-only connection to the published tables. It blocks no one: writers replace the file.

    Raises:
        NoDatabaseError: nothing was published yet.
    """
    import duckdb

    if not database.exists():
        raise NoDatabaseError(f"{database} does not exist yet: run 'perf-assets ingest' first")
    return duckdb.connect(
        database,
        read_only=True,
        config={"enable_external_access": "false", "lock_configuration": "true"},
    )


def query(
    connection: duckdb.DuckDBPyConnection,
    sql: str,
    limit: int | None = None,
    parameters: Sequence[object] = (),
) -> tuple[list[str], list[tuple]]:
    """Column names and rows of a query; at most ``limit`` rows."""
    cursor = connection.execute(sql, parameters)
    columns = [column[0] for column in cursor.description or []]
    rows = cursor.fetchall() if limit is None else cursor.fetchmany(limit)
    return columns, rows


def rows_where(connection: duckdb.DuckDBPyConnection, table: str, condition: str) -> duckdb.DuckDBPyRelation:
    """Rows of a table that a condition chooses, as a relation.

    Args:
        connection: as :func:`open_readonly` gives it, so that the condition can neither write nor read files.
        table: its name.
        condition: an SQL expression over the table's columns, of the user at the keyboard, never of a file.

    Raises:
        ValueError: DuckDB cannot evaluate it; the message is its own.
    """
    import duckdb

    try:
        chosen = connection.table(table).filter(condition)
        chosen.limit(1).fetchall()
    except duckdb.Error as error:
        raise ValueError(f"condition {condition!r}: {error}") from None
    return chosen


def query_frame(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[object] = ()
) -> pd.DataFrame:
    """Rows of a query as a frame.

    Raises:
        QueryError: the query is wrong.
    """
    import duckdb

    try:
        return connection.execute(sql, parameters).df()
    except duckdb.Error as error:
        raise QueryError(str(error).splitlines()[0]) from error


def query_arrow(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[object] = ()
) -> pa.Table:
    """Rows of a query as an Arrow table.

    Raises:
        QueryError: the query is wrong.
    """
    import duckdb

    try:
        return connection.sql(sql, params=list(parameters)).to_arrow_table()
    except duckdb.Error as error:
        raise QueryError(str(error).splitlines()[0]) from error


def create_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """Create all tables and views of the schema, each with its comments, and the publisher's own."""
    statements = _ddl()
    connection.execute("BEGIN")  # one commit, not one for each of some hundred statements
    for statement in statements:
        connection.execute(statement)
    connection.execute(
        "CREATE MACRO same_throughput(mine, others) AS abs(mine - others) <="
        f" greatest({THROUGHPUT_TOLERANCE_PER_S}, {THROUGHPUT_TOLERANCE_SHARE} * abs(mine))"
    )
    connection.execute("CREATE SCHEMA publication")
    connection.execute("CREATE TABLE publication.loaded (file_id VARCHAR, batch BIGINT, is_linked BOOLEAN)")
    # What run_telemetry.sql reads in place of all polls, what it found last time, and the runs whose energy it filled in.
    connection.execute(
        "CREATE TABLE publication.sessions (file_id VARCHAR, device_id VARCHAR, session BIGINT, device_name VARCHAR,"
        " host VARCHAR, own_run_id VARCHAR, start_s DOUBLE, end_s DOUBLE)"
    )
    connection.execute(
        "CREATE TABLE publication.candidates (run_id VARCHAR, start_s DOUBLE, duration_s DOUBLE, devices BIGINT,"
        " file_id VARCHAR, batch BIGINT, device_id VARCHAR, session BIGINT, matched_by VARCHAR)"
    )
    connection.execute("CREATE TABLE publication.energy_filled (run_id VARCHAR)")
    connection.execute(
        "CREATE TABLE publication.state"
        " (ddl_sha256 VARCHAR, identity VARCHAR, revision BIGINT, computed_sha256 VARCHAR, catalog_sha256 "
        "VARCHAR)"
    )
    connection.execute(
        "INSERT INTO publication.state VALUES (?, NULL, NULL, NULL, NULL)", [_fingerprint(statements)]
    )
    connection.execute("COMMIT")


def has_current_schema(connection: duckdb.DuckDBPyConnection) -> bool:
    """Was the database made by this version of the schema?"""
    import duckdb

    try:
        row = connection.execute("SELECT ddl_sha256 FROM publication.state").fetchone()
    except duckdb.Error:
        return False
    return row is not None and row[0] == _fingerprint(_ddl())


def _ddl() -> list[str]:
    statements = []
    for table in schema.TABLES.values():
        columns = ", ".join(f'"{column.name}" {column.type}' for column in table.columns)
        statements.append(f"CREATE TABLE {table.name} ({columns})")
        statements.append(f"COMMENT ON TABLE {table.name} IS {_quoted(table.description)}")
        for column in table.columns:
            text = f"{column.description} [{column.unit}]" if column.unit else column.description
            statements.append(f'COMMENT ON COLUMN {table.name}."{column.name}" IS {_quoted(text)}')
    for view in schema.VIEWS.values():
        statements.append((SQL_FOLDER / f"{view.name}.sql").read_text())
        statements.append(f"COMMENT ON VIEW {view.name} IS {_quoted(view.description)}")
    return statements


def _fingerprint(statements: list[str]) -> str:
    return hashlib.sha256("\n".join([BOOKKEEPING, *statements]).encode()).hexdigest()


def _quoted(text: str) -> str:
    """A text of our own schema as an SQL literal (DDL takes no parameters)."""
    return "'" + text.replace("'", "''") + "'"
