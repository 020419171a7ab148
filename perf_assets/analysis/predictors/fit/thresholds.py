"""Where to cut a score into yes and no."""

from __future__ import annotations

import numpy as np


def best_threshold(scores: np.ndarray, positive: np.ndarray) -> float:
    """The threshold above which calling rows positive errs least often; between two scores."""
    order = np.argsort(scores)
    values, truth = scores[order], positive[order]
    # Errors if everything from position i on is called positive.
    errors = np.concatenate([[0], np.cumsum(truth)]) + np.concatenate([np.cumsum((~truth)[::-1])[::-1], [0]])
    edges = np.concatenate([[values[0] * 0.5], np.sqrt(values[:-1] * values[1:]), [values[-1] * 2]])
    best = np.flatnonzero(errors == errors.min())
    return float(edges[best[len(best) // 2]])
