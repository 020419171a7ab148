"""vLLM's serving benchmark as JSON and text, AIPerf's JSON, MLPerf loadgen's summary."""

import json
from datetime import datetime

import pytest

from perf_assets.intake.parsing.source import UnreadableSourceError
from perf_assets_tests.linking import linked, rows
from perf_assets_tests.support import read_text

RESULT = {
    "date": "20250611-091500",
    "backend": "vllm",
    "model_id": "example/net",
    "num_prompts": 10,
    "request_rate": "inf",
    "max_concurrency": 16,
    "duration": 3.0,
    "completed": 10,
    "total_output_tokens": 80,
    "request_throughput": 3.25,
    "output_throughput": 22.0,
    "mean_ttft_ms": 5.0,
    "median_ttft_ms": 4.0,
    "p99_ttft_ms": 9.0,
    "mean_e2el_ms": 20.0,
    "median_e2el_ms": 19.0,
    "p99_e2el_ms": 30.0,
}
BLOCK = """============ Serving Benchmark Result ============
Successful requests:                     10
Benchmark duration (s):                  3.00
Request throughput (req/s):              3.25
Output token throughput (tok/s):         22.00
---------------Time to First Token----------------
Mean TTFT (ms):                          5.00
Median TTFT (ms):                        4.00
P99 TTFT (ms):                           9.00
----------------End-to-end Latency----------------
Mean E2EL (ms):                          20.00
Median E2EL (ms):                        19.00
P99 E2EL (ms):                           30.00
==================================================
"""


def level_of(reading) -> dict:
    (level,) = reading.rows("cleaned_load_levels")
    return level


class TestVllmJson:
    def test_a_result(self, tmp_path):
        reading = read_text(tmp_path, json.dumps(RESULT), "r.json", timezone="Europe/Oslo")
        assert (reading.format, reading.run["tool"], reading.run["model"]) == (
            "vllm_bench",
            "vllm",
            "example/net",
        )
        assert reading.run["started_at"] == datetime(2025, 6, 11, 7, 15)
        level = level_of(reading)
        assert (level["mode"], level["level"], level["requests"]) == ("concurrency", 16, 10)
        assert (level["avg_us"], level["p50_us"], level["p99_us"]) == (20_000, 19_000, 30_000)
        assert (level["ttft_p50_us"], level["ttft_p99_us"], level["tokens_per_s"]) == (4000, 9000, 22)
        counters = {row["counter"]: (row["value"], row["unit"]) for row in reading.rows("cleaned_counters")}
        assert counters["mean_ttft_ms"] == (5.0, "ms")
        assert counters["output_throughput"] == (22.0, "tokens/s")

    @pytest.mark.parametrize(
        ("rate", "concurrency", "load"),
        [
            (8.0, None, ("request_rate", 8)),
            (8.0, 4, ("request_rate", 8)),
            ("inf", None, ("request_rate", None)),
        ],
    )
    def test_the_load(self, tmp_path, rate, concurrency, load):
        text = json.dumps(RESULT | {"request_rate": rate, "max_concurrency": concurrency})
        level = level_of(read_text(tmp_path, text))
        assert (level["mode"], level["level"]) == load

    def test_appended_results_are_runs(self, tmp_path):
        text = "".join(json.dumps(RESULT | {"max_concurrency": each}) + "\n" for each in (1, 2, 4))
        reading = read_text(tmp_path, text)
        assert [row["level"] for row in reading.rows("cleaned_load_levels")] == [1, 2, 4]

    def test_of_no_request_nothing_was_measured(self, tmp_path):
        reading = read_text(tmp_path, json.dumps(RESULT | {"completed": 0, "request_throughput": 0.0}))
        assert (reading.run["status"], reading.run["throughput_per_s"]) == ("failed", None)
        assert (level_of(reading)["ttft_p50_us"], reading.rows("cleaned_counters")) == (None, [])

    def test_failed_requests_are_flagged(self, tmp_path):
        assert read_text(tmp_path, json.dumps(RESULT | {"completed": 8})).run["quality"] == [
            "requests_failed"
        ]

    def test_a_cut_result(self, tmp_path):
        with pytest.raises(UnreadableSourceError, match="drop the whole file"):
            read_text(tmp_path, json.dumps(RESULT)[:-20])


class TestVllmText:
    def test_a_block_behind_its_arguments(self, tmp_path):
        text = (
            f"Namespace(backend='vllm', model='example/net', max_concurrency=16, request_rate=inf)\n{BLOCK}"
        )
        reading = read_text(tmp_path, text)
        assert (reading.format, reading.run["model"]) == ("vllm_bench_text", "example/net")
        level = level_of(reading)
        assert (level["mode"], level["level"], level["avg_us"]) == ("concurrency", 16, 20_000)

    @pytest.mark.parametrize(
        ("command", "tool"),
        [
            (
                "$ vllm bench serve --backend vllm --model org/net --max-concurrency 8 --request-rate inf",
                "vllm",
            ),
            ("docker exec x python benchmark_serving.py --model=org/net \\\n  --max-concurrency=8", "vllm"),
            (
                "python3 -m sglang.bench_serving --backend sglang \\\n --model org/net \\\n --max-concurrency 8",
                "sglang",
            ),
        ],
    )
    def test_a_block_behind_its_command(self, tmp_path, command, tool):
        reading = read_text(tmp_path, f"{command}\n\n{BLOCK}")
        assert (reading.run["model"], reading.run["tool"]) == ("org/net", tool)
        level = level_of(reading)
        assert (level["mode"], level["level"]) == ("concurrency", 8)

    def test_blocks_are_runs_each_with_its_own_load(self, tmp_path):
        text = f"Traffic request rate: 2.0\n{BLOCK}Traffic request rate: 4.0\n{BLOCK}{BLOCK}"
        reading = read_text(tmp_path, text)
        assert [row["level"] for row in reading.rows("cleaned_load_levels")] == [2, 4, None]

    def test_json_and_text_of_one_run_count_once(self, tmp_path):
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "r.json").write_text(json.dumps(RESULT))
        (tmp_path / "a" / "out.txt").write_text(BLOCK)
        (tmp_path / "a" / "other.txt").write_text(BLOCK.replace("20.00", "21.00"))
        connection = linked(
            [(tmp_path / "a" / name, f"a/{name}") for name in ("r.json", "out.txt", "other.txt")]
        )
        assert len(rows(connection, "SELECT * FROM cleaned_runs")) == 2, "another latency is another run"
        sources = rows(connection, "SELECT format, why FROM run_sources ORDER BY format")
        assert [source["format"] for source in sources] == ["vllm_bench", "vllm_bench_text"]
        assert all(source["why"] for source in sources)


class TestAiperfJson:
    def export(self, **changes) -> str:
        latency = {"unit": "ms", "avg": 20.0, "p50": 19.0, "p99": 30.0, "std": 2.0}
        phases = [
            {"name": "warmup", "concurrency": 2, "exclude_from_results": True},
            {"name": "profiling", "concurrency": 16},
        ]
        gpu = {
            "gpu_uuid": "GPU-1",
            "gpu_name": "NVIDIA L4",
            "metrics": {
                "gpu_power_usage": {"unit": "W", "avg": 60.0, "max": 70.0},
                "gpu_memory_used": {"unit": "GB", "avg": 1.0, "max": 2.0},
                "gpu_utilization": {"unit": "%", "avg": 50.0},
            },
        }
        document = {
            "aiperf_version": "0.10.0",
            "request_throughput": {"unit": "requests/sec", "avg": 3.25},
            "request_latency": latency,
            "request_count": {"unit": "requests", "avg": 10.0},
            "telemetry_data": {"endpoints": {"h:9400": {"gpus": {"gpu_0": gpu}}}},
            "input_config": {"models": {"items": [{"name": "net"}]}, "phases": phases},
            "start_time": "2025-06-11T10:00:00.5",
        }
        return json.dumps(document | changes)

    def test_an_export(self, tmp_path):
        reading = read_text(tmp_path, self.export())
        assert (reading.format, reading.run["tool"], reading.run["model"]) == ("aiperf_json", "aiperf", "net")
        level = level_of(reading)
        assert (level["mode"], level["level"], level["requests"], level["p99_us"]) == (
            "concurrency",
            16,
            10,
            30_000,
        )
        (gpu,) = reading.rows("cleaned_load_gpus")
        assert (gpu["power_w"], gpu["utilization"], gpu["memory_used_bytes"]) == (60, 0.5, 2e9)
        assert (reading.run["mean_power_w"], reading.run["device_raw"]) == (60, "NVIDIA L4")
        assert reading.run["started_at"] == datetime(2025, 6, 11, 10, 0, 0, 500_000)

    def test_genai_perfs_export(self, tmp_path):
        config = {"model": ["net"], "perf_analyzer": {"stimulus": {"concurrency": 4}}}
        text = self.export(input_config=config).replace('"aiperf_version": "0.10.0", ', "")
        reading = read_text(tmp_path, text)
        assert (reading.run["tool"], reading.run["model"], level_of(reading)["level"]) == (
            "genai_perf",
            "net",
            4,
        )

    def test_a_cancelled_run(self, tmp_path):
        assert read_text(tmp_path, self.export(was_cancelled=True)).run["status"] == "failed"

    @pytest.mark.parametrize(
        "changes", [{"input_config": 5}, {"telemetry_data": {"endpoints": {"h": []}}}, {"start_time": 7}]
    )
    def test_odd_parts_cost_themselves_alone(self, tmp_path, changes):
        assert level_of(read_text(tmp_path, self.export(**changes)))["avg_us"] == 20_000


class TestMlperf:
    SUMMARY = """================================================
MLPerf Results Summary
================================================
SUT name : PySUT
Scenario : {scenario}
Mode     : PerformanceOnly
{headline}
Result is : {result}
  Min duration satisfied : Yes

================================================
Additional Stats
================================================
Scheduled samples per second : 120.5
QPS w/ loadgen overhead         : 99.5
Mean latency (ns)               : 4000000
50.00 percentile latency (ns)   : 3900000
99.90 percentile latency (ns)   : 9000000

================================================
Test Parameters Used
================================================
samples_per_query : 1
target_qps : 120
"""

    def read(self, tmp_path, scenario: str, headline: str, result: str = "VALID", name: str = "s.txt"):
        text = self.SUMMARY.format(scenario=scenario, headline=headline, result=result)
        return read_text(tmp_path, text, name)

    def test_a_server(self, tmp_path):
        path = "results/node7/resnet50/Server/performance/run_1/mlperf_log_summary.txt"
        reading = self.read(tmp_path, "Server", "Completed samples per second    : 119.5", name=path)
        assert (reading.format, reading.run["status"]) == ("mlperf_loadgen", "ok")
        assert (reading.run["model"], reading.run["host"]) == ("resnet50", "node7")
        level = level_of(reading)
        assert (level["mode"], level["level"]) == ("request_rate", 120)
        assert (level["avg_us"], level["p50_us"]) == (pytest.approx(4000), pytest.approx(3900))
        assert dict(level["percentiles_us"])["p99.9"] == pytest.approx(9000)
        assert reading.records.rejected == 0

    @pytest.mark.parametrize("scenario", ["SingleStream", "Single Stream"])
    def test_a_single_stream(self, tmp_path, scenario):
        level = level_of(self.read(tmp_path, scenario, "90th percentile latency (ns) : 4100000"))
        assert (level["mode"], level["level"], level["throughput_per_s"]) == ("concurrency", 1, 99.5)
        assert dict(level["percentiles_us"])["p90"] == pytest.approx(4100)

    def test_an_invalid_result_is_kept_and_does_not_count(self, tmp_path):
        reading = self.read(tmp_path, "Offline", "Samples per second: 25.5", "INVALID")
        assert reading.run["status"] == "failed"
        assert reading.run["quality"] == ["result_invalid"]
        assert level_of(reading)["mode"] is None
