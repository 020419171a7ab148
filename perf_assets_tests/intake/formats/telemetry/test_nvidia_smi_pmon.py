import json

import pytest

from perf_assets_tests.support import read_text

HEADER = (
    "# gpu         pid   type     sm    mem     fb    command\n# Idx           #    C/G      %      %  "
    "   MB    name\n"
)


def test_processes_of_a_poll_are_one_row(tmp_path):
    polls = (
        "    0       4711     C     61     30   8100    python train.py\n    0       4802     C      5  "
        "    1    512    python\n    1          -     -      -      -      -    -\n"
    )
    reading = read_text(tmp_path, HEADER + polls + polls)
    rows = reading.rows("cleaned_telemetry")
    assert [row["device_id"] for row in rows] == ["0", "1", "0", "1"]
    assert (rows[0]["utilization_pct"], rows[0]["memory_used_mib"], rows[0]["power_w"]) == (66, 8612, None)
    processes = json.loads(dict(rows[0]["labels"])["processes"])
    assert [(process["pid"], process["command"]) for process in processes] == [
        ("4711", "python train.py"),
        ("4802", "python"),
    ]
    assert rows[1]["utilization_pct"] is None
    assert reading.records.records == 6


def test_with_times(tmp_path):
    text = (
        "#Date       Time        gpu         pid   type     sm    mem    command\n#YYYYMMDD   HH:MM:SS   "
        " Idx           #    C/G      %      %    name\n 20240611   10:10:00      0       4711     C     61 "
        "    30    python\n 20240611   10:10:01      0       4802     C     5     1    python\n"
    )
    rows = read_text(tmp_path, text).rows("cleaned_telemetry")
    assert [(row["polled_at"].second, row["utilization_pct"]) for row in rows] == [(0, 61), (1, 5)]


@pytest.mark.parametrize(
    "row",
    [
        "    0       4711     C     oops",
        "    0       4711     C     oops     30   8100    python",
        "    x       4711     C     6     30   8100    python",
    ],
)
def test_broken_rows_are_rejected(tmp_path, row):
    reading = read_text(tmp_path, f"{HEADER}{row}\n    0       4711     C     61     30   8100    python\n")
    assert (len(reading.rows("cleaned_telemetry")), reading.records.rejected) == (1, 1)


def test_a_header_of_dmon_in_between(tmp_path):
    reading = read_text(tmp_path, HEADER + "# gpu   pwr  gtemp\n# Idx     W      C\n    0    43     35\n")
    assert reading.records.rejected == 1
