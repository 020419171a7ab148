"""A made-up study: its runs, what made them, and how near a found graph is to that."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

Edges = set[tuple[str, str]]


@dataclass
class Study:
    """Made-up runs and what made them: columns by tier, and every direct cause as (source, target)."""

    name: str
    rows: pd.DataFrame
    tiers: dict[str, list[str]]
    edges: Edges


class Truth:
    """Collects columns together with their causes, so that data and truth cannot part."""

    def __init__(self) -> None:
        self.columns: dict[str, np.ndarray] = {}
        self.tiers: dict[str, list[str]] = {}
        self.edges: Edges = set()

    def add(self, tier: str, name: str, values: np.ndarray, causes: tuple[str, ...] = ()) -> np.ndarray:
        self.columns[name] = values
        self.tiers.setdefault(tier, []).append(name)
        self.edges |= {(cause, name) for cause in causes}
        return values

    def study(self, name: str) -> Study:
        return Study(name, pd.DataFrame(self.columns), self.tiers, self.edges)


def skewed_choice(
    rng: np.random.Generator, values: list, n: int, given: np.ndarray | None = None
) -> np.ndarray:
    """Draw levels with unequal shares; with ``given`` the shares differ by its level (an unbalanced design)."""
    levels = np.array(values, dtype=object)
    if given is None:
        return rng.choice(levels, n, p=rng.dirichlet(np.full(len(levels), 4.0)))
    drawn = np.empty(n, dtype=object)
    for level in pd.unique(given):
        rows = given == level
        drawn[rows] = rng.choice(levels, rows.sum(), p=rng.dirichlet(np.full(len(levels), 2.0)))
    return drawn


@dataclass
class Scores:
    """How near a found graph is to the true one."""

    skeleton_precision: float
    skeleton_recall: float
    skeleton_f1: float
    directed_precision: float
    """Share of the found arrows that are true causes."""
    directed: int
    undirected: int


def scores(graph: np.ndarray, names: list[str], truth: Edges) -> Scores:
    """Compare a graph (true at [i, j] for i → j, both ways where open) with the true edges."""
    pairs = {frozenset(edge) for edge in truth}
    found = {frozenset((names[i], names[j])) for i, j in zip(*np.nonzero(graph), strict=True)}
    arrows = {(names[i], names[j]) for i, j in zip(*np.nonzero(graph & ~graph.T), strict=True)}
    right = len(found & pairs)
    precision = right / len(found) if found else 1.0
    recall = right / len(pairs)
    f1 = 2 * precision * recall / (precision + recall) if right else 0.0
    directed = len(arrows & truth) / len(arrows) if arrows else 1.0
    return Scores(precision, recall, f1, directed, len(arrows), len(found) - len(arrows))
