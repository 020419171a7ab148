import csv

import pytest

from perf_assets.intake.formats.profiles.layer_table import macs
from perf_assets_tests.support import SAMPLES, needs_samples, read, read_text

HEADER = "net,level,idx,layer,type,in_channels,out_channels,kernel,stride,padding,groups,in_hw,out_hw,params"


@needs_samples("predictors")
def test_real_table_to_the_digit():
    path = SAMPLES / "predictors" / "tx2" / "layer_tables.csv"
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    layers = read(path).rows("cleaned_layer_tables")
    assert len(layers) == len(rows)
    kinds = {
        "Conv2d": "conv",
        "BatchNorm2d": "batchnorm",
        "MaxPool2d": "maxpool",
        "AdaptiveAvgPool2d": "avgpool",
        "Linear": "linear",
    }
    for row, layer in zip(rows, layers, strict=True):
        assert (layer["network"], layer["pruning_level_pct"], layer["layer"]) == (
            row["net"],
            float(row["level"]),
            row["layer"],
        )
        assert layer["kind"] == kinds[row["type"]]
        for column, name in {
            "kernel_size": "kernel",
            "groups": "groups",
            "params": "params",
            "out_hw": "out_hw",
        }.items():
            assert layer[column] == (int(row[name]) if row[name] else None)


def test_macs():
    shape = {"in_channels": 32, "out_channels": 64, "kernel_size": 3, "groups": 32, "out_hw": 10}
    assert macs("conv", shape) == 64 * 1 * 9 * 100
    assert macs("conv", shape | {"groups": 1}) == 64 * 32 * 9 * 100
    assert macs("linear", shape) == 32 * 64
    assert macs("relu", shape) == 0
    assert macs("conv", shape | {"out_hw": None}) is None
    assert macs("conv", shape | {"out_channels": 2**39, "out_hw": 2**39}) is None


@pytest.mark.parametrize(
    "row",
    [
        "net,0,0,a,Conv2d,3",
        "net,0,0,,Conv2d,3,8,3,1,1,1,10,10,5",
        "net,0,0,a,Conv2d,x,8,3,1,1,1,10,10,5",
        "net,0,0,a,Conv2d,-3,8,3,1,1,1,10,10,5",
    ],
)
def test_broken_rows_are_rejected(tmp_path, row):
    reading = read_text(tmp_path, f"{HEADER}\n{row}\nnet,0,1,b,Swish,3,8,,,,,10,10,0\n")
    (layer,) = reading.rows("cleaned_layer_tables")
    assert (layer["layer"], layer["kind"], reading.records.rejected) == ("b", "other", 1)
