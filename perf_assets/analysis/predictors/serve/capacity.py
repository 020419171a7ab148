"""Questions of capacity: the largest batch that fits, which device is fastest, and which batch and pruning level are
worth their cost."""

from __future__ import annotations

import numpy as np
import pandas as pd

from perf_assets.analysis.predictors.serve.predictor_set import Predictor

BATCH_SIZES = tuple(sorted({*(2**power for power in range(10)), *range(10, 129, 10), *range(140, 513, 20)}))
P90_SHARE = 0.78
"""Where nine in ten end, as a share of the half width of a 90 % interval, which leaves out one in twenty on either
side: 1.28 / 1.645 of a normal distribution. Of Student's t it is less, so this is on the safe side."""


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
        sure: judge by what nine in ten stay below (:func:`p90`) instead of the predictions.
    """
    meets = np.ones(len(predictions), dtype=bool)
    if "oom" in predictions:
        meets &= (predictions["oom"] < 0.5).to_numpy()
    for target, limit in (("memory", max_memory_mib), ("latency", max_latency_ms)):
        if limit is not None and target in predictions:
            judged = p90(predictions, target) if sure else predictions[target].to_numpy(float)
            meets &= judged <= limit
    return meets


def p90(predictions: pd.DataFrame, target: str) -> np.ndarray:
    """What nine in ten such configurations stay below, shape (n,); NaN where a prediction has no interval."""
    predicted, upper = (predictions[name].to_numpy(float) for name in (target, f"{target}_upper"))
    return predicted * (upper / predicted) ** P90_SHARE


def largest_batches(predictions: pd.DataFrame, meets: np.ndarray) -> pd.DataFrame:
    """The largest feasible batch of each network and pruning level on each device: one row each, none where nothing
    fits."""
    allowed = predictions[meets].sort_values("batch_size")
    return allowed.groupby(["model", "pruning_ratio", "device"], as_index=False).last()


def fastest_devices(predictions: pd.DataFrame, meets: np.ndarray) -> pd.DataFrame:
    """The device that does most images a second within the limits, of each network and pruning level.

    Returns:
        Its row, with ``images_per_s``, the ``next_device`` and how many times as fast as that one it is
        (``times_as_fast``): NaN where no other device meets the limits.
    """
    allowed = predictions[meets].copy()
    allowed["images_per_s"] = allowed["batch_size"] / allowed["latency"] * 1000
    allowed = allowed.sort_values("images_per_s", ascending=False, kind="stable")
    best = allowed.drop_duplicates(["model", "pruning_ratio", "device"])
    ranked = best.groupby(["model", "pruning_ratio"], sort=True)
    first, second = ranked.nth(0), ranked.nth(1)
    others = second[["model", "pruning_ratio", "device", "images_per_s"]].rename(
        columns={"device": "next_device", "images_per_s": "next_images_per_s"}
    )
    rows = first.merge(others, how="left", on=["model", "pruning_ratio"])
    rows["times_as_fast"] = rows["images_per_s"] / rows["next_images_per_s"]
    return rows.sort_values(["model", "pruning_ratio"], ignore_index=True)


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
