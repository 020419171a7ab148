"""Logs of the own profiler: columns, outcomes, logs that end in the middle."""

import json
from datetime import datetime

import pytest

from perf_assets_tests.support import read_text

HEADER = {
    "line": "header",
    "at_s": 0.0,
    "format": "perf_assets_profile",
    "version": 1,
    "key": "abc",
    "started_at": "2026-05-01T12:00:00.500+02:00",
    "spec": {"network": "vgg16", "stage": "inference", "batch_size": 4, "algorithm": "fft", "device": "cuda"},
    "host": {"hostname": "node7"},
    "device": {"name": "NVIDIA L40S"},
    "environment": {"torch": "2.15.0"},
    "engine": {"name": "slurm", "job_id": "17"},
}
LAYER = {
    "line": "layer",
    "layer_index": 0,
    "layer": "features.0",
    "kind": "conv",
    "kernel_size": 3,
    "median_ms": 0.5,
}
SAMPLE = {"line": "sample", "at_s": 2.0, "cache": "hot", "block": 0, "latency_ms": 1.5, "throttled": True}
RESULT = {
    "line": "result",
    "status": "ok",
    "latency_ms": 1.5,
    "verdict": "contended",
    "duration_s": 9.0,
    "energy_j": None,
}


def log(*rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_whole_run(tmp_path):
    reading = read_text(tmp_path, log(HEADER, SAMPLE, LAYER, RESULT), "vgg16-fft.jsonl")
    run = reading.run
    assert (run["tool"], run["status"], run["model"], run["host"]) == ("perf_assets", "ok", "vgg16", "node7")
    assert (run["device_raw"], run["batch_size"], run["algorithm"]) == ("NVIDIA L40S", 4, "fft")
    assert (run["latency_ms"], run["energy_j"], run["quality"]) == (1.5, None, ["contended"])
    assert run["started_at"] == datetime(2026, 5, 1, 10, 0, 0, 500000)
    assert json.loads(run["config"])["engine"] == {"name": "slurm", "job_id": "17"}
    (layer,) = reading.rows("cleaned_layers")
    assert (layer["layer"], layer["kernel_size"], layer["median_ms"]) == ("features.0", 3, 0.5)
    (sample,) = reading.rows("cleaned_samples")
    assert sample["sampled_at"] == datetime(2026, 5, 1, 10, 0, 2, 500000)
    assert dict(sample["metrics"])["latency_ms"] == 1.5


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        ("oom", "oom"),
        ("predicted_oom", "missing"),
        ("unsupported", "failed"),
        ("failed", "failed"),
        ("odd", "unknown"),
    ],
)
def test_outcomes(tmp_path, outcome, status):
    run = read_text(tmp_path, log(HEADER, RESULT | {"status": outcome, "latency_ms": None})).run
    assert (run["status"], json.loads(run["config"])["outcome"]) == (status, outcome)


def test_run_that_died_keeps_what_was_measured(tmp_path):
    reading = read_text(tmp_path, log(HEADER, SAMPLE, SAMPLE) + '{"line": "sample", "latency_')
    assert reading.run["status"] == "incomplete"
    assert len(reading.rows("cleaned_samples")) == 2
    assert [row["reason"] for row in reading.rows("rejected_lines")] == ["not_json"]


def test_lines_that_cannot_be_used(tmp_path):
    bad = [
        {"line": "gossip"},
        LAYER | {"median_ms": "fast"},
        LAYER | {"layer_index": 2**70},
        LAYER | {"layer": 5},
        HEADER | {"spec": []},
        HEADER | {"started_at": "yesterday"},
        [1, 2],
    ]
    reading = read_text(tmp_path, log(HEADER, *bad, RESULT))
    reasons = [row["reason"] for row in reading.rows("rejected_lines")]
    assert reasons == [
        "unknown_kind",
        "bad_cell",
        "bad_cell",
        "bad_cell",
        "bad_cell",
        "bad_cell",
        "unknown_kind",
    ]
    assert reading.run["status"] == "ok"
