"""A queue of a few servers under Poisson arrivals, simulated: what latencies a load would have.

Service times are drawn from measured ones, so no distribution is assumed; arrivals are the process that the open
loop sends, requests are served first come, first served.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

_WARMUP_SHARE = 0.1
_HALVINGS = 12


@dataclass(frozen=True)
class Queue:
    """A queue: service times to draw from, in microseconds, and servers."""

    service_us: tuple[float, ...]
    servers: int

    @property
    def capacity_per_s(self) -> float:
        """The rate at which it is always busy."""
        return 1e6 * self.servers / float(np.mean(self.service_us))

    def latencies_us(self, rate_per_s: float, requests: int, seed: int) -> np.ndarray:
        """Latencies of so many requests, after a warm-up, in the order of their arrival."""
        draw = np.random.default_rng(seed)
        warmup = round(requests * _WARMUP_SHARE) + 50
        total = warmup + requests
        arrivals_us = np.cumsum(draw.exponential(1e6 / rate_per_s, total))
        service_us = draw.choice(np.asarray(self.service_us), total)
        if self.servers == 1:
            ended_us = _one_server(arrivals_us, service_us)
        else:
            ended_us = _many_servers(arrivals_us, service_us, self.servers)
        return (ended_us - arrivals_us)[warmup:]


def _one_server(arrivals_us: np.ndarray, service_us: np.ndarray) -> np.ndarray:
    """Ends by Lindley's recursion in closed form: the latest start of a busy period decides."""
    served_us = np.cumsum(service_us)
    return served_us + np.maximum.accumulate(arrivals_us - served_us + service_us)


def _many_servers(arrivals_us: np.ndarray, service_us: np.ndarray, servers: int) -> np.ndarray:
    free_us = [0.0] * servers
    ended_us = np.empty(len(arrivals_us))
    for i, (arrival_us, length_us) in enumerate(zip(arrivals_us.tolist(), service_us.tolist(), strict=True)):
        end_us = max(heapq.heappop(free_us), arrival_us) + length_us
        heapq.heappush(free_us, end_us)
        ended_us[i] = end_us
    return ended_us


def highest_rate_per_s(
    queue: Queue,
    statistic: Callable[[np.ndarray], float],
    limit_us: float,
    requests: int = 60_000,
    seed: int = 1,
) -> float:
    """The highest rate at which a statistic of the latencies stays below a limit, by bisection with the same
    random numbers at every rate; 0 where no rate meets it."""
    # One server is simulated without a loop, so that many more requests cost as little.
    requests = 400_000 if queue.servers == 1 else 120_000
    low, high = 0.0, queue.capacity_per_s * 0.999
    if statistic(queue.latencies_us(queue.capacity_per_s * 1e-3, 2000, seed)) >= limit_us:
        return 0.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if statistic(queue.latencies_us(middle, requests, seed)) < limit_us:
            low = middle
        else:
            high = middle
    return low


def chance_range(
    queue: Queue,
    rate_per_s: float,
    statistic: Callable[[np.ndarray], float],
    requests: int,
    samples: int = 200,
    confidence: float = 0.99,
) -> tuple[float, float]:
    """Between which values the statistic of so few requests lies at a rate, by chance alone."""
    found = sorted(statistic(queue.latencies_us(rate_per_s, requests, seed)) for seed in range(samples))
    tail = (1 - confidence) / 2
    return found[int(tail * samples)], found[min(samples - 1, int((1 - tail) * samples))]


def statistic_of(metric: str) -> Callable[[Sequence[float] | np.ndarray], float]:
    """The statistic that a column of ``cleaned_load_levels`` holds: ``avg_us``, ``p99_us``, ..."""
    if metric == "avg_us":
        return lambda values: float(np.mean(values))
    percent = float(metric.removeprefix("p").removesuffix("_us"))
    return lambda values: float(np.percentile(values, percent))
