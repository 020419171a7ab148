"""Searches against servers whose knee is known by formula, and how few requests they need."""

import math
import random

import pytest

from perf_assets.measuring.load_tests.levels import CONCURRENCY, latency_numbers
from perf_assets.measuring.load_tests.requests import Finished
from perf_assets.measuring.load_tests.search import Probe, find
from perf_assets.measuring.load_tests.study import Search, parse_objective, parse_study
from perf_assets.workspace.validation import InvalidInputError

REQUESTS = 200
SWEEP = 20 * REQUESTS
SERVICE_US = 20_000.0


class Server:
    """Serves at random (exponential) or constant times with so many instances; counts its requests."""

    def __init__(self, instances: int, *, exponential: bool = False, seed: int = 0) -> None:
        self.instances = instances
        self.exponential = exponential
        self.requests = 0
        self._random = random.Random(seed)

    def service_us(self) -> float:
        return self._random.expovariate(1 / SERVICE_US) if self.exponential else SERVICE_US

    def measure(self, mode: str, level: float, is_enough) -> Probe:
        latencies_us, length_us = (self._closed if mode == CONCURRENCY else self._open)(level)
        self.requests += len(latencies_us)
        finished = [Finished(0, 0, round(1000 * latency_us)) for latency_us in latencies_us]
        numbers = latency_numbers(finished) | {"throughput_per_s": 1e6 * len(latencies_us) / length_us}
        return Probe(level, numbers | {"verdict": "stable", "spread_pct": 1.0}, latencies_us)

    def _closed(self, level: float) -> tuple[list[float], float]:
        """Each of so many clients sends again at once; a request takes the instance that is free first."""
        free_us, clients_us = [0.0] * self.instances, [0.0] * int(level)
        latencies_us = []
        for _ in range(REQUESTS):
            sent_us = min(clients_us)
            start_us = max(sent_us, min(free_us))
            end_us = start_us + self.service_us()
            free_us[free_us.index(min(free_us))] = end_us
            clients_us[clients_us.index(sent_us)] = end_us
            latencies_us.append(end_us - sent_us)
        return latencies_us, max(free_us)

    def _open(self, rate_per_s: float) -> tuple[list[float], float]:
        free_us, now_us, latencies_us = [0.0] * self.instances, 0.0, []
        for _ in range(REQUESTS):
            now_us += self._random.expovariate(rate_per_s / 1e6)
            end_us = max(now_us, min(free_us)) + self.service_us()
            free_us[free_us.index(min(free_us))] = end_us
            latencies_us.append(end_us - now_us)
        return latencies_us, now_us


@pytest.mark.parametrize("instances", [1, 3, 7])
@pytest.mark.parametrize("largest", [20, 64])
def test_knee_of_the_curve_is_at_the_instances(instances, largest):
    server = Server(instances)
    search = Search(objective="throughput", largest=largest)
    found = find(search, parse_objective("throughput"), CONCURRENCY, server.measure)
    assert found.level == instances
    assert found.at["throughput_per_s"] == pytest.approx(1e6 * instances / SERVICE_US, rel=0.05)
    assert server.requests <= 0.4 * SWEEP


@pytest.mark.parametrize("instances", [1, 2, 5])
def test_highest_concurrency_within_a_latency(instances):
    """With all instances busy a request waits for those before it: c / instances services in all."""
    server = Server(instances)
    objective = parse_objective("p99 < 65ms")
    found = find(Search(objective="p99<65ms", largest=20), objective, CONCURRENCY, server.measure)
    truth = math.floor(65_000 / SERVICE_US) * instances
    assert abs(found.level - truth) <= 1
    assert found.upper == found.level + 1
    assert server.requests <= 0.4 * SWEEP


def test_no_load_meets_an_impossible_objective_and_every_load_a_loose_one():
    impossible = find(
        Search(objective="p50<10ms", largest=20), parse_objective("p50<10ms"), CONCURRENCY, Server(1).measure
    )
    assert (impossible.level, impossible.upper) == (None, 1)
    loose = find(
        Search(objective="p50<10s", largest=8), parse_objective("p50<10s"), CONCURRENCY, Server(1).measure
    )
    assert (loose.level, loose.upper) == (8, None)


@pytest.mark.parametrize("seed", range(4))
def test_highest_rate_of_a_queue_with_constant_service(seed):
    """M/D/1 by Erlang's formula (1909): P(wait <= t) for t = k services and the rest, summed."""
    limit_us = 100_000.0

    def within(rate_per_s: float) -> float:
        rho, steps = rate_per_s * SERVICE_US / 1e6, (limit_us - SERVICE_US) / SERVICE_US
        terms = [
            (rho * (k - steps)) ** k / math.factorial(k) * math.exp(-rho * (k - steps))
            for k in range(math.floor(steps) + 1)
        ]
        return (1 - rho) * sum(terms)

    low, high = 1.0, 49.9
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if within(middle) > 0.99 else (low, middle)
    server = Server(1, seed=seed)
    objective = parse_objective("p99<100ms")
    found = find(Search(objective="p99<100ms", largest=100), objective, "request_rate", server.measure)
    assert found.level == pytest.approx(low, rel=0.05)
    assert server.requests <= 0.4 * SWEEP


def test_a_server_that_is_no_such_queue_is_searched_by_halving():
    """It answers every request in the same time up to 30 a second, and far too late beyond."""

    def measure(mode, level, is_enough):
        latency_us = SERVICE_US if mode == CONCURRENCY or level <= 30 else 40 * SERVICE_US
        numbers = {"p99_us": latency_us, "avg_us": latency_us, "verdict": "stable", "spread_pct": 0.1}
        throughput = level * 1e6 / latency_us if mode == CONCURRENCY else level
        return Probe(level, numbers | {"throughput_per_s": min(throughput, 200.0)}, [latency_us] * REQUESTS)

    objective = parse_objective("p99<100ms")
    found = find(Search(objective="p99<100ms", largest=100), objective, "request_rate", measure)
    assert found.lower <= 30 < found.upper
    assert found.upper <= 1.06 * found.lower
    assert found.lower <= found.level <= found.upper


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"search": {"objective": "p99<fast"}}, "search: objective 'p99<fast': write it like p99<50ms"),
        ({"load": {"levels": [1], "sauce": "x"}}, "unknown key 'load.sauce': did you mean 'source'?"),
        ({"load": {"levels": [1.5]}}, r"load.levels: 1.5 is no concurrency: use whole numbers from 1"),
        ({"load": {"levels": []}}, "load.levels is missing: write the levels to measure"),
        ({"server": None}, r"write either a \[server\] that is put under load, or \[commands\]"),
        ({"server": {"kind": "triton"}}, "server.repository is missing"),
        (
            {"server": {"kind": "running", "url": "a:1"}, "model": {"instances": [1, 2]}},
            "cannot be changed: name one",
        ),
        ({"repeats": {"least": 5, "most": 2}}, "repeats.least = 5 is more than repeats.most = 2"),
    ],
)
def test_a_wrong_study_is_one_line_with_file_key_and_cure(change, message):
    fields = {"name": "s", "server": {"kind": "embedded"}, "load": {"levels": [1]}, **change}
    with pytest.raises(InvalidInputError, match=message) as raised:
        parse_study(fields, "studies/s.toml")
    assert str(raised.value).startswith("studies/s.toml: ")
    assert "\n" not in str(raised.value)
