"""Predictors: ``fit`` and ``predict``."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterable
from contextlib import contextmanager

import click

from perf_assets.cli.render import print_table, say
from perf_assets.workspace.paths import data_paths


@click.command()
@click.option(
    "--train-networks", multiple=True, metavar="NAME", help="Learn from these networks alone; repeatable."
)
@click.option(
    "--eval-networks",
    multiple=True,
    metavar="NAME",
    help="Hold these networks out and judge by them; repeatable.",
)
def fit(train_networks: tuple[str, ...], eval_networks: tuple[str, ...]) -> None:
    """Fit the predictors to the published runs, score them beside their peers, publish scores and
    predictions."""
    from perf_assets.analysis.predictors import pipeline

    with plain_errors():
        chosen = None
        if train_networks or eval_networks:
            from perf_assets.analysis.predictors.evaluation.scores import ChosenNetworks

            chosen = ChosenNetworks(train_networks, eval_networks)
        scores = pipeline.fit_all(data_paths(), chosen)
        shortages = _shortages()
    fitted = sorted(file.stem for file in data_paths().predictors.glob("*.json"))
    if not scores and not fitted:
        raise click.ClickException("\n".join([_nothing_fitted(shortages), *shortages, _CURE]))
    columns = [
        *("target", "device", "split", "method", "n", "mape", "mape_answered"),
        *("coverage_answered", "abstained"),
    ]
    rows = [tuple(row.get(name) for name in columns) for row in scores if row["group"] == "all"]
    print_table(columns, rows)
    judged = {(row["target"], row["device"], row["stage"]) for row in scores}
    unjudged = [name for name in fitted if (name.split("-")[0], *name.split("-")[2:]) not in judged]
    unjudged = [name for name in unjudged if "-any-" not in name]
    if unjudged:
        say(f"fitted and not judged, nothing could be left out of one network: {', '.join(unjudged)}")
    if shortages:
        say("\n".join(["not fitted, too few configurations were measured:", *shortages, _CURE]))


_MODEL = click.option(
    "--model",
    required=True,
    help="Network: of a dropped layer table, torchvision's name, or package.module:name of your own.",
)
_DEVICE = click.option("--device", required=True, help="Device, as in cleaned_runs.device.")
STAGE = click.option(
    "--stage", default="training", show_default=True, type=click.Choice(["training", "inference"])
)
INPUT = click.option("--input-size", type=click.IntRange(min=1), help="Input height = width in pixels.")
_ALGORITHM = click.option("--algorithm", default="", help="Convolution algorithm, where runs have one.")


@click.command()
@_MODEL
@_DEVICE
@STAGE
@click.option("--batch-size", required=True, type=click.IntRange(min=1))
@click.option(
    "--pruning", default=0.0, show_default=True, type=click.FloatRange(0, 100), help="Percent pruned away."
)
@INPUT
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
    from perf_assets.analysis.predictors import pipeline

    configuration = {
        "model": model,
        "batch_size": batch_size,
        "pruning_ratio": pruning / 100,
        "input_size": input_size or 0,
        "algorithm": algorithm,
    }
    with plain_errors():
        answer = pipeline.ask(data_paths(), device, stage, configuration, own_networks([model]))
    if device not in answer.learnt_on:
        say(f"no run of {device} was measured: answered from {', '.join(answer.learnt_on)}")
    rows = answer.rows.astype(object).where(answer.rows.notna(), None)
    print_table(list(rows), rows.itertuples(index=False, name=None))
    if answer.abstained is not None:
        click.echo(
            f"abstain: outside what the predictor knows ({answer.abstained}); measure a few points first"
        )


_CURE = "measure more with 'perf-assets sweep', or drop profiles of these devices"


def _shortages() -> list[str]:
    """Which device, stage and target have too few measured configurations to fit on: a line each."""
    from perf_assets.analysis.predictors import pipeline
    from perf_assets.analysis.predictors.serve.predictor_set import shortages

    seen = pipeline.read_measurements(data_paths())
    return [
        f"  {row['device']} ({row['tool']}), {row['stage']}, {row['target']}: {row['measured']} measured"
        f" configurations, {row['needed']} are needed{_shapeless(row['shapeless'])}"
        for row in shortages(seen.runs, seen.tables)
    ]


def _shapeless(networks: list[str]) -> str:
    if not networks:
        return ""
    return f"; those of {', '.join(networks)} do not count, nobody knows its shapes: drop a layer table of it"


def _nothing_fitted(shortages: list[str]) -> str:
    """Why there is nothing, in words."""
    if shortages:
        return "nothing to fit: too few configurations were measured"
    return "nothing to fit: no run of a profiler is in the tables"


def own_networks(models: Iterable[str]) -> dict:
    """Networks that are named as ``package.module:name``; modules of the working folder can be imported."""
    from perf_assets.analysis.predictors.features.shapes import imported

    named = [model for model in models if ":" in model]
    if named and "" not in sys.path:
        sys.path.insert(0, "")
    return {model: imported(model) for model in named}


@contextmanager
def plain_errors() -> Generator:
    """Errors that a user can cure, as one line."""
    from perf_assets.store.database import NoDatabaseError

    try:
        yield
    except (NoDatabaseError, ValueError) as error:
        raise click.ClickException(str(error)) from error
