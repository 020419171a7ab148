"""The commands a person types: ``perf-assets ingest``, ``sql``, ``fit``, ``predict``, ``plan``, ..."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path

import click

from perf_assets.workspace.paths import NoDataFolderError, data_paths
from perf_assets.workspace.settings import SettingError

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
    from perf_assets.intake import pipeline as library

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
    from perf_assets.intake import pipeline as library

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

    from perf_assets.store.database import NoDatabaseError, open_readonly
    from perf_assets.store.database import query as run_query

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
    from perf_assets.schema.markdown import tables_markdown

    click.echo(tables_markdown(), nl=False)


@cli.command()
def fit() -> None:
    """Fit the predictors to the published runs, score them beside their peers, publish scores and predictions."""
    from perf_assets.analysis.predictors import pipeline as prediction

    with _plain_errors():
        scores = prediction.fit_all(data_paths())
    columns = ["target", "device", "split", "method", "n", "mape", "coverage", "abstained"]
    rows = [tuple(row.get(name) for name in columns) for row in scores if row["group"] == "all"]
    _print_table(columns, rows)


_MODEL = click.option(
    "--model",
    required=True,
    help="Network: of a dropped layer table, torchvision's name, or package.module:name of your own.",
)
_DEVICE = click.option("--device", required=True, help="Device, as in cleaned_runs.device.")
_STAGE = click.option(
    "--stage", default="training", show_default=True, type=click.Choice(["training", "inference"])
)
_INPUT = click.option("--input-size", type=click.IntRange(min=1), help="Input height = width in pixels.")
_ALGORITHM = click.option("--algorithm", default="", help="Convolution algorithm, where runs have one.")


@cli.command()
@_MODEL
@_DEVICE
@_STAGE
@click.option("--batch-size", required=True, type=click.IntRange(min=1))
@click.option(
    "--pruning", default=0.0, show_default=True, type=click.FloatRange(0, 100), help="Percent pruned away."
)
@_INPUT
@_ALGORITHM
def predict(
    model: str,
    device: str,
    stage: str,
    batch_size: int,
    pruning: float,
    input_size: int | None,
    algorithm: str,
) -> None:
    """Predict latency, memory and energy of one configuration, with 90 % intervals."""
    import pandas as pd

    from perf_assets.analysis.predictors import pipeline as prediction

    with _plain_errors():
        predictor = prediction.load(data_paths(), device, stage, networks=_own_networks([model]))
        row = {"model": model, "batch_size": batch_size, "pruning_ratio": pruning / 100,
               "input_size": input_size or 0, "algorithm": algorithm}  # fmt: skip
        answer = predictor.predict(pd.DataFrame([row]))
        if answer.empty:
            raise ValueError(next(iter(predictor.design(pd.DataFrame([row])).skipped.values())))
    if device not in predictor.learnt_on:
        _say(f"no run of {device} was measured: answered from {', '.join(predictor.learnt_on)}")
    first = answer.iloc[0]
    rows: list[tuple] = [(target, float(first[target]), float(first[f"{target}_lower"]), float(first[f"{target}_upper"]), fitted.unit)
            for target, fitted in predictor.fitted.items()]  # fmt: skip
    if "oom" in answer:
        rows.append(("out of memory", float(first["oom"]), None, None, "probability"))
    _print_table(["target", "predicted", "lower", "upper", "unit"], rows)
    if first["abstain"]:
        click.echo(
            f"abstain: outside what the predictor knows ({first['reason']}); measure a few points first"
        )


@cli.command()
@_DEVICE
@_STAGE
@click.option("--model", "models", multiple=True, help="Network; default is every measured one.")
@click.option("--max-memory-mib", type=float, help="Largest memory in use.")
@click.option("--max-latency-ms", type=float, help="Largest time of one step.")
@click.option("--sure", is_flag=True, help="Judge by the upper ends of the intervals.")
@_INPUT
def plan(
    device: str, stage: str, models: tuple[str, ...], max_memory_mib: float | None, max_latency_ms: float | None,
    sure: bool, input_size: int | None,
) -> None:  # fmt: skip
    """Show the largest batch that fits, and which batch sizes and pruning levels are worth their cost."""
    from perf_assets.analysis.predictors import pipeline as prediction
    from perf_assets.analysis.predictors.serve import capacity

    with _plain_errors():
        paths = data_paths()
        seen = prediction.read_measurements(paths)
        predictor = prediction.load(paths, device, stage, seen, _own_networks(models))
        own = seen.runs[seen.runs["device"].isin(predictor.learnt_on) & (seen.runs["stage"] == stage)]
        predictions = capacity.grid(
            predictor, list(models) or sorted(own["model"].unique()), input_size=input_size or 0
        )
        if predictions.empty:
            raise ValueError(
                f"no shapes of {', '.join(models)}: drop a layer table, or use torchvision's names"
            )
    meets = capacity.feasible(predictions, max_memory_mib, max_latency_ms, sure=sure)
    columns = [
        name
        for name in ("model", "pruning_ratio", "batch_size", "latency", "memory", "energy", "abstain")
        if name in predictions
    ]
    shown = {"latency": "latency ms", "memory": "memory MiB", "energy": "energy J", "pruning_ratio": "pruned"}
    header = [shown.get(name, name.replace("_", " ")) for name in columns]
    if not meets.any():
        raise click.ClickException("no configuration meets these limits")
    click.echo("largest batch")
    _print_table(
        header, [*capacity.largest_batches(predictions, meets)[columns].itertuples(index=False, name=None)]
    )
    click.echo("worth their cost (no other is faster per image, less pruned and smaller)")
    _print_table(header, [*capacity.pareto(predictions, meets)[columns].itertuples(index=False, name=None)])


def main() -> None:
    """Run the command line; errors of ours are one line, not a traceback."""
    try:
        cli()
    except (NoDataFolderError, SettingError) as error:
        raise SystemExit(f"perf-assets: {error}") from error


def _own_networks(models: Iterable[str]) -> dict:
    """Networks that are named as ``package.module:name``; modules of the working folder can be imported."""
    from perf_assets.analysis.predictors.features.shapes import imported

    named = [model for model in models if ":" in model]
    if named and "" not in sys.path:
        sys.path.insert(0, "")
    return {model: imported(model) for model in named}


@contextmanager
def _plain_errors() -> Generator:
    """Errors that a user can cure, as one line."""
    from perf_assets.store.database import NoDatabaseError

    try:
        yield
    except (NoDatabaseError, ValueError) as error:
        raise click.ClickException(str(error)) from error


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
