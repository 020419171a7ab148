"""From runs to a causal graph: both searches, how stable each edge is, and effects. Reads and writes nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from perf_assets.analysis.causal import effects as by_adjustment
from perf_assets.analysis.causal.effects import ADJUSTMENT, Effect
from perf_assets.analysis.causal.encoding import Encoded, encode
from perf_assets.analysis.causal.frame import FEWEST_ROWS, SETTING, CausalFrame, build
from perf_assets.analysis.causal.pc_search import is_installed, pc_search
from perf_assets.analysis.causal.score_search import score_search
from perf_assets.analysis.causal.second_opinion import double_ml, matched, verdict
from perf_assets.analysis.causal.settings import CausalSettings
from perf_assets.analysis.causal.stability import frequencies
from perf_assets.schema.tables import TABLES

SCORE, PC = "tiered_score", "pc"
DIRECTED, UNDIRECTED, EFFECT = "directed", "undirected", "effect"
CATEGORY, NUMBER = "category", "number"
PLACEBO_PERMUTATIONS = 100
PC_PROCESSES = 2
FEWEST_ROWS_FOR_PROCESSES = 2000
"""On fewer rows, starting processes takes longer than the search."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Edge:
    """An edge that one method found: ``source`` acts on ``target``, or, if undirected, one of them on the other."""

    source: str
    target: str
    kind: str
    method: str
    frequency: float
    confirmed: bool
    size: Effect | None = None


@dataclass
class CausalGraph:
    """What was found, and on what."""

    settings: CausalSettings
    frame: CausalFrame
    untried: list[tuple[str, str]] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    why_empty: str = ""
    """Why nothing was searched; empty where it was."""
    snapshot: str = ""
    condition: str = ""
    """SQL that chose the runs besides the settings, as the user wrote it."""
    has_pc: bool = True

    @property
    def drawn(self) -> list[Edge]:
        """The edges of the score search: the graph that is shown."""
        return [edge for edge in self.edges if edge.method == SCORE]

    def rows(self) -> list[dict[str, Any]]:
        """Rows of ``causal_edges``: every edge of either method, then every effect."""
        shared = {
            "graph": self.settings.graph,
            "snapshot": self.snapshot,
            "settings": self.settings.model_dump_json(),
            "condition": self.condition or None,
        }
        found = []
        for edge in self.edges:
            found.append(
                shared
                | self._ends(edge)
                | self._size(edge.size)
                | {"kind": edge.kind, "method": edge.method}
                | {"frequency": edge.frequency, "confirmed": edge.confirmed}
                | {"n": len(self.frame.rows), "verdict": None}
            )
        for one in self.effects:
            found.append(
                shared
                | self._ends(one)
                | self._size(one)
                | {"kind": EFFECT, "method": one.method}
                | {"frequency": None, "confirmed": None}
                | {"n": one.n, "verdict": one.verdict or None}
            )
        return found

    def unit(self, target: str) -> str:
        """Unit of effects on a column."""
        units = {column.name: column.unit for column in TABLES["cleaned_runs"].columns}
        return by_adjustment.unit_of(self.frame, target, units)

    def _ends(self, one: Edge | Effect) -> dict[str, str]:
        frame = self.frame
        kind = frame.kinds[one.source]
        if kind == SETTING:
            kind = NUMBER if one.source in frame.numeric else CATEGORY
        return {
            "source": one.source,
            "target": one.target,
            "source_tier": frame.tier_names[frame.tiers[one.source]],
            "target_tier": frame.tier_names[frame.tiers[one.target]],
            "source_kind": kind,
        }

    def _size(self, effect: Effect | None) -> dict[str, Any]:
        known = effect is not None and effect.effect is not None
        return {
            "contrast": effect.contrast if effect else None,
            "effect": effect.effect if effect else None,
            "effect_lower": effect.lower if effect else None,
            "effect_upper": effect.upper if effect else None,
            "unit": self.unit(effect.target) if effect and known else None,
        }


def find(runs: pd.DataFrame, settings: CausalSettings, progress: Progress | None = None) -> CausalGraph:
    """Search the causal graph of runs and measure its effects.

    Args:
        runs: rows of ``cleaned_runs``: run_id, status and the columns of the tiers.
        settings: which columns, and how to search.
        progress: called with (what, done, all).
    """
    frame = build(runs, settings)
    found = CausalGraph(settings, frame, snapshot=_snapshot(runs, settings), has_pc=is_installed())
    later = [name for name in frame.names if frame.kinds[name] != SETTING]
    if len(frame.rows) < FEWEST_ROWS:
        found.why_empty = f"{len(frame.rows)} runs are too few: {FEWEST_ROWS} are the least to search"
    elif not frame.settings or not later:
        found.why_empty = "nothing varies: " + ("no setting" if later else "no measured quantity or outcome")
    if found.why_empty:
        return found
    encoded = encode(frame, settings.bins)
    found.untried = encoded.untried
    say = progress or (lambda *_: None)
    # The matrices are small: threads would cost more than they save, and the node is shared.
    with threadpool_limits(1):
        found.edges = _edges(encoded, settings, found.has_pc, say)
        found.effects = _effects(frame, settings, found.drawn, say)
        found.edges = _with_sizes(frame, settings, found)
    return found


def _snapshot(runs: pd.DataFrame, settings: CausalSettings) -> str:
    """Hash of the runs' ids and of the settings, 16 hex digits, whatever the runs' order."""
    ids = sorted(map(str, runs["run_id"])) if "run_id" in runs else [str(len(runs))]
    return hashlib.sha256("\n".join([settings.model_dump_json(), *ids]).encode()).hexdigest()[:16]


def searches(settings: CausalSettings, has_pc: bool = True) -> dict[str, Callable[[Encoded], np.ndarray]]:
    """The searches by the name of their method."""
    found: dict[str, Callable[[Encoded], np.ndarray]] = {
        SCORE: partial(score_search, floor=settings.floor, level=settings.cause_level)
    }
    if has_pc:
        found[PC] = partial(pc_search, level=settings.level)
    return found


def _edges(encoded: Encoded, settings: CausalSettings, has_pc: bool, say: Progress) -> list[Edge]:
    graphs, linked, arrows = {}, {}, {}
    for method, search in searches(settings, has_pc).items():
        graphs[method] = search(encoded)
        linked[method], arrows[method] = frequencies(
            search,
            encoded,
            settings.half_samples,
            settings.seed,
            PC_PROCESSES if method == PC and encoded.n >= FEWEST_ROWS_FOR_PROCESSES else 1,
            partial(say, f"half-samples, {method}"),
        )
    return edges_of(encoded, graphs, linked, arrows, settings.stable)


def edges_of(
    encoded: Encoded,
    graphs: dict[str, np.ndarray],
    linked: dict[str, np.ndarray],
    arrows: dict[str, np.ndarray],
    stable: float,
) -> list[Edge]:
    """Edges of each method's graph with their frequencies; confirmed where both methods have them stably.

    An arrow whose direction is not stable itself is undirected, with the frequency of the pair.
    """
    methods = list(graphs)
    kinds: dict[str, dict[tuple[int, int], str]] = {}
    for method in methods:
        kinds[method] = {}
        for i, j in zip(*np.nonzero(graphs[method]), strict=True):
            if graphs[method][j, i] and j < i:
                continue
            directed = not graphs[method][j, i] and arrows[method][i, j] >= stable * linked[method][i, j]
            kinds[method][int(i), int(j)] = DIRECTED if directed else UNDIRECTED
    found = []
    for method in methods:
        for (i, j), kind in kinds[method].items():
            agree = len(methods) > 1 and all(_agrees(kinds[other], i, j, kind) for other in methods)
            often = all(linked[other][i, j] >= stable for other in methods)
            share = arrows[method][i, j] if kind == DIRECTED else linked[method][i, j]
            found.append(
                Edge(encoded.names[i], encoded.names[j], kind, method, float(share), bool(agree and often))
            )
    return found


def _agrees(kinds: dict[tuple[int, int], str], i: int, j: int, kind: str) -> bool:
    """Has a method this pair, and no arrow that contradicts?"""
    if (i, j) in kinds:
        return True
    return (j, i) in kinds and UNDIRECTED in (kind, kinds[j, i])


def reachable(names: list[str], edges: list[Edge]) -> set[tuple[str, str]]:
    """Pairs with a way along the edges; an undirected one may be walked either way."""
    at = {name: i for i, name in enumerate(names)}
    way = np.zeros((len(names), len(names)), dtype=bool)
    for edge in edges:
        way[at[edge.source], at[edge.target]] = True
        if edge.kind == UNDIRECTED:
            way[at[edge.target], at[edge.source]] = True
    for k in range(len(names)):
        way |= way[:, k, None] & way[None, k]
    return {(names[i], names[j]) for i, j in zip(*np.nonzero(way), strict=True)}


def _effects(frame: CausalFrame, settings: CausalSettings, drawn: list[Edge], say: Progress) -> list[Effect]:
    """Total effects of every setting on every later column; of those that the graph draws, the second opinions too."""
    direct = {(edge.source, edge.target) for edge in drawn}
    ways = reachable(frame.names, drawn)
    work = [
        (source, target, high, low)
        for source in frame.settings
        for high, low in by_adjustment.contrasts(frame, source)
        for target in frame.names
        if frame.kinds[target] != SETTING
    ]
    found: list[Effect] = []
    for done, (source, target, high, low) in enumerate(work, start=1):
        compared = by_adjustment.comparison(frame, source, target, high, low)
        first = by_adjustment.adjusted(frame, target, compared, settings.bootstraps, settings.seed)
        found.append(first)
        if (source, target) in direct:
            second = double_ml(frame, target, compared, settings.seed)
            found.append(
                second if second.effect is None else replace(second, verdict=_overlap(first, second))
            )
            found.append(by_adjustment.placebo(frame, target, compared, PLACEBO_PERMUTATIONS, settings.seed))
        if settings.randomised:
            tried = matched(frame, target, source, high, low, settings.bootstraps, settings.seed)
            claimed = first if (source, target) in ways else None
            found.append(replace(tried, verdict=verdict(claimed, tried)))
        say("effects", done, len(work))
    return found


def _overlap(first: Effect, second: Effect) -> str:
    if first.lower is None or first.upper is None or second.lower is None or second.upper is None:
        return "cannot tell"
    return "differs" if first.upper < second.lower or second.upper < first.lower else "agrees"


def _with_sizes(frame: CausalFrame, settings: CausalSettings, found: CausalGraph) -> list[Edge]:
    """Give every edge a size: of a setting its largest contrast, of a quantity one standard deviation more."""
    causes: dict[str, list[str]] = {}
    for edge in found.drawn:
        if edge.kind == DIRECTED:
            causes.setdefault(edge.target, []).append(edge.source)
    sizes: dict[tuple[str, str], Effect] = {}
    for one in found.effects:
        key = (one.source, one.target)
        if one.method == ADJUSTMENT and one.effect is not None:
            best = sizes.get(key)
            if best is None or best.effect is None or abs(one.effect) > abs(best.effect):
                sizes[key] = one
    for edge in found.edges:
        key = (edge.source, edge.target)
        if frame.kinds[edge.source] != SETTING and edge.kind == DIRECTED and key not in sizes:
            sizes[key] = by_adjustment.of_quantity(
                frame, *key, causes.get(edge.source, []), settings.bootstraps, settings.seed
            )
    return [replace(edge, size=sizes.get((edge.source, edge.target))) for edge in found.edges]
