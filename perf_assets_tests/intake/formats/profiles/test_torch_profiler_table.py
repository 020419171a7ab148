import pytest

from perf_assets_tests.support import read_text

WIDTHS = (20, 12, 12, 10)


def row(*cells: str) -> str:
    return "  ".join(cell.rjust(width) for cell, width in zip(cells, WIDTHS, strict=True)) + "\n"


RULE = "  ".join("-" * width for width in WIDTHS) + "\n"
HEADER = RULE + row("Name", "Self CPU %", "Self CPU", "# of Calls") + RULE
TABLE = HEADER + row("aten::add", "0.04%", "55.181us", "2") + row("void k<a, b>(x)", "98.68%", "128.1ms", "1")
TABLE += RULE + "Self CPU time total: 129.811ms\n"


def test_a_table(tmp_path):
    reading = read_text(tmp_path, "epoch 1\n" + TABLE)
    assert (reading.format, reading.run["status"]) == ("torch_profiler_table", "ok")
    counters = {(each["scope"], each["counter"]): each for each in reading.rows("cleaned_counters")}
    add = counters["aten::add", "Self CPU"]
    assert (add["value"], add["unit"], add["invocations"]) == (55.181, "us", 2)
    assert counters["void k<a, b>(x)", "Self CPU %"]["value"] == 98.68
    assert counters["run", "Self CPU time total"]["value"] == 129.811
    assert (reading.records.records, reading.records.rejected) == (3, 1)


def test_tables_are_runs(tmp_path):
    assert len(read_text(tmp_path, TABLE + "\n" + TABLE).rows("cleaned_runs")) == 2


@pytest.mark.parametrize(
    "line", [row("aten::add", "0.04%", "x", "2"), row("aten::add", "0.04%", "5us", ""), "aten::a"]
)
def test_broken_rows_are_rejected(tmp_path, line):
    reading = read_text(tmp_path, HEADER + line.rstrip("\n") + "\n" + row("b", "1%", "1us", "1"))
    assert (reading.records.rejected, len(reading.rows("cleaned_counters"))) == (1, 2)


def test_other_tables_with_dashes_are_left_alone(tmp_path):
    assert read_text(tmp_path, RULE + row("Name", "a", "b", "c") + RULE).format is None


# As torch lays it out: a title of 13 characters in a column of 12 pushes the rest one to the right.
WIDE = (
    "Name",
    "Self CPU %",
    "Self CPU",
    "CPU time avg",
    "Self CUDA",
    "CUDA time avg",
    "Self CUDA Mem",
    "# of Calls",
)
WIDE_RULE = "  ".join("-" * width for width in (20, *[12] * 7)) + "  \n"
WIDE_TABLE = (
    WIDE_RULE
    + "  ".join(name.rjust(width) for name, width in zip(WIDE, (20, *[12] * 7), strict=True))
    + "  \n"
    + WIDE_RULE
    + "         aten::addmm         4.52%  -25112927.636us       1.814ms      26.432us      20.272us      33.50 KB             2  \n"
    + "[pl]  my  own label         0.00%       0.000us       0.000us       47.453s        2.791s           0 B            17  \n"
    + WIDE_RULE
    + "Self CUDA time total: 29.184us\n"
)


@pytest.mark.parametrize("prefix", ["", "# "])
def test_titles_wider_than_their_column(tmp_path, prefix):
    text = "".join(f"{prefix}{line}\n" for line in WIDE_TABLE.splitlines())
    reading = read_text(tmp_path, text)
    assert reading.records.rejected == 0
    counters = {(each["scope"], each["counter"]): each for each in reading.rows("cleaned_counters")}
    assert counters["aten::addmm", "CUDA time avg"]["value"] == 20.272
    assert counters["aten::addmm", "Self CPU"]["value"] == -25112927.636
    memory = counters["aten::addmm", "Self CUDA Mem"]
    assert (memory["value"], memory["unit"], memory["invocations"]) == (33.5, "KB", 2)
    own = counters["[pl]  my  own label", "CUDA time avg"]
    assert (own["value"], own["unit"], own["invocations"]) == (2.791, "s", 17)
