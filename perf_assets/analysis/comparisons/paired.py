"""Is one step faster than another? Paired and interleaved, with an answer that may be "cannot tell".

Both steps run in turn in one process, so that what slows the machine slows both; each pair gives one ratio,
and slow drift cancels in it. Absolute times from a shared machine do not allow such statements.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from perf_assets.measuring.profiling.protocol import Timer
from perf_assets.workspace.statistics import median_interval

SAME_WITHIN = 0.02
"""Ratios within this share of 1 are the same for all practical purposes."""
CONFIDENCE = 0.997
"""Of the interval behind the verdict: fewer than one comparison in a hundred of equals may miss 1."""


@dataclass(frozen=True)
class Comparison:
    """Ratio of the second step's time to the first's: below 1 means that the second is faster."""

    ratio: float
    low: float
    high: float
    pairs: int
    verdict: str
    """Of the second step against the first."""
    first_ms: tuple[float, ...]
    second_ms: tuple[float, ...]


def compare(
    first: Callable[[], object],
    second: Callable[[], object],
    timer: Timer,
    *,
    pairs: int = 40,
    min_block_s: float = 0.005,
    seed: int = 0,
) -> Comparison:
    """Time two steps in turn, in random order within each pair, and compare them.

    Args:
        first: the step that is the reference.
        second: the step in question.
        timer: times blocks of either.
        pairs: pairs of blocks, after warming both up.
        min_block_s: blocks hold as many steps as this takes, and never so few that reading the clock costs
            0.1 %.
        seed: of the order.
    """
    needed_s = max(min_block_s, timer.resolution_s * 1000)
    steps = [_block_size(step, timer, needed_s) for step in (first, second)]
    order = np.random.default_rng(seed)
    times_ms: list[list[float]] = [[], []]
    for _ in range(pairs):
        for which in order.permutation(2):
            times_ms[which].append(timer.time_block((first, second)[which], steps[which]).latency_ms)
    return judge_pairs(times_ms[0], times_ms[1])


def judge_pairs(first_ms: Sequence[float], second_ms: Sequence[float]) -> Comparison:
    """Compare times that were measured in pairs.

    ``same``: the interval of the median ratio lies within :data:`SAME_WITHIN` of 1. ``faster``, ``slower``:
    it excludes 1. ``cannot tell``: neither can be said.
    """
    logs = np.log(np.asarray(second_ms, dtype=float) / np.asarray(first_ms, dtype=float))
    low, high = np.exp(median_interval(logs, CONFIDENCE))
    if low >= 1 - SAME_WITHIN and high <= 1 + SAME_WITHIN:
        verdict = "same"
    elif high < 1:
        verdict = "faster"
    elif low > 1:
        verdict = "slower"
    else:
        verdict = "cannot tell"
    return Comparison(
        float(np.exp(np.median(logs))),
        float(low),
        float(high),
        len(logs),
        verdict,
        tuple(map(float, first_ms)),
        tuple(map(float, second_ms)),
    )


def _block_size(step: Callable[[], object], timer: Timer, needed_s: float) -> int:
    steps = 1
    for _ in range(3):  # the first calls are slow; sizes settle within three rounds
        block = timer.time_block(step, steps)
        steps = max(1, round(needed_s / (block.wall_s / block.steps)))
    return steps
