import json
import re

import pytest

from perf_assets_tests.support import SAMPLES, needs_samples, read, read_text

LOGS = sorted((SAMPLES / "load_tests" / "traccc_logs").glob("*"))


def stages(reading):
    return {(stage["stage"], stage["device"]): stage for stage in reading.rows("cleaned_stages")}


@needs_samples("load_tests")
@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.name)
def test_every_row_of_the_tables_is_found(path):
    text = path.read_text()
    reading = read(path)
    assert reading.format == "traccc_log"
    assert reading.rows("rejected_lines") == []
    rows = reading.rows("cleaned_stages")
    for pattern, column, factor in (
        (r"(?m)  ([\d.]+) ms$", "total_ms", 1),
        (r"([\d.]+) ms/event", "per_event_ms", 1),
        (r"([\d.]+) events/s", "events_per_s", 1),
        (r"(?m)^[a-z_ ]+(?: \(\w+\))? +([\d.]+) *$", "total_ms", 1000),
    ):
        expected = sorted(float(number) * factor for number in re.findall(pattern, text))
        if expected or (factor == 1 and "seconds" not in path.name):
            assert sorted(row[column] for row in rows if row[column] is not None) == pytest.approx(expected)


@needs_samples("load_tests")
def test_sequential_cuda():
    reading = read(next(path for path in LOGS if path.name.startswith("pr467")))
    found = stages(reading)
    assert found["Clusterization", "cpu"]["total_ms"] == 7
    assert found["Clusterization", "cuda"]["total_ms"] == 0
    assert found["Wall time", None]["total_ms"] == 580
    assert (reading.run["status"], reading.run["duration_s"], reading.run["device_raw"]) == (
        "ok",
        0.58,
        "cuda",
    )
    counters = {(row["scope"], row["counter"]): row["value"] for row in reading.rows("cleaned_counters")}
    assert counters["process", "cells"] == 199547
    assert counters["process", "modules"] == 3859
    assert counters["cuda", "seeds"] == 6151


@needs_samples("load_tests")
def test_two_runs_in_one_file():
    reading = read(next(path for path in LOGS if path.name.startswith("texture")))
    assert [run["throughput_per_s"] for run in reading.rows("cleaned_runs")] == [24.2752, 24.9534]
    assert [row["value"] for row in reading.rows("cleaned_counters")] == [1444438, 1351815]


@needs_samples("load_tests")
def test_a_banner_without_results():
    run = read(next(path for path in LOGS if path.name.startswith("pr1008"))).run
    assert (run["status"], run["quality"], run["device_raw"]) == (
        "incomplete",
        ["no_results"],
        "NVIDIA GeForce RTX 3080",
    )


@pytest.mark.parametrize("time", ["11:22:57", "09:22:57 PM"])
def test_rows_glued_to_their_headers(tmp_path, time):
    prefix = f"{time}    ThroughputExample             INFO      "
    text = (
        "Event processing   [====>     ] 40% [00m:03s]\rEvent processing   [==========] 100% [00m:00s]\n"
        f"{prefix}Reconstructed track parameters: 1,234,567\n"
        f"{prefix}Time totals:                   File reading  1111 ms\n"
        f"{prefix}            Warm-up processing  222 ms\n"
        f"{prefix}              Event processing  3333 ms\n"
        f"{prefix}Throughput:            Warm-up processing  22.2345 ms/event, 44.9751 events/s\n"
        f"{prefix}              Event processing  98 ms/event, 1e+03 events/s\n"
    )
    reading = read_text(tmp_path, text, "out_gpu_mu200.log")
    assert reading.records.rejected == 0
    event = stages(reading)["Event processing", None]
    assert (event["total_ms"], event["per_event_ms"], event["events_per_s"]) == (3333, 98, 1000)
    assert (reading.run["latency_ms"], reading.run["throughput_per_s"], reading.run["status"]) == (
        98,
        1000,
        "ok",
    )
    config = json.loads(reading.run["config"])
    assert (config["mu"], config["first_time"]) == (200, time)
    assert (reading.run["device_raw"], config["from_path"]) == ("gpu", ["device", "mu"])


def test_seconds_with_the_misspelt_header(tmp_path):
    text = "==> Statistics ... \n- created        11204 meaurements     \n==> Elpased time ... \nwall time           33.975    \nseeding_time (cuda)       1.5e-03\nclusterization_time (cpu) 0\n"
    reading = read_text(tmp_path, text)
    found = stages(reading)
    assert found["wall time", None]["total_ms"] == 33975
    assert found["seeding_time", "cuda"]["total_ms"] == 1.5
    assert found["clusterization_time", "cpu"]["total_ms"] == 0
    assert reading.rows("cleaned_counters")[0]["counter"] == "measurements"


@pytest.mark.parametrize(
    "text",
    [
        "10:02:11    CudaSeqExample                INFO      ==>Elapsed times...            File reading  (cpu)  512 ms\n",
        "10:02:11    CudaSeqExample                INFO      ==>Elapsed times...            File reading  (c",
        "Time totals:\n              Event processing  2202 ms\n",
        "Time totals:\n              Event processing  2202 ms\nThroughput:\n        Warm-up processing  2 ms/event, 440 events/s\n",
        "==>Elapsed times...\n           File reading  (cpu)  394 ms\n         Clusterization (cuda)  0 m",
    ],
)
def test_tables_that_are_cut_off(tmp_path, text):
    run = read_text(tmp_path, text).run
    assert (run["status"], run["quality"]) == ("incomplete", ["stage_table_cut_off"])


def test_a_complete_run_after_one_that_was_cut_off(tmp_path):
    table = "==>Elapsed times...\n    File reading  (cpu)  394 ms\n    Seeding (cuda)  3 ms\n"
    reading = read_text(
        tmp_path, table + "==> Statistics ...\n- created (cuda) 5 seeds\n" + table + "    Wall time  400 ms\n"
    )
    assert [run["status"] for run in reading.rows("cleaned_runs")] == ["incomplete", "ok"]
    assert [row["run_id"][-1] for row in reading.rows("cleaned_counters")] == ["1"]


def test_interleaved_warnings(tmp_path):
    text = (
        "==>Elapsed times...\n    File reading  (cpu)  394 ms\n"
        "WARNING: 12 duplicate cells found in /data/event000000001-cells.csv\nUsing CUDA device: NVIDIA A30 [id: 0]\n"
        "    Wall time  400 ms\n"
    )
    reading = read_text(tmp_path, text)
    assert reading.records.rejected == 0
    assert reading.run["device_raw"] == "NVIDIA A30"
    assert reading.rows("cleaned_counters")[0]["value"] == 12


@pytest.mark.parametrize("line", ["    Seeding (cuda)  1.2.3 ms", "    Seeding (cuda)  x ms", "what is this"])
def test_broken_lines_are_rejected(tmp_path, line):
    reading = read_text(
        tmp_path, f"==>Elapsed times...\n    File reading  (cpu)  394 ms\n{line}\n    Wall time  400 ms\n"
    )
    assert reading.records.rejected == 1
    assert reading.run["status"] == "ok"


def test_other_logs_are_left_alone(tmp_path):
    for text in (
        "Throughput: 5 infer/sec\n",
        "wall time 5\n",
        "10:00:00 main INFO hello\n",
        "Elapsed time: 5 ms\n",
    ):
        assert read_text(tmp_path, text).format is None


def test_endless_lines_cost_no_time(tmp_path):
    reading = read_text(
        tmp_path,
        "==>Elapsed times...\n    File reading  (cpu)  394 ms\na"
        + " " * 900_000
        + "b\n    Wall time  400 ms\n",
    )
    assert [line["reason"] for line in reading.rows("rejected_lines")] == ["too_long"]
    assert reading.run["status"] == "ok"
