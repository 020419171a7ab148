"""From the published runs to ``causal_edges``: what the asset, its checks and the command line call."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from perf_assets.store.database import open_readonly, rows_where
from perf_assets.store.publish import publish_computed
from perf_assets.workspace.paths import DataPaths

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from perf_assets.analysis.causal.graph import CausalGraph, Progress
    from perf_assets.analysis.causal.settings import CausalSettings

DEFAULT_TOOLS = ("pruning_profiler", "perf_assets")
"""Whose runs get a graph where nothing is configured: those that say what pruning costs and saves."""

CHECKS = {
    "no_edge_into_a_constant": "No edge ends at a column that does not vary in the runs.",
    "no_edge_against_a_tier": "No arrow points from a later tier to an earlier one, no edge joins two settings.",
    "shuffled_columns_have_no_edges": "With every column shuffled by itself, either search draws at most 5 % of all edges.",
}
"""Checks on ``causal_edges``, by name: what must hold. See :func:`check`."""


def read_runs(paths: DataPaths, settings: CausalSettings, condition: str = "") -> pd.DataFrame:
    """Read the rows of ``cleaned_runs`` that a graph is about.

    Args:
        paths: the data folder.
        settings: tool and filters.
        condition: SQL of the user at the keyboard, never of a file: an expression over ``cleaned_runs``. It runs
            read-only, without access to files.

    Raises:
        NoDatabaseError: nothing was published yet.
        ValueError: DuckDB cannot evaluate the condition; the message is its own.
    """
    with open_readonly(paths.database) as connection:
        runs = rows_where(connection, "cleaned_runs", condition or "true").df()
    runs = runs[runs["tool"] == settings.tool]
    for column, values in settings.filters.items():
        runs = runs[runs[column].isin(values)]
    return runs


def publish_graphs(
    paths: DataPaths,
    graphs: Iterable[CausalSettings] = (),
    condition: str = "",
    progress: Progress | None = None,
) -> list[CausalGraph]:
    """Search graphs and publish their edges and effects in place of all earlier ones.

    Args:
        paths: the data folder.
        graphs: what to search; the default is a graph for each of :data:`DEFAULT_TOOLS`.
        condition: see :func:`read_runs`.
        progress: called with (what, done, all).

    Raises:
        NoDatabaseError, ValueError: see :func:`read_runs`.
    """
    from perf_assets.analysis.causal.graph import find
    from perf_assets.analysis.causal.settings import of_tool

    found = []
    for settings in list(graphs) or [of_tool(tool) for tool in DEFAULT_TOOLS]:
        one = find(read_runs(paths, settings, condition), settings, progress)
        one.condition = condition
        found.append(one)
    publish_computed(paths, {"causal_edges": [row for one in found for row in one.rows()]})
    return found


def check(paths: DataPaths, name: str) -> list[str]:
    """What breaks a check of :data:`CHECKS`, in words; empty where it holds, or where no graph was published.

    A graph that a condition chose is held against all runs of its tool: SQL that lies in a table is not run again.
    """
    from perf_assets.analysis.causal import audit
    from perf_assets.analysis.causal.frame import build
    from perf_assets.analysis.causal.settings import CausalSettings

    with open_readonly(paths.database) as connection:
        cursor = connection.execute("SELECT * FROM causal_edges WHERE kind <> 'effect'")
        columns = [column[0] for column in cursor.description or []]
        edges = [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
    problems: list[str] = []
    for text in dict.fromkeys(edge["settings"] for edge in edges):
        settings = CausalSettings.model_validate(json.loads(text))
        own = [edge for edge in edges if edge["settings"] == text]
        if name == "no_edge_against_a_tier":
            problems += audit.against_tiers(own, settings)
            continue
        frame = build(read_runs(paths, settings), settings)
        if name == "no_edge_into_a_constant":
            problems += audit.into_constants(own, frame)
        else:
            problems += [
                f"{settings.graph}: {method} draws {share:.1%} of all edges between shuffled columns"
                for method, share in audit.false_edge_shares(frame, settings).items()
                if share > audit.MOST_FALSE_SHARE
            ]
    return problems


def draw(found: CausalGraph) -> Figure:
    """Draw a graph."""
    import pandas as pd

    from perf_assets.analysis.plots.causal_graph import causal_graph

    title = f"{found.settings.graph}: {len(found.frame.rows)} runs"
    if found.condition:
        title += f" where {found.condition}"
    return causal_graph(pd.DataFrame(found.rows()), title, f"{found.settings.graph}: {found.why_empty}")


def shown(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The edges of the drawn graph, confirmed ones first, for a table to look at."""
    drawn = [row for row in rows if row["method"] == "tiered_score"]
    return sorted(drawn, key=lambda row: (not row["confirmed"], row["target"], -row["frequency"]))
