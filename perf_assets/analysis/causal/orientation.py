"""Which arrows of a graph follow from the data and the tiers, and which could as well point the other way."""

from __future__ import annotations

from itertools import combinations

import numpy as np


def oriented(dag: np.ndarray, tiers: np.ndarray) -> np.ndarray:
    """Keep the arrows that every graph with the same independences and tiers has; make the others two-way.

    Arrows are kept between tiers, into unshielded colliders, and where Meek's rules (1995) follow from those.

    Args:
        dag: columns x columns, true at [i, j] for i → j, without cycles.
        tiers: tier of each column.

    Returns:
        The same pairs; an edge of unknown direction is true both ways.
    """
    linked = dag | dag.T
    fixed = dag & (tiers[:, None] != tiers[None, :])
    for j in range(len(dag)):
        for a, b in combinations(np.flatnonzero(dag[:, j]), 2):
            if not linked[a, b]:
                fixed[a, j] = fixed[b, j] = True
    changed = True
    while changed:
        changed = False
        for i, j in zip(*np.nonzero(linked & ~fixed & ~fixed.T), strict=True):
            if dag[i, j] and not fixed[i, j] and _follows(fixed, linked, int(i), int(j)):
                fixed[i, j] = changed = True
    open_ = linked & ~fixed & ~fixed.T
    return fixed | open_


def _follows(fixed: np.ndarray, linked: np.ndarray, i: int, j: int) -> bool:
    """Does i → j follow from the arrows that are fixed already?"""
    if (fixed[:, i] & ~linked[:, j] & (np.arange(len(linked)) != j)).any():
        return True  # else i would be a new collider
    if (fixed[i] & fixed[:, j]).any():
        return True  # else there would be a cycle
    open_ = linked & ~fixed & ~fixed.T
    middles = np.flatnonzero(open_[i] & fixed[:, j])
    if any(not linked[a, b] for a, b in combinations(middles, 2)):
        return True
    # k → l → j, with i linked to both and k not linked to j.
    return any(
        (fixed[k] & fixed[:, j] & linked[i]).any() for k in np.flatnonzero(open_[i] & ~linked[:, j]) if k != j
    )
