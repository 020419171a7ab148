from datetime import datetime

import pytest

from perf_assets_tests.support import read_text

HEADER = (
    "#Date       Time        gpu   pwr  gtemp  mtemp     sm    mem   mclk   pclk     fb   rxpci\n"
    "#YYYYMMDD   HH:MM:SS    Idx     W      C      C      %      %    MHz    MHz     MB    MB/s\n"
)
ROW = " 20240611   10:10:{:02d}      0   118     50      -     60     31   1215   1410   8123   12\n"


def test_rows_and_repeated_headers(tmp_path):
    reading = read_text(tmp_path, HEADER + ROW.format(0) + HEADER + ROW.format(10))
    first, second = reading.rows("cleaned_telemetry")
    assert first["polled_at"] == datetime(2024, 6, 11, 10, 10)
    assert (
        first["power_w"],
        first["temperature_c"],
        first["utilization_pct"],
        first["memory_utilization_pct"],
    ) == (118, 50, 60, 31)
    assert (first["sm_clock_mhz"], first["memory_clock_mhz"], first["memory_used_mib"]) == (1410, 1215, 8123)
    assert dict(first["metrics"]) == {"rxpci [MB/s]": 12}
    assert (second["session"], reading.records.ignored, reading.records.rejected) == (0, 4, 0)


def test_without_any_time(tmp_path):
    text = (
        "# gpu   pwr  gtemp  mtemp     sm    mem\n# Idx     W      C      C      %      %\n    0    43   "
        "  35      -      7      1\n"
    )
    (row,) = read_text(tmp_path, text).rows("cleaned_telemetry")
    assert (row["polled_at"], row["time_source"], row["power_w"]) == (None, "none", 43)


def test_a_time_whose_date_stands_in_the_path(tmp_path):
    text = "#Time        gpu   pwr\n#HH:MM:SS    Idx     W\n 10:10:05      1   43\n"
    (row,) = read_text(tmp_path, text, "2024-06-11/dmon.log").rows("cleaned_telemetry")
    assert (row["polled_at"], row["device_id"]) == (datetime(2024, 6, 11, 10, 10, 5), "1")
    assert "path" in row["time_source"]
    (row,) = read_text(tmp_path, text).rows("cleaned_telemetry")
    assert (row["polled_at"], dict(row["labels"])) == (None, {"time_of_day": "10:10:05"})


def test_comma_separated(tmp_path):
    text = "#gpu, pwr, gtemp, sm, mem\n#Idx, W, C, %, %\n0, 43, 35, 7, 1\n"
    assert read_text(tmp_path, text).rows("cleaned_telemetry")[0]["utilization_pct"] == 7


@pytest.mark.parametrize(
    "row",
    [
        " 20240611   10:10:00      0   118",
        ROW.format(0).replace("118", "hot"),
        ROW.format(0).replace("20240611", "20241341"),
        ROW.format(77),
        ROW.format(0).replace("      0 ", "      x "),
    ],
)
def test_broken_rows_are_rejected(tmp_path, row):
    reading = read_text(tmp_path, HEADER + row.rstrip() + "\n" + ROW.format(10))
    assert [row["polled_at"].second for row in reading.rows("cleaned_telemetry")] == [10]
    assert reading.records.rejected == 1
