"""Scores on what was held out, beside peers; leaks are caught. On a small world of known costs."""

import numpy as np
import pandas as pd
import pytest

from perf_assets.analysis.predictors.evaluation import leakage
from perf_assets.analysis.predictors.evaluation.drift import drift, holds, prediction_rows
from perf_assets.analysis.predictors.evaluation.scores import folds, leaks, score_target
from perf_assets.analysis.predictors.features.configurations import measured
from perf_assets.analysis.predictors.fit.cost_model import relative_errors_pct
from perf_assets.analysis.predictors.fit.predictor import fit_predictor
from perf_assets_tests.analysis.predictors import small


def of(rows, target, column):
    return rows.rows(np.isfinite(rows.frame[column].to_numpy(float)))


def test_a_held_out_network_is_predicted(fitted_folder):
    _, scores = fitted_folder
    by = {
        (r["target"], r["method"]): r
        for r in scores
        if r["split"] == "leave_one_network_out" and r["group"] == "all"
    }
    for target, limit_pct in (("latency", 25), ("memory", 6)):
        assert by[target, "perf_assets"]["mape"] < limit_pct
        assert by[target, "perf_assets"]["mape"] < by[target, "constant"]["mape"]
    assert by["oom", "perf_assets"]["mape"] < by["oom", "constant"]["mape"]
    ours = pd.DataFrame([{"target": "t", "device": "d", "stage": "s", "split": "config", "group": "all"}] * 2)
    ours = ours.assign(method=["perf_assets", "roofline"], mape=[5.0, 6.0])
    assert leakage.beaten_by_peers(ours) == []
    assert len(leakage.beaten_by_peers(ours.assign(mape=[6.0, 6.0]))) == 1


def test_splits_hold_out_whole_groups(rows):
    seen = {fold.split for fold in folds(rows.frame)}
    assert {"leave_one_network_out", "random_leaky"} <= seen
    for fold in folds(rows.frame):
        assert not (fold.train & fold.held).any()
        if fold.split == "leave_one_network_out":
            assert set(rows.frame["model"][fold.held]) == {fold.group}
            assert fold.group not in set(rows.frame["model"][fold.train])


def test_a_leaked_target_is_caught(rows):
    known = of(rows, "latency", "latency_ms")
    model = known.frame["model"].to_numpy()
    train, held = known.rows(model != "wide"), known.rows(model == "wide")
    assert leaks(train, held) == []
    assert any("training and held out" in problem for problem in leaks(known, held))
    for part in (train, held):
        part.shape = part.shape.assign(clever=part.frame["latency_ms"] * 1.01)
    assert any("clever" in problem for problem in leaks(train, held))


def test_a_shuffled_target_is_caught(rows):
    runs, shapes = measured(small.runs()), small.tables()
    assert leakage.learnt_from_shuffled(runs, shapes) == []

    class Knows:
        """A 'predictor' that looks held-out values up."""

        def predict(self, held):
            y = held.frame["latency_ms"].to_numpy(float)
            return y, y, y

    problems = leakage.learnt_from_shuffled(runs, shapes, fit=lambda *_: Knows())
    assert problems


def test_scores_do_not_depend_on_the_order_of_rows(rows):
    known = of(rows, "memory", "memory_used_mib")
    fitted = fit_predictor(known, "memory", trees=20)
    other = fit_predictor(known.rows(np.arange(len(known))[::-1]), "memory", trees=20)
    assert fitted.snapshot == other.snapshot
    assert np.allclose(fitted.model.coefficients, other.model.coefficients, rtol=1e-6, atol=1e-9)


def test_drift_compares_what_was_measured_since(fitted_folder):
    folder, _ = fitted_folder
    seen = measured(small.runs())
    earlier = pd.DataFrame(prediction_rows(folder, seen, small.tables()))
    assert {"latency", "memory", "oom"} <= set(earlier["target"])
    assert drift(earlier, seen) == {"compared": 0}
    new = seen.head(1).assign(model="wide", pruning_ratio=0.3, batch_size=10, latency_ms=np.nan)
    guess = earlier[
        (earlier.target == "memory")
        & (earlier.model == "wide")
        & (earlier.pruning_ratio == 0.3)
        & (earlier.batch_size == 10)
    ].iloc[0]
    new = new.assign(memory_used_mib=float(guess["predicted"]) * 1.1)
    result = drift(earlier, pd.concat([seen, new], ignore_index=True))
    assert result["compared"] == 1
    assert result["median_ape"] == pytest.approx(100 * (1 - 1 / 1.1))


def test_a_held_out_device_is_predicted_from_the_others(several_devices_rows):
    rows = several_devices_rows
    assert {(fold.split, fold.group) for fold in folds(rows.frame)} == {
        ("leave_one_device_out", name) for name in ("h100", "l40s", "v100")
    }
    scores = score_target(rows, "latency", "any")
    mape = {(row["device"], row["method"]): row["mape"] for row in scores if row["group"] == "all"}
    for device in ("h100", "l40s", "v100"):
        assert mape[device, "perf_assets"] < 40
        assert mape[device, "perf_assets"] < mape[device, "constant"]


def test_too_few_rows_give_no_scores(rows):
    assert score_target(rows.rows(np.arange(5)), "latency", "tx2") == []
    assert relative_errors_pct(np.array([110.0]), np.array([100.0]))[0] == pytest.approx(10)


@pytest.mark.parametrize(
    ("compared", "coverage_pct", "expected"),
    [(0, None, True), (10, 90.0, True), (10, 50.0, False), (200, 84.0, False)],
)
def test_too_few_hits_of_the_intervals_are_called_drift(compared, coverage_pct, expected):
    """Binomial: 5 of 10 and 168 of 200 happen to intervals that cover 90 % in fewer than 1 case of 100."""
    drifted = {"compared": compared} | ({} if coverage_pct is None else {"coverage": coverage_pct})
    assert holds(drifted) == expected
