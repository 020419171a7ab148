"""Our load generator against the real perf_analyzer, on the same embedded server, in turns.

    LD_LIBRARY_PATH=libs python -m benchmarks.load_generator path/to/perf_analyzer [repeats]

Prints medians over the repeats and their ratio for closed loops, and the highest rate that our open loop sustains
against a server that answers at once. Run it on a quiet machine: both compete with the server for its processors.
"""

import statistics
import sys
import tempfile
from pathlib import Path

from perf_assets.measuring.load_tests import perf_analyzer
from perf_assets.measuring.load_tests.generator import Bounds, closed_loop, open_loop
from perf_assets.measuring.load_tests.kserve import GrpcEndpoint
from perf_assets.measuring.load_tests.levels import CONCURRENCY, REQUEST_RATE, repeat_numbers
from perf_assets.measuring.load_tests.serving.servers import running_server, wait_ready
from perf_assets.measuring.load_tests.study import Cell, parse_study
from perf_assets.measuring.load_tests.tensors import random_entry

REQUESTS = 150


def study(program: str, service_ms: float):
    return parse_study(
        {
            "name": "peers",
            "server": {"kind": "embedded", "service_ms": service_ms},
            "load": {
                "source": "perf_analyzer",
                "perf_analyzer": program,
                "levels": [1],
                "requests": REQUESTS,
            },
        }
    )


def opened(declared, instances, work):
    """A context of the server, and an endpoint that is ready."""
    return running_server(declared, Cell(instances, None, 1), Path(work))


def ready(running) -> GrpcEndpoint:
    endpoint = GrpcEndpoint(running.grpc_address, "timed", 10.0)
    wait_ready(running, endpoint.is_ready, 30.0)
    endpoint.prepare([random_entry(endpoint.metadata()["inputs"], 1, {}, is_batched=True)])
    return endpoint


def against_perf_analyzer(program: str, repeats: int) -> None:
    print(
        "| service | instances | concurrency | ours /s | perf_analyzer /s | ratio | ours p50 ms | its p50 ms | ratio |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for service_ms, instances in ((20.0, 2), (50.0, 2)):
        declared = study(program, service_ms)
        with tempfile.TemporaryDirectory() as work, opened(declared, instances, work) as running:
            endpoint = ready(running)
            found: dict[tuple[int, str], list[dict]] = {}
            for _ in range(repeats):
                for level in (1, 2, 3, 4):
                    theirs = perf_analyzer.measure(declared, endpoint.address, CONCURRENCY, level, 1)
                    ours = closed_loop(endpoint.sender, level, Bounds(REQUESTS, 2, 120.0))
                    for name, load in (("theirs", theirs), ("ours", ours)):
                        numbers = repeat_numbers(load, CONCURRENCY, level, 1)
                        found.setdefault((level, name), []).append(numbers)
            for level in (1, 2, 3, 4):
                cells = [f"{service_ms:g} ms", str(instances), str(level)]
                for metric, factor in (("throughput_per_s", 1.0), ("p50_us", 1e-3)):
                    ours, theirs = (
                        factor * statistics.median(row[metric] for row in found[level, name])
                        for name in ("ours", "theirs")
                    )
                    cells += [f"{ours:.1f}", f"{theirs:.1f}", f"{ours / theirs:.3f}"]
                print("| " + " | ".join(cells) + " |", flush=True)


def highest_rate(program: str) -> None:
    declared = study(program, 0.0)
    with tempfile.TemporaryDirectory() as work, opened(declared, 8, work) as running:
        endpoint = ready(running)
        print("\n| rate asked for /s | sent /s | delayed % | p50 ms | p99 ms |\n|---|---|---|---|---|")
        for rate in (100, 200, 400, 600, 800, 1000, 1500):
            load = open_loop(endpoint.sender, rate, Bounds(2 * rate, rate // 10, 60.0), "0")
            numbers = repeat_numbers(load, REQUEST_RATE, rate, 1)
            told = [
                numbers["send_rate_per_s"],
                numbers["delayed_pct"],
                numbers["p50_us"] / 1e3,
                numbers["p99_us"] / 1e3,
            ]
            print(f"| {rate} | " + " | ".join(f"{value:.1f}" for value in told) + " |", flush=True)
            if numbers["delayed_pct"] > 50:
                return


if __name__ == "__main__":
    against_perf_analyzer(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 7)
    highest_rate(sys.argv[1])
