"""The causal graph: what drives time, memory and outcomes of the published runs."""

from typing import Any

import dagster as dg
from pydantic import Field

from perf_assets.analysis.causal import pipeline
from perf_assets.defs.metadata import OWNERS, lineage, plot, problem_checks, record_table, table_metadata
from perf_assets.defs.resources import DataFolder
from perf_assets.schema import tables as schema

_SHOWN = ("source", "target", "kind", "frequency", "confirmed", "contrast", "effect", "unit")


class GraphChoice(dg.Config):
    """Which graphs to search."""

    graphs: list[dict[str, Any]] = Field(
        default_factory=list,
        description="What docs/causal.toml says of each graph: tool, name, tiers, ...; empty for the "
        "default tools'.",
    )


@dg.asset(
    deps=["cleaned_runs"],
    group_name="causal",
    kinds={"duckdb", "table"},
    description=schema.CAUSAL_EDGES.description,
    owners=OWNERS,
    metadata=table_metadata(schema.CAUSAL_EDGES),
)
def causal_graph(
    context: dg.AssetExecutionContext, config: GraphChoice, data_folder: DataFolder
) -> dg.MaterializeResult:
    """Search the graphs, publish ``causal_edges``, draw each graph and say in words what it claims."""
    from perf_assets.analysis.causal.settings import parse_settings
    from perf_assets.analysis.causal.text import describe

    paths = data_folder.paths()

    def say(what: str, done: int, of: int) -> None:
        if done == of:
            context.log.info("%s: %d done", what, done)

    try:
        graphs = parse_settings({"graph": config.graphs}, "graphs") if config.graphs else []
    except ValueError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    found = pipeline.publish_graphs(paths, graphs, progress=say)
    metadata: dict[str, Any] = {
        "dagster/row_count": sum(len(graph.rows()) for graph in found),
        **lineage("causal_edges"),
    }
    for graph in found:
        name = graph.settings.graph
        drawn = pipeline.shown(graph.rows())
        picture = plot(pipeline.draw(graph), paths.plots / f"causal_graph_{name}.png")
        metadata |= {
            f"{name}: runs": len(graph.frame.rows),
            f"{name}: edges": len(drawn),
            f"{name}: confirmed": sum(row["confirmed"] for row in drawn),
            f"{name}: in words": dg.MetadataValue.md(describe(graph)),
            f"{name}: table": record_table(_SHOWN, [[row[column] for column in _SHOWN] for row in drawn]),
            **{f"{name}: {part}": value for part, value in picture.items()},
        }
    return dg.MaterializeResult(metadata=metadata)


def causal_checks() -> list[dg.AssetChecksDefinition]:
    """Checks of the graphs, one an invariant of ``perf_assets.analysis.causal.pipeline.CHECKS``."""
    return problem_checks("causal_graph", pipeline.CHECKS, pipeline.check)
