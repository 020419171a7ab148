"""What a person reads: ``report``."""

from __future__ import annotations

from pathlib import Path

import click

from perf_assets.workspace.paths import data_paths


@click.command()
@click.option("--out", type=click.Path(path_type=Path), help="File of the page. [default: data/report.html]")
def report(out: Path | None) -> None:
    """Write the report: one HTML page of what is in the store, with nothing to install or fetch."""
    from perf_assets.analysis.reports.page import write_report
    from perf_assets.store.database import NoDatabaseError

    try:
        click.echo(write_report(data_paths(), out))
    except (NoDatabaseError, OSError) as error:
        raise click.ClickException(str(error)) from error
