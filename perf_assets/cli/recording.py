"""Recording what runs on this machine: ``record``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from perf_assets.workspace.paths import data_paths


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--name", help="Name of the recording. [default: the program's]")
@click.option(
    "--hz", default=10.0, show_default=True, type=click.FloatRange(0.01, 100), help="Samples a second."
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for it. [default: drops/perf_assets/recordings]"
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def record(command: tuple[str, ...], name: str | None, hz: float, out: Path | None) -> None:
    """Run COMMAND and record it: host, devices, energy, output and outcome, as one drop.

    Write it after --, with its arguments: perf-assets record --name night -- python train.py --epochs 3. Its
    output is shown as it comes, signals are passed on to it, and its exit code is ours.
    """
    from perf_assets.measuring.recording.process import CommandError
    from perf_assets.measuring.recording.telling import default_out, run_and_tell, to_stderr

    try:
        code = run_and_tell(command, out or default_out(data_paths().drops), name, hz, to_stderr)
    except CommandError as error:
        to_stderr(str(error))
        code = error.exit_code
    sys.exit(code)
