import csv
import json

import pytest

from perf_assets_tests.support import SAMPLES, needs_samples, read, read_text

FILES = sorted((SAMPLES / "predictors" / "ai3").rglob("*overall*.csv"))
HEADER = "model,algorithm,batch_size,input_size,mean,std,min,max,median"


@needs_samples("predictors")
@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_real_files_to_the_digit(path):
    reading = read(path, f"{path.parent.name}/{path.name}")
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    runs = reading.rows("cleaned_runs")
    assert len(runs) == len(rows)
    assert reading.records.rejected == 0
    for row, run in zip(rows, runs, strict=True):
        assert (run["model"], run["algorithm"], run["input_size"]) == (
            row["model"],
            row["algorithm"],
            int(row["input_size"]),
        )
        assert run["device_raw"] == (row.get("device") or path.parent.name.rpartition("_")[2])
        for name, column in {
            "mean": "latency_ms",
            "std": "latency_std_ms",
            "power_mean_w": "mean_power_w",
            "energy_per_inference_j": "energy_j",
        }.items():
            assert run[column] == float(row[name])
        config = json.loads(run["config"])
        assert (config["min_ms"], config["median_ms"], config["power_samples"]) == (
            float(row["min"]),
            float(row["median"]),
            float(row["power_samples"]),
        )
        assert ("device" in row) != (config.get("from_path") == ["device"])


def test_the_first_version(tmp_path):
    text = "model,algorithm,device,batch_size,input_size,mean_ms,std_ms,min_ms,max_ms,median_ms,power_mean_w,energy_mean_j\nVGG16,gemm,cuda,2,224,10,1,9,12,10,88.5,0.9\n"
    run = read_text(tmp_path, text, "VGG16_GEMM_cuda_overall.csv").run
    assert (run["latency_ms"], run["throughput_per_s"], run["energy_j"], run["mean_power_w"]) == (
        10,
        200,
        0.9,
        88.5,
    )
    assert run["device_raw"] is None, "cuda is no product"


def test_without_power(tmp_path):
    run = read_text(
        tmp_path,
        f"{HEADER}\nnet,implicit precomp gemm,1,224,10,1,9,12,10\n",
        "1_sanity/net_implicit_precomp_gemm_v100/net_implicit_precomp_gemm_overall.csv",
    ).run
    assert (run["mean_power_w"], run["energy_j"], run["device_raw"]) == (None, None, "v100")
    assert json.loads(run["config"])["sweep_stage"] == "sanity"


def test_the_device_of_the_file_name(tmp_path):
    assert (
        read_text(
            tmp_path, f"{HEADER}\nnet,fft tiling,1,224,10,1,9,12,10\n", "net_fft_tiling_overall_l40s.csv"
        ).run["device_raw"]
        == "l40s"
    )


@pytest.mark.parametrize(
    "row",
    [
        "net,gemm,1,224",
        "net,gemm,1,x,10,1,9,12,10",
        "net,gemm,0,224,10,1,9,12,10",
        "net,gemm,1,224,,1,9,12,10",
        ",gemm,1,224,10,1,9,12,10",
        "net,gemm,1,224,-1,1,9,12,10",
    ],
)
def test_broken_rows_are_rejected(tmp_path, row):
    reading = read_text(tmp_path, f"{HEADER}\n{row}\nnet,gemm,1,256,10,1,9,12,10\n")
    assert [run["input_size"] for run in reading.rows("cleaned_runs")] == [256]
    assert reading.records.rejected == 1


def test_a_repeated_header_of_concatenated_files(tmp_path):
    text = f"{HEADER}\nnet,gemm,1,224,10,1,9,12,10\n"
    assert len(read_text(tmp_path, text + text).rows("cleaned_runs")) == 2


def test_a_header_that_names_a_column_twice(tmp_path):
    reading = read_text(tmp_path, f"{HEADER},mean\nnet,gemm,1,224,10,1,9,12,10,11\n")
    assert [line["reason"] for line in reading.rows("rejected_lines")] == ["bad_row", "no_header"]
