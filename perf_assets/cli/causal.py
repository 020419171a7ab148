"""What drives time, memory and outcomes: ``causal``."""

from __future__ import annotations

from pathlib import Path

import click

from perf_assets.cli.render import print_table, progress, say
from perf_assets.workspace.paths import data_paths

_SHOWN = (
    "source",
    "target",
    "kind",
    "frequency",
    "confirmed",
    "contrast",
    "effect",
    "effect_lower",
    "effect_upper",
    "unit",
)


@click.command()
@click.option("--where", default="", help="SQL condition on cleaned_runs, such as \"host = 'lab'\".")
@click.option("--tool", "tools", multiple=True, help="Tool whose runs to search; may be repeated.")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="TOML file of graphs, like docs/causal.toml, instead of tools.",
)
def causal(where: str, tools: tuple[str, ...], config: Path | None) -> None:
    """Search what drives time, memory and outcomes of runs; publish causal_edges, draw it, and say what it
    claims."""
    from perf_assets.analysis.causal import pipeline
    from perf_assets.analysis.causal.settings import of_tool, read_settings
    from perf_assets.analysis.causal.text import describe
    from perf_assets.analysis.plots.rendering import save
    from perf_assets.store.database import NoDatabaseError

    if tools and config:
        raise click.UsageError("--tool and --config exclude each other: a file names its tools itself")
    paths = data_paths()
    try:
        graphs = read_settings(config) if config else [of_tool(tool) for tool in dict.fromkeys(tools)]
        with progress() as show:
            found = pipeline.publish_graphs(paths, graphs, where, show)
    except (NoDatabaseError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    for graph in found:
        rows = pipeline.shown(graph.rows())
        if rows:
            print_table(_SHOWN, [[row[column] for column in _SHOWN] for row in rows])
        click.echo(f"{describe(graph)}\n")
        file = paths.plots / f"causal_graph_{graph.settings.graph}.png"
        save(pipeline.draw(graph), file)
        say(f"drawn in {file}")
