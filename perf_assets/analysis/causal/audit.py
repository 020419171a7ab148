"""What must hold of every graph: no edge into a constant, none against a tier, hardly any in shuffled columns."""

from __future__ import annotations

import numpy as np

from perf_assets.analysis.causal.encoding import encode
from perf_assets.analysis.causal.frame import SETTING, CausalFrame
from perf_assets.analysis.causal.graph import DIRECTED, EFFECT, searches
from perf_assets.analysis.causal.pc_search import is_installed
from perf_assets.analysis.causal.settings import CausalSettings

MOST_FALSE_SHARE = 0.05


def into_constants(edges: list[dict], frame: CausalFrame) -> list[str]:
    """Edges (rows of ``causal_edges``) at a column that does not vary, in words."""
    constant = {name for name, why in frame.set_aside.items() if "constant" in why}
    constant |= {name for name in frame.names if frame.rows[name].nunique() < 2}
    return [_words(edge) for edge in edges if {edge["source"], edge["target"]} & constant]


def against_tiers(edges: list[dict], settings: CausalSettings) -> list[str]:
    """Arrows from a later tier to an earlier one, and any edge between settings, in words."""
    tier = {name: i for i, names in enumerate(settings.tiers.values()) for name in names}
    return [
        _words(edge)
        for edge in edges
        if edge["kind"] != EFFECT
        and (
            tier[edge["source"]] > tier[edge["target"]]
            or tier[edge["source"]] == tier[edge["target"]] == 0
            or (tier[edge["source"]] != tier[edge["target"]] and edge["kind"] != DIRECTED)
        )
    ]


def false_edge_shares(frame: CausalFrame, settings: CausalSettings, rounds: int = 3) -> dict[str, float]:
    """Share of all possible edges that each search draws when every column is shuffled by itself: all are false."""
    rng = np.random.default_rng(settings.seed)
    later = sum(frame.kinds[name] != SETTING for name in frame.names)
    possible = later * len(frame.settings) + later * (later - 1) // 2
    counts: dict[str, int] = {}
    for _ in range(rounds):
        shuffled = frame.rows.apply(lambda column: rng.permutation(column.to_numpy()))
        encoded = encode(CausalFrame(**{**vars(frame), "rows": shuffled}), settings.bins)
        for method, search in searches(settings, is_installed()).items():
            graph = search(encoded)
            counts[method] = counts.get(method, 0) + int(np.triu(graph | graph.T).sum())
    return {method: count / (possible * rounds) for method, count in counts.items()} if possible else {}


def _words(edge: dict) -> str:
    return f"{edge['graph']}: {edge['source']} → {edge['target']} ({edge['method']})"
