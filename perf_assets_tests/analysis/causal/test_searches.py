"""The searches against graphs that are known."""

import re
from functools import partial

import numpy as np
import pandas as pd
import pytest

from perf_assets.analysis.causal.encoding import Encoded, encode
from perf_assets.analysis.causal.frame import build
from perf_assets.analysis.causal.orientation import oriented
from perf_assets.analysis.causal.pc_search import pc_search
from perf_assets.analysis.causal.score_search import score_search
from perf_assets.analysis.causal.settings import CausalSettings
from perf_assets.analysis.causal.stability import frequencies
from perf_assets_tests.analysis.causal import TIERS, made_up_runs
from perf_assets_tests.support import SAMPLES, needs_samples

SEARCHES = {"score": partial(score_search, floor=0.05, level=0.001), "pc": partial(pc_search, level=0.01)}
TRUE_ARROWS = {
    ("model", "memory_used_mib"),
    ("batch_size", "memory_used_mib"),
    ("memory_used_mib", "latency_ms"),
    ("host", "latency_ms"),
    ("model", "accuracy_pct"),
    # Memory of the dead is unknown: what decides it stands in for it.
    ("host", "oom"),
    ("model", "oom"),
    ("batch_size", "oom"),
}


@pytest.fixture(scope="module")
def encoded():
    return encode(build(made_up_runs(), CausalSettings(tool="any", tiers=TIERS)))


def edges(graph, names):
    """Arrows, and pairs without direction."""
    arrows = {(names[i], names[j]) for i, j in zip(*np.nonzero(graph & ~graph.T), strict=True)}
    open_ = {frozenset((names[i], names[j])) for i, j in zip(*np.nonzero(graph & graph.T), strict=True)}
    return arrows, open_


def test_score_search_finds_the_true_graph(encoded):
    assert edges(SEARCHES["score"](encoded), encoded.names) == (TRUE_ARROWS, set())


def test_pc_finds_the_causes_of_death(encoded):
    arrows, open_ = edges(SEARCHES["pc"](encoded), encoded.names)
    assert {arrow for arrow in arrows if arrow[1] == "oom"} == {
        (name, "oom") for name in ("host", "model", "batch_size")
    }
    assert not any("num_workers" in edge for edge in arrows | open_)


@pytest.mark.parametrize("name", SEARCHES)
def test_order_of_rows_does_not_matter(encoded, name):
    runs = made_up_runs().sample(frac=1, random_state=1)
    shuffled = encode(build(runs, CausalSettings(tool="any", tiers=TIERS)))
    np.testing.assert_array_equal(SEARCHES[name](encoded), SEARCHES[name](shuffled))


@pytest.mark.parametrize("name", SEARCHES)
def test_shuffled_columns_have_no_edges(name):
    rng = np.random.default_rng(5)
    runs = made_up_runs()
    runs = runs.assign(status="ok").apply(lambda column: rng.permutation(column.to_numpy()))
    found = encode(build(runs, CausalSettings(tool="any", tiers=TIERS)))
    graph = SEARCHES[name](found)
    # 4 settings, 3 quantities: 12 + 3 pairs are possible, at most one of them by chance.
    assert np.triu(graph | graph.T).sum() <= 1


def test_saturation_is_no_reason_for_a_second_cause():
    """Power saturates with latency; the batch behind the latency must not look like a cause of its own."""
    rng = np.random.default_rng(3)
    n = 4000
    batch = rng.choice([1, 2, 4, 8, 16, 32, 64], n)
    latency = np.exp(0.7 * np.log(batch) + rng.normal(0, 0.2, n))
    power = 40 + 200 * latency / (latency + 4) + rng.normal(0, 5, n)
    runs = pd.DataFrame({"status": "ok", "batch_size": batch, "latency_ms": latency, "mean_power_w": power})
    tiers = {"configuration": ("batch_size",), "performance": ("latency_ms",), "power": ("mean_power_w",)}
    found = encode(build(runs, CausalSettings(tool="any", tiers=tiers)))
    arrows, _ = edges(SEARCHES["score"](found), found.names)
    assert arrows == {("batch_size", "latency_ms"), ("latency_ms", "mean_power_w")}


def graph_of(p, *arrows):
    graph = np.zeros((p, p), dtype=bool)
    for i, j in arrows:
        graph[i, j] = True
    return graph


@pytest.mark.parametrize(
    ("arrows", "tiers", "kept"),
    [
        # A chain within a tier could run either way.
        ([(0, 1), (1, 2)], [1, 1, 1], []),
        # A collider cannot.
        ([(0, 2), (1, 2)], [1, 1, 1], [(0, 2), (1, 2)]),
        # Between tiers every arrow is given, and the rest must not make a new collider.
        ([(0, 1), (1, 2)], [0, 1, 1], [(0, 1), (1, 2)]),
        # Nor a cycle.
        ([(0, 2), (1, 2), (0, 3), (2, 3)], [1, 1, 1, 1], [(0, 2), (1, 2), (2, 3), (0, 3)]),
        # A triangle in one tier says nothing.
        ([(0, 1), (0, 2), (1, 2)], [1, 1, 1], []),
    ],
)
def test_directions_that_follow(arrows, tiers, kept):
    graph = oriented(graph_of(len(tiers), *arrows), np.array(tiers))
    assert set(zip(*map(list, np.nonzero(graph & ~graph.T)), strict=True)) == set(kept)
    assert np.array_equal(graph | graph.T, graph_of(len(tiers), *arrows) | graph_of(len(tiers), *arrows).T)


def test_frequencies_count_halves(encoded):
    """A search that sees only how many rows it got, and finds one arrow in every half, one pair in every other."""
    calls = []

    def search(part):
        assert part.n == encoded.n // 2
        calls.append(part)
        graph = np.zeros((len(part.names),) * 2, dtype=bool)
        graph[0, 4] = True
        graph[4, 5] = graph[5, 4] = len(calls) % 2 == 0
        return graph

    seen = []
    linked, arrows = frequencies(search, encoded, 10, progress=lambda done, of: seen.append((done, of)))
    assert (linked[0, 4], linked[4, 0], arrows[0, 4], arrows[4, 0]) == (1, 1, 1, 0)
    assert (linked[4, 5], arrows[4, 5], arrows[5, 4]) == (0.5, 0, 0)
    assert seen == [(i, 10) for i in range(1, 11)]
    assert not np.array_equal(calls[0].bins, calls[1].bins)


def test_two_processes_count_the_same(encoded):
    one, two = (frequencies(SEARCHES["pc"], encoded, 4, processes=processes) for processes in (1, 2))
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[1], two[1])


@needs_samples("causal")
@pytest.mark.parametrize(
    ("network", "f1", "precision"), [("sachs", 0.95, 0.95), ("child", 0.95, 0.95), ("alarm", 0.95, 0.95)]
)
def test_pc_on_bnlearn(network, f1, precision):
    """Public networks with 10,000 rows; tiers are thirds of the depth in the true graph."""
    data = pd.read_csv(SAMPLES / "causal" / f"{network}.txt", sep=r"\s+")
    text = (SAMPLES / "causal" / f"{network}.graph.txt").read_text()
    truth = set(re.findall(r"(\w+) --> (\w+)", text))
    names = list(data.columns)
    depth = dict.fromkeys(names, 0)
    for _ in names:
        for a, b in truth:
            depth[b] = max(depth[b], depth[a] + 1)
    tiers = np.array([1 + min(2, 3 * depth[name] // (max(depth.values()) + 1)) for name in names])
    codes = np.column_stack([pd.factorize(data[name])[0] for name in names])
    p = len(names)
    table = Encoded(names, tiers, [], [], codes, [[]] * p, [], [])
    arrows, open_ = edges(pc_search(table, 0.01), names)
    found = {frozenset(arrow) for arrow in arrows} | open_
    true_pairs = {frozenset(arrow) for arrow in truth}
    right = len(found & true_pairs)
    assert 2 * right / (len(found) + len(true_pairs)) >= f1
    assert len(arrows & truth) / len(arrows) >= precision
    place = dict(zip(names, tiers, strict=True))
    assert all(place[a] <= place[b] for a, b in arrows)
