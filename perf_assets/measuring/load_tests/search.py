"""Search instead of sweep: the highest load that meets an objective, and the knee of the throughput curve.

Closed loop: concurrency doubles until the objective is missed, then the gap is halved. A level is repeated only
while its interval holds the limit.

Open loop: latencies near a limit depend on chance (long queues), so halving alone needs many requests. Service
times (one request at a time) and capacity (many at a time) are measured first; a queue with these is simulated
for the rate at which it would just meet the objective; measured levels at this rate and at both sides must agree
with it. Where they do not (a server that gathers requests into batches, say), halving decides.

The knee of the curve is the lowest concurrency that brings ``KNEE_SHARE`` of the highest throughput.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from perf_assets.measuring.load_tests.levels import CONCURRENCY, REQUEST_RATE
from perf_assets.measuring.load_tests.queueing import Queue, chance_range, highest_rate_per_s, statistic_of
from perf_assets.measuring.load_tests.study import Objective, Search

KNEE_SHARE = 0.95
_FLAT = 1.05
"""Twice the concurrency that brings no more than this: the curve is flat."""
_TIGHT_PCT = 2.5
_SIDE = 0.05
"""How far from the simulated rate the two sides are measured, as a share."""
_Z95 = 1.96
_MOST_HALVINGS = 12


@dataclass
class Probe:
    """One measured level: its numbers, and the latencies that were pooled."""

    level: float
    numbers: dict[str, Any]
    latencies_us: Sequence[float] = ()


MeasureLevel = Callable[[str, float, Callable[[Probe], bool] | None], Probe]
"""Measures a level of a mode. The third argument, where there is one, is asked after each repeat whether that is
enough; without it, repeats go on until their interval is tight."""


@dataclass
class Found:
    """The answer: the highest load that meets the objective, between ``lower`` and ``upper``: levels that meet and
    miss it; None where none does."""

    objective: str
    mode: str
    level: float | None
    lower: float | None
    upper: float | None
    method: str
    at: dict[str, Any] = field(default_factory=dict)
    """Numbers of the measured level nearest below the answer."""


def find(search: Search, objective: Objective, mode: str, measure: MeasureLevel) -> Found:
    """Search for what a study asks for."""
    if objective.limit_us is None:
        return _find_knee(search, measure)
    if mode == CONCURRENCY:
        return _find_concurrency(search, objective, measure)
    return _find_rate(search, objective, measure)


def _find_knee(search: Search, measure: MeasureLevel) -> Found:
    seen: dict[int, Probe] = {}

    def throughput(level: int) -> float:
        if level not in seen:
            seen[level] = measure(CONCURRENCY, level, _is_tight)
        return seen[level].numbers.get("throughput_per_s") or 0.0

    level, largest = max(1, round(search.smallest)), round(search.largest)
    while level < largest:
        following = min(2 * level, largest)
        # One step that brings nothing may be chance, or a step of a server of several parts: two are needed.
        is_flat = throughput(following) < _FLAT * throughput(level)
        level = following
        if is_flat and throughput(min(level + max(1, level // 2), largest)) < _FLAT * throughput(level):
            break
    highest = max(throughput(each) for each in list(seen) or [level])
    below = [each for each in seen if throughput(each) < KNEE_SHARE * highest]
    enough = [each for each in seen if throughput(each) >= KNEE_SHARE * highest]
    low, high = max(below, default=None), min(each for each in enough if each > max(below, default=0))
    while low is not None and high - low > 1:
        middle = (low + high) // 2
        if throughput(middle) >= KNEE_SHARE * highest:
            high = middle
        else:
            low = middle
    method = f"lowest concurrency with {100 * KNEE_SHARE:g} % of the highest throughput"
    return Found("throughput", CONCURRENCY, high, low, high, method, seen[high].numbers)


def _find_concurrency(search: Search, objective: Objective, measure: MeasureLevel) -> Found:
    met: dict[int, Probe] = {}
    missed: dict[int, Probe] = {}

    def meets(level: int) -> bool:
        probe = measure(CONCURRENCY, level, lambda each: is_clear(each, objective))
        (met if _meets(probe, objective) else missed)[level] = probe
        return level in met

    level, largest = max(1, round(search.smallest)), round(search.largest)
    while meets(level) and level < largest:
        level = min(2 * level, largest)
    while met and missed and min(missed) - max(met) > 1:
        meets((max(met) + min(missed)) // 2)
    best = max(met, default=None)
    return Found(
        objective.text,
        CONCURRENCY,
        best,
        best,
        min(missed, default=None),
        "doubled until missed, then halved",
        met[best].numbers if best is not None else {},
    )


def _find_rate(search: Search, objective: Objective, measure: MeasureLevel) -> Found:
    limit_us, metric = objective.limit_us or 0.0, objective.metric or ""
    alone = measure(CONCURRENCY, 1, lambda _: True)
    many = _saturated(search, measure)
    capacity_per_s = many.numbers.get("throughput_per_s") or 0.0
    met: dict[float, Probe] = {}
    missed: dict[float, Probe] = {}

    def probe(rate: float) -> Probe:
        found = measure(REQUEST_RATE, rate, lambda _: True)
        (met if _meets(found, objective) else missed)[rate] = found
        return found

    if metric in ("avg_us", *(f"p{p}_us" for p in (50, 75, 90, 95, 99))) and capacity_per_s > 0:
        queue = queue_of(alone.latencies_us, capacity_per_s)
        statistic = statistic_of(metric)
        rate = min(highest_rate_per_s(queue, statistic, limit_us), search.largest)
        sides = [each for each in (1.0, 1 - _SIDE, 1 + _SIDE) if each * rate <= search.largest]
        if rate >= search.smallest and all(_agrees(queue, statistic, each * rate, probe) for each in sides):
            at = (met | missed)[round(rate, 6)].numbers
            method = (
                f"a queue of {queue.servers} with the measured service times meets it up to there; the levels"
                f" measured there and {100 * _SIDE:g} % to both sides agree with that queue"
            )
            upper = rate * (1 + _SIDE) if 1 + _SIDE in sides else None
            return Found(objective.text, REQUEST_RATE, rate, rate * (1 - _SIDE), upper, method, at)
    return _halve_rate(search, objective, capacity_per_s, probe, met, missed)


def _saturated(search: Search, measure: MeasureLevel) -> Probe:
    """A level at which more requests under way bring no more throughput."""

    level, last = 4, measure(CONCURRENCY, 4, _is_tight)
    while level < 1024 and (last.numbers.get("throughput_per_s") or 0.0) < 1.5 * search.largest:
        level *= 4
        following = measure(CONCURRENCY, level, _is_tight)
        before, after = (each.numbers.get("throughput_per_s") or 0.0 for each in (last, following))
        last = following if after > before else last
        if after < _FLAT * before:
            break
    return last


def queue_of(latencies_us: Sequence[float], capacity_per_s: float) -> Queue:
    """The queue that serves one request at a time in these times, and no more than ``capacity_per_s``."""
    service_us = np.asarray(latencies_us, dtype=float)
    servers = max(1, round(capacity_per_s * float(service_us.mean()) / 1e6))
    # What a client adds to the service is no load of the server: the capacity tells the service itself.
    scaled = service_us * (1e6 * servers / capacity_per_s) / float(service_us.mean())
    return Queue(tuple(scaled.tolist()), servers)


def _is_tight(probe: Probe) -> bool:
    """Is the throughput known well enough for a comparison at ``KNEE_SHARE``?"""
    spread_pct = probe.numbers.get("spread_pct")
    return spread_pct is not None and spread_pct <= _TIGHT_PCT


def _agrees(
    queue: Queue, statistic: Callable[[np.ndarray], float], rate: float, probe: Callable[[float], Probe]
) -> bool:
    """Does a measured level lie where chance would put it, were the server this queue?"""
    found = probe(round(rate, 6))
    if len(found.latencies_us) < 2:
        return False
    low, high = chance_range(queue, rate, statistic, len(found.latencies_us))
    return low <= statistic(np.asarray(found.latencies_us)) <= high


def _halve_rate(
    search: Search,
    objective: Objective,
    capacity_per_s: float,
    probe: Callable[[float], Probe],
    met: dict[float, Probe],
    missed: dict[float, Probe],
) -> Found:
    low = search.smallest
    high = min(search.largest, capacity_per_s) if capacity_per_s > 0 else search.largest
    for _ in range(_MOST_HALVINGS):
        low = max([low, *(rate for rate in met if rate < min(missed, default=math.inf))])
        high = min([high, *missed])
        if not missed and high in met:
            break
        if high <= low * (1 + search.precision) and (met or missed):
            break
        probe(round(high if not missed and not met else math.sqrt(low * high), 6))
    level = _between(objective, met, missed)
    return _rate_found(objective, level, met, missed, "halved")


def _between(objective: Objective, met: dict[float, Probe], missed: dict[float, Probe]) -> float | None:
    """Where the metric crosses the limit, between the nearest two levels, on logarithmic scales."""
    below = max((rate for rate in met if rate < min(missed, default=math.inf)), default=None)
    above = min(missed, default=None)
    if below is None or above is None or not objective.metric or not objective.limit_us:
        return below
    low_us, high_us = (each.numbers.get(objective.metric) for each in (met[below], missed[above]))
    if not low_us or not high_us or high_us <= low_us or low_us >= objective.limit_us:
        return below
    share = math.log(objective.limit_us / low_us) / math.log(high_us / low_us)
    return below * (above / below) ** min(1.0, max(0.0, share))


def _rate_found(
    objective: Objective,
    level: float | None,
    met: dict[float, Probe],
    missed: dict[float, Probe],
    method: str,
) -> Found:
    nearest = max((rate for rate in met if level is None or rate <= level * 1.001), default=None)
    upper = min((rate for rate in missed if level is None or rate >= level), default=None)
    at = met[nearest].numbers if nearest is not None else {}
    return Found(objective.text, REQUEST_RATE, level if met or level else None, nearest, upper, method, at)


def _meets(probe: Probe, objective: Objective) -> bool:
    value = probe.numbers.get(objective.metric or "")
    return (
        value is not None
        and objective.limit_us is not None
        and value < objective.limit_us
        and probe.numbers.get("verdict") not in ("failed", "overloaded")
    )


def is_clear(probe: Probe, objective: Objective) -> bool:
    """Does the interval of the metric leave the limit out, so that more repeats cannot change the answer?"""
    metric, limit_us = objective.metric or "", objective.limit_us
    values = np.sort(np.asarray(probe.latencies_us, dtype=float))
    if limit_us is None or len(values) < 10 or metric.startswith(("ttft", "itl")):
        return False
    if metric == "avg_us":
        half = _Z95 * float(values.std()) / math.sqrt(len(values))
        low, high = float(values.mean()) - half, float(values.mean()) + half
    else:
        share = float(metric.removeprefix("p").removesuffix("_us")) / 100
        n = len(values)
        spread = _Z95 * math.sqrt(n * share * (1 - share))
        low = float(values[max(0, math.floor(n * share - spread) - 1)])
        high = float(values[min(n - 1, math.ceil(n * share + spread))])
    return high < limit_us or low > limit_us
