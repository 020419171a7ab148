"""Predictors of a folder: asking, abstaining, files, plans. On a small world of known costs."""

import json

import numpy as np
import pandas as pd
import pytest

from perf_assets.analysis.predictors.features.configurations import measured
from perf_assets.analysis.predictors.features.shapes import UnknownNetworkError
from perf_assets.analysis.predictors.fit.predictor import fit_predictor
from perf_assets.analysis.predictors.serve import capacity, predictor_set
from perf_assets.analysis.predictors.serve.files import (
    ArtifactError,
    load_fitted,
    replace_fitted,
    save_fitted,
)
from perf_assets.analysis.predictors.serve.next_points import next_points
from perf_assets.analysis.predictors.serve.predictor_set import (
    NoPredictorError,
    fit_targets,
    load_predictor,
    name_of,
)
from perf_assets_tests.analysis.predictors import small


def of(rows, target, column):
    return rows.rows(np.isfinite(rows.frame[column].to_numpy(float)))


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


@pytest.mark.parametrize("networks", [["narrow", "pointwise", "wide"], ["narrow"]])
def test_files_round_trip_and_hold_no_pickle(rows, tmp_path, networks):
    known = of(rows, "latency", "latency_ms")
    fitted = fit_predictor(known.rows(known.frame["model"].isin(networks).to_numpy()), "latency", trees=20)
    file = save_fitted(fitted, tmp_path, "latency-x-tx2-training", [{"mape": 1.0}])
    loaded, content = load_fitted(file)
    assert np.array_equal(loaded.predict(known)[0], fitted.predict(known)[0])
    assert content["snapshot"] == fitted.snapshot
    assert content["unit"] == "ms"
    assert content["versions"]["scikit-learn"]
    assert content["scores"] == [{"mape": 1.0}]
    (packed,) = tmp_path.glob("*.npz")
    with np.load(packed, allow_pickle=False) as arrays:
        assert all(arrays[name].dtype != object for name in arrays.files)


@pytest.mark.parametrize("harm", ["json", "arrays", "cut", "format", "missing"])
def test_changed_files_are_refused(rows, tmp_path, harm):
    fitted = fit_predictor(of(rows, "latency", "latency_ms"), "latency", trees=5)
    file = save_fitted(fitted, tmp_path, "latency-x-tx2-training")
    (arrays,) = tmp_path.glob("*.npz")
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


def test_what_to_measure_next_narrows_the_intervals_as_promised(fitted_folder):
    """The points that are named are measured: the intervals reach as far as was said, whatever the values."""
    predictor = load_predictor(fitted_folder[0], "tx2", tables=small.tables())
    runs = measured(small.runs())
    known = runs[runs["model"] != "wide"]
    grid = capacity.grid(predictor, ["wide", "narrow"], (2, 8, 32, 128))
    chosen = next_points(predictor, grid, known, 3)
    assert len(chosen) == 3
    assert chosen.duplicated(["model", "pruning_ratio", "batch_size"]).sum() == 0
    assert "narrow" not in set(chosen["model"])
    assert (chosen["reach_now"] > chosen["reach_after"]).all()
    for count, row in enumerate(chosen.to_dict("records"), start=1):
        points = chosen.head(count)[["model", "pruning_ratio", "batch_size"]]
        points = points.assign(latency_ms=1.3 * chosen["latency"])
        answers = predictor.adapt(points).predict(grid[["model", "pruning_ratio", "batch_size"]])
        own = answers[(answers["model"] == "wide") & (answers["pruning_ratio"] == row["pruning_ratio"])]
        reach = np.exp(np.log(own["latency_upper"] / own["latency"]).mean())
        assert reach == pytest.approx(row["reach_after"], rel=1e-6)
    assert next_points(predictor, grid, runs, 3).empty


def test_the_fastest_device_is_the_one_of_most_images_a_second():
    answers = pd.DataFrame(
        [
            ("wide", 0.0, "tx2", 8, 100.0),
            ("wide", 0.0, "tx2", 16, 160.0),
            ("wide", 0.0, "l40s", 8, 10.0),
            ("narrow", 0.0, "tx2", 8, 20.0),
        ],
        columns=["model", "pruning_ratio", "device", "batch_size", "latency"],
    )
    rows = capacity.fastest_devices(answers, np.ones(4, dtype=bool)).set_index("model")
    assert rows.loc["wide", ["device", "next_device", "batch_size"]].tolist() == ["l40s", "tx2", 8]
    assert rows.loc["wide", "images_per_s"] == pytest.approx(800)
    assert rows.loc["wide", "times_as_fast"] == pytest.approx(8)
    assert rows.loc["narrow", "device"] == "tx2"
    assert pd.isna(rows.loc["narrow", "next_device"])


def test_nine_in_ten_stay_below_the_p90(fitted_folder):
    """A limit that is met for sure lies between the prediction and the upper end of its interval."""
    predictor = load_predictor(fitted_folder[0], "tx2", tables=small.tables())
    grid = capacity.grid(predictor, ["wide"], (8, 32))
    p90 = capacity.p90(grid, "latency")
    assert ((grid["latency"] < p90) & (p90 < grid["latency_upper"])).all()
    limit_ms = float(p90[0])
    assert capacity.feasible(grid, max_latency_ms=limit_ms, sure=True)[0]
    assert not capacity.feasible(grid, max_latency_ms=0.999 * limit_ms, sure=True)[0]


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


def test_unknown_names_say_what_can_be_done(fitted_folder):
    folder, _ = fitted_folder
    with pytest.raises(NoPredictorError, match="tx2"):
        load_predictor(folder, "abacus")
    with pytest.raises(UnknownNetworkError, match="layer table"):
        small.tables().get("no_such_network")
    with pytest.raises(UnknownNetworkError, match="0%, 30%"):
        small.tables().get("wide", 0.45)


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
    with pytest.raises(NoPredictorError, match=r"device_catalog\.toml"):
        load_predictor(tmp_path, "abacus")


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


@pytest.mark.parametrize("batch_size", [0, -1, np.nan, "many"])
def test_a_batch_that_is_none_is_refused(fitted_folder, batch_size):
    folder, _ = fitted_folder
    predictor = load_predictor(folder, "tx2", tables=small.tables())
    frame = pd.DataFrame({"model": ["wide", "wide"], "batch_size": [4, batch_size]}, dtype=object)
    with pytest.raises(ValueError, match="batch_size of row 1"):
        predictor.predict(frame)


def test_a_fit_takes_the_place_of_the_earlier_one_as_a_whole(rows, tmp_path):
    folder, aside = tmp_path / "predictors", tmp_path / "aside"
    fitted = fit_predictor(of(rows, "latency", "latency_ms"), "latency", trees=5)
    for name in ("latency-x-old-training", "memory-x-old-training"):
        save_fitted(fitted, folder, name)
    save_fitted(fitted, aside, "latency-x-new-training")
    replace_fitted(aside, folder, ["latency"])
    assert sorted(file.stem for file in folder.glob("*.json")) == [
        "latency-x-new-training",
        "memory-x-old-training",
    ]
    for file in folder.glob("*.json"):
        load_fitted(file)
    assert len(list(folder.glob("*.npz"))) == 2


def test_what_would_come_out_the_same_is_not_fitted_again(tmp_path, monkeypatch):
    """New runs of one device: the other's files are taken over, and all are as if everything were fitted again."""
    runs = measured(pd.concat([small.runs(device=name) for name in ("tx2", "v100")]))
    runs = runs[runs["pruning_ratio"].isin([0.0, 0.5])].reset_index(drop=True)
    first, second, anew = (tmp_path / name for name in ("first", "second", "anew"))
    fit_targets(runs, small.tables(), ("latency",), first)
    own = (runs["device"] == "v100") & (runs["batch_size"] == 8)
    runs.loc[own, "latency_ms"] *= 1.1
    fitted_again = []
    fit = predictor_set.fit_predictor
    monkeypatch.setattr(
        predictor_set,
        "fit_predictor",
        lambda rows, *rest: fitted_again.append(set(rows.frame["device"])) or fit(rows, *rest),
    )
    scores = fit_targets(runs, small.tables(), ("latency",), second, earlier=first)
    assert [devices for devices in fitted_again if devices == {"tx2"}] == []
    assert {"v100"} in fitted_again
    assert scores == fit_targets(runs, small.tables(), ("latency",), anew)
    assert {file.name: file.read_bytes() for file in second.iterdir()} == {
        file.name: file.read_bytes() for file in anew.iterdir()
    }
    # Files that were changed are not trusted.
    for file in second.glob("*tx2*.json"):
        file.write_text(file.read_text().replace("tx2", "tx3", 1))
    fit_targets(runs, small.tables(), ("latency",), tmp_path / "third", earlier=second)
    assert fitted_again[-1] != {"v100"}
    assert {"tx2"} in fitted_again


def test_an_algorithm_that_nobody_asks_for_is_the_frameworks_choice(tmp_path):
    runs = measured(small.runs()).assign(algorithm="guess")
    fit_targets(runs, small.tables(), ("latency",), tmp_path)
    predictor = load_predictor(tmp_path, "tx2", tables=small.tables())
    asked = pd.DataFrame({"model": ["wide", "wide"], "batch_size": [8, 8], "algorithm": ["", "fft"]})
    answer = predictor.predict(asked)
    assert answer["algorithm"].tolist() == ["guess", "fft"]
    assert answer["latency_reason"][0] == ""
    assert "never measured" in answer["latency_reason"][1]
