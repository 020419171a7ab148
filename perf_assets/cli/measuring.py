"""Measuring on devices: ``sweep`` and ``profile``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from perf_assets.cli.render import print_table, say, say_state
from perf_assets.schema.vocabularies import ALGORITHMS
from perf_assets.workspace.paths import data_paths


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--stage", default="sanity", show_default=True, help="sanity, quick or full.")
@click.option("--executor", default="local", show_default=True, help="local, slurm or ssh.")
@click.option(
    "--device",
    help="A device of this machine, or a table of cluster.toml. [default: cpu, or auto where FILE says so]",
)
@click.option("--site-file", type=click.Path(path_type=Path), help="cluster.toml of another place.")
@click.option("--again", is_flag=True, help="Measure points that were measured before as well.")
@click.option(
    "--pack", type=click.Path(path_type=Path), help="Write a zip file for a board, measure nothing."
)
@click.option("--run", "run_file", type=click.Path(path_type=Path), help="Measure such a file, on the board.")
@click.option("--collect", type=click.Path(path_type=Path), help="Take in the results that --run wrote.")
def sweep(
    file: Path | None,
    stage: str,
    executor: str,
    device: str | None,
    site_file: Path | None,
    *,
    again: bool,
    pack: Path | None,
    run_file: Path | None,
    collect: Path | None,
) -> None:
    """Measure what the sweep FILE asks for and the tables do not hold yet, and take it in."""
    from perf_assets.measuring.engines.jobs import CampaignError

    if sum(given is not None for given in (file, run_file, collect)) != 1:
        raise click.ClickException("name one of them: a sweep FILE, --run PACK, or --collect RESULTS")
    try:
        if collect is not None:
            _collect(collect)
        elif run_file is not None:
            from perf_assets.measuring.sweeps.__main__ import run_pack

            sys.exit(run_pack(run_file))
        elif file is not None and pack is not None:
            from perf_assets.measuring.sweeps.campaign import pack_campaign
            from perf_assets.measuring.sweeps.grid import read_sweep

            count = pack_campaign(data_paths(), read_sweep(file), stage, device or "cpu", pack)
            say(f"{pack}: {count} points; there: python -m perf_assets.measuring.sweeps --run {pack.name}")
        elif file is not None:
            _campaign(file, stage, executor, device, site_file, again=again)
    except (CampaignError, ValueError) as error:
        raise click.ClickException(str(error)) from error


def _collect(results: Path) -> None:
    from perf_assets.intake.pipeline import ingest
    from perf_assets.measuring.sweeps.boards import collect

    paths = data_paths()
    new = collect(results, paths.drops)
    ingest(paths)
    say(f"{len(new)} new logs in {paths.drops / 'perf_assets'}")


def _campaign(
    file: Path, stage: str, executor: str, device: str | None, site_file: Path | None, *, again: bool
) -> None:
    from perf_assets.measuring.engines.jobs import Launch, Place
    from perf_assets.measuring.sweeps.campaign import measured_runs, run_campaign
    from perf_assets.measuring.sweeps.grid import read_sweep

    paths, asked = data_paths(), read_sweep(file)
    report = run_campaign(
        paths,
        asked,
        stage,
        Place(executor, device or ("auto" if asked.devices == ("auto",) else "cpu")),
        again=again,
        launch=Launch(site_file=site_file, on_output=click.echo, on_status=say_state),
    )
    print_table(*measured_runs(paths, report.sweep))


@click.command()
@click.argument("spec", type=click.Path(path_type=Path), required=False)
@click.option(
    "--network", "networks", multiple=True, help="A network's name, or package.module:name. Repeat."
)
@click.option(
    "--algorithm", "algorithms", multiple=True, help="Of the convolutions. Repeat. [default: guess]"
)
@click.option(
    "--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, or its name: l40s."
)
@click.option("--stage", default="sanity", show_default=True, help="sanity, quick or full.")
@click.option("--sizes", type=click.IntRange(min=1), help="How many sizes the stage measures.")
@click.option("--vary", default="batch_size", show_default=True, help="batch_size or input_size.")
@click.option("--smallest", type=int, help="Smallest size. [default: 1, of inputs 224]")
@click.option("--largest", type=int, help="Largest size. [default: 64, of inputs 512]")
@click.option("--training", is_flag=True, help="Training steps instead of inference.")
@click.option(
    "--precision", "precisions", multiple=True, help="float32, tf32, float16, autocast, ... Repeat."
)
@click.option("--warmup", type=int, help="Exactly so many steps before. [default: until steady]")
@click.option("--measure", type=int, help="Exactly so many steps measured. [default: until known well]")
@click.option("--option", "options", multiple=True, help="KEY=VALUE: any further key of a spec. Repeat.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for logs. [default: in drops]")
@click.option("--list-networks", is_flag=True, help="Names of networks, and leave.")
@click.option("--list-algorithms", is_flag=True, help="Names of algorithms, and leave.")
@click.option("--check-device", is_flag=True, help="What can be measured on the device, and leave.")
def profile(
    spec: Path | None,
    out: Path | None,
    *,
    list_networks: bool,
    list_algorithms: bool,
    check_device: bool,
    **arguments: Any,
) -> None:
    """Measure on this machine: the one configuration of the JSON file SPEC, or what the options say.

    Logs are drops like any other.
    """
    from perf_assets.measuring.sweeps.arguments import network_lines, torch_name

    out = out or data_paths().drops / "perf_assets" / "profiles"
    try:
        if list_networks:
            click.echo("\n".join(network_lines()))
        elif list_algorithms:
            click.echo("\n".join(ALGORITHMS))
        elif check_device:
            from perf_assets.measuring.profiling.torch_device import measurable

            print_table(("quantity", "here"), measurable(torch_name(arguments["device"])))
        elif spec is not None and arguments["networks"]:
            raise click.ClickException(f"{spec} and --network: give one of them")
        elif spec is not None:
            sys.exit(_profile_file(spec, out))
        elif arguments["networks"]:
            sys.exit(_profile_arguments(arguments, out))
        else:
            raise click.ClickException("nothing to measure: name a JSON file, or --network NAME")
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error


def _profile_file(spec: Path, out: Path) -> int:
    from perf_assets.measuring.devices.lock import DeviceBusyError
    from perf_assets.measuring.profiling.__main__ import measure
    from perf_assets.measuring.profiling.spec import read_spec

    try:
        return measure(read_spec(spec), out)
    except DeviceBusyError as error:
        raise click.ClickException(str(error)) from error


def _profile_arguments(arguments: dict[str, Any], out: Path) -> int:
    from perf_assets.measuring.sweeps.arguments import sweep_of
    from perf_assets.measuring.sweeps.runner import run_sweep

    stage = arguments["stage"]
    sweep = sweep_of(**arguments)
    report = run_sweep(
        sweep,
        stage,
        out,
        on_progress=lambda progress: click.echo(
            f"{progress.done}/{progress.total} {progress.current or 'done'}"
        ),
    )
    rows = [(status, name) for status, names in report.points.items() for name in names]
    print_table(("status", "point"), rows)
    for name, reason in sorted(report.refusals.items()):
        click.echo(f"refused: {name}: {reason}")
    return 1 if {"failed", "incomplete", "busy"} & set(report.points) else 0
