"""What people say of runs: ``tag``, ``note`` and ``exclude``."""

from __future__ import annotations

import time

import click

from perf_assets.cli.render import say
from perf_assets.workspace.paths import data_paths

_RUNS = click.option(
    "--where", "where", help="SQL filter over cleaned_runs that names the runs instead of their ids."
)


@click.command()
@click.argument("name")
@click.argument("runs", nargs=-1)
@_RUNS
@click.option("--remove", is_flag=True, help="Take the tag off again.")
def tag(name: str, runs: tuple[str, ...], where: str | None, *, remove: bool) -> None:
    """Call RUNS by the tag NAME; compare them with 'perf-assets compare tag:NAME …'."""
    _say_of(runs, where, "untag" if remove else "tag", name)


@click.command()
@click.argument("text")
@click.argument("runs", nargs=-1)
@_RUNS
def note(text: str, runs: tuple[str, ...], where: str | None) -> None:
    """Write TEXT into the note of RUNS."""
    _say_of(runs, where, "note", text)


@click.command()
@click.argument("runs", nargs=-1)
@_RUNS
@click.option("--why", help="Reason; it goes into the note.")
@click.option("--undo", is_flag=True, help="Let them count again.")
def exclude(runs: tuple[str, ...], where: str | None, why: str | None, *, undo: bool) -> None:
    """Leave RUNS out of predictors, comparisons and plots; their rows stay."""
    _say_of(runs, where, "include" if undo else "exclude", why)


def _say_of(runs: tuple[str, ...], where: str | None, action: str, value: str | None) -> None:
    from perf_assets.intake import pipeline
    from perf_assets.intake.annotating import annotate
    from perf_assets.store.database import NoDatabaseError, open_readonly, query_frame
    from perf_assets.workspace.settings import settle_s

    if bool(runs) == bool(where):
        raise click.UsageError("name runs by their run_id, or by --where")
    paths = data_paths()
    ids = list(dict.fromkeys(runs))
    try:
        if where:
            with open_readonly(paths.database) as connection:
                found = query_frame(connection, f"SELECT run_id FROM cleaned_runs WHERE ({where})")  # noqa: S608
            ids = found["run_id"].tolist()
        file = annotate(paths, ids, action, value)
    except (NoDatabaseError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    time.sleep(settle_s())  # younger drops count as still being written
    pipeline.ingest(paths, only=[file])
    say(f"{len(ids)} run{'s' if len(ids) != 1 else ''}: {action}, noted in {file}")
