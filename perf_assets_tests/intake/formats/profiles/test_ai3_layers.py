import csv
import gzip
import io

import pytest

from perf_assets_tests.support import SAMPLES, needs_samples, read, read_text

FILES = sorted((SAMPLES / "predictors" / "ai3").rglob("*layers*"))
HEADER = "model,algorithm,input_size,layer,in_channels,out_channels,kernel_size,stride,padding,mean_ms,std_ms,percentage,device"


@needs_samples("predictors")
@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_real_files_to_the_digit(path):
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    reading = read(path, f"{path.parent.name}/{path.name}")
    layers = reading.rows("cleaned_layers")
    assert len(layers) == len(rows)
    assert reading.records.rejected == 0
    runs = {run["run_id"]: run for run in reading.rows("cleaned_runs")}
    assert len(runs) == len({row["input_size"] for row in rows})
    for row, layer in zip(rows, layers, strict=True):
        run = runs[layer["run_id"]]
        assert (run["model"], run["algorithm"], run["input_size"]) == (
            row["model"],
            row["algorithm"],
            int(row["input_size"]),
        )
        assert (layer["layer"], layer["mean_ms"], layer["std_ms"], layer["share_pct"]) == (
            row["layer"],
            float(row["mean_ms"]),
            float(row["std_ms"]),
            float(row["percentage"]),
        )
        assert layer["kernel_size"] == int(row["kernel_size"].strip("()").split(",")[0])
        assert layer["stride"] == (int(row["stride"]) if "stride" in row else None)


def test_layers_of_two_sizes_are_two_runs(tmp_path):
    rows = "".join(
        f"net,gemm,{size},conv{i},3,8,3,1,1,{i + 1}.5,0.1,10,h100\n" for size in (224, 256) for i in range(3)
    )
    reading = read_text(tmp_path, f"{HEADER}\n{rows}")
    assert [run["input_size"] for run in reading.rows("cleaned_runs")] == [224, 256]
    assert [layer["layer_index"] for layer in reading.rows("cleaned_layers")] == [0, 1, 2, 0, 1, 2]


def test_the_first_version_has_the_layers_own_sizes(tmp_path):
    text = (
        "model,layer,algorithm,device,batch_size,input_size,in_channels,out_channels,kernel_size,stride,padding,mean_ms,std_ms,min_ms,max_ms,median_ms,percentage,energy_mean_j\n"
        "net,a,gemm,cuda,1,224,3,8,3,1,1,2,0.1,1,3,2,10,0.25\nnet,b,gemm,cuda,1,112,8,8,3,1,1,2,0.1,1,3,2,10,0.25\nnet,a,gemm,cuda,1,256,3,8,3,1,1,2,0.1,1,3,2,10,0.25\n"
    )
    reading = read_text(tmp_path, text)
    assert len(reading.rows("cleaned_runs")) == 2
    first = reading.rows("cleaned_layers")[0]
    assert (first["in_hw"], first["input_size"], first["energy_j"], first["median_ms"]) == (
        224,
        None,
        0.25,
        2,
    )


def test_the_second_profilers_energy(tmp_path):
    text = (
        HEADER.replace(
            ",device", ",power_mean_w,power_std_w,energy_per_layer_j,power_samples,energy_attribution,device"
        )
        + "\nnet,gemm,224,a,3,8,3,1,1,2,0.1,10,80.5,1,0.16,9,nvml_trapezoid,h100\n"
    )
    (layer,) = read_text(tmp_path, text).rows("cleaned_layers")
    assert (layer["mean_power_w"], layer["energy_j"]) == (80.5, 0.16)


def test_kernels_that_are_not_square(tmp_path):
    reading = read_text(tmp_path, f'{HEADER}\nnet,gemm,224,a,3,8,"(1, 7)",1,"(0, 3)",2,0.1,10,h100\n')
    (layer,) = reading.rows("cleaned_layers")
    assert (layer["kernel_size"], layer["padding"]) == (None, None)


@pytest.mark.parametrize(
    "row",
    [
        "net,gemm,224,a",
        "net,gemm,224,,3,8,3,1,1,2,0.1,10,h100",
        "net,gemm,224,a,3,8,3,1,1,slow,0.1,10,h100",
        'net,gemm,224,a,3,8,"(3,3,1,1,2,0.1,10,h100',
    ],
)
def test_broken_rows_are_rejected(tmp_path, row):
    reading = read_text(tmp_path, f"{HEADER}\n{row}\nnet,gemm,224,b,3,8,3,1,1,2,0.1,10,h100\n")
    assert [layer["layer"] for layer in reading.rows("cleaned_layers")] == ["b"]
    assert reading.records.rejected == 1
