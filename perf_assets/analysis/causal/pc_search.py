"""The PC search of causal-learn with tiers, by G-tests on levels and quantile bins. Only this module imports it."""

from __future__ import annotations

import importlib.util

import numpy as np

from perf_assets.analysis.causal.encoding import Encoded


class NoCausalLearnError(RuntimeError):
    """causal-learn is not installed."""


def is_installed() -> bool:
    """Is causal-learn there? It is an extra."""
    return importlib.util.find_spec("causallearn") is not None


def pc_search(encoded: Encoded, level: float) -> np.ndarray:
    """Search the graph by PC with background knowledge: no arrow against a tier, none within the first.

    A test with unknown values uses the rows in which all its columns are known. Where a column does not vary in
    those, the test says nothing, and the edge stays: runs that died must not vanish from the test of why they died.

    Args:
        encoded: columns as bins.
        level: significance level.

    Returns:
        columns x columns, true at [i, j] for i → j, both ways where PC leaves the direction open.

    Raises:
        NoCausalLearnError: the extra is missing; the message says how to install it.
    """
    p = len(encoded.names)
    if p < 2:
        return np.zeros((p, p), dtype=bool)
    if not is_installed():
        raise NoCausalLearnError("PC needs causal-learn: pip install 'perf-assets[causal]'")
    from causallearn.search.ConstraintBased.PC import pc

    test = "gsq" if (encoded.bins >= 0).all() else _known_rows_test()
    knowledge = _knowledge(encoded)
    found = pc(
        encoded.bins,
        level,
        test,
        background_knowledge=knowledge,
        show_progress=False,
        node_names=_node_names(p),
    )
    ends = found.G.graph
    linked = (ends != 0) & (ends.T != 0)
    # ends[j, i] is the mark at j of the edge i - j: 1 an arrow head, -1 a tail.
    arrow = linked & (ends.T == 1) & (ends == -1)
    return arrow | (linked & ~arrow & ~arrow.T)


def _node_names(p: int) -> list[str]:
    return [f"X{i + 1}" for i in range(p)]


def _knowledge(encoded: Encoded):
    from causallearn.graph.GraphNode import GraphNode
    from causallearn.utils.PCUtils.BackgroundKnowledge import BackgroundKnowledge

    nodes = [GraphNode(name) for name in _node_names(len(encoded.names))]
    knowledge = BackgroundKnowledge()
    for node, tier in zip(nodes, encoded.tiers, strict=True):
        knowledge.add_node_to_tier(node, int(tier))
    knowledge.forbid_within_tier(0)
    at = {name: i for i, name in enumerate(encoded.names)}
    for cause, effect in encoded.untried:
        knowledge.add_forbidden_by_node(nodes[at[cause]], nodes[at[effect]])
    return knowledge


def _known_rows_test() -> str:
    """Register the G-test on known rows with causal-learn; returns the name it goes by."""
    from causallearn.utils.cit import Chisq_or_Gsq, CIT_Base, register_ci_test

    class KnownRows(CIT_Base):
        """G-test on the rows in which all columns of the test are known (bin >= 0)."""

        def __init__(self, data: np.ndarray, **_: object) -> None:
            super().__init__(data)
            self.method = "gsq"
            self._missing = {int(i) for i in np.flatnonzero((data < 0).any(axis=0))}
            self._tests: dict[frozenset[int], tuple[Chisq_or_Gsq | None, np.ndarray]] = {}

        def __call__(self, X: int, Y: int, condition_set: tuple[int, ...] | None = None) -> float:  # noqa: N803
            pattern = frozenset({int(X), int(Y), *map(int, condition_set or ())} & self._missing)
            if pattern not in self._tests:
                rows = self.data[(self.data[:, sorted(pattern)] >= 0).all(axis=1)]
                varies = np.array([len(np.unique(column)) > 1 for column in rows.T], dtype=bool)
                # Columns outside the pattern may still hold -1, a bin of its own that no test here looks at.
                self._tests[pattern] = Chisq_or_Gsq(rows, method_name="gsq") if len(rows) else None, varies
            test, varies = self._tests[pattern]
            if test is None or not (varies[int(X)] and varies[int(Y)]):
                return 0.0
            return float(test(X, Y, condition_set))

    register_ci_test("gsq_known_rows", KnownRows)
    return "gsq_known_rows"
