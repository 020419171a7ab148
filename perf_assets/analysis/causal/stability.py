"""How often an edge is found again on random halves of the rows. Knows no particular search."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from perf_assets.analysis.causal.encoding import Encoded, subset

Search = Callable[[Encoded], np.ndarray]
Progress = Callable[[int, int], None]


def frequencies(
    search: Search,
    encoded: Encoded,
    half_samples: int,
    seed: int = 0,
    processes: int = 1,
    progress: Progress | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Repeat a search on half-samples.

    Halves are drawn without replacement: duplicates of a bootstrap would look like dependence to tests on counts.

    Args:
        search: from columns to a graph (true at [i, j] for i → j, both ways where open).
        encoded: the columns.
        half_samples: repetitions.
        seed: of the halves.
        processes: worker processes; 1 stays in this one.
        progress: called with (done, all).

    Returns:
        Shares of the halves, columns x columns: with any edge between i and j, and with an arrow i → j.
    """
    rng = np.random.default_rng(seed)
    halves = [np.sort(rng.permutation(encoded.n)[: encoded.n // 2]) for _ in range(half_samples)]
    p = len(encoded.names)
    linked, arrows = np.zeros((p, p)), np.zeros((p, p))
    for done, graph in enumerate(_graphs(search, encoded, halves, processes), start=1):
        linked += graph | graph.T
        arrows += graph & ~graph.T
        if progress:
            progress(done, half_samples)
    return linked / half_samples, arrows / half_samples


def _graphs(search: Search, encoded: Encoded, halves: list[np.ndarray], processes: int):
    if processes == 1:
        yield from (search(subset(encoded, half)) for half in halves)
        return
    from joblib import Parallel, delayed

    workers = Parallel(n_jobs=processes, return_as="generator_unordered")
    yield from workers(delayed(search)(subset(encoded, half)) for half in halves)
