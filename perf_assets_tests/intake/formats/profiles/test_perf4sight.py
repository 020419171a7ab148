import csv
import json
from ast import literal_eval
from pathlib import Path

import pytest

from perf_assets_tests.support import SAMPLES, needs_samples, read, read_text

TX2 = SAMPLES / "predictors" / "tx2"
FILES = sorted(TX2.glob("latency/*.csv")) + sorted(TX2.glob("memory/*.csv"))


def parameters(batch_size, **others):
    return repr(
        {
            "test_var": "latency",
            "bs": batch_size,
            "dataset": "imagenet",
            "net_name": "net",
            "model": "/m/random_pruning/net_15.py",
            **others,
        }
    )


@needs_samples("predictors")
@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_real_files_to_the_digit(path):
    reading = read(path, f"tx2/imagenet/{path.parent.name}/{path.name}")
    assert reading.format == "perf4sight"
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="|"))
    runs = reading.rows("cleaned_runs")
    assert len(runs) == len(rows)
    network, _, level = path.stem.removesuffix("-gt").rpartition("_")
    for row, run in zip(rows, runs, strict=True):
        facts = literal_eval(row["params"]) if "params" in row else row
        assert (run["model"], run["batch_size"], run["device_raw"]) == (network, int(facts["bs"]), "tx2")
        assert run["pruning_ratio"] == int(level) / 100
        assert run["status"] == ("ok" if row["passed"] == "True" else "oom")
        for name, column in {
            "latency": "latency_ms",
            "mem_alloc": "memory_allocated_mib",
            "mem_reserved": "memory_reserved_mib",
            "mem_used": "memory_used_mib",
        }.items():
            expected = float(row[name]) if name in row and row["passed"] == "True" else None
            assert run[column] == expected
    assert json.loads(runs[0]["config"])["from_path"] == ["device", "pruning_level_pct"]


@needs_samples("predictors")
def test_swap_thrashing_is_found_and_nothing_else():
    found = {
        (Path(path).stem, run["batch_size"])
        for path in TX2.glob("latency/*.csv")
        for run in read(path).rows("cleaned_runs")
        if "swap_thrashing" in run["quality"]
    }
    expected = {
        ("mobilenetv2_40", 120),
        ("mobilenetv2_60", 180),
        ("mobilenetv2_70", 230),
        ("resnet50_15", 64),
        ("squeezenet_20", 150),
        ("squeezenet_30", 150),
        ("squeezenet_60", 230),
        # The three that the authors missed by hand, as far as their files are here.
        ("mobilenetv2_5", 90),
        ("mobilenetv2_35", 110),
    }
    assert found == expected


def test_failed_rows_keep_no_measure(tmp_path):
    text = (
        "passed|mem_alloc|mem_reserved|mem_used|mem_avail|free|capacity|params\nFalse|6018.7|6052.0|-178.5|7200.4|6039.0|7859.0|"
        + parameters(240)
    )
    run = read_text(tmp_path, text, "net_15.csv").run
    assert (run["status"], run["memory_allocated_mib"], run["memory_used_mib"]) == ("oom", None, None)


def test_latency_gives_throughput(tmp_path):
    run = read_text(tmp_path, "passed|latency|params\nTrue|500.0|" + parameters(10), "net_15.csv").run
    assert (run["throughput_per_s"], run["workload"], run["pruning_method"]) == (20, "training", "random")


def test_the_stage_of_newer_profilers(tmp_path):
    run = read_text(
        tmp_path, "passed|latency|params\nTrue|500.0|" + parameters(10, exec_stage="inference")
    ).run
    assert (run["workload"], run["stage"]) == ("inference", "inference")


def test_a_twin_with_a_stage_column(tmp_path):
    text = "passed|latency|test_var|bs|dataset|net_name|exec_stage|model\nTrue|5.5|latency|4|imagenet|net|inference|/m/net_0.py\n"
    assert read_text(tmp_path, text).run["stage"] == "inference"


@pytest.mark.parametrize(
    "cell",
    [
        "__import__('os').getcwd()",
        "{'bs': __import__('os').getpid()}",
        "[1, 2]",
        "{'bs': 2",
        "{'bs': 'many'}",
        "{'bs': 0}",
        "{'bs': True}",
        "(" * 3000,
        "{'bs': " + "9" * 4000 + "}",
        "{" * 90_000,
        "",
    ],
)
def test_parameters_that_are_no_plain_dict_are_rejected(tmp_path, cell):
    reading = read_text(tmp_path, f"passed|latency|params\nTrue|5.5|{cell}\nTrue|6.5|{parameters(4)}\n")
    assert [run["latency_ms"] for run in reading.rows("cleaned_runs")] == [6.5]
    assert reading.records.rejected == 1


@pytest.mark.parametrize("row", ["Maybe|5.5", "True|None", "True|fast", "True|-5", "True", "True|5|6"])
def test_broken_rows_are_rejected(tmp_path, row):
    reading = read_text(tmp_path, f"passed|latency|params\n{row}|{parameters(4)}\n")
    assert reading.rows("cleaned_runs") == []
    assert reading.records.rejected == 1


def test_a_name_without_a_level(tmp_path):
    run = read_text(tmp_path, "passed|latency|params\nTrue|5.5|" + parameters(4), "results.csv").run
    assert (run["model"], run["pruning_ratio"], run["device_raw"]) == ("net", None, None)


def test_other_tables_are_left_alone(tmp_path):
    for text in ("passed|name\nTrue|x\n", "passed,latency,params\n", "passed|latency\n"):
        assert read_text(tmp_path, text).format is None
