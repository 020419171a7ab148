import json
from datetime import datetime

import pytest

from perf_assets_tests.support import read_text


def poll(second=0, indent=4, **gpu):
    values = {
        "index": 0,
        "uuid": "GPU-1",
        "name": "NVIDIA A30",
        "temperature.gpu": 44,
        "fan.speed": None,
        "utilization.gpu": 70,
        "power.draw": 120,
        "enforced.power.limit": 165,
        "memory.used": 8123,
        "memory.total": 24576,
        "processes": [{"pid": 7, "command": "python"}],
    }
    document = {
        "hostname": "node07",
        "query_time": f"2024-06-11T10:00:{second:02d}.512345",
        "gpus": [values | gpu],
    }
    return json.dumps(document, indent=indent) + "\n"


def test_one_poll(tmp_path):
    reading = read_text(tmp_path, poll(), timezone="Europe/Berlin")
    (row,) = reading.rows("cleaned_telemetry")
    assert row["polled_at"] == datetime(2024, 6, 11, 8, 0, 0, 512345)
    assert (row["device_id"], row["device_name"], row["host"], row["time_source"]) == (
        "GPU-1",
        "NVIDIA A30",
        "node07",
        "Europe/Berlin",
    )
    assert (row["utilization_pct"], row["power_w"], row["power_limit_w"], row["memory_used_mib"]) == (
        70,
        120,
        165,
        8123,
    )
    assert json.loads(dict(row["labels"])["processes"]) == [{"command": "python", "pid": 7}]
    assert reading.records.records == reading.records.lines_read


@pytest.mark.parametrize("indent", [None, 2, 4])
def test_polls_one_behind_the_other(tmp_path, indent):
    reading = read_text(tmp_path, poll(0, indent) + poll(5, indent) + "\n" + poll(10, indent))
    assert [row["polled_at"].second for row in reading.rows("cleaned_telemetry")] == [0, 5, 10]
    assert {row["session"] for row in reading.rows("cleaned_telemetry")} == {0}


def test_a_hole_starts_a_session(tmp_path):
    late = poll().replace("T10:00", "T10:05")
    assert [row["session"] for row in read_text(tmp_path, poll() + late).rows("cleaned_telemetry")] == [0, 1]


@pytest.mark.parametrize("cut", [20, 150, 400])
def test_a_poll_that_is_cut_off_costs_its_own_lines(tmp_path, cut):
    broken = poll(5)[:cut].rpartition("\n")[0] + "\n"
    reading = read_text(tmp_path, poll(0) + broken + poll(10))
    assert [row["polled_at"].second for row in reading.rows("cleaned_telemetry")] == [0, 10]
    assert reading.records.rejected == broken.count("\n")
    assert (
        reading.records.lines_read
        == reading.records.records + reading.records.rejected + reading.records.ignored
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("T10:00", "Tten"),
        ('"gpus": [', '"gpus": {'),
        ('"uuid": "GPU-1"', '"uuid": {"a": 1}'),
        ("120,", "120,,"),
    ],
)
def test_a_broken_poll_is_rejected(tmp_path, old, new):
    reading = read_text(tmp_path, poll(0).replace(old, new) + poll(10))
    assert len(reading.rows("cleaned_telemetry")) == 1
    assert reading.records.rejected == poll().count("\n")


def test_other_documents_are_left_alone(tmp_path):
    assert read_text(tmp_path, '{"gpus": 5}').format is None
