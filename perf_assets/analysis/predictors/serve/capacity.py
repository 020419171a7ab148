"""Questions of capacity: the largest batch that fits, and which batch and pruning level are worth their
cost."""

from __future__ import annotations

import numpy as np
import pandas as pd

from perf_assets.analysis.predictors.serve.predictor_set import Predictor

BATCH_SIZES = tuple(sorted({*(2**power for power in range(10)), *range(10, 129, 10), *range(140, 513, 20)}))


def grid(
    predictor: Predictor, models: list[str], batch_sizes: tuple[int, ...] = BATCH_SIZES, input_size: int = 0
) -> pd.DataFrame:
    """Predictions for every batch size and known pruning level of networks."""
    rows = [
        (model, ratio, batch)
        for model in models
        for ratio in predictor.tables.levels(model)
        for batch in batch_sizes
    ]
    frame = pd.DataFrame(rows, columns=["model", "pruning_ratio", "batch_size"])
    return predictor.predict(frame.assign(input_size=input_size))


def feasible(
    predictions: pd.DataFrame,
    max_memory_mib: float | None = None,
    max_latency_ms: float | None = None,
    *,
    sure: bool = False,
) -> np.ndarray:
    """Which predictions meet the limits and fit in memory, shape (n,).

    Args:
        predictions: what :meth:`Predictor.predict` returns.
        max_memory_mib: largest memory in use.
        max_latency_ms: largest time of one step.
        sure: judge by the upper ends of the intervals instead of the predictions.
    """
    suffix = "_upper" if sure else ""
    meets = np.ones(len(predictions), dtype=bool)
    if "oom" in predictions:
        meets &= (predictions["oom"] < 0.5).to_numpy()
    for target, limit in (("memory", max_memory_mib), ("latency", max_latency_ms)):
        if limit is not None and target in predictions:
            meets &= (predictions[f"{target}{suffix}"] <= limit).to_numpy()
    return meets


def largest_batches(predictions: pd.DataFrame, meets: np.ndarray) -> pd.DataFrame:
    """The largest feasible batch of each network and pruning level on each device: one row each, none where nothing
    fits."""
    allowed = predictions[meets].sort_values("batch_size")
    return allowed.groupby(["model", "pruning_ratio", "device"], as_index=False).last()


def least_sure(predictions: pd.DataFrame, count: int) -> pd.DataFrame:
    """The configurations that it would help most to measure next, at most ``count``: of each network and device
    the one with the widest interval of latency first, then the next ones."""
    width = np.log(predictions["latency_upper"] / predictions["latency_lower"])
    # Where nothing says how far off an answer is, a measurement says most.
    ranked = predictions.assign(width=width.fillna(np.inf)).sort_values(
        "width", ascending=False, kind="stable"
    )
    ranked["turn"] = ranked.groupby(["model", "device"]).cumcount()
    chosen = ranked.sort_values(["turn", "width"], ascending=[True, False], kind="stable").head(count)
    return chosen.drop(columns=["turn", "width"]).reset_index(drop=True)


def pareto(predictions: pd.DataFrame, meets: np.ndarray) -> pd.DataFrame:
    """Feasible rows that no other beats: less time per image, less pruned away, at most as much memory.

    One set a network and device, sorted by pruning level and batch size.
    """
    allowed = predictions[meets].copy()
    if allowed.empty or "latency" not in allowed:
        return allowed
    allowed["latency_per_image_ms"] = allowed["latency"] / allowed["batch_size"]
    columns = [name for name in ("latency_per_image_ms", "pruning_ratio", "memory") if name in allowed]
    kept = []
    for _, group in allowed.groupby(["model", "device"]):
        values = group[columns].to_numpy(float)
        better = (values[None, :, :] <= values[:, None, :]).all(axis=2) & (
            values[None, :, :] < values[:, None, :]
        ).any(axis=2)
        kept.append(group[~better.any(axis=1)])
    return pd.concat(kept).sort_values(["model", "device", "pruning_ratio", "batch_size"], ignore_index=True)
