"""Effects against truths that the data was made with."""

import numpy as np
import pandas as pd
import pytest

from perf_assets.analysis.causal.effects import (
    Effect,
    adjusted,
    comparison,
    contrasts,
    of_quantity,
    placebo,
)
from perf_assets.analysis.causal.frame import build
from perf_assets.analysis.causal.second_opinion import double_ml, matched, verdict
from perf_assets.analysis.causal.settings import CausalSettings

TIERS = {
    "configuration": ("model", "host", "batch_size"),
    "resources": ("memory_used_mib",),
    "performance": ("latency_ms", "energy_j"),
    "outcome": ("oom",),
}


def confounded(n=1500, seed=0):
    """Large models ran with large batches: without adjustment the batch takes the model's blame.

    log latency = 1.5 model + 0.6 (batch 8 instead of 1), twice that on the laptop.
    """
    rng = np.random.default_rng(seed)
    large = rng.random(n) < 0.5
    laptop = rng.random(n) < 0.25
    eight = rng.random(n) < np.where(large, 0.8, 0.3)
    effect = np.where(laptop, 1.2, 0.6)
    latency = np.exp(1.5 * large + effect * eight + rng.normal(0, 0.3, n))
    return pd.DataFrame(
        {
            "status": np.where(rng.random(n) < 0.1 + 0.2 * eight, "oom", "ok"),
            "model": np.where(large, "large", "small"),
            "host": np.where(laptop, "laptop", "server"),
            "batch_size": np.where(eight, 8, 1),
            "latency_ms": latency,
            "memory_used_mib": rng.normal(1000, 100, n),
            "energy_j": 50 + 3 * rng.normal(0, 1, n),
        }
    ), float(np.where(laptop, 1.2, 0.6).mean())


def frame_of(runs):
    return build(runs, CausalSettings(tool="any", tiers=TIERS))


@pytest.fixture(scope="module")
def case():
    runs, log_effect = confounded()
    frame = frame_of(runs)
    assert frame.logs == {"latency_ms"}
    return frame, 100 * (np.exp(log_effect) - 1)


def test_adjustment_undoes_confounding(case):
    frame, truth_pct = case
    one = adjusted(frame, "latency_ms", comparison(frame, "batch_size", "latency_ms", "8", "1"), 200, 0)
    assert one.contrast == "8 against 1"
    assert one.lower <= truth_pct <= one.upper
    # Without adjustment the difference is larger by far.
    known = frame.rows.dropna(subset="latency_ms")
    means = known.groupby("batch_size")["latency_ms"].mean()
    assert 100 * np.expm1(means["8"] - means["1"]) > one.upper


def test_double_machine_learning_agrees(case):
    frame, truth_pct = case
    compared = comparison(frame, "batch_size", "latency_ms", "8", "1")
    one = double_ml(frame, "latency_ms", compared, 0)
    assert one.lower <= truth_pct <= one.upper


def test_effect_on_an_outcome_is_in_percentage_points(case):
    frame, _ = case
    one = adjusted(frame, "oom", comparison(frame, "batch_size", "oom", "8", "1"), 200, 0)
    assert one.lower <= 20 <= one.upper
    assert 10 < one.effect < 30


def test_no_effect_and_placebo_cover_zero(case):
    frame, _ = case
    compared = comparison(frame, "batch_size", "energy_j", "8", "1")
    none = adjusted(frame, "energy_j", compared, 200, 0)
    assert none.lower <= 0 <= none.upper
    shuffled = placebo(frame, "latency_ms", comparison(frame, "batch_size", "latency_ms", "8", "1"), 100, 0)
    assert shuffled.lower <= 0 <= shuffled.upper
    assert shuffled.verdict == "covers 0"


def test_intervals_hold_the_truth_as_often_as_they_say():
    """60 draws of 400 rows: at least 85 % of the 95 % intervals (8 of 60 misses have a chance below 1 in 100)."""
    hits = 0
    for seed in range(60):
        runs, log_effect = confounded(400, seed + 100)
        frame = frame_of(runs)
        one = adjusted(
            frame, "latency_ms", comparison(frame, "batch_size", "latency_ms", "8", "1"), 100, seed
        )
        hits += one.lower <= 100 * np.expm1(log_effect) <= one.upper
    assert hits >= 51


def test_only_runs_that_can_be_compared_count():
    """The wide model never ran with batch 8: its runs say nothing of the batch."""
    runs, _ = confounded()
    extra = runs[runs["batch_size"] == 1].head(200).assign(model="wide", latency_ms=1e4)
    frame = frame_of(pd.concat([runs, extra], ignore_index=True))
    compared = comparison(frame, "batch_size", "latency_ms", "8", "1")
    assert "wide" not in set(frame.rows["model"].to_numpy()[compared.rows])
    never = comparison(frame, "model", "latency_ms", "wide", "large")
    assert set(frame.rows["batch_size"].to_numpy()[never.rows]) == {"1"}


def test_too_few_runs_cannot_tell():
    runs, _ = confounded(30)
    frame = frame_of(runs.assign(batch_size=[8] * 6 + [1] * 24, status="ok"))
    one = adjusted(frame, "latency_ms", comparison(frame, "batch_size", "latency_ms", "8", "1"), 50, 0)
    assert one.effect is None
    assert one.verdict.startswith("cannot tell")


def test_contrasts_of_numbers_and_names():
    runs, _ = confounded(600)
    rng = np.random.default_rng(0)
    frame = frame_of(runs.assign(host=rng.choice(["a", "b", "c"], 600, p=[0.5, 0.3, 0.2])))
    assert contrasts(frame, "batch_size") == [("8", "1")]
    assert contrasts(frame, "host") == [("b", "a"), ("c", "a")]


def test_effect_of_a_quantity_adjusts_for_its_causes():
    rng = np.random.default_rng(2)
    n = 2000
    large = rng.random(n) < 0.5
    memory = 1000 + 400 * large + rng.normal(0, 100, n)
    energy = 0.02 * memory + 30 * large + rng.normal(0, 2, n)
    runs = pd.DataFrame(
        {
            "status": "ok",
            "model": np.where(large, "large", "small"),
            "memory_used_mib": memory,
            "energy_j": energy,
        }
    )
    frame = frame_of(runs)
    one = of_quantity(frame, "memory_used_mib", "energy_j", ["model"], 100, 0)
    assert one.contrast == "one standard deviation more"
    assert one.lower <= 0.02 * memory.std() <= one.upper


def test_matched_pairs_need_no_model():
    """A full grid: each pair of runs that differ in the batch alone differs by log 2 on average."""
    rng = np.random.default_rng(1)
    grid = pd.MultiIndex.from_product(
        [["a", "b", "c", "d"], ["x", "y", "z"], [1, 8], range(3)],
        names=["model", "host", "batch_size", "repeat"],
    ).to_frame(index=False)
    grid["status"] = "ok"
    grid["latency_ms"] = np.exp(
        3 * (grid["model"] == "d") + np.log(2) * (grid["batch_size"] == 8) + rng.normal(0, 0.1, len(grid))
    )
    frame = frame_of(grid)
    assert frame.logs == {"latency_ms"}
    one = matched(frame, "latency_ms", "batch_size", "8", "1", 200, 0)
    assert one.n == 12
    assert one.lower <= 100 <= one.upper
    assert one.upper - one.lower < 40
    few = matched(frame, "latency_ms", "host", "x", "y", 200, 0)
    assert few.n == 8


def effect(value, lower, upper):
    return Effect("a", "b", "8 against 1", "any", value, lower, upper, 100)


@pytest.mark.parametrize(
    ("graph", "tried", "said"),
    [
        (effect(10, 8, 12), effect(11, 9, 13), "agrees"),
        (effect(10, 8, 12), effect(30, 25, 35), "agrees in sign, differs in size"),
        (effect(10, 8, 12), effect(-30, -35, -25), "differs"),
        (effect(10, -1, 12), effect(1, -2, 4), "cannot tell: the change is within the noise"),
        (None, effect(1, -2, 4), "agrees: no change, as the graph says"),
        (None, effect(10, 8, 12), "differs: it changes, the graph says it does not"),
        (effect(10, 8, 12), effect(None, None, None), "cannot tell"),
    ],
)
def test_verdicts(graph, tried, said):
    assert verdict(graph, tried) == said
