"""Figures on the command line: ``plot`` and the contact sheet. What they show is the catalogue's."""

from __future__ import annotations

from pathlib import Path

import click

from perf_assets.cli.render import print_table, say
from perf_assets.workspace.paths import data_paths


@click.command()
@click.argument("name", required=False)
@click.option(
    "--where", metavar="SQL", help="Condition on the runs (of telemetry: the sessions): device = 'h100'."
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="FILE.svg, .png or .pdf. [default: NAME.svg]",
)
@click.option("--sql", "as_sql", is_flag=True, help="Print the figure's SQL instead of drawing it.")
def plot(name: str | None, where: str | None, out: Path | None, as_sql: bool) -> None:
    """Draw the figure NAME from the published tables; without a name, list all figures.

    Exit code 3: drawn, but no row is there for it, and the figure says what is missing.
    """
    from perf_assets.analysis.plots.catalog import PLOTS
    from perf_assets.analysis.plots.rendering import FORMATS, save
    from perf_assets.store.database import NoDatabaseError, QueryError, open_readonly

    if name is None:
        print_table(("name", "question"), [(each.name, each.question) for each in PLOTS.values()])
        return
    if name not in PLOTS:
        raise click.BadParameter(f"no figure {name!r}; there are {', '.join(PLOTS)}", param_hint="NAME")
    if as_sql:
        click.echo(PLOTS[name].query(where))
        return
    out = out or Path(f"{name}.svg")
    if out.suffix[1:].lower() not in FORMATS:
        raise click.BadParameter("a figure is written as .svg, .png or .pdf", param_hint="--out")
    try:
        with open_readonly(data_paths().database) as connection:
            frame = PLOTS[name].frame(connection, where)
    except (NoDatabaseError, QueryError) as error:
        raise click.ClickException(str(error)) from error
    save(PLOTS[name].draw(frame), out)
    click.echo(out)
    if frame.empty:
        say("no rows: the figure says what is missing")
        raise SystemExit(3)


@click.command(hidden=True)
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
def gallery(out: Path) -> None:
    """Write all figures as small pictures on one HTML page."""
    from perf_assets.analysis.reports.gallery import page
    from perf_assets.store.database import NoDatabaseError, open_readonly

    try:
        with open_readonly(data_paths().database) as connection:
            text = page(connection)
    except NoDatabaseError as error:
        raise click.ClickException(str(error)) from error
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text)
    click.echo(out)
