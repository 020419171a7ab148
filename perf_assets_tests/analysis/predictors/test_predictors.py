"""Predictors on a small world of known costs: accuracy, checks, files, plans."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from perf_assets.analysis.predictors.evaluation import leakage
from perf_assets.analysis.predictors.evaluation.drift import drift, prediction_rows
from perf_assets.analysis.predictors.features.configurations import measured
from perf_assets.analysis.predictors.features.design import design
from perf_assets.analysis.predictors.features.shapes import NetworkTables, UnknownNetworkError
from perf_assets.analysis.predictors.fit.calibration import fit_predictor
from perf_assets.analysis.predictors.fit.cost_model import PULLS, fit_cost_model, relative_errors_pct
from perf_assets.analysis.predictors.fit.forest import Forest
from perf_assets.analysis.predictors.fit.intervals import Deviation, half_width_of
from perf_assets.analysis.predictors.fit.novelty import level_gaps
from perf_assets.analysis.predictors.fit.thresholds import best_threshold, folds, leaks, score_target
from perf_assets.analysis.predictors.serve import capacity
from perf_assets.analysis.predictors.serve.files import ArtifactError, load_fitted, save_fitted
from perf_assets.analysis.predictors.serve.predictor_set import (
    NoPredictorError,
    fit_targets,
    load_predictor,
    name_of,
)
from perf_assets_tests.analysis.predictors import small


@pytest.fixture(scope="module")
def rows():
    return design(measured(small.runs()), small.tables())


@pytest.fixture(scope="module")
def fitted_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predictors")
    scores = fit_targets(measured(small.runs()), small.tables(), ("latency", "memory"), folder)
    return folder, scores


def of(rows, target, column):
    return rows.rows(np.isfinite(rows.frame[column].to_numpy(float)))


def test_a_held_out_network_is_predicted_and_peers_do_worse(fitted_folder):
    _, scores = fitted_folder
    by = {
        (r["target"], r["method"]): r
        for r in scores
        if r["split"] == "leave_one_network_out" and r["group"] == "all"
    }
    for target, limit_pct in (("latency", 25), ("memory", 6)):
        assert by[target, "perf_assets"]["mape"] < limit_pct
        assert by[target, "perf_assets"]["mape"] < by[target, "perf4sight"]["mape"]
    assert by["oom", "perf_assets"]["mape"] < by["oom", "constant"]["mape"]
    networks_alone = pd.DataFrame([row for row in scores if row["split"] == "leave_one_network_out"])
    assert leakage.beaten_by_peers(networks_alone) == []
    worse = networks_alone.assign(
        mape=networks_alone["mape"].where(networks_alone["method"] != "perf_assets", 1e3)
    )
    assert len(leakage.beaten_by_peers(worse)) >= 2


def test_splits_hold_out_whole_groups(rows):
    seen = {fold.split for fold in folds(rows.frame)}
    assert {"leave_one_network_out", "random_leaky"} <= seen
    for fold in folds(rows.frame):
        assert not (fold.train & fold.held).any()
        if fold.split == "leave_one_network_out":
            assert set(rows.frame["model"][fold.held]) == {fold.group}
            assert fold.group not in set(rows.frame["model"][fold.train])


def mixed_costs(factor):
    """True costs of 1 each; two groups hardly use the third, the few runs of a third group are ``factor``
    times off."""
    random = np.random.default_rng(0)
    mixes = {"a": (1, 0.1, 0.05), "b": (0.1, 1, 0.05), "few": (0.1, 0.1, 1)}
    groups = np.repeat([*mixes], [100, 100, 4])
    sizes = np.exp(random.normal(0, 1, (204, 1)) + random.normal(0, 0.2, (204, 3)))
    terms = pd.DataFrame([mixes[group] for group in groups] * sizes, columns=["macs", "traffic", "launches"])
    y = terms.sum(axis=1) * np.where(groups == "few", factor, 1) * np.exp(random.normal(0, 0.05, 204))
    prior = {name: (name, 1.0) for name in terms}
    return fit_cost_model(terms, terms, y.to_numpy(), groups, prior, trees=0).coefficients


@pytest.mark.parametrize("factor", [0.05, 2, 5, 20])
def test_an_odd_handful_of_runs_decides_no_cost(factor):
    assert mixed_costs(factor) == pytest.approx(np.ones(3), abs=0.1)


def test_a_handful_that_agrees_tells_its_cost():
    assert mixed_costs(1.3)[2] == pytest.approx(1.3, rel=0.15)


def test_what_one_network_leaves_open_is_as_expected_for_others():
    """Two costs that grow together: their sum is determined, how it divides is not."""
    random = np.random.default_rng(1)
    macs = np.linspace(1, 10, 40)
    terms = pd.DataFrame({"macs": macs, "traffic": macs * np.exp(random.normal(0, 0.02, 40))})
    y = terms.sum(axis=1).to_numpy() * np.exp(random.normal(0, 0.02, 40))
    prior = {name: (name, 1.0) for name in terms}
    model = fit_cost_model(terms, terms, y, np.full(40, "one"), prior, pull=PULLS[0], elsewhere=True, trees=0)
    other = pd.DataFrame({"macs": [5.0], "traffic": [0.0]})
    assert model.physics(terms) == pytest.approx(y, rel=0.06)
    assert abs(model.physics(other)[0] - 5) > 1
    assert model.physics(other, np.array([True])) == pytest.approx(5, rel=0.02)


def test_a_handful_of_runs_does_not_judge_how_networks_are_predicted(rows):
    own = of(rows, "latency", "latency_ms")
    odd = own.frame["model"] == "pointwise"
    few = odd & (odd.cumsum() <= 3)
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


def test_flat_trees_predict_what_the_forest_predicts():
    from sklearn.ensemble import ExtraTreesRegressor

    random = np.random.default_rng(0)
    x = random.normal(size=(300, 5)).astype(np.float32)
    forest = ExtraTreesRegressor(20, random_state=0).fit(x, x[:, 0] * x[:, 1])
    fresh = random.normal(size=(5000, 5)).astype(np.float32)
    assert np.allclose(Forest.of(forest).predict(fresh), forest.predict(fresh))


def test_more_images_take_more_time_and_memory(fitted_folder):
    folder, _ = fitted_folder
    predictor = load_predictor(folder, "tx2", "training", small.tables())
    answer = predictor.predict(pd.DataFrame({"model": "wide", "batch_size": [2, 16, 64]}))
    assert answer["latency"].is_monotonic_increasing
    assert answer["memory"].is_monotonic_increasing
    assert (answer["latency_lower"] < answer["latency"]).all()
    assert answer["oom"].between(0, 1).all()


def test_outside_what_was_learnt_it_abstains(fitted_folder):
    folder, _ = fitted_folder
    predictor = load_predictor(folder, "tx2", "training", small.tables())
    asked = pd.DataFrame(
        {"model": "wide", "batch_size": [16, 100_000, 16, 16], "algorithm": ["", "", "fft", ""]}
    )
    answer = predictor.predict(asked.assign(pruning_ratio=[0.0, 0.0, 0.0, 0.3]))
    assert answer["abstain"].tolist() == [False, True, True, False]
    assert "times the largest measured" in answer["reason"][1]
    assert "fft" in answer["reason"][2]


def test_work_of_kinds_never_measured_makes_it_abstain(fitted_folder):
    import torch
    from torch import nn

    class Layers(nn.Module):
        def __init__(self, *layers, flat=False):
            super().__init__()
            self.layers, self.flat = nn.ModuleList(layers), flat

        def forward(self, images):
            values = images.mean((2, 3)).repeat(1, 100) if self.flat else images
            for layer in self.layers:
                values = layer(values)
            return values

    class Volumes(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv3d(1, 4, 3, padding=1)

        def forward(self, images):
            return self.layer(images.unsqueeze(1))

    convolutions = [
        nn.Conv2d(3, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.Conv2d(32, 64, 3, stride=2, padding=1),
        nn.Conv2d(64, 96, 3, stride=2, padding=1),
    ]
    networks = {
        "usual": Layers(*convolutions),
        "strange": Layers(
            *convolutions, *(layer for _ in range(9) for layer in (nn.Hardshrink(), nn.LogSigmoid()))
        ),
        "linear": Layers(nn.Linear(300, 9000), nn.Linear(9000, 9000), flat=True),
        "volumes": Volumes(),
    }
    predictor = load_predictor(fitted_folder[0], "tx2", "training", small.tables())
    asked = pd.DataFrame({"model": list(networks), "batch_size": 16, "input_size": 64})
    with torch.device("meta"):
        answer = predictor.predict(asked, networks).set_index("model")
    assert answer["abstain"].to_dict() == {"usual": False, "strange": True, "linear": True, "volumes": True}
    assert "linear layers" in answer.loc["linear", "reason"]
    assert "unknown kind" in answer.loc["volumes", "reason"]


def test_an_interval_too_wide_to_be_of_use_is_an_abstention(rows):
    """Networks that differ by factors from what their shapes say cannot be predicted, and it is said so."""
    known = of(rows, "latency", "latency_ms")
    factor = known.frame["model"].map({"narrow": 1.0, "wide": 6.0, "pointwise": 0.2}).to_numpy(float)
    known.frame = known.frame.assign(latency_ms=known.frame["latency_ms"] * factor)
    new = known.rows((known.frame["model"] == "wide").to_numpy())
    new.frame = new.frame.assign(model="never_seen")
    answer = fit_predictor(known, "latency", trees=20).answer(new)
    assert all("interval" in reason for reason in answer.reasons)


@pytest.mark.parametrize("groups", [3, 6])
@pytest.mark.parametrize("between", [0.3, 3.0])
def test_intervals_of_new_groups_cover_nine_in_ten(groups, between):
    """Many made-up worlds: groups with an offset of their own, rows with noise; a new group is asked
    about."""
    inside = []
    for seed in range(300):
        random = np.random.default_rng(seed)
        ratios = random.normal(0, between, groups + 1)[:, None] + random.normal(0, 1, (groups + 1, 30))
        half_width = half_width_of(ratios[:-1].ravel(), np.repeat(np.arange(groups), 30))
        inside.append((np.abs(ratios[-1]) <= half_width).mean())
    assert 0.85 <= np.mean(inside) <= 0.95


def test_few_measured_points_correct_only_what_they_are_of():
    """A group's offset is learnt from its points, as far as left-out groups had offsets; other groups
    stay."""
    random = np.random.default_rng(0)
    groups = np.repeat([f"g{i}" for i in range(8)], 20)
    x = np.tile(np.linspace(0, 4, 20), 8)[:, None]
    offsets = np.repeat(random.normal(0, 0.5, 8), 20)
    every = np.ones(160, dtype=bool)
    offset = Deviation.calibrate(x, offsets + random.normal(0, 0.05, 160), groups, every)
    noise = Deviation.calibrate(x, random.normal(0, 0.5, 160), groups, every)
    assert offset is not None
    assert noise is not None
    point, new = np.array([[1.0]]), np.array(["new"])
    shift, half_width = offset.given(point, np.array([0.4]), new).at(
        np.array([[1.2], [3.0]]), np.repeat(new, 2)
    )
    assert (shift > 0.3).all()
    assert (half_width < offset.half_width / 2).all()
    assert noise.given(point, np.array([0.4]), new).at(np.array([[3.0]]), new)[0][0] < 0.15
    other, same_width = offset.given(point, np.array([0.4]), new).at(point, np.array(["other"]))
    assert other[0] == 0
    assert same_width[0] == pytest.approx(offset.half_width)


@pytest.mark.parametrize("networks", [["narrow", "pointwise", "wide"], ["narrow"]])
def test_files_round_trip_and_hold_no_pickle(rows, tmp_path, networks):
    known = of(rows, "latency", "latency_ms")
    fitted = fit_predictor(known.rows(known.frame["model"].isin(networks).to_numpy()), "latency", trees=20)
    assert (fitted.model.elsewhere is None) == (len(networks) > 1)
    file = save_fitted(fitted, tmp_path, "latency-x-tx2-training", [{"mape": 1.0}])
    loaded, content = load_fitted(file)
    assert np.array_equal(loaded.predict(known)[0], fitted.predict(known)[0])
    assert content["snapshot"] == fitted.snapshot
    assert content["unit"] == "ms"
    assert content["versions"]["scikit-learn"]
    assert content["scores"] == [{"mape": 1.0}]
    with np.load(file.with_suffix(".npz"), allow_pickle=False) as arrays:
        assert all(arrays[name].dtype != object for name in arrays.files)


@pytest.mark.parametrize("harm", ["json", "arrays", "cut", "format", "missing"])
def test_changed_files_are_refused(rows, tmp_path, harm):
    fitted = fit_predictor(of(rows, "latency", "latency_ms"), "latency", trees=5)
    file = save_fitted(fitted, tmp_path, "latency-x-tx2-training")
    arrays = file.with_suffix(".npz")
    if harm == "json":
        file.write_text(file.read_text().replace('"unit": "ms"', '"unit": "s"'))
    elif harm == "arrays":
        content = bytearray(arrays.read_bytes())
        content[len(content) // 2] ^= 1
        arrays.write_bytes(content)
    elif harm == "cut":
        file.write_text(file.read_text()[:100])
    elif harm == "format":
        file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 99}))
    else:
        arrays.unlink()
    with pytest.raises(ArtifactError):
        load_fitted(file)


def test_a_plan_keeps_its_limits(fitted_folder):
    folder, _ = fitted_folder
    predictor = load_predictor(folder, "tx2", "training", small.tables())
    predictions = capacity.grid(predictor, ["wide"], (2, 8, 32, 128))
    meets = capacity.feasible(predictions, max_memory_mib=1100, max_latency_ms=100)
    best = capacity.largest_batches(predictions, meets)
    assert (best["memory"] <= 1100).all()
    assert (best["latency"] <= 100).all()
    assert capacity.feasible(predictions, 1100, 100, sure=True).sum() <= meets.sum()
    worth = capacity.pareto(predictions, meets)
    assert 0 < len(worth) <= meets.sum()
    # The network as it is, at its fastest per image, cannot be beaten on all counts.
    assert 0.0 in set(worth["pruning_ratio"])


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


def test_memory_at_the_cap_teaches_nothing(fitted_folder):
    """A full device says that a network needs much, not how much: the answer elsewhere must not move."""
    predictor = load_predictor(fitted_folder[0], "tx2", "training", small.tables())
    cap_mib = predictor.fitted["memory"].model.cap
    asked = pd.DataFrame({"model": ["wide"], "batch_size": [8]})
    full = pd.DataFrame({"model": ["wide"], "batch_size": [128], "memory_used_mib": [cap_mib * 0.99]})
    before, after = predictor.predict(asked), predictor.adapt(full).predict(asked)
    assert after["memory"][0] == before["memory"][0]
    told = pd.DataFrame({"model": ["wide"], "batch_size": [4]})
    told["memory_used_mib"] = 0.9 * predictor.predict(told)["memory"]
    assert predictor.adapt(told).predict(asked)["memory"][0] < before["memory"][0]
    assert predictor.adapt(told).predict(asked)["latency"][0] == before["latency"][0]


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


def test_flagged_and_failed_runs_teach_nothing_but_their_outcome():
    runs = small.runs()
    runs.loc[0, "latency_ms"] = 1e6
    runs.at[0, "quality"] = ["swap_thrashing"]
    frame = measured(runs)
    row = frame[(frame.model == "narrow") & (frame.pruning_ratio == 0) & (frame.batch_size == 2)].iloc[0]
    assert np.isnan(row["latency_ms"])
    assert row["oom"] == 0
    failed = frame[frame["oom"] > 0.5]
    assert len(failed)
    assert failed["memory_used_mib"].isna().all()


def test_unknown_names_say_what_can_be_done(fitted_folder):
    folder, _ = fitted_folder
    with pytest.raises(NoPredictorError, match="tx2"):
        load_predictor(folder, "abacus")
    with pytest.raises(UnknownNetworkError, match="layer table"):
        small.tables().get("no_such_network")
    with pytest.raises(UnknownNetworkError, match="0%, 30%"):
        small.tables().get("wide", 0.45)


@pytest.fixture(scope="module")
def several_devices():
    """The small world on three accelerators, one of them slower than its data sheet says."""
    slowness = {"h100": 1.0, "l40s": 1.5, "v100": 1.2}
    return measured(pd.concat([small.runs(device=name, slowness=slow) for name, slow in slowness.items()]))


@pytest.fixture(scope="module")
def several_devices_rows(several_devices):
    return design(several_devices, small.tables())


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


def test_a_device_without_runs_is_answered_from_others(several_devices, several_devices_rows, tmp_path):
    rows = several_devices_rows
    for target, column in (("latency", "latency_ms"), ("memory", "memory_used_mib")):
        fitted = fit_predictor(of(rows, target, column), target, ("device",))
        save_fitted(fitted, tmp_path, name_of(target, "perf4sight", "any", "training"))
    predictor = load_predictor(tmp_path, "a100", "training", small.tables())
    assert predictor.learnt_on == ["h100", "l40s", "v100"]
    answer = predictor.predict(pd.DataFrame({"model": "wide", "batch_size": [16, 6400]}))
    truth = measured(small.runs(device="a100", noise=0)).set_index(["model", "pruning_ratio", "batch_size"])
    assert answer["latency"][0] == pytest.approx(truth.loc[("wide", 0.0, 16), "latency_ms"], rel=0.3)
    assert (answer["latency_lower"] < answer["latency"]).all()
    # 80 GiB hold what no device was measured with.
    assert answer["memory"][1] > 2 * several_devices["memory_used_mib"].max()
    with pytest.raises(NoPredictorError, match=r"devices\.toml"):
        load_predictor(tmp_path, "abacus")


def test_networks_are_known_by_both_spellings_and_when_pruned(tmp_path):
    from perf_assets.measuring.networks import pruning

    spec = pruning.create(tmp_path / "one", "squeezenet1_1", "structured_magnitude", 0.5, input_size=64)
    assert spec["status"] == "ok", spec
    pruned = pd.DataFrame([{"model": "squeezenet1_1", "pruning_ratio": 0.5, "folder": str(tmp_path / "one")}])
    dropped = pd.DataFrame([dict(row, network="mobilenetv2") for row in small.layer_rows("wide", 30)])
    networks = NetworkTables(dropped, pruned=pruned)
    assert networks.get("mobilenet_v2", 0.3) is networks.get("mobilenetv2", 0.3)
    assert networks.levels("mobilenet_v2") == [0.3]
    whole, half = (networks.get("squeezenet1_1", ratio, 64) for ratio in (0, 0.5))
    assert half["params"].sum() == spec["params"] < whole["params"].sum()
    with pytest.raises(UnknownNetworkError, match="50%"):
        networks.get("squeezenet1_1", 0.4)


def test_a_network_of_your_own_is_predicted(fitted_folder):
    from torch import nn

    class Grey(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(
                nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.Conv2d(32, 64, 3, padding=1)
            )

        def forward(self, images):
            return self.layers(images).mean((2, 3))

    predictor = load_predictor(fitted_folder[0], "tx2", "training", small.tables())
    frame = pd.DataFrame({"model": ["mine", "mine"], "batch_size": [8, 8], "input_size": [64, 128]})
    answer = predictor.predict(frame, {"mine": Grey()})
    assert answer["latency"][1] > 2 * answer["latency"][0] > 0
    assert predictor.predict(frame).empty


def test_best_threshold_divides():
    assert 2 < best_threshold(np.array([1.0, 2.0, 3.0, 4.0]), np.array([False, False, True, True])) < 3
    assert best_threshold(np.array([1.0, 2.0]), np.array([True, True])) < 1


def test_too_few_rows_give_no_scores(rows):
    assert score_target(rows.rows(np.arange(5)), "latency", "tx2") == []
    assert relative_errors_pct(np.array([110.0]), np.array([100.0]))[0] == pytest.approx(10)


def test_levels_between_close_neighbours_are_held_tighter():
    frame = pd.DataFrame({"model": "wide", "pruning_ratio": [0.0, 0.25, 0.45, 0.5, 0.95]})
    gaps = level_gaps(frame, {"wide": [0.0, 0.5, 0.9]})
    assert np.isnan(gaps[[0, 4]]).all()
    assert gaps[1] == pytest.approx(0.125)
    assert gaps[2] == pytest.approx(0.045)
    # What was measured there does not count: 50 % lies between none and 90 %.
    assert gaps[3] == pytest.approx(0.5 * 0.4 / 0.9)
    assert np.isnan(level_gaps(frame, {})).all()


def test_an_interval_between_measured_levels_is_narrower_where_neighbours_are_close(rows):
    known = of(rows, "latency", "latency_ms")
    level = known.frame["pruning_ratio"].to_numpy()
    fitted = fit_predictor(known.rows(np.isin(level, (0.0, 0.3, 0.7, 0.9))), "latency", ("variant",))
    between = known.rows(level == 0.5)
    close = replace(between, frame=between.frame.assign(pruning_ratio=0.31))

    def width(design):
        _, lower, upper = fitted.predict(design)
        return np.log(upper / lower).mean()

    assert width(close) < width(between)


def test_values_that_cannot_be_right_are_named_and_not_learnt_from(tmp_path):
    """One file in seconds among milliseconds, one value of memory that is absurd."""
    runs = measured(small.runs())
    seconds = runs["files"].map(lambda files: files == ["wide_50.csv"])
    absurd = int(np.flatnonzero((runs["model"] == "narrow") & runs["memory_used_mib"].notna())[3])
    runs["latency_ms"] = runs["latency_ms"].mask(seconds, runs["latency_ms"] / 1000)
    runs.loc[absurd, "memory_used_mib"] = 1e300
    problems = leakage.odd(runs, pd.DataFrame({"device": []}), small.tables())
    assert len(problems) == runs.loc[seconds, "latency_ms"].notna().sum() + 1
    assert sum("wide_50.csv" in text and "latency" in text for text in problems) == len(problems) - 1
    assert sum("1e+300" in text and runs["files"][absurd][0] in text for text in problems) == 1

    without = runs.copy()
    without["latency_ms"] = without["latency_ms"].mask(seconds)
    without.loc[absurd, "memory_used_mib"] = np.nan
    fits = [fit_targets(frame, small.tables(), ("latency", "memory"), tmp_path) for frame in (runs, without)]
    assert fits[0] == fits[1]


@pytest.mark.parametrize("batch_size", [0, -1, np.nan, "many"])
def test_a_batch_that_is_none_is_refused(fitted_folder, batch_size):
    folder, _ = fitted_folder
    predictor = load_predictor(folder, "tx2", tables=small.tables())
    frame = pd.DataFrame({"model": ["wide", "wide"], "batch_size": [4, batch_size]}, dtype=object)
    with pytest.raises(ValueError, match="batch_size of row 1"):
        predictor.predict(frame)
