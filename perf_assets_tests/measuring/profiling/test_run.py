"""Whole runs on the processor: what the log holds, and that every way to end is a result."""

import functools
import importlib.util
import json
import math
import subprocess
import sys

import pytest
import torch

from perf_assets.intake.pipeline import ingest
from perf_assets.measuring.networks import pruning
from perf_assets.measuring.networks.zoo import LeNet5
from perf_assets.measuring.profiling import passes, run
from perf_assets.measuring.profiling.spec import ProfileSpec, parse_spec, read_spec
from perf_assets.measuring.recording.log import read_log
from perf_assets_tests.support import sql

SHORT = {"max_time_s": 0.4, "warmup_max_s": 0.4, "min_time_s": 0.05}
LENET = ProfileSpec(network="lenet5", protocol=SHORT, passes=("latency",), skip_predicted_oom=False)


def changed(**changes) -> ProfileSpec:
    return parse_spec({**LENET.to_json(), **changes})


def profiled(tmp_path, **changes):
    path, result = run.profile(changed(**changes), tmp_path)
    log = read_log(path)
    assert log["rejected"] == []
    assert log["result"].items() >= {k: v for k, v in result.items() if k != "traceback"}.items()
    return log


def test_command_line_measures_everything(tmp_path):
    spec = {"network": "lenet5", "batch_size": 4, "protocol": SHORT, "device_label": "this machine"}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    command = [
        sys.executable,
        "-m",
        "perf_assets.measuring.profiling",
        "--spec",
        str(tmp_path / "spec.json"),
        "--out",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    log = read_log(done.stdout.splitlines()[0])
    assert "lenet5-inference-guess-b4-float32-this machine: ok" in done.stdout
    assert log["header"]["spec"]["batch_size"] == 4
    lines, result = log["lines"], log["result"]
    hot = [row["latency_ms"] for row in lines["sample"] if row["cache"] == "hot"]
    assert result["latency_ms"] == pytest.approx(float(torch.tensor(hot, dtype=torch.float64).quantile(0.5)))
    assert result["latency_low_ms"] <= result["latency_ms"] <= result["latency_high_ms"]
    assert result["throughput_per_s"] == pytest.approx(4000 / result["latency_ms"])
    assert result["verdict"] in ("stable", "unstable", "contended", "too_short")
    assert len([row for row in lines["sample"] if row["cache"] == "cold"]) == passes.COLD_BLOCKS
    assert lines["model"][0]["macs"] == result["macs"]
    assert lines["model"][0]["estimated_peak_mib"] > 0
    assert [row["layer"] for row in lines["layer"]][:3] == ["features.0", "features.1", "features.2"]
    assert lines["memory"][0]["process_rss_mib"] >= lines["memory"][0]["process_rss_before_mib"] * 0.9
    memory = lines["memory"][0]
    assert memory["memory_allocated_mib"] is None
    assert memory["memory_net_mib"] == pytest.approx(memory["memory_used_mib"] - memory["memory_idle_mib"])
    share, flags = lines["layers"][0]["explained_share"], lines["layers"][0]["quality"]
    assert (flags == ["layers_do_not_add_up"]) == (not 0.95 <= share <= 1.10)
    assert {row["source"] for row in lines["counter"]} >= {"getrusage"}
    energy = lines["energy"][0]
    assert (energy["energy_j"] is None) == bool(energy["energy_reason"])
    assert next(iter(lines)) == "header"
    assert list(lines)[-1] == "result"


def test_exported_networks_are_runs_of_their_own(tmp_path, data):
    log = profiled(data.drops, runtime="torchscript", passes=["latency", "layers"])
    ingest(data)
    told = "SELECT framework, framework_version, list_contains(quality, 'exported') FROM cleaned_runs"
    assert sql(data, told) == [("torchscript", torch.__version__.partition("+")[0], True)]
    assert (log["status"], log["result"]["reason"]) == ("ok", None)
    assert log["lines"]["layers"][0]["explained_share"] is None
    assert log["header"]["key"] != LENET.key
    assert "torchscript" in changed(runtime="torchscript").name
    log = profiled(tmp_path, runtime="onnxruntime")
    if importlib.util.find_spec("onnxruntime") is None:
        assert log["status"] == "unsupported"
        assert "pip install onnxruntime" in log["result"]["reason"]
    else:
        assert (log["status"], log["result"]["reason"]) == ("ok", None)


@pytest.mark.parametrize("workers", [0, 2])
def test_accuracy_on_a_folder_of_images(tmp_path, data, workers):
    """Of a network that answers class 1 whatever it sees, pruned and not: the share of class 1."""
    from PIL import Image

    for name, count in (("ants", 1), ("bees", 3)):
        (tmp_path / "insects" / name).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (40, 50), (number, 20, 90)).save(tmp_path / "insects" / name / f"{number}.png")
    network = LeNet5()
    with torch.no_grad():
        network.classifier[-1].bias[1] = 100.0
    torch.save(network.state_dict(), tmp_path / "bee.pt")
    fields = {
        "passes": ["accuracy"],
        "image_folder": str(tmp_path / "insects"),
        "loader_workers": workers,
        "weights": str(tmp_path / "bee.pt"),
        "batch_size": 3,
    }
    pruned = {
        "pruned_model": str(tmp_path / "pruned"),
        "pruning_method": "structured_magnitude",
        "pruning_ratio": 0.5,
    }
    for more in ({}, pruned):
        assert profiled(data.drops, **fields, **more)["status"] == "ok"
    ingest(data)
    told = "SELECT accuracy_pct, dataset, num_workers, config->'accuracy'->>'images' FROM cleaned_runs"
    assert sql(data, told) == [(75.0, "insects", workers, "4")] * 2
    log = profiled(tmp_path, **{**fields, "image_folder": str(tmp_path / "none")})
    assert log["status"] == "unsupported"
    assert "a folder of images a class" in log["result"]["reason"]


def test_host_series_lands_in_cleaned_samples(tmp_path, data):
    path, result = run.profile(changed(passes=["host"]), data.drops)
    assert result["status"] == "ok"
    series = [row for row in read_log(path)["lines"]["sample"] if row["cache"] == "host"]
    assert len(series) > 5
    assert all(row["rss_mib"] > 10 and row["threads"] >= 1 for row in series)
    assert any(row.get("machine_used_mib", 0) > 0 for row in series)
    ingest(data)
    ((count, distinct),) = sql(
        data,
        "SELECT count(*), count(DISTINCT sampled_at) FROM cleaned_samples WHERE map_contains(metrics, 'rss_mib')",
    )
    assert count == distinct == len(series)


def test_training_counts_its_phases_and_changes_with_the_stage(tmp_path):
    log = profiled(tmp_path, stage="training", batch_size=8)
    assert log["status"] == "ok"
    assert [row["phase"] for row in log["lines"]["phase"]] == ["forward", "backward", "optimizer"]
    assert all(row["latency_ms"] > 0 for row in log["lines"]["phase"])


def test_pruned_models_are_measured_by_their_directory(tmp_path):
    pruned = pruning.create(tmp_path / "m", "lenet5", "structured_magnitude", 0.5)
    changes = {
        "pruned_model": str(tmp_path / "m"),
        "pruning_method": "structured_magnitude",
        "pruning_ratio": 0.5,
    }
    log = profiled(tmp_path, **changes)
    assert log["result"]["params"] == pruned["params"]
    assert log["result"]["architecture_key"] == pruned["architecture_key"]
    assert log["lines"]["model"][0]["pruned"]["engine"] == "torch_pruning"
    other = profiled(tmp_path, **changes, network="resnet18")
    assert (other["status"], "is a pruned lenet5" in other["result"]["reason"]) == ("failed", True)


def test_running_out_of_memory_is_a_result(tmp_path):
    log = profiled(tmp_path, batch_size=20_000, memory_limit_mib=64)
    assert log["status"] == "oom"
    assert "allocate" in log["result"]["reason"]
    assert torch.zeros(40_000_000).sum() == 0  # the limit went with the run


def test_what_will_not_fit_is_not_tried(tmp_path):
    log = profiled(tmp_path, batch_size=4096, memory_budget_mib=64, skip_predicted_oom=True)
    assert log["status"] == "predicted_oom"
    assert "64 MiB to be had" in log["result"]["reason"]
    assert log["lines"]["model"][0]["estimated_peak_mib"] > 64
    assert "sample" not in log["lines"]


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ({"algorithm": "winograd"}, "unsupported", "Winograd is for 3x3 kernels, this one is 5x5"),
        ({"algorithm": "implicit gemm"}, "unsupported", "exists in cuDNN only"),
        ({"input_size": 20}, "failed", "[400, 120]"),
    ],
)
def test_what_cannot_be_measured_says_why(tmp_path, changes, status, reason):
    log = profiled(tmp_path, **changes)
    assert log["status"] == status
    assert reason in log["result"]["reason"]


def test_forced_algorithm_stands_in_the_log(tmp_path):
    line = profiled(tmp_path, algorithm="gemm")["lines"]["algorithm"][0]
    assert (line["algorithm"], line["provider"], line["layers_forced"]) == ("gemm", "explicit", 2)
    assert line["largest_error"] <= line["tolerance"]


def test_specs_are_checked_at_once(tmp_path):
    for wrong, cure in (
        ({"networks": "x"}, "did you mean 'network'"),
        ({}, "'network' is missing"),
        ({"network": "lenet5", "stage": "test"}, "use one of inference, training"),
        ({"network": "lenet5", "batch_size": 0}, "greater than or equal to 1"),
        ({"network": "lenet5", "protocol": {"blocks": 3}}, "unknown key 'protocol.blocks'"),
        ({"network": "lenet5", "passes": ["speed"]}, "use one of latency"),
    ):
        with pytest.raises(ValueError, match=cure):
            parse_spec(wrong)
    (tmp_path / "s.json").write_text("{")
    with pytest.raises(ValueError, match="not JSON"):
        read_spec(tmp_path / "s.json")
    with pytest.raises(ValueError, match="should match pattern"):
        run.profile(changed(device="xpu"), tmp_path)


def test_key_is_that_of_the_question():
    assert changed(sweep="a", passes=("latency", "memory")).key == LENET.key
    keys = {
        changed(**change).key
        for change in (
            {"batch_size": 2},
            {"stage": "training"},
            {"algorithm": "gemm"},
            {"pruning_ratio": 0.5},
            {"device": "cuda"},
        )
    }
    assert len(keys | {LENET.key}) == 6
    assert parse_spec(json.loads(json.dumps(LENET.to_json()))) == LENET


def test_payload_needs_neither_dagster_nor_duckdb():
    code = (
        "import sys, perf_assets.measuring.profiling.run, perf_assets.measuring.sweeps.runner, "
        "perf_assets.analysis.comparisons.paired;"
        "assert not {'dagster', 'duckdb', 'pandas', 'pyarrow', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


OPTIONS = {
    "bfloat16": ({"precision": "bfloat16"}, "bf16", {"stored_type": "bfloat16", "autocast_type": None}),
    "autocast": ({"precision": "autocast"}, "amp", {"stored_type": "float32", "autocast_type": "bfloat16"}),
    "channels_last": ({"memory_format": "channels_last"}, "fp32", {"memory_format": "channels_last"}),
    "strict, one thread": ({"precision": "float32_strict", "threads": 1}, "fp32_strict", {"threads": 1}),
    "compiled": ({"compile_mode": "default"}, "fp32", {"compile_mode": "default"}),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_what_was_run_is_in_the_record(data, name, monkeypatch):
    # The compiler itself takes longer than all other tests here.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    changes, precision, settings = OPTIONS[name]
    stage = "training" if name == "autocast" else "inference"
    log = profiled(data.drops, **changes, stage=stage, batch_size=2)
    assert log["status"] == "ok", log["result"]["reason"]
    assert log["header"]["settings"].items() >= settings.items()
    ingest(data)
    found = sql(data, "SELECT precision, config->'settings'->>'memory_format' FROM cleaned_runs")
    assert found == [(precision, settings.get("memory_format", "contiguous"))]


def test_options_that_were_not_asked_for_leave_torch_as_it_is(tmp_path):
    before = (torch.get_num_threads(), torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark)
    profiled(tmp_path, threads=1, precision="float32_strict", cudnn_benchmark=True)
    assert (
        torch.get_num_threads(),
        torch.backends.cudnn.allow_tf32,
        torch.backends.cudnn.benchmark,
    ) == before


def test_answers_that_are_no_numbers_are_flagged(data, monkeypatch):
    monkeypatch.setattr(LeNet5, "forward", lambda self, images: self.features(images).flatten(1) * math.nan)
    log = profiled(data.drops)
    assert log["lines"]["outputs"][0]["finite"] is False
    ingest(data)
    assert sql(data, "SELECT list_contains(quality, 'outputs_not_finite') FROM cleaned_runs") == [(True,)]


def test_keys_of_earlier_logs_stay_valid():
    """A point that old logs hold is known by its key; on a GPU these kept TF32 out, which is another question
    now."""
    assert LENET.key == "c7c6c29b3342eb09"
    gpu = changed(device="cuda")
    assert changed(device="cuda", precision="float32_strict").key == "f3a5b7403965d095"
    assert gpu.key != "f3a5b7403965d095"
    asked = (
        {"memory_format": "channels_last"},
        {"compile_mode": "default"},
        {"cudnn_benchmark": True},
        {"network_kwargs": {"num_classes": 5}},
        {"inputs": "some.module:make"},
        {"weights": "lenet5.pt"},
        {"pruning_seed": 1},
        {"threads": 1},
        {"precision": "autocast"},
    )
    assert len({changed(**change).key for change in asked} | {LENET.key}) == len(asked) + 1
