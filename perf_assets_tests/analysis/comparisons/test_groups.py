"""Two groups of runs: false calls, power, verdicts, what is comparable."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks.comparisons import NOISES, called_different, verdicts
from perf_assets.analysis.comparisons.groups import compare_groups
from perf_assets.analysis.comparisons.metrics import CONFIGURATION, ENVIRONMENT, METRICS
from perf_assets.analysis.comparisons.ranks import find_shift, holm

DRAWS = 800


def group(name: str, latencies, **columns) -> pd.DataFrame:
    """Runs of one configuration with these latencies."""
    empty = dict.fromkeys((*CONFIGURATION, *ENVIRONMENT, *METRICS))
    rows = [
        {**empty, "run_id": f"{name}{i}", "quality": [], "latency_ms": value, "device": "a100", **columns}
        for i, value in enumerate(latencies)
    ]
    return pd.DataFrame(rows).astype(dict.fromkeys(METRICS, float))


def noisy(rng, middle: float, n: int, cv: float = 0.05):
    return middle * (1 + cv * rng.standard_normal(n))


@pytest.mark.parametrize("noise", list(NOISES))
@pytest.mark.parametrize("sizes", [(5, 5), (20, 20)])
def test_equals_are_called_different_no_more_often_than_promised(noise, sizes):
    shares = verdicts(noise, sizes, 1.0, DRAWS, seed=11)
    # 800 draws of a share of 1 % lie below this in 999 of 1,000 cases.
    assert called_different(shares) <= stats.binom.ppf(0.999, DRAWS, 0.01) / DRAWS
    if sizes == (5, 5):
        assert "same" not in shares


def test_a_change_of_a_tenth_is_found_with_ten_against_thirty():
    assert verdicts("normal", (30, 10), 1.1, 600, seed=5)["slower"] >= 0.95


def test_one_stratum_is_the_test_of_mann_and_whitney():
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal(9), rng.standard_normal(12) + 0.8
    shift = find_shift([(first, second)], 0.01)
    assert shift.p_value == pytest.approx(stats.mannwhitneyu(first, second, method="exact").pvalue)


def test_pairs_are_the_sign_test():
    differences = np.array([0.1, 0.2, 0.15, 0.3, 0.12, 0.11, 0.4, 0.2, -0.1, 0.3, 0.2, 0.1])
    pairs = [(np.array([i * 1.0]), np.array([i + d])) for i, d in enumerate(differences)]
    shift = find_shift(pairs, 0.01)
    assert shift.p_value == pytest.approx(stats.binomtest(11, 12).pvalue)
    assert shift.low == pytest.approx(np.exp(0.1)) or shift.low < np.exp(0.1)


def test_intervals_hold_the_true_ratio():
    rng = np.random.default_rng(4)
    hits = 0
    for _ in range(400):
        shift = find_shift([(np.log(noisy(rng, 3, 12)), np.log(noisy(rng, 3.6, 12)))], 0.05)
        hits += shift.low <= 1.2 <= shift.high
    assert hits >= stats.binom.ppf(0.001, 400, 0.95)


def test_large_groups_and_ties_agree_with_scipy():
    rng = np.random.default_rng(2)
    first, second = np.round(rng.standard_normal(150), 1), np.round(rng.standard_normal(90) + 0.3, 1)
    expected = stats.mannwhitneyu(first, second, method="asymptotic").pvalue
    assert find_shift([(first, second)], 0.01).p_value == pytest.approx(expected, rel=0.02)


def test_holm_of_three():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_verdicts_and_exit_codes():
    rng = np.random.default_rng(7)
    first = group("a", noisy(rng, 10, 30, 0.01), energy_j=2.0)
    slower = compare_groups(first, group("b", noisy(rng, 11, 10, 0.01), energy_j=1.0))
    assert {metric.metric: metric.verdict for metric in slower.metrics} == {
        "latency_ms": "slower",
        "energy_j": "better",
    }
    assert slower.exit_code == 1
    same = compare_groups(first, group("b", noisy(rng, 10, 30, 0.01), energy_j=2.0))
    assert [metric.verdict for metric in same.metrics] == ["same", "same"]
    assert same.exit_code == 0
    few = compare_groups(first.head(5), group("b", noisy(rng, 10, 5, 0.01)), ["latency_ms"])
    assert few.metrics[0].verdict == "cannot tell"
    assert 0.01 < few.metrics[0].detectable < 0.1
    assert few.exit_code == 2
    single = compare_groups(first.head(1), group("b", [20.0]), ["latency_ms"])
    assert single.metrics[0].verdict == "cannot tell"


def test_only_like_is_compared_with_like():
    rng = np.random.default_rng(3)
    small, large = noisy(rng, 10, 6, 0.01), noisy(rng, 100, 6, 0.01)
    # The second group holds more of the large batch: pooled, it would look ten times slower.
    first = pd.concat([group("a", small, batch_size=1), group("c", large[:2], batch_size=64)])
    second = pd.concat([group("b", small[:2] * 0.8, batch_size=1), group("d", large * 0.8, batch_size=64)])
    (answer,) = compare_groups(first, second).metrics
    assert answer.verdict == "faster"
    assert answer.ratio == pytest.approx(0.8, rel=0.02)
    assert answer.configurations == 2


def test_unlike_groups_are_refused_or_said_first():
    rng = np.random.default_rng(3)
    first = group("a", noisy(rng, 10, 12), input_size=64, device="a100", driver_version="550")
    other_size = group("b", noisy(rng, 10, 12), input_size=128, device="a100", driver_version="550")
    refused = compare_groups(first, other_size)
    assert "input_size is 64 in the first group and 128 in the second" in refused.refused
    assert refused.exit_code == 2
    assert not refused.metrics
    anyway = compare_groups(first, other_size, anyway=True)
    assert anyway.metrics
    assert any("input_size" in said for said in anyway.unlike)
    other_driver = group("b", noisy(rng, 10, 12), input_size=64, device="h100", driver_version="570")
    said = compare_groups(first, other_driver).unlike
    assert any("device is a100 in the first group and h100" in line for line in said)
    assert any("driver_version is 550" in line for line in said)


def test_other_runs_that_say_less_do_not_keep_counterparts_apart():
    rng = np.random.default_rng(5)
    both = {"model": "resnet18", "input_size": 64}
    first = group("a", noisy(rng, 10, 12), algorithm="gemm", **both)
    second = group("b", noisy(rng, 10, 12), algorithm="winograd", **both)
    first = pd.concat([first, group("c", noisy(rng, 10, 3), model="vgg11")])
    second = pd.concat([second, group("d", noisy(rng, 10, 3), model="lenet")])
    said = compare_groups(first, second)
    assert [answer.n for answer in said.metrics] == [12]
    assert any("algorithm is gemm in the first group and winograd" in line for line in said.unlike)
    # but what is other work stays refused
    second["input_size"] = [128.0] * 12 + [None] * 3
    assert "input_size is" in compare_groups(first, second).refused


def test_a_run_cannot_be_in_both_groups():
    runs = group("a", [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="in both groups"):
        compare_groups(runs, runs)
