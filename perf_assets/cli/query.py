"""Reading the published tables: ``sql`` and ``tables``."""

from __future__ import annotations

import click

from perf_assets.cli.render import print_csv, print_table, say
from perf_assets.workspace.paths import data_paths

SHOWN_ROWS = 50


# A query may begin with a comment, which looks like an option.
@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("query")
@click.option(
    "--limit", type=click.IntRange(min=0), help="Rows to print; 0 for all. [default: 50; all with --csv]"
)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV instead of a table.")
def sql(query: str, limit: int | None, as_csv: bool) -> None:
    """Run QUERY on the published tables, read-only."""
    import duckdb

    from perf_assets.store.database import NoDatabaseError, open_readonly
    from perf_assets.store.database import query as run_query

    if limit is None:
        limit = 0 if as_csv else SHOWN_ROWS
    try:
        with open_readonly(data_paths().database) as connection:
            columns, rows = run_query(connection, query, limit + 1 if limit else None)
    except (NoDatabaseError, duckdb.Error) as error:
        raise click.ClickException(str(error)) from error
    shown = rows[:limit] if limit else rows
    if as_csv:
        print_csv(columns, shown)
    else:
        print_table(columns, shown)
    if len(rows) > len(shown):
        say(f"the first {limit} rows; --limit 0 prints all")


@click.command()
def tables() -> None:
    """Print the description of all tables as Markdown (docs/tables.md)."""
    from perf_assets.schema.markdown import tables_markdown

    click.echo(tables_markdown(), nl=False)
