"""Is the evaluation itself sound? Checks that would catch a leaked or a shuffled target."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from perf_assets.analysis.predictors.evaluation.scores import (
    GROUPED_SPLITS,
    JUDGED_ROWS,
    Fit,
    folds,
    leaks,
    shuffled_target_score,
)
from perf_assets.analysis.predictors.features.configurations import MEASURES
from perf_assets.analysis.predictors.features.costs import values_of
from perf_assets.analysis.predictors.features.design import Design, design
from perf_assets.analysis.predictors.features.layers import layer_designs
from perf_assets.analysis.predictors.features.outliers import outlier_values, without_outliers
from perf_assets.analysis.predictors.features.shapes import NetworkTables
from perf_assets.analysis.predictors.fit.predictor import OURS, fit_predictor
from perf_assets.analysis.predictors.serve.predictor_set import ANY_DEVICE, domains, rows_of

SHUFFLED_FACTOR = 1.5
"""Shuffled training values must make errors at least this much larger."""


def leaked(measured: pd.DataFrame, tables: NetworkTables) -> list[str]:
    """What is on both sides of any grouped split, or the target in disguise; in words."""
    found = []
    for name, rows in _designs(measured, tables):
        for fold in folds(rows.frame):
            if fold.split != "random_leaky":
                problems = leaks(rows.rows(fold.train), rows.rows(fold.held))
                found += [f"{name}, {fold.split} {fold.group}: {problem}" for problem in problems]
    return found


def learnt_from_shuffled(
    measured: pd.DataFrame, tables: NetworkTables, *, fit: Fit = fit_predictor
) -> list[str]:
    """Targets whose predictor does hardly worse when its training values are shuffled; in words."""
    found = []
    for name, rows in _designs(measured, tables):
        for target in MEASURES:
            known = rows.rows(np.isfinite(values_of(rows.frame, target)))
            if len(known) < JUDGED_ROWS or known.frame["model"].nunique() < 2:
                continue
            true_pct, shuffled_pct = shuffled_target_score(known, target, fit=fit)
            if shuffled_pct < SHUFFLED_FACTOR * true_pct:
                found.append(
                    f"{name}, {target}: {true_pct:.1f} % on true, {shuffled_pct:.1f} % on shuffled values"
                )
    return found


def beaten_by_peers(scores: pd.DataFrame) -> list[str]:
    """Grouped splits of a target on which a peer errs no more than ours; in words.

    Args:
        scores: rows of ``predictor_scores``.
    """
    found = []
    grouped = scores[scores["split"].isin(GROUPED_SPLITS) & (scores["group"] == "all")]
    for (target, device, stage, split), rows in grouped.groupby(["target", "device", "stage", "split"]):
        own = rows.loc[rows["method"] == OURS, "mape"].min()
        found += [
            f"{target} on {device} ({stage}), {split}: ours {own:.1f} %, {row.method} {row.mape:.1f} %"
            for row in rows[rows["method"] != OURS].itertuples()
            if not own < row.mape
        ]
    return found


def outliers(measured: pd.DataFrame, layers: pd.DataFrame, tables: NetworkTables) -> list[str]:
    """Measurements of networks and layers that nothing was learnt from because they cannot be right; in
    words."""
    own = [domain for domain in domains(measured) if domain[1] != ANY_DEVICE]
    designs = [design(rows_of(measured, *domain), tables, with_peer=False) for domain in own]
    designs += [rows for *_, rows in layer_designs(layers, tables)]
    return [text for rows in designs for text in outlier_values(rows)]


def _designs(measured: pd.DataFrame, tables: NetworkTables) -> Iterator[tuple[str, Design]]:
    for tool, device, stage in domains(measured):
        rows = design(rows_of(measured, tool, device, stage), tables, with_peer=False)
        if len(rows):
            yield f"{device} ({stage}, {tool})", without_outliers(rows)
