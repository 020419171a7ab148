import csv
from pathlib import Path

import pytest

from perf_assets_tests.support import SAMPLES, needs_samples, read, read_text

LOAD_TESTS = SAMPLES / "load_tests"
HEADER = (
    "Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,Server Compute Input,"
    "Server Compute Infer,Server Compute Output,Client Recv"
)
FULL = HEADER + ",p50 latency,p90 latency,p95 latency,p99 latency,Avg latency,request/response,response wait"
GPUS = FULL + ",Avg GPU Utilization,Avg GPU Power Usage,Max GPU Memory Usage,Total GPU Memory"

# Written out once more, so that a slip in the parser's own table shows.
COLUMNS = {
    "Inferences/Second": "throughput_per_s",
    "Response Throughput": "response_throughput_per_s",
    "Client Send": "client_send_us",
    "Network+Server Send/Recv": "network_us",
    "Server Queue": "queue_us",
    "Server Compute": "compute_us",
    "Server Compute Input": "compute_input_us",
    "Server Compute Infer": "compute_infer_us",
    "Server Compute Output": "compute_output_us",
    "Server Cache Hit": "cache_hit_us",
    "Server Cache Miss": "cache_miss_us",
    "Client Recv": "client_recv_us",
    "p50 latency": "p50_us",
    "p90 latency": "p90_us",
    "p95 latency": "p95_us",
    "p99 latency": "p99_us",
    "Avg latency": "avg_us",
    "request/response": "request_response_us",
    "response wait": "response_wait_us",
}
GPU_COLUMNS = {
    "Avg GPU Utilization": "utilization",
    "Avg GPU Power Usage": "power_w",
    "Max GPU Memory Usage": "memory_used_bytes",
    "Total GPU Memory": "memory_total_bytes",
}


def sample_files() -> list[Path]:
    return [
        path
        for path in sorted(LOAD_TESTS.rglob("*.csv"))
        if path.read_text().startswith(("Concurrency,", "Request Rate,"))
    ]


@needs_samples("load_tests")
@pytest.mark.parametrize("path", sample_files(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_real_files_to_the_digit(path):
    reading = read(path, str(path.relative_to(LOAD_TESTS)))
    assert reading.format == "perf_analyzer_csv"
    with path.open(newline="") as stream:
        header, *rows = csv.reader(stream)
    levels = {level["level"]: level for level in reading.rows("cleaned_load_levels")}
    assert len(levels) == len(rows)
    assert reading.records.records == len(rows)
    assert reading.records.rejected == 0
    mode = {"Concurrency": "concurrency", "Request Rate": "request_rate"}[header[0]]
    gpus = {(gpu["level"], gpu["gpu_uuid"]): gpu for gpu in reading.rows("cleaned_load_gpus")}
    expected_gpus = set()
    for row in rows:
        level = levels[float(row[0])]
        assert level["mode"] == mode
        for name, cell in zip(header, row, strict=False):
            if name in COLUMNS:
                assert level[COLUMNS[name]] == float(cell), name
            elif name in GPU_COLUMNS:
                for part in filter(None, cell.split(";")):
                    uuid, value = part.split(":")
                    expected_gpus.add((float(row[0]), uuid))
                    assert gpus[float(row[0]), uuid][GPU_COLUMNS[name]] == float(value)
            elif name and name not in ("Concurrency", "Request Rate"):
                assert dict(level["percentiles_us"])[name.removesuffix(" latency")] == float(cell)
    assert set(gpus) == expected_gpus


@needs_samples("load_tests")
def test_facts_of_the_path_are_marked():
    run = read(
        LOAD_TESTS / "sonic_batch_sweep/deepmet_CPU/deepmet_batch128.csv", "deepmet_CPU/deepmet_batch128.csv"
    ).run
    assert (run["model"], run["batch_size"], run["device_raw"]) == ("deepmet", 128, "cpu")
    assert '"from_path": ["batch_size", "device", "model"]' in run["config"]


def test_instances_and_gpus_come_from_the_path(tmp_path):
    text = f"{HEADER}\n1,10,1,1,1,1,1,1,1\n"
    reading = read_text(tmp_path, text, "4insts_2gpus/gpu_4instance_sync.csv")
    (level,) = reading.rows("cleaned_load_levels")
    assert (level["model_instances"], level["gpu_count"], reading.run["device_raw"]) == (4, 2, "gpu")
    assert '"client": "sync"' in reading.run["config"]


@pytest.mark.parametrize("end", ["", ","])
def test_trailing_commas_shift_nothing(tmp_path, end):
    row = "1,56.8243,103,538,2,40,16496,351,0,15824,20598,21750,24364,17532,103,17415"
    (level,) = read_text(tmp_path, f"{FULL}{end}\n{row},\n").rows("cleaned_load_levels")
    assert (level["level"], level["throughput_per_s"], level["response_wait_us"]) == (1, 56.8243, 17415)


def test_gpu_cells(tmp_path):
    gpus = "GPU-a:0.5;GPU-b:0;,GPU-a:120.5;GPU-b:30;,GPU-a:1000;,GPU-a:2000;GPU-b:2000;"
    reading = read_text(tmp_path, f"{GPUS}\n2,10,1,1,1,1,1,1,1,5,6,7,8,7,2,5,{gpus}\n")
    busy, idle = sorted(reading.rows("cleaned_load_gpus"), key=lambda gpu: gpu["gpu_uuid"])
    assert (busy["utilization"], busy["power_w"], busy["memory_used_bytes"]) == (0.5, 120.5, 1000)
    assert (idle["utilization"], idle["memory_used_bytes"], idle["memory_total_bytes"]) == (0, None, 2000)
    assert reading.run["mean_power_w"] == 120.5, "an idle GPU of the server's host is not part of the run"
    assert reading.run["quality"] == []


@pytest.mark.parametrize("cells", ["GPU-a", "GPU-a:x;", ":1;"])
def test_a_broken_gpu_cell_costs_its_line(tmp_path, cells):
    reading = read_text(
        tmp_path,
        f"{GPUS}\n1,10,1,1,1,1,1,1,1,5,6,7,8,7,2,5,{cells},,,\n2,9,1,1,1,1,1,1,1,5,6,7,8,7,2,5,,,,\n",
    )
    assert [level["level"] for level in reading.rows("cleaned_load_levels")] == [2]
    assert reading.rows("rejected_lines")[0]["reason"] == "bad_row"


def test_empty_gpu_cells_are_flagged(tmp_path):
    reading = read_text(tmp_path, f"{GPUS}\n1,10,1,1,1,1,1,1,1,5,6,7,8,7,2,5,,,,\n")
    assert reading.run["quality"] == ["gpu_columns_missing"]


@pytest.mark.parametrize(
    ("row", "is_flagged"),
    [
        ("1,22,100,900,0,0,9000,0,0,1,1,1,1,10000,100,9800", False),
        ("1,22,100,900,0,0,9000,0,0,1,1,1,1,10090,100,9800", False),
        ("1,22,100,900,0,0,9000,0,0,1,1,1,1,10150,100,9800", True),
        ("1,22,100,900,0,0,9900,0,0,1,1,1,1,10000,100,9800", True),
        ("1,22,100,0,0,0,9900,0,0,1,1,1,1,10000,100,9800", True),
        ("1,22,3,20,1,2,30,2,0,1,1,1,1,63,3,55", False),
    ],
)
def test_components_that_do_not_add_up(tmp_path, row, is_flagged):
    run = read_text(tmp_path, f"{FULL}\n{row}\n").run
    assert ("components_do_not_add_up" in run["quality"]) == is_flagged


def test_composing_models_are_parts(tmp_path):
    text = f"{HEADER}\n1,58.5,0,2,51,13,13127,243,0\n"
    reading = read_text(tmp_path, text, "core_v1.chain.csv")
    assert (reading.run["model"], reading.run["throughput_per_s"], reading.run["quality"]) == (
        "core",
        None,
        [],
    )
    assert '"parent_path": "chain.csv"' in reading.run["config"]
    in_folder = read_text(tmp_path, text, "net_v2_v3.sweep/x.csv").run
    assert in_folder["model"] == "net_v2"
    assert '"parent_path": "sweep/x.csv"' in in_folder["config"]


def test_a_name_alone_makes_no_composing_model(tmp_path):
    reading = read_text(tmp_path, f"{HEADER}\n1,58.5,70,2,51,13,13127,243,4\n", "core_v1.chain.csv")
    assert reading.run["throughput_per_s"] == 58.5
    assert "ensemble_part" not in reading.run["config"]


def test_a_header_without_line_end(tmp_path):
    reading = read_text(tmp_path, f"{HEADER}1,58.5,0,2,51,13,13127,243,0\n2,60,0,2,51,13,13127,243,0\n")
    assert [level["throughput_per_s"] for level in reading.rows("cleaned_load_levels")] == [58.5, 60]
    assert (reading.records.records, reading.records.ignored) == (2, 0)


def test_a_second_header_or_a_level_again_starts_a_run(tmp_path):
    rows = "1,10,1,1,1,1,1,1,1\n2,11,1,1,1,1,1,1,1\n"
    reading = read_text(tmp_path, f"{HEADER}\n{rows}{HEADER}\n{rows}{rows}")
    assert len(reading.rows("cleaned_runs")) == 3
    assert len(reading.rows("cleaned_load_levels")) == 6


@pytest.mark.parametrize(
    "row", ["1", "x,10,1,1,1,1,1,1,1", "1,,1,1,1,1,1,1,1", "1,10,1,1,1,-5,1,1,1", '1,"10,1,1,1,1,1,1,1']
)
def test_broken_rows_are_rejected(tmp_path, row):
    reading = read_text(tmp_path, f"{HEADER}\n{row}\n2,10,1,1,1,1,1,1,1\n")
    assert [level["level"] for level in reading.rows("cleaned_load_levels")] == [2]
    assert [line["line_number"] for line in reading.rows("rejected_lines")] == [2]


def test_unknown_columns_are_counted(tmp_path):
    reading = read_text(tmp_path, f"{HEADER},Avg First Token Latency\n1,10,1,1,1,1,1,1,1,52\n")
    (counter,) = reading.rows("cleaned_counters")
    assert (counter["scope"], counter["counter"], counter["value"], counter["unit"]) == (
        "concurrency 1",
        "Avg First Token Latency",
        52,
        "us",
    )


def test_rate_that_was_not_reached(tmp_path):
    text = (
        FULL.replace("Concurrency", "Request Rate")
        + "\n100,60,1,1,1,1,1,1,1,5,6,7,8,7,2,5\n12.5,12,1,1,1,1,1,1,1,5,6,7,8,7,2,5\n"
    )
    levels = {level["level"]: level for level in read_text(tmp_path, text).rows("cleaned_load_levels")}
    assert levels[100]["quality"] == ["rate_not_reached"]
    assert levels[12.5]["quality"] == []


def test_foreign_csv_is_left_alone(tmp_path):
    for text in (
        "Concurrency,Latency\n1,2\n",
        "a,b\nConcurrency,Inferences/Second,Client Send\n",
        '{"data":[]}',
    ):
        assert read_text(tmp_path, text).format is None


def test_a_header_that_a_script_quoted_as_a_whole(tmp_path):
    reading = read_text(tmp_path, f'"{HEADER}"\n1,69.2,225,2148,64,206,11781,19,0\n', "resnet.csv")
    (level,) = reading.rows("cleaned_load_levels")
    assert (level["level"], level["throughput_per_s"], level["compute_infer_us"]) == (1, 69.2, 11781)
