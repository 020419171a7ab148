"""How answers are shown: tables, CSV, progress, messages. No command and no query belongs here."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import sys
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, TextIO

import click

if TYPE_CHECKING:
    from perf_assets.measuring.engines.engine import Status

MAX_CELL = 160
"""Characters of a cell that a table shows; CSV, JSON and records show all."""


def say(text: str) -> None:
    """Tell a person something that is no part of the answer: on standard error."""
    click.echo(text, err=True)


def say_state(engine: str, job_id: str, status: Status) -> None:
    """Tell how a job of an engine is."""
    say(f"{engine} job {job_id} is {status.state}")


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


def write_csv(columns: Sequence[str], rows: Iterable[Sequence], target: str, separator: str = ",") -> None:
    """Write every row as CSV, the columns' names first, as it comes; lists and maps as JSON. ``-`` is
    standard output."""
    with _open(target) as stream:
        writer = csv.writer(stream, delimiter=separator, lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            writer.writerow([_as_json(value) if isinstance(value, (list, dict)) else value for value in row])


def write_json(columns: Sequence[str], rows: Iterable[Sequence], target: str) -> None:
    """Write every row as an object of one JSON array, a line each, as it comes. ``-`` is standard output."""
    with _open(target) as stream:
        stream.write("[")
        for number, row in enumerate(rows):
            stream.write(",\n" if number else "\n")
            stream.write(_as_json(dict(zip(columns, row, strict=True))))
        stream.write("\n]\n")


def print_records(columns: Sequence[str], rows: Iterable[Sequence]) -> None:
    """Print each row as lines of name and value; what is NULL is left out."""
    width = max(map(len, columns), default=0)
    for number, row in enumerate(rows, start=1):
        click.echo(f"-- {number} " + "-" * 40)
        for name, value in zip(columns, row, strict=True):
            if value is not None:
                click.echo(f"{shown(name):>{width}} | {shown(value)}")


@contextmanager
def _open(target: str) -> Generator[TextIO]:
    if target == "-":
        yield sys.stdout
        return
    try:
        with open(target, "w", newline="") as stream:
            yield stream
    except OSError as error:
        raise click.ClickException(f"{target}: {error.strerror}: name a file that can be written") from error


def _as_json(value: object) -> str:
    return (
        json.dumps(value, default=str, ensure_ascii=False, allow_nan=False) if _is_finite(value) else "null"
    )


def _is_finite(value: object) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


def print_table(columns: Sequence[str], rows: Iterable[Sequence]) -> None:
    """Print a table. On a terminal, columns that do not fit are left out and counted; long cells are cut,
    ended by ….

    What is longer than the terminal goes through the program that PAGER names, if it names one. Elsewhere
    every column is printed, as wide as it is.
    """
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    cells = [["" if value is None else _cut(shown(value)) for value in row] for row in rows]
    names = [shown(name) for name in columns]
    widths = [max(len(name), *(len(row[i]) for row in cells), 0) for i, name in enumerate(names)]
    console = Console()
    kept = len(names)
    if console.is_terminal:
        room = console.width - 1
        while kept > 1 and sum(widths[:kept]) + 3 * kept > room:
            kept -= 1
    else:
        console = Console(width=sum(widths) + 3 * len(widths) + 1)
    table = Table(*[escape(name) for name in names[:kept]], box=box.HEAVY_HEAD if kept else None)
    for column in table.columns:
        column.no_wrap = True
    for row in cells:
        table.add_row(*[escape(cell) for cell in row[:kept]])
    is_long = console.is_terminal and len(cells) + 4 > console.height
    with console.pager(styles=True) if is_long and "PAGER" in os.environ else nullcontext():
        console.print(table)
    if kept < len(names):
        say(f"{len(names) - kept} more columns do not fit: {', '.join(names[kept:])}; --records shows all")


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= MAX_CELL else f"{text[: MAX_CELL - 1]}…"


def shown(value: object) -> str:
    """Text of a value for a terminal: floats with six digits, control characters escaped."""
    if isinstance(value, (list, dict)):
        text = _as_json(value)
    else:
        text = f"{value:,.6g}" if isinstance(value, float) else str(value)
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


# A file name or cell must not move the cursor, set a title or colour what follows.
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
