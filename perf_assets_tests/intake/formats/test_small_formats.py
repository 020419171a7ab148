"""Memory dumps and legacy experiment tables; number cells."""

import pytest

from perf_assets.intake.parsing.cells import csv_cells, integer, number, numbers
from perf_assets_tests.support import read_text

DUMP = (
    "Stats after cleanup.\nPool ID:      0\nLimit:   1024 (1.00 KB)\nMaxInUse:  2097152 (2.00 "
    "MB)\nNumAllocs:   7\n"
    "FragmentationMask:         \n"
)


def test_memory_dump(tmp_path):
    reading = read_text(tmp_path, DUMP, "habana_log.livealloc.log_5")
    counters = {row["counter"]: row for row in reading.rows("cleaned_counters")}
    assert (counters["MaxInUse"]["value"], counters["MaxInUse"]["unit"]) == (2097152, "B")
    assert counters["FragmentationMask"]["value"] is None
    assert counters["NumAllocs"]["scope"] == "card 5"
    assert reading.run["memory_used_mib"] == 2.0
    assert reading.records.rejected == 0


def test_two_dumps_in_a_file_and_a_broken_value(tmp_path):
    reading = read_text(tmp_path, DUMP + DUMP.replace("2097152", "20x97"))
    assert len(reading.rows("cleaned_runs")) == 2
    assert [row["reason"] for row in reading.rows("rejected_lines")] == ["bad_cell"]


def test_legacy_experiment(tmp_path):
    log = ",vm_percent,ratio,memory_consumption,acc,prune_config,prune_ratio,flops\n"
    log += (
        "0,50.5,0.1,1000.0,98.5,l1_unstructured-ratio-0.1,0.1,5e9\n1,50.5,0.2,1000.0,,ln_structured,0.2,5e9\n"
    )
    log += "2,cut,0.3\n3,x,0.3,1000.0,90,ln_structured,0.3,5e9\n"
    reading = read_text(tmp_path, log, "LeNet5-experiment.csv")
    first, second = reading.rows("cleaned_runs")
    assert (first["model"], first["pruning_method"], first["pruning_ratio"]) == (
        "LeNet5",
        "l1_unstructured",
        0.1,
    )
    assert (first["accuracy_pct"], second["status"]) == (98.5, "missing")
    assert {row["counter"] for row in reading.rows("cleaned_counters")} == {
        "vm_percent",
        "memory_consumption",
        "flops",
    }
    assert [row["reason"] for row in reading.rows("rejected_lines")] == ["bad_row", "bad_cell"]


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("1", 1.0),
        (" 2.5 ", 2.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("-3", -3.0),
        ("nan", None),
        ("", None),
        ("1e999", None),
    ],
)
def test_number(cell, value):
    assert number(cell) == value
    assert numbers([cell, "1"]) == [value, 1.0]


@pytest.mark.parametrize("cell", ["1_000", "0x10", "1,5", "x", "١", "1 2", "--", "+-1"])
def test_not_a_number(cell):
    if cell != "--":
        with pytest.raises(ValueError, match="not a number"):
            number(cell)
        with pytest.raises(ValueError, match="not a number"):
            numbers(["1", cell])


def test_integer():
    assert (integer("3"), integer("3.0"), integer("")) == (3, 3, None)
    assert integer("9007199254740993") == 9007199254740993
    for cell in ("3.5", "9" * 30, "1e30"):
        with pytest.raises(ValueError, match=r"whole|64 bits"):
            integer(cell)


def test_csv_cells():
    assert csv_cells('a,"b, ""c""",d') == ["a", 'b, "c"', "d"]
    with pytest.raises(ValueError, match="broken quoting"):
        csv_cells('a,"b')
