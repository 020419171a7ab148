"""The commands a person types: ``perf-assets ingest``, ``sql``, ``rebuild``, ``tables``."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import click

from perf_assets.paths import NoDataFolderError, data_paths
from perf_assets.settings import SettingError

EXIT_REFUSED = 3
"""Exit code when everything was read but some drop was not taken in."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Device-performance logs as tables."""


@cli.command()
@click.argument("paths", nargs=-1, type=click.Path(exists=True, path_type=Path))
def ingest(paths: tuple[Path, ...]) -> None:
    """Take in all pending drops, or just PATHS: files and folders, copied into drops first if they lie elsewhere.

    Exits with 0, or with 3 when some drop could not be taken in.
    """
    from perf_assets import ingest as library

    folder = data_paths()
    only = library.copy_in(paths, folder) if paths else None
    with _progress() as progress:
        report = library.ingest(
            folder, progress, lambda pid: _say(f"process {pid} is ingesting; waiting"), only
        )
    _print_report(report)
    sys.exit(EXIT_REFUSED if report.count("rejected") + report.count("unsupported") else 0)


@cli.command()
def rebuild() -> None:
    """Make every table again from the raw copies, with the parsers as they are now."""
    from perf_assets import ingest as library

    with _progress() as progress:
        report = library.rebuild(data_paths(), progress)
    _print_report(report)


@cli.command()
@click.argument("query")
@click.option("--limit", default=50, show_default=True, help="Rows to print; 0 for all.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV instead of a table.")
def sql(query: str, limit: int, as_csv: bool) -> None:
    """Run QUERY on the published tables, read-only."""
    import duckdb

    from perf_assets.storage.database import NoDatabaseError, open_readonly
    from perf_assets.storage.database import query as run_query

    try:
        with open_readonly(data_paths().database) as connection:
            columns, rows = run_query(connection, query, limit + 1 if limit else None)
    except NoDatabaseError as error:
        raise click.ClickException(str(error)) from error
    except duckdb.Error as error:
        raise click.ClickException(str(error)) from error
    if as_csv:
        import csv

        writer = csv.writer(sys.stdout)
        writer.writerow(columns)
        writer.writerows(rows[:limit] if limit else rows)
        return
    _print_table(columns, rows[:limit] if limit else rows)
    if limit and len(rows) > limit:
        _say(f"the first {limit} rows; --limit 0 prints all")


@cli.command()
@click.option("--recent", default=10, show_default=True, help="Runs to show.")
def status(recent: int) -> None:
    """What runs, waits and failed, on which device; sweeps with the time they have left."""
    import dagster as dg

    from perf_assets.defs.status import status as library

    with (
        dg.DagsterInstance.from_config(".")
        if Path("dagster.yaml").exists()
        else dg.DagsterInstance.get() as instance
    ):
        for section in library(data_paths(), instance, recent):
            click.echo(section.title if section.rows else f"{section.title}: none")
            if section.rows:
                _print_table(list(section.columns), section.rows)


@cli.command()
def tables() -> None:
    """Print the description of all tables as Markdown (docs/tables.md)."""
    from perf_assets.docs import tables_markdown

    click.echo(tables_markdown(), nl=False)


def main() -> None:
    """Run the command line; errors of ours are one line, not a traceback."""
    try:
        cli()
    except (NoDataFolderError, SettingError) as error:
        raise SystemExit(f"perf-assets: {error}") from error


def _say(text: str) -> None:
    click.echo(text, err=True)


@contextmanager
def _progress() -> Generator:
    """A progress bar on a terminal; elsewhere, and for short work, nothing."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks: dict[str, TaskID] = {}

        def show(what: str, done: int, of: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=of)
            bar.update(tasks[what], completed=done, total=of)

        yield show


def _print_report(report) -> None:
    """A line a format and outcome of what was read, then what was not taken in and why."""
    counts: dict[tuple[str, str], list[int]] = {}
    for entry in report.read:
        row = counts.setdefault((entry.format or "-", entry.status or "-"), [0, 0, 0, 0])
        for i, value in enumerate((1, entry.runs, entry.records, entry.rejected)):
            row[i] += value or 0
    if counts:
        _print_table(
            ["format", "status", "files", "runs", "lines used", "lines rejected"],
            [(*key, *row) for key, row in sorted(counts.items())],
        )
    else:
        click.echo("nothing new under drops")
    refused = [entry for entry in report.read if entry.error]
    if refused:
        _print_table(["not taken in", "why"], [(entry.path, entry.error) for entry in refused])
    for path in report.unsettled:
        click.echo(f"{path}: still being written, left for the next time")


def _print_table(columns: list[str], rows: list[tuple]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(*[escape(str(column)) for column in columns])
    for row in rows:
        table.add_row(*["" if value is None else escape(_shown(value)) for value in row])
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    console.print(table)


def _shown(value: object) -> str:
    return f"{value:,.6g}" if isinstance(value, float) else str(value)
