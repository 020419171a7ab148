"""How answers are shown: tables, CSV, progress, messages. No command and no query belongs here."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager

import click


def say(text: str) -> None:
    """Tell a person something that is no part of the answer: on standard error."""
    click.echo(text, err=True)


@contextmanager
def progress() -> Generator:
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


def print_csv(columns: Sequence[str], rows: Iterable[Sequence]) -> None:
    """Print every row as CSV, with the columns' names first."""
    writer = csv.writer(sys.stdout)
    writer.writerow(columns)
    writer.writerows(rows)


def print_table(columns: Sequence[str], rows: Iterable[Sequence]) -> None:
    """Print a table, as wide as the terminal, or 200 characters where there is none."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(*[escape(str(column)) for column in columns])
    for row in rows:
        table.add_row(*["" if value is None else escape(shown(value)) for value in row])
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    console.print(table)


def shown(value: object) -> str:
    """Text of a value for a terminal: floats with six digits, control characters escaped."""
    text = f"{value:,.6g}" if isinstance(value, float) else str(value)
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


# A file name or cell must not move the cursor, set a title or colour what follows.
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
