"""Run groups against their history: steps are found, quiet series stay quiet, change points reset the window."""

from datetime import datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from perf_assets.analysis.comparisons.change_points import change_points
from perf_assets.analysis.comparisons.metrics import VERSIONS
from perf_assets.analysis.comparisons.regressions import alarms, find_regressions
from perf_assets_tests.analysis.comparisons.test_groups import group

START = datetime(2026, 1, 1, 2)


def history(nights, repeats: int = 1, name: str = "r", **columns) -> pd.DataFrame:
    """Runs of successive nights: ``nights`` is one array of latencies a night."""
    parts = []
    for night, latencies in enumerate(nights):
        rows = group(f"{name}{night}_", np.atleast_1d(latencies), **columns)
        rows["started_at"] = [START + timedelta(days=night, minutes=i) for i in range(len(rows))]
        parts.append(rows)
    return pd.concat(parts, ignore_index=True).assign(**dict.fromkeys(VERSIONS))


def noisy(rng, n, middle=10.0, cv=0.05):
    return middle * (1 + cv * rng.standard_normal(n))


def test_a_step_is_found_when_ten_values_are_there():
    found = 0
    for seed in range(25):
        rng = np.random.default_rng(seed)
        rows = find_regressions(history([*noisy(rng, 40), *noisy(rng, 10, 11.0)]))
        worse, better = alarms(rows)
        found += len(worse)
        assert not better
    assert found >= 23


def test_quiet_histories_raise_few_alarms():
    raised = tests = 0
    for seed in range(25):
        rng = np.random.default_rng(seed)
        nights = [9 + rng.exponential(size=1) for _ in range(60)]
        rows = find_regressions(history(nights))
        raised += sum(row["verdict"] not in ("cannot tell", "same") for row in rows)
        tests += len(rows)
    assert tests > 1000
    assert raised / tests <= 0.013


def test_nights_that_differ_more_than_repeats_raise_few_alarms():
    raised = tests = 0
    for seed in range(25):
        rng = np.random.default_rng(seed)
        nights = [noisy(rng, 5, middle, 0.003) for middle in noisy(rng, 40, 10, 0.02)]
        rows = [row for row in find_regressions(history(nights)) if row["baseline_groups"] >= 10]
        raised += sum(row["verdict"] not in ("cannot tell", "same") for row in rows)
        tests += len(rows)
    assert raised / tests <= 0.02


def test_repeats_find_a_step_in_one_night():
    rng = np.random.default_rng(1)
    nights = [noisy(rng, 5, 10, 0.01) for _ in range(20)]
    rows = find_regressions(history([*nights, noisy(rng, 5, 11, 0.01)]))
    (worse,) = alarms(rows)[0]
    assert worse["verdict"] == "slower"
    assert worse["ratio"] == pytest.approx(1.1, rel=0.02)
    assert worse["lower"] > 1.05
    assert (worse["n"], worse["baseline_n"], worse["baseline_groups"]) == (5, 100, 20)


def test_a_change_point_resets_the_window():
    rng = np.random.default_rng(2)
    nights = [noisy(rng, 3, 10, 0.01) for _ in range(20)] + [noisy(rng, 3, 12, 0.01) for _ in range(20)]
    newest = next(row for row in find_regressions(history(nights)) if row["is_newest"])
    assert newest["changed_at"] == START + timedelta(days=20)
    assert newest["verdict"] == "same"
    assert newest["baseline_median"] == pytest.approx(12, rel=0.01)


def test_change_points_of_any_noise():
    rng = np.random.default_rng(3)
    draws = [rng.standard_normal, lambda n: rng.standard_t(3, n), lambda n: rng.exponential(size=n)]
    for draw in draws:
        assert sum(bool(change_points(draw(60))) for _ in range(400)) <= 12
        steps = [
            change_points(np.concatenate([draw(30), draw(30) + 3 * draw(10_000).std()])) for _ in range(50)
        ]
        assert sum(any(abs(place - 30) <= 3 for place in found) for found in steps) >= 47


def test_configurations_have_histories_of_their_own():
    rng = np.random.default_rng(4)
    small = history([noisy(rng, 5, 10, 0.01) for _ in range(8)], name="s", batch_size=1)
    large = history([noisy(rng, 5, 80, 0.01) for _ in range(4)], name="l", batch_size=64)
    rows = find_regressions(pd.concat([small, large]))
    assert {row["configuration"] for row in rows} == {
        "device=a100, batch_size=1",
        "device=a100, batch_size=64",
    }
    assert sum(row["is_newest"] for row in rows) == 2
    assert alarms(rows) == ([], [])


def test_runs_without_a_time_have_no_history():
    assert find_regressions(group("a", [1.0, 2.0], started_at=pd.NaT)) == []
