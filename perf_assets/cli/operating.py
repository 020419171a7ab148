"""The UI, and what runs and who holds what: ``ui`` and ``status``."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import click

from perf_assets.cli.render import print_table
from perf_assets.workspace.paths import data_paths


@click.command()
@click.option("--recent", default=10, show_default=True, help="Runs to show.")
def status(recent: int) -> None:
    """What runs, waits and failed, on which device; sweeps with the time they have left."""
    import dagster as dg

    from perf_assets.defs.status import status as library

    paths = data_paths()
    here = Path("dagster.yaml").exists()
    if not here and "DAGSTER_HOME" not in os.environ:
        raise click.ClickException(
            f"no dagster.yaml in {Path.cwd()}: go to the project's folder, or set DAGSTER_HOME"
        )
    with dg.DagsterInstance.from_config(".") if here else dg.DagsterInstance.get() as instance:
        for section in library(paths, instance, recent):
            click.echo(section.title if section.rows else f"{section.title}: none")
            if section.rows:
                print_table(list(section.columns), section.rows)


@click.command()
@click.option("--port", default=3000, show_default=True, type=click.IntRange(0, 65535))
def ui(port: int) -> None:
    """Serve the Dagster UI on this machine's loopback address, closed to pages of other sites.

    Needs dagster.yaml and workspace.yaml in the current folder. A bare 'dagster dev' shows the same,
    unprotected.
    """
    from perf_assets.defs.ui import serve

    for name in ("dagster.yaml", "workspace.yaml"):
        if not Path(name).exists():
            raise click.ClickException(f"no {name} in {Path.cwd()}: go to the project's folder")
    data_paths()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise click.ClickException(
                f"port {port} cannot be had ({error.strerror}): name another with --port"
            ) from error
    sys.exit(serve(port))
