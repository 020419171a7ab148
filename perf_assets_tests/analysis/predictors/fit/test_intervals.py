"""Intervals hold what they promise, and what is new widens them. On a small world of known costs."""

from dataclasses import replace

import numpy as np
import pytest

from perf_assets.analysis.predictors.evaluation.scores import score_target
from perf_assets.analysis.predictors.features.configurations import measured
from perf_assets.analysis.predictors.features.design import design
from perf_assets.analysis.predictors.fit.intervals import Deviation
from perf_assets.analysis.predictors.fit.predictor import fit_predictor
from perf_assets_tests.analysis.predictors import small


def of(rows, target, column):
    return rows.rows(np.isfinite(rows.frame[column].to_numpy(float)))


def test_a_handful_of_runs_does_not_judge_how_networks_are_predicted(rows):
    own = of(rows, "latency", "latency_ms")
    odd = own.frame["model"] == "pointwise"
    few = odd & (odd.cumsum() <= 1)
    frame = own.frame.assign(latency_ms=own.frame["latency_ms"] * np.where(few, 50, 1))
    two, three = ((~odd).to_numpy(), (~odd | few).to_numpy())
    widths = [
        fit_predictor(replace(own, frame=frame).rows(chosen), "latency", ("network",))
        .deviations["network"]
        .half_width
        for chosen in (two, three)
    ]
    assert widths[1] < 2 * widths[0]


def test_intervals_hold_what_they_promise():
    """Same process, fresh noise: a nominal 90 % interval, calibrated out of group, must not be far too
    small."""
    train = design(measured(small.runs(seed=1, noise=0.05)), small.tables())
    test = design(measured(small.runs(seed=2, noise=0.05)), small.tables())
    fitted = fit_predictor(of(train, "memory", "memory_used_mib"), "memory")
    held = of(test, "memory", "memory_used_mib")
    _, lower, upper = fitted.predict(held)
    y = held.frame["memory_used_mib"].to_numpy(float)
    # Some 70 rows: chance alone moves the share by 4 %.
    assert ((lower <= y) & (y <= upper)).mean() >= 0.8


@pytest.mark.parametrize("groups", [3, 6])
@pytest.mark.parametrize("between", [0.1, 0.3])
def test_intervals_of_new_groups_cover_nine_in_ten(groups, between):
    """Many made-up worlds: groups with an offset of their own, rows with noise; a new group is asked
    about."""
    inside = []
    for seed in range(300):
        random = np.random.default_rng(seed)
        ratios = random.normal(0, between, groups + 1)[:, None] + random.normal(0, 0.1, (groups + 1, 30))
        names = np.repeat([f"g{number}" for number in range(groups)], 30)
        half_width = Deviation.calibrate(ratios[:-1].ravel(), names).half_width
        inside.append((np.abs(ratios[-1]) <= half_width).mean())
    # Three groups cannot promise nine in ten where groups differ more than is usual.
    assert (0.8 if groups == 3 else 0.85) <= np.mean(inside) <= 0.97


def test_one_group_says_nothing_of_others_until_points_are_measured():
    alone = Deviation.calibrate(np.zeros(5), np.full(5, "one"))
    asked, name = np.array([[1.0]]), np.array(["new"])
    assert np.isnan(alone.at(asked, name)[1][0])
    shift, half_width = alone.given(asked, np.array([0.2]), name).at(asked, name)
    assert 0 < shift[0] < 0.2
    assert np.isfinite(half_width[0])


def test_few_measured_points_correct_only_what_they_are_of():
    """A group's offset is learnt from its points, as far as left-out groups had offsets; other groups
    stay."""
    random = np.random.default_rng(0)
    groups = np.repeat([f"g{i}" for i in range(8)], 20)
    offsets = np.repeat(random.normal(0, 0.5, 8), 20)
    offset = Deviation.calibrate(offsets + random.normal(0, 0.05, 160), groups)
    noise = Deviation.calibrate(random.normal(0, 0.5, 160), groups)
    point, new = np.array([[1.0]]), np.array(["new"])
    shift, half_width = offset.given(point, np.array([0.4]), new).at(
        np.array([[1.2], [3.0]]), np.repeat(new, 2)
    )
    assert (shift > 0.3).all()
    assert (half_width < offset.half_width / 2).all()
    assert noise.given(point, np.array([0.4]), new).at(np.array([[30.0]]), new)[0][0] < 0.15
    other, same_width = offset.given(point, np.array([0.4]), new).at(point, np.array(["other"]))
    assert other[0] == 0
    assert same_width[0] == pytest.approx(offset.half_width)


def test_measured_points_help(rows, several_devices_rows):
    """Towards a network, and towards a device that is slower than its data sheet says."""
    scores = score_target(rows, "latency", "tx2") + score_target(several_devices_rows, "latency", "any")
    # Networks of this world differ by little more than noise, devices by much.
    for split, device, helps in (("transfer_to_network", "tx2", 0.95), ("transfer_to_device", "l40s", 0.8)):
        error_pct = {
            row["group"]: row["mape"] for row in scores if row["split"] == split and row["device"] == device
        }
        assert set(error_pct) == {"k=0", "k=1", "k=3", "k=5", "k=10"}
        assert error_pct["k=10"] < helps * error_pct["k=0"]
