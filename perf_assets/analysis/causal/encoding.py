"""The frame as numbers for both searches: blocks for regression, bins for contingency tables, and which rows to use."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from perf_assets.analysis.causal.frame import NOT_STATED, QUANTITY, RARE, SETTING, CausalFrame

HINGES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Quantiles at which a quantity's line may bend, so that saturation and max() are no reason to seek other causes."""

LEAST_TRIED_SHARE = 0.9


@dataclass
class Encoded:
    """Columns as numbers, in frame order. ``n`` rows."""

    names: list[str]
    tiers: np.ndarray
    causes: list[np.ndarray]
    """Per column what it contributes as a cause: n x levels - 1, or a line with five bends; NaN where unknown."""
    effects: list[np.ndarray | None]
    """Per column what is explained, n values scaled to variance 1; None of settings, which nothing explains."""
    bins: np.ndarray
    """n x columns: level or quantile bin, from 0; -1 where unknown."""
    tried: list[list[int]]
    """Per column the earlier and same-tier columns that are tried as its causes."""
    used: list[np.ndarray]
    """Per column the rows (mask) on which it is explained: it and all that is tried are known."""
    untried: list[tuple[str, str]]
    """(cause, effect) that the data cannot speak about: they are never known together, or one is constant then."""

    @property
    def n(self) -> int:
        """Rows."""
        return len(self.bins)


def encode(frame: CausalFrame, bins: int | None = None) -> Encoded:
    """Turn the frame into numbers.

    A column is tried as a cause only if it is known in 90 % of the rows of every class of the effect (of a
    quantity: of its known rows), and varies there. So a quantity that is unknown exactly where runs died is never
    tried as a cause of their death, and the rows of the dead are not lost for the other causes.
    """
    names = frame.names
    bins = bins or bins_for(len(frame.rows))
    tiers = np.array([frame.tiers[name] for name in names], dtype=int)
    causes, effects, codes = [], [], []
    for name in names:
        cause, effect, code = _column(frame, name, bins)
        causes.append(cause)
        effects.append(effect)
        codes.append(code)
    table = np.column_stack(codes) if codes else np.empty((len(frame.rows), 0), dtype=int)
    known = table >= 0
    tried, used, untried = [], [], []
    for j, name in enumerate(names):
        candidates = (
            [] if tiers[j] == 0 else [i for i in range(len(names)) if i != j and tiers[i] <= tiers[j]]
        )
        classes = [known[:, j]]
        if frame.kinds[name] != QUANTITY:
            classes = [table[:, j] == code for code in np.unique(table[known[:, j], j])]
        good = [
            i
            for i in candidates
            if all(known[rows, i].mean() >= LEAST_TRIED_SHARE for rows in classes)
            and len(np.unique(table[known[:, j] & known[:, i], i])) > 1
        ]
        untried += [(names[i], name) for i in candidates if i not in good]
        tried.append(good)
        used.append(known[:, j] & known[:, good].all(axis=1))
    return Encoded(names, tiers, causes, effects, table, tried, used, untried)


def bins_for(n: int) -> int:
    """Quantile bins for so many rows: few rows fill few cells, many rows show what is left within wide bins."""
    return int(np.clip(round(0.85 * n**0.25), 3, 12))


def subset(encoded: Encoded, rows: np.ndarray) -> Encoded:
    """The same columns on some rows (indices)."""
    return Encoded(
        encoded.names,
        encoded.tiers,
        [block[rows] for block in encoded.causes],
        [None if effect is None else effect[rows] for effect in encoded.effects],
        encoded.bins[rows],
        encoded.tried,
        [mask[rows] for mask in encoded.used],
        encoded.untried,
    )


def dummies(values: pd.Series, levels: list[str]) -> np.ndarray:
    """0/1 columns of all levels but the first: n x levels - 1."""
    return (values.to_numpy()[:, None] == np.array(levels[1:], dtype=object)[None, :]).astype(float)


def bent_line(values: np.ndarray) -> np.ndarray:
    """A quantity as a line that may bend at :data:`HINGES`: n x 6; NaN stays NaN."""
    knots = np.nanquantile(values, HINGES)
    return np.column_stack([values, *(np.maximum(values - knot, 0) for knot in knots)])


def _coarser(codes: np.ndarray, ordered: int, bins: int) -> np.ndarray:
    """Join neighbours among the first ``ordered`` levels to about equally full bins, where there are more levels."""
    if ordered <= bins:
        return codes
    is_number = codes < ordered
    joined = codes - ordered + bins
    joined[is_number] = pd.qcut(codes[is_number], bins, labels=False, duplicates="drop")
    return joined


def _column(frame: CausalFrame, name: str, bins: int) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    values = frame.rows[name]
    if frame.kinds[name] == SETTING:
        levels = frame.levels[name]
        codes = pd.Categorical(values, categories=levels).codes.astype(int)
        if name in frame.numeric:
            codes = _coarser(codes, sum(level not in (NOT_STATED, RARE) for level in levels), bins)
        return dummies(values, levels), None, codes
    numbers = values.to_numpy(dtype=float)
    scaled = (numbers - np.nanmean(numbers)) / np.nanstd(numbers)
    if frame.kinds[name] == QUANTITY:
        codes = pd.qcut(values, bins, labels=False, duplicates="drop").fillna(-1).to_numpy(dtype=int)
        return bent_line(scaled), scaled, codes
    return numbers[:, None], scaled, np.where(np.isnan(numbers), -1, numbers).astype(int)
