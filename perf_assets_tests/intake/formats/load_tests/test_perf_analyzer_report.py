import csv
import json
import re

import pytest

from perf_assets_tests.support import SAMPLES, needs_samples, read, read_text

LOAD_TESTS = SAMPLES / "load_tests"
REPORTS = sorted(LOAD_TESTS.rglob("stdout.txt")) + sorted(LOAD_TESTS.glob("perf_text/*"))


def block(concurrency, throughput, p50=100, extra="", head="Request concurrency"):
    return (
        f"{head}: {concurrency}\n  Client: \n    Request count: 50\n{extra}    Throughput: {throughput} "
        "infer/sec\n"
        f"    Avg latency: {p50 + 5} usec (standard deviation 7 usec)\n    p50 latency: {p50} usec\n"
    )


@needs_samples("load_tests")
@pytest.mark.parametrize("path", REPORTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_block_and_number_is_found(path):
    text = path.read_text()
    reading = read(path)
    assert reading.format == "perf_analyzer_report"
    assert reading.rows("rejected_lines") == []
    parent = reading.rows("cleaned_runs")[0]["run_id"]
    levels = [level for level in reading.rows("cleaned_load_levels") if level["run_id"] == parent]
    found = re.findall(r"Request (?:concurrency: |Rate: (?=\d+ inf))(\d+)", text)
    assert [level["level"] for level in levels] == sorted(map(float, found))
    for pattern, column in (
        (r"(?<!Response )Throughput: ([\d.]+) infer", "throughput_per_s"),
        (r"Request count: (\d+)", "requests"),
        (r"p50 latency: (\d+)", "p50_us"),
        (r"p99 latency: (\d+)", "p99_us"),
        (r"Avg latency: (\d+) usec \(standard", "avg_us"),
        (r"standard deviation (\d+)", "std_us"),
    ):
        numbers = [float(number) for number in re.findall(pattern, text)]
        in_order = sorted(levels, key=lambda level: found.index(str(int(level["level"]))))
        assert [level[column] for level in in_order] == (numbers or [None] * len(levels)), column
    composing = set(re.findall(r"(?m)^\s*(\w+), version:", text))
    assert {run["model"] for run in reading.rows("cleaned_runs") if run["parent_run_id"]} == composing


@needs_samples("load_tests")
def test_agrees_with_the_csv_of_the_same_run():
    folder = LOAD_TESTS / "local_triton/core_3insts_0gpus"
    levels = {level["level"]: level for level in read(folder / "stdout.txt").rows("cleaned_load_levels")}
    with (folder / "cpu_3instance_sync.csv").open() as stream:
        for row in csv.DictReader(stream):
            level = levels[float(row["Concurrency"])]
            assert level["throughput_per_s"] == float(row["Inferences/Second"])
            assert level["queue_us"] == float(row["Server Queue"])
            assert level["compute_infer_us"] == float(row["Server Compute Infer"])
            assert level["request_response_us"] == float(row["request/response"])


@needs_samples("load_tests")
def test_the_ensemble_queue_is_the_sum_of_its_parts():
    for level in read(LOAD_TESTS / "perf_text/khulnasoft_ensemble_p95.txt").rows("cleaned_load_levels"):
        if level["composing_queue_us"] is not None:
            assert level["composing_queue_us"] == level["queue_us"]


@needs_samples("load_tests")
def test_delayed_requests():
    reading = read(LOAD_TESTS / "local_triton/request_rate_pa2480/stdout.txt")
    level = next(level for level in reading.rows("cleaned_load_levels") if level["level"] == 60)
    assert (level["delayed_pct"], level["send_rate_per_s"], level["throughput_per_s"]) == (
        28.24,
        59.84,
        59.01,
    )
    assert dict(level["percentiles_us"])["p85"] == 50961
    assert level["quality"] == ["delayed_rate"]
    assert "delayed_rate" in reading.rows("cleaned_runs")[0]["quality"]


def test_bullets_and_wrapped_sums(tmp_path):
    text = (
        "* Request concurrency: 60\n  * Client: \n    * Throughput: 1560.08 infer/sec\n"
        "    * Avg HTTP time: 38438 usec (send 32 usec + response wait 38406 usec + \n      receive 0 usec)\n"
        "  * Server: \n    * Avg request latency: 38271 usec (overhead 32 usec + queue 18085 usec +\n"
        "      compute input 138 * usec + compute infer 19831 usec + compute output 184 usec)\n"
    )
    reading = read_text(tmp_path, text)
    (level,) = reading.rows("cleaned_load_levels")
    assert (level["queue_us"], level["compute_input_us"], level["compute_output_us"]) == (18085, 138, 184)
    assert (level["client_send_us"], level["client_recv_us"]) == (32, 0)
    assert reading.records.rejected == 0


@pytest.mark.parametrize(
    "time",
    [
        "Avg HTTP time: 9 usec (send/recv 3 usec + response wait 6 usec)",
        "Avg gRPC time: 9 usec ((un)marshal request/response 3 usec + response wait 6 usec)",
    ],
)
def test_both_protocols(tmp_path, time):
    (level,) = read_text(tmp_path, block(1, 10) + f"    {time}\n").rows("cleaned_load_levels")
    assert (level["request_response_us"], level["response_wait_us"]) == (3, 6)


def test_gpus_of_the_server(tmp_path):
    text = block(2, 10) + (
        "  Server Prometheus Metrics: \n    Avg GPU Utilization:\n      GPU-0a : 45.5%\n    Avg GPU Power "
        "Usage:\n"
        "      GPU-0a : 120.25 watts\n    Max GPU Memory Usage:\n      GPU-0a : 8342470656 bytes\n"
        "    Total GPU Memory:\n      GPU-0a : 85899345920 bytes\n"
    )
    (gpu,) = read_text(tmp_path, text).rows("cleaned_load_gpus")
    assert gpu["utilization"] == pytest.approx(0.455), "a fraction, although the report prints per cent"
    assert (gpu["power_w"], gpu["memory_used_bytes"], gpu["memory_total_bytes"]) == (
        120.25,
        8342470656,
        85899345920,
    )


def test_several_runs_in_one_file(tmp_path):
    summary = (
        "Inferences/Second vs. Client Average Batch Latency\nConcurrency: 1, throughput: 10 "
        "infer/sec, latency 105 usec\n"
    )
    reading = read_text(
        tmp_path,
        block(1, 10)
        + summary
        + block(1, 12)
        + block(2, 20)
        + "*** Measurement Settings ***\n  Batch size: 8\n"
        + block(4, 30),
    )
    runs = reading.rows("cleaned_runs")
    levels = [
        [level["level"] for level in reading.rows("cleaned_load_levels") if level["run_id"] == run["run_id"]]
        for run in runs
    ]
    assert levels == [[1], [1, 2], [4]]
    assert [run["batch_size"] for run in runs] == [None, None, 8]


def test_a_summary_before_its_block(tmp_path):
    summary = (
        "Inferences/Second vs. Client Average Batch Latency\nConcurrency: 1, throughput: 10 "
        "infer/sec, latency 105 usec\nConcurrency: 2, 19 infer/sec, latency 111 usec\n"
    )
    reading = read_text(tmp_path, summary + block(1, 10))
    assert len(reading.rows("cleaned_runs")) == 1
    one, two = reading.rows("cleaned_load_levels")
    assert (one["requests"], one["p50_us"]) == (50, 100)
    assert (two["throughput_per_s"], two["avg_us"], two["requests"]) == (19, 111, None)


def test_an_unstable_level(tmp_path):
    text = (
        block(1, 10)
        + block(2, 11)
        + "Failed to obtain stable measurement within 4 measurement windows for concurrency 2. Please try "
        "to increase the --measurement-interval.\n"
    )
    reading = read_text(tmp_path, text)
    one, two = reading.rows("cleaned_load_levels")
    assert (one["stable"], two["stable"], two["quality"]) == (None, False, ["unstable_level"])
    assert "unstable_level" in reading.run["quality"]


def test_an_unstable_level_that_has_no_block(tmp_path):
    text = (
        block(1, 10)
        + "Failed to obtain stable measurement within 4 measurement windows for concurrency 2. Please\n"
    )
    levels = read_text(tmp_path, text).rows("cleaned_load_levels")
    assert [(level["level"], level["stable"], level["throughput_per_s"]) for level in levels] == [
        (1, None, 10),
        (2, False, None),
    ]


def test_cache_and_counts(tmp_path):
    text = block(1, 10) + (
        "  Server: \n    Inference count: 0\n    Cache hit count: 47668\n"
        "    Avg request latency: 2 usec (overhead 1 usec + queue 0 usec + cache hit/miss 1 usec)\n"
        "      Average Cache Hit Latency: 1 usec\n"
        "      Average Cache Miss Latency: 0 usec (cache lookup/insertion 0 usec + compute input 0 usec)\n"
    )
    reading = read_text(tmp_path, text)
    (level,) = reading.rows("cleaned_load_levels")
    assert (level["queue_us"], level["cache_hit_us"], level["cache_miss_us"]) == (0, 1, 0)
    counters = {counter["counter"]: counter["value"] for counter in reading.rows("cleaned_counters")}
    assert counters["cache hit count"] == 47668


def test_composing_models_without_version(tmp_path):
    text = block(3, 10) + (
        "  Server:\n    Avg request latency: 900 usec (overhead 1 usec + queue 70 usec + compute 829 usec)\n"
        "  Composing models:\n  first, version:\n      Inference count: 44\n"
        "      Avg request latency: 500 usec (overhead 1 usec + queue 50 usec + compute input 1 usec + "
        "compute infer 400 usec + compute output 48 usec)\n"
        "  second, version: 2\n"
        "      Avg request latency: 400 usec (overhead 1 usec + queue 20 usec + compute input 1 usec + "
        "compute infer 330 usec + compute output 48 usec)\n"
    )
    reading = read_text(tmp_path, text)
    parent, first, second = reading.rows("cleaned_runs")
    assert (first["model"], second["model"]) == ("first", "second")
    assert first["parent_run_id"] == second["parent_run_id"] == parent["run_id"]
    assert json.loads(second["config"])["model_version"] == "2"
    level = next(
        level for level in reading.rows("cleaned_load_levels") if level["run_id"] == parent["run_id"]
    )
    assert (level["queue_us"], level["compute_us"], level["composing_queue_us"]) == (70, 829, 70)


@pytest.mark.parametrize(
    "line",
    [
        "    Throughput: 1.2.3 infer/sec",
        "    p50 latency: ... usec",
        "    Avg request latency: 5 usec (queue)",
        "    Avg latency: - usec",
        "nonsense",
    ],
)
def test_broken_lines_are_rejected(tmp_path, line):
    reading = read_text(tmp_path, block(1, 10) + line + "\n")
    assert reading.records.rejected == 1
    assert reading.rows("cleaned_load_levels")[0]["throughput_per_s"] == 10


@pytest.mark.parametrize(
    "command",
    [
        "$ perf_client -m org_net -b 8 --percentile=95 --concurrency-range 1:4",
        "root@x:/# ./install/bin/perf_analyzer \\\n  -u 127.0.0.1:8001 --model-name org_net \\\n  --batch-size=8 -i grpc",
    ],
)
def test_a_command_that_was_kept(tmp_path, command):
    summary = "  Inferences/Second vs. Client p95 Batch Latency\n  Concurrency: {}, 159 infer/sec, latency 6701 usec\n"
    text = f"{command}\n{summary.format(1)}{command.replace('org_net', 'other')}\n{summary.format(1)}"
    runs = read_text(tmp_path, text, "sweep.txt").rows("cleaned_runs")
    assert [(run["model"], run["batch_size"]) for run in runs] == [("org_net", 8), ("other", 8)]
    assert runs[0]["command"].startswith("perf_")
