"""Load studies of servers: ``load-test FILE`` and ``load-test input``."""

from __future__ import annotations

from pathlib import Path

import click

from perf_assets.cli.render import print_table, say, say_state
from perf_assets.workspace.paths import data_paths


class _StudyGroup(click.Group):
    """Takes what is no subcommand's name for a study's file."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, "-h", "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group(name="load-test", cls=_StudyGroup)
def load_test() -> None:
    """Run the load study of a TOML FILE (load-test FILE), or make an input file (load-test input)."""


@load_test.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--again", is_flag=True, help="Begin anew, even where a log waits to be finished.")
@click.option("--executor", default="local", show_default=True, help="local, slurm or ssh.")
@click.option("--device", default="cpu", show_default=True, help="A table of cluster.toml.")
@click.option("--site-file", type=click.Path(path_type=Path), help="cluster.toml of another place.")
def run(file: Path, again: bool, executor: str, device: str, site_file: Path | None) -> None:
    """Measure what the study FILE asks for and its last log does not hold yet, and take it in."""
    from perf_assets.measuring.engines.jobs import CampaignError, Launch, Place
    from perf_assets.measuring.load_tests.campaign import measured_levels, recordings, run_at, run_here
    from perf_assets.measuring.load_tests.requests import LoadError
    from perf_assets.measuring.load_tests.study import read_study
    from perf_assets.measuring.recording.process import CommandError

    paths = data_paths()
    try:
        study = read_study(file)
        if executor == "local":
            run_here(paths, study, say, again=again)
        else:
            run_at(
                paths,
                study,
                Place(executor, device),
                again=again,
                launch=Launch(site_file=site_file, on_output=click.echo, on_status=say_state),
            )
    except (LoadError, CommandError, CampaignError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    print_table(*(measured_levels(paths, study) if study.commands is None else recordings(paths)))


@load_test.command(name="input")
@click.argument("source", required=False, type=click.Path(path_type=Path))
@click.option("--out", "-o", required=True, type=click.Path(path_type=Path), help="The JSON file.")
@click.option(
    "--layout", type=click.Choice(["features", "geometry", "cells"]), default="features", show_default=True
)
@click.option(
    "--events", "-n", type=click.IntRange(1), help="Take so many, the first by name. [default: all]"
)
@click.option(
    "--tensor", multiple=True, metavar="NAME=FILE", help="A tensor of a .npy or CSV file, instead of SOURCE."
)
@click.option(
    "--metadata", type=click.Path(path_type=Path), help="JSON of the model's metadata, to check against."
)
@click.option("--url", help="http://HOST:PORT of a server, to check against its model.")
@click.option("--model", help="The model on that server.")
def make_input(
    source: Path | None,
    out: Path,
    layout: str,
    events: int | None,
    tensor: tuple[str, ...],
    metadata: Path | None,
    url: str | None,
    model: str | None,
) -> None:
    """Write input JSON from SOURCE: a folder of event*-cells.csv, or one CSV file of cells.

    A study reads it as model.input, perf_analyzer as --input-data.
    """
    from perf_assets.measuring.load_tests.input_json import write_events, write_tensors
    from perf_assets.measuring.load_tests.kserve import HttpEndpoint
    from perf_assets.workspace.validation import read_json

    if (source is None) == (not tensor):
        raise click.UsageError("name either SOURCE or --tensor NAME=FILE")
    if (url is None) != (model is None):
        raise click.UsageError("--url and --model go together")
    told = None
    try:
        if metadata is not None:
            told = read_json(metadata).get("inputs", [])
        elif url is not None and model is not None:
            told = HttpEndpoint(url, model, 10.0).metadata().get("inputs", [])
        if source is not None:
            count = write_events(source, out, layout, events, told)
        else:
            named = [each.partition("=") for each in tensor]
            if not all(name and file for name, _, file in named):
                raise click.UsageError("--tensor is written NAME=FILE")
            count = write_tensors({name: Path(file) for name, _, file in named}, out, told)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    checked = "" if told is None else ", checked against the model"
    click.echo(f"{out}: {count} event{'s' if count != 1 else ''}{checked}")
