"""Reading the published tables: ``sql`` and ``tables``."""

from __future__ import annotations

import difflib
import os
import re
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from perf_assets.cli.render import print_records, print_table, say, write_csv, write_json
from perf_assets.workspace.paths import data_paths

if TYPE_CHECKING:
    import duckdb

SHOWN_ROWS = 50
BATCH_ROWS = 10_000
INTERRUPTED = 130


# A query may begin with a comment, which looks like an option; a word alone is one that is mistyped.
@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1, metavar="[QUERY]")
@click.option(
    "-f", "--file", type=click.Path(allow_dash=True), help="Read the query from a file; - for standard input."
)
@click.option(
    "--limit", type=click.IntRange(min=0), help="Rows to show; 0 for all. [default: 50; all when written]"
)
@click.option("--records", is_flag=True, help="Show each row as lines of name and value.")
@click.option(
    "--csv", "csv_to", is_flag=False, flag_value="-", metavar="[FILE]", help="Write CSV, every row."
)
@click.option(
    "--json", "json_to", is_flag=False, flag_value="-", metavar="[FILE]", help="Write JSON, every row."
)
@click.option(
    "--parquet", "parquet_to", metavar="FILE", help="Write Parquet, every row; - for standard output."
)
def sql(
    words: tuple[str, ...],
    file: str | None,
    limit: int | None,
    records: bool,
    csv_to: str | None,
    json_to: str | None,
    parquet_to: str | None,
) -> None:
    """Run QUERY on the published tables, read-only.

    Without QUERY it is read from --file or standard input.
    """
    import duckdb

    from perf_assets.store.database import NoDatabaseError, open_readonly

    query = _one_query(words)
    # '--csv QUERY' writes to standard output: an option's value that is followed by no query is the query.
    if query is None and file is None:
        if csv_to not in (None, "-"):
            query, csv_to = csv_to, "-"
        elif json_to not in (None, "-"):
            query, json_to = json_to, "-"
    text = _query_text(query, file)
    try:
        with open_readonly(data_paths().database) as connection:
            cursor = _run(connection, text)
            columns = [column[0] for column in cursor.description or []]
            if parquet_to is not None:
                _write_parquet(cursor, parquet_to)
            elif csv_to is not None or json_to is not None:
                rows = _limited(_rows(cursor), limit or 0)
                write = write_csv if csv_to is not None else write_json
                write(columns, rows, csv_to if csv_to is not None else str(json_to))
            else:
                _show(columns, cursor, SHOWN_ROWS if limit is None else limit, records=records)
    except (NoDatabaseError, duckdb.Error) as error:
        raise click.ClickException(str(error)) from error


def _one_query(words: tuple[str, ...]) -> str | None:
    """The query among what is no option; a word like an option is one that is mistyped.

    Raises:
        click.UsageError: there are several, as without quotes.
    """
    for word in words:
        if re.fullmatch(r"--?[A-Za-z][\w-]*(=.*)?", word):
            options = [name for each in click.get_current_context().command.params for name in each.opts]
            raise click.NoSuchOption(word, possibilities=difflib.get_close_matches(word, options))
    if len(words) > 1:
        raise click.UsageError("put the query in quotes, so that it is one word to the shell")
    return words[0] if words else None


def _query_text(query: str | None, file: str | None) -> str:
    if query is not None and file is not None:
        raise click.UsageError("give a query or --file, not both")
    if file is not None and file != "-":
        try:
            query = Path(file).read_text()
        except OSError as error:
            raise click.ClickException(f"{file}: {error.strerror}: name a file with a query") from error
    elif query is None:
        if file is None and sys.stdin.isatty():
            raise click.UsageError('give a query: perf-assets sql "SELECT * FROM cleaned_runs"')
        query = sys.stdin.read()
    if not query.strip():
        raise click.UsageError("the query is empty: write one like SELECT * FROM cleaned_runs")
    return query


def _run(connection: duckdb.DuckDBPyConnection, text: str) -> duckdb.DuckDBPyConnection:
    """Run a query so that Ctrl-C ends it, which a call into DuckDB would not notice."""
    found: dict[str, Any] = {}

    def work() -> None:
        try:
            found["cursor"] = connection.execute(text)
        except BaseException as error:  # noqa: BLE001 - raised again where it was asked for
            found["error"] = error

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(0.1)
    except KeyboardInterrupt:
        say("interrupted")
        # The connection is busy and only reads: nothing is lost by ending here and now.
        os._exit(INTERRUPTED)
    if "error" in found:
        raise found["error"]
    return found["cursor"]


def _rows(cursor: duckdb.DuckDBPyConnection):
    while batch := cursor.fetchmany(BATCH_ROWS):
        yield from batch


def _limited(rows, limit: int):
    for number, row in enumerate(rows):
        if limit and number >= limit:
            return
        yield row


def _show(columns: list[str], cursor: duckdb.DuckDBPyConnection, limit: int, *, records: bool) -> None:
    if records:
        print_records(columns, _limited(_rows(cursor), limit))
        return
    first = cursor.fetchmany(limit + 1 if limit else 1001)
    if limit:
        print_table(columns, first[:limit])
        if len(first) > limit:
            say(f"the first {limit} rows; --limit 0 shows all, --csv writes all")
    elif len(first) <= 1000:
        print_table(columns, first)
    else:
        write_csv(columns, (row for rows in (first, _rows(cursor)) for row in rows), "-", separator="\t")


def _write_parquet(cursor: duckdb.DuckDBPyConnection, target: str) -> None:
    import pyarrow.parquet as pq

    table: Any = cursor.to_arrow_table()
    if target == "-":
        if sys.stdout.isatty():
            raise click.UsageError("Parquet is not for a terminal: name a file, or redirect it")
        pq.write_table(table, sys.stdout.buffer)
    else:
        pq.write_table(table, target)
        say(f"{table.num_rows} rows in {target}")


@click.command()
@click.argument("name", required=False)
@click.option("--markdown", is_flag=True, help="Print docs/tables.md.")
def tables(name: str | None, markdown: bool) -> None:
    """List the tables, or the columns of the table NAME with their units and meaning."""
    import difflib

    from perf_assets.schema.markdown import tables_markdown
    from perf_assets.schema.tables import TABLES, VIEWS

    if markdown:
        click.echo(tables_markdown(), nl=False)
        return
    known = {**TABLES, **VIEWS}
    if name is None:
        print_table(["table", "one row is"], [(table.name, table.description) for table in known.values()])
        return
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        cure = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        raise click.ClickException(f"no table {name!r}: {cure}")
    click.echo(known[name].description)
    print_table(
        ["column", "type", "unit", "meaning"],
        [(column.name, column.type, column.unit, column.description) for column in known[name].columns],
    )
