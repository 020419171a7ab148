import pytest

from perf_assets_tests.support import read_text

PROFILE = (
    "Metric,avg,min,max,p99,p95,p90,p75,p50\r\n"
    "Time To First Token (ms),41.20,33.10,88.40,80.20,61.00,52.40,44.00,39.10\r\n"
    "Request Latency "
    '(ms),"1,042.10",812.40,"1,610.00","1,588.30","1,402.20","1,310.00","1,120.50","1,004.90"\r\n'
    "\r\nMetric,Value\r\nRequest Throughput (per sec),3.84\r\nRequest Count (count),230.00\r\n"
)
ANALYZE = (
    "Config Name,Concurrency,ISL,p99 Time To First Token (ms),p99 Request Latency (ms),Request Throughput "
    "(requests/sec)\r\n"
    "run_1,2,200,47.12,801.20,2.31\r\nrun_0,1,200,35.90,760.40,1.29\r\n\r\n"
    "Config Name,GPU,p99 GPU Power Usage (W),p99 GPU Energy Consumption (MJ),p99 GPU Utilization (%),p99 "
    "GPU Memory Used (GB)\r\n"
    "run_1,gpu0,91.30,1.21,46.00,21.90\r\n"
)


def test_profile(tmp_path):
    reading = read_text(tmp_path, PROFILE, "net-triton-vllm-concurrency4/profile_export_genai_perf.csv")
    (level,) = reading.rows("cleaned_load_levels")
    assert (level["mode"], level["level"], level["throughput_per_s"], level["requests"]) == (
        "concurrency",
        4,
        3.84,
        230,
    )
    assert (level["avg_us"], level["p50_us"], level["p99_us"]) == pytest.approx(
        (1_042_100, 1_004_900, 1_588_300)
    )
    assert reading.run["model"] == "net"
    assert '"from_path": ["level", "mode", "model"]' in reading.run["config"]
    counters = {counter["counter"]: counter for counter in reading.rows("cleaned_counters")}
    first = counters["Time To First Token"]
    assert (first["value"], first["value_min"], first["value_max"], first["unit"]) == (41.2, 33.1, 88.4, "ms")
    assert counters["Time To First Token p99"]["value"] == 80.2
    assert (reading.records.records, reading.records.ignored, reading.records.rejected) == (4, 3, 0)


def test_without_a_load_in_the_path(tmp_path):
    (level,) = read_text(tmp_path, PROFILE).rows("cleaned_load_levels")
    assert (level["mode"], level["level"]) == (None, None)


def test_two_profiles_in_one_file(tmp_path):
    assert len(read_text(tmp_path, PROFILE + PROFILE).rows("cleaned_runs")) == 2


def test_analyze(tmp_path):
    reading = read_text(tmp_path, ANALYZE)
    runs = {run["name"]: run for run in reading.rows("cleaned_runs")}
    assert set(runs) == {"run_0", "run_1"}
    levels = {level["run_id"]: level for level in reading.rows("cleaned_load_levels")}
    level = levels[runs["run_1"]["run_id"]]
    assert (level["level"], level["throughput_per_s"], level["p99_us"]) == (2, 2.31, pytest.approx(801_200))
    (gpu,) = reading.rows("cleaned_load_gpus")
    assert (gpu["run_id"], gpu["level"], gpu["power_w"]) == (runs["run_1"]["run_id"], 2, 91.3)
    assert (gpu["utilization"], gpu["memory_used_bytes"]) == (pytest.approx(0.46), pytest.approx(21.9e9))


@pytest.mark.parametrize(
    "row", ["Request Latency (ms),1,2", "Request Latency (ms),x,1,1,1,1,1,1,1", ",1,1,1,1,1,1,1,1"]
)
def test_broken_rows_are_rejected(tmp_path, row):
    reading = read_text(
        tmp_path, f"Metric,avg,min,max,p99,p95,p90,p75,p50\n{row}\nInter Token Latency (ms),1,1,1,1,1,1,1,1\n"
    )
    assert reading.records.rejected == 1
    assert reading.rows("cleaned_counters")


def test_other_tables_of_metrics_are_left_alone(tmp_path):
    for text in ("Metric,Score\nacc,1\n", "Metric\nx\n", "Config Name,Colour\na,b\n"):
        assert read_text(tmp_path, text).format is None
