"""What runs and who holds what: ``status``."""

from __future__ import annotations

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

    with (
        dg.DagsterInstance.from_config(".")
        if Path("dagster.yaml").exists()
        else dg.DagsterInstance.get() as instance
    ):
        for section in library(data_paths(), instance, recent):
            click.echo(section.title if section.rows else f"{section.title}: none")
            if section.rows:
                print_table(list(section.columns), section.rows)
