"""The UI, and what runs and who holds what: ``ui`` and ``status``."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import click

from perf_assets.cli.render import print_table, say
from perf_assets.workspace.paths import data_paths

USUAL_PORTS = range(3000, 3020)


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
@click.option("--port", type=click.IntRange(0, 65535), help="[default: 3000, or the next one that is free]")
def ui(port: int | None) -> None:
    """Serve the Dagster UI on this machine's loopback address, closed to pages of other sites.

    Needs dagster.yaml and workspace.yaml in the current folder. A bare 'dagster dev' shows the same,
    unprotected.
    """
    from perf_assets.defs.ui import serve

    for name in ("dagster.yaml", "workspace.yaml"):
        if not Path(name).exists():
            raise click.ClickException(f"no {name} in {Path.cwd()}: go to the project's folder")
    data_paths()
    if port is None:
        port = next((each for each in USUAL_PORTS if _refusal(each) is None), USUAL_PORTS[0])
    if refused := _refusal(port):
        raise click.ClickException(f"port {port} cannot be had ({refused}): name another with --port")
    if port not in (0, USUAL_PORTS[0]):
        say(f"the UI: http://localhost:{port}")
    sys.exit(serve(port))


def _refusal(port: int) -> str | None:
    """Why nothing can listen on a port; None where it is free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return error.strerror
    return None
