import csv
import json
import statistics

import pytest

from perf_assets.intake.parsing.source import UnreadableSourceError
from perf_assets_tests.support import SAMPLES, needs_samples, read, read_text

TRITON = SAMPLES / "load_tests" / "local_triton"


def export(*experiments) -> str:
    return json.dumps(
        {"experiments": list(experiments), "version": "2.48.0", "service_kind": "triton", "endpoint": ""}
    )


def experiment(requests, mode="concurrency", value=1, window=(0, 10**9)):
    return {
        "experiment": {"mode": mode, "value": value},
        "requests": requests,
        "window_boundaries": list(window),
    }


def request(start, *responses, outputs=None):
    return {
        "timestamp": start,
        "request_inputs": {"X": None},
        "response_timestamps": list(responses),
        "response_outputs": outputs or [{"Y": "1"} for _ in responses],
    }


@needs_samples("load_tests")
@pytest.mark.parametrize(
    ("export_file", "csv_file"),
    [
        ("toy_export_pa2480/toy_export.json", "toy_1instance.csv"),
        ("decoupled_pa2480/stream_export.json", "stream.csv"),
    ],
)
def test_reproduces_its_csv(export_file, csv_file):
    path = TRITON / export_file
    levels = {level["level"]: level for level in read(path).rows("cleaned_load_levels")}
    with (path.parent / csv_file).open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(levels)
    for row in rows:
        level = levels[float(row["Concurrency"])]
        assert float(f"{level['throughput_per_s']:.6g}") == float(row["Inferences/Second"])
        for share in (50, 90, 95, 99):
            assert level[f"p{share}_us"] == float(row[f"p{share} latency"])
        if "Avg latency" in row:
            assert level["avg_us"] == float(row["Avg latency"])
        if "Response Throughput" in row:
            assert float(f"{level['response_throughput_per_s']:.6g}") == float(row["Response Throughput"])


@needs_samples("load_tests")
def test_against_an_independent_reading():
    path = TRITON / "toy_export_pa2480/toy_export.json"
    document = json.loads(path.read_bytes().decode("latin-1"))
    levels = {level["level"]: level for level in read(path).rows("cleaned_load_levels")}
    for each in document["experiments"]:
        latencies = [r["response_timestamps"][-1] - r["timestamp"] for r in each["requests"]]
        level = levels[each["experiment"]["value"]]
        assert level["requests"] == len(latencies)
        assert level["avg_us"] == int(statistics.mean(latencies) / 1000)
        assert level["std_us"] == pytest.approx(statistics.stdev(latencies) / 1000, rel=1e-6)


def test_the_empty_answer_that_ends_a_stream(tmp_path):
    stream = request(0, 1000, 5000, 90_000, outputs=[{"Y": "a"}, {"Y": "b"}, {"Y": ""}])
    (level,) = read_text(tmp_path, export(experiment([stream]))).rows("cleaned_load_levels")
    assert (level["avg_us"], level["response_throughput_per_s"]) == (5, 2)


def test_an_answer_that_is_empty_but_alone_counts(tmp_path):
    (level,) = read_text(tmp_path, export(experiment([request(0, 7000, outputs=[{"Y": ""}])]))).rows(
        "cleaned_load_levels"
    )
    assert (level["avg_us"], level["response_throughput_per_s"]) == (7, None)


def test_raw_bytes_in_strings(tmp_path):
    data = export(experiment([request(0, 7000)])).encode().replace(b'"1"', b'"\x00\xff\xe9\x80"')
    assert len(read_text(tmp_path, data).rows("cleaned_load_levels")) == 1


def test_start_and_duration_come_from_the_windows(tmp_path):
    window = (1_700_000_000_000_000_000, 1_700_000_005_000_000_000)
    run = read_text(tmp_path, export(experiment([request(1, 7000)], window=window))).run
    assert (run["started_at"].isoformat(), run["duration_s"]) == ("2023-11-14T22:13:20", 5.0)


def test_rate_mode_and_a_level_again(tmp_path):
    one = experiment([request(0, 7000)], "request_rate", 12.5)
    reading = read_text(tmp_path, export(one, one))
    assert len(reading.rows("cleaned_runs")) == 2
    assert {level["mode"] for level in reading.rows("cleaned_load_levels")} == {"request_rate"}


@pytest.mark.parametrize(
    "broken",
    [
        {},
        [],
        experiment([]),
        experiment([{"timestamp": 0}]),
        experiment([request(0, 7000)], "storm"),
        experiment([request(0, 7000)], value="x"),
        experiment([request(0, 7000)], value=10**400),
        experiment([request(0, 7000)], window=()),
        experiment([request(0, 7000)], window=(5, 5)),
        experiment([request(0, "7000")]),
        experiment([request(9000, 7000)]),
        experiment([request(0, -5)]),
    ],
)
def test_a_broken_experiment_costs_itself_alone(tmp_path, broken):
    reading = read_text(tmp_path, export(broken, experiment([request(0, 7000)], value=3)))
    assert [level["level"] for level in reading.rows("cleaned_load_levels")] == [3]
    assert [line["reason"] for line in reading.rows("rejected_lines")] == ["bad_experiment"]


@pytest.mark.parametrize(
    "text", ['{"experiments":[{"experiment"', '{"experiments":[]}', '{"experiments":[' + "[" * 100_000]
)
def test_a_broken_document_says_what_helps(tmp_path, text):
    with pytest.raises(UnreadableSourceError, match="perf_analyzer"):
        read_text(tmp_path, text)


def test_input_data_is_not_claimed(tmp_path):
    assert read_text(tmp_path, '{"data":[{"X":{"content":[0.0],"shape":[1,1]}}]}').format is None
