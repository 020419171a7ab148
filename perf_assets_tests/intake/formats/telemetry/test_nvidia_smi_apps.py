import json

import pytest

from perf_assets_tests.support import read_text

HEADER = "timestamp, gpu_uuid, pid, process_name, used_gpu_memory [MiB]\n"


def rows_of(tmp_path, text: str):
    reading = read_text(tmp_path, text)
    assert reading.format == "nvidia_smi_apps"
    return reading.rows("cleaned_telemetry"), reading.records


def test_processes_are_no_devices(tmp_path):
    text = HEADER
    for second in (0, 5):
        for gpu, pid, memory in (("A", 1, 100), ("A", 2, 50), ("B", 3, 7)):
            text += f"2024/06/11 12:00:0{second}.250, GPU-{gpu}, {pid}, python, {memory} MiB\n"
    rows, records = rows_of(tmp_path, text)
    assert [(row["line_number"], row["device_id"], row["memory_used_mib"]) for row in rows] == [
        (2, "GPU-A", 150),
        (4, "GPU-B", 7),
        (5, "GPU-A", 150),
        (7, "GPU-B", 7),
    ]
    assert dict(rows[0]["metrics"]) == {"processes": 2}
    assert [each["pid"] for each in json.loads(dict(rows[0]["labels"])["processes"])] == ["1", "2"]
    assert (records.records, records.ignored) == (6, 1)


def test_without_a_time_a_process_that_comes_again_begins_the_next_poll(tmp_path):
    text = "pid, process_name, used_gpu_memory [MiB]\n" + "1, a, 10 MiB\n2, b, 20 MiB\n" * 3
    rows, _ = rows_of(tmp_path, text)
    assert [(row["memory_used_mib"], row["polled_at"], row["device_id"]) for row in rows] == [
        (30, None, "unknown")
    ] * 3


def test_a_comma_in_the_name_and_memory_that_is_not_known(tmp_path):
    text = HEADER + "2024/06/11 12:00:00.250, GPU-A, 1, python -c x,y, [N/A]\n"
    (row,), records = rows_of(tmp_path, text)
    assert (row["memory_used_mib"], records.rejected) == (None, 0)
    assert "python -c x,y" in dict(row["labels"])["processes"]


def test_processes_are_no_poll_log_of_devices(tmp_path):
    assert (
        read_text(tmp_path, "timestamp, pid, memory.used [MiB]\n2024/06/11 12:00:00.000, 1, 5 MiB\n").format
        is None
    )


@pytest.mark.parametrize(
    "line", ["2024/06/11 12:00:00.250, GPU-A, 1", "x, GPU-A, 1, p, 5 MiB", "No devices were found"]
)
def test_broken_lines_are_rejected(tmp_path, line):
    rows, records = rows_of(tmp_path, f"{HEADER}{line}\n2024/06/11 12:00:00.250, GPU-A, 1, p, 5 MiB\n")
    assert (len(rows), records.rejected) == (1, 1)
