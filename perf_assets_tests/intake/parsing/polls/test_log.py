"""Poll logs of both tools: columns, units, markers, sessions; and that the fast way equals the slow one."""

import random
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perf_assets.intake.parsing.polls import log as poll_log
from perf_assets_tests.support import read_text

HEADER = "timestamp, index, name, utilization.gpu [%], power.draw [W], memory.used [MiB]\n"
ROW = "2024/05/01 10:00:{:02d}.000, {}, NVIDIA L40S, {} %, {} W, {} MiB\n"


def telemetry(reading):
    return reading.rows("cleaned_telemetry")


def reasons(reading):
    return [(row["line_number"], row["reason"]) for row in reading.rows("rejected_lines")]


def test_columns_in_any_order_without_units(tmp_path):
    log = "power.draw [W], temperature.gpu, timestamp, memory.total [MiB], pci.bus_id, clocks.sm [MHz]\n"
    log += "61.5, 34, 2024/05/01 10:00:00.250, 46068, 00000000:01:00.0, 210\n"
    reading = read_text(tmp_path, log)
    assert reading.format == "nvidia_smi"
    (row,) = telemetry(reading)
    assert row["polled_at"] == datetime(2024, 5, 1, 10, 0, 0, 250000)
    assert (row["device_id"], row["power_w"], row["temperature_c"]) == ("00000000:01:00.0", 61.5, 34)
    assert (row["memory_total_mib"], row["sm_clock_mhz"]) == (46068, 210)


@pytest.mark.parametrize(
    "token", ["[N/A]", "N/A", "[Not Supported]", "[GPU requires reset]", "[Unknown Error]", "", "ERR!"]
)
def test_markers_are_null(tmp_path, token):
    log = (
        HEADER
        + ROW.format(0, 0, 5, "70.00", 10)
        + f"2024/05/01 10:00:01.000, 0, NVIDIA L40S, 5 %, {token}, 10 MiB\n"
    )
    first, second = telemetry(read_text(tmp_path, log))
    assert (first["power_w"], second["power_w"]) == (70.0, None)


def test_units_are_converted(tmp_path):
    log = "timestamp, power.draw, memory.used\n2024/05/01 10:00:00.000, 71000 mW, 2 GiB\n"
    (row,) = telemetry(read_text(tmp_path, log))
    assert (row["power_w"], row["memory_used_mib"]) == (71.0, 2048.0)


def test_unknown_unit_is_rejected_and_kept_apart(tmp_path):
    log = "timestamp, power.draw\n2024/05/01 10:00:00.000, 71 BTU\n"
    assert reasons(read_text(tmp_path, log)) == [(2, "bad_cell")]
    log = "timestamp, power.draw [BTU], memory.used [MiB]\n2024/05/01 10:00:00.000, 71 BTU, 5 MiB\n"
    (row,) = telemetry(read_text(tmp_path, log))
    assert row["power_w"] is None
    assert dict(row["metrics"]) == {"power.draw [BTU]": 71.0}


def test_second_name_of_a_measure_is_kept_beside(tmp_path):
    log = "timestamp, index, uuid, power.draw [W], power.draw.instant [W], pstate\n"
    log += "2024/05/01 10:00:00.000, 3, GPU-1, 70.00 W, 75.00 W, P0\n"
    (row,) = telemetry(read_text(tmp_path, log))
    assert (row["device_id"], row["power_w"]) == ("GPU-1", 70.0)
    assert dict(row["metrics"]) == {"index": 3.0, "power.draw.instant [W]": 75.0}
    assert dict(row["labels"]) == {"pstate": "P0"}


def test_a_cut_line_does_not_pass_as_a_smaller_number(tmp_path):
    log = (
        HEADER + ROW.format(0, 0, 5, "70.25", 10) + "2024/05/01 10:00:01.000, 0, NVIDIA L40S, 5 %, 71.33 W, 1"
    )
    reading = read_text(tmp_path, log)
    assert len(telemetry(reading)) == 1
    assert reasons(reading) == [(3, "bad_cell")]


def test_dirt_between_rows(tmp_path):
    log = (
        "No devices were found\n"
        + HEADER
        + "\n"
        + ROW.format(0, 0, 5, "70.25", 10)
        + HEADER
        + "Unable to determine the device handle for GPU 0000:01:00.0, Unknown Error\n"
        + ROW.format(1, 0, 6, "7o.25", 10)
        + "2024/13/01 10:00:00.000, 0, x, 5 %, 70 W, 10 MiB\n"
        + ROW.format(2, 0, 6, "72.00", 10)
    )
    reading = read_text(tmp_path, log)
    assert [row["line_number"] for row in telemetry(reading)] == [4, 9]
    assert reasons(reading) == [
        (1, "no_header"),
        (6, "wrong_columns"),
        (7, "bad_cell"),
        (8, "bad_time"),
    ]
    assert reading.records.ignored == 3


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
def test_byte_order_marks(tmp_path, encoding):
    text = HEADER + ROW.format(0, 0, 5, "70.25", 10)
    data = text.replace("\n", "\r\n").encode(encoding)
    if encoding == "utf-16-be":
        data = b"\xfe\xff" + data
    reading = read_text(tmp_path, data)
    assert len(telemetry(reading)) == 1
    assert (reading.records.lines_read, reading.records.rejected) == (2, 0)


def test_header_change_starts_other_columns(tmp_path):
    log = HEADER + ROW.format(0, 1, 5, "70.25", 10) + "timestamp, index, power.draw [W]\n"
    log += "2024/05/01 10:00:05.000, 1, 71.00 W\n"
    first, second = telemetry(read_text(tmp_path, log))
    assert (first["memory_used_mib"], second["memory_used_mib"], second["power_w"]) == (10, None, 71.0)


class TestSessions:
    def sessions(self, tmp_path, rows):
        log = "timestamp, index, power.draw [W]\n"
        log += "".join(f"2024/05/01 {time}.000, {device}, 70.00 W\n" for time, device in rows)
        return [row["session"] for row in telemetry(read_text(tmp_path, log))]

    def test_hole_of_more_than_60_s(self, tmp_path):
        rows = [("10:00:00", 0), ("10:01:00", 0), ("10:02:01", 0), ("10:02:02", 0)]
        assert self.sessions(tmp_path, rows) == [0, 0, 1, 1]

    def test_each_device_by_its_own_times(self, tmp_path):
        rows = [("10:00:00", 0), ("10:00:00", 1), ("10:01:00", 0), ("10:02:00", 0), ("10:02:00", 1)]
        assert self.sessions(tmp_path, rows) == [0, 0, 0, 0, 1]

    def test_earlier_log_appended(self, tmp_path):
        rows = [("12:00:00", 0), ("12:00:01", 0), ("09:00:00", 0), ("09:00:01", 0)]
        assert self.sessions(tmp_path, rows) == [0, 0, 1, 1]

    def test_seconds_out_of_order_stay_together(self, tmp_path):
        assert self.sessions(tmp_path, [("10:00:02", 0), ("10:00:01", 0), ("10:00:03", 0)]) == [0, 0, 0]


class TestHlSmi:
    HEADER = "timestamp, module_id, utilization.aip [%], power.draw [W], memory.used [MiB]\n"

    def first(self, tmp_path, time):
        reading = read_text(tmp_path, f"{self.HEADER}{time}, 3, 15 %, 103 W, 512 MiB\n")
        assert reading.format == "hl_smi"
        rows = telemetry(reading)
        return rows[0]["polled_at"] if rows else reasons(reading)

    @pytest.mark.parametrize(
        ("time", "day"),
        [
            ("Tue Aug  2 20:16:52 UTC 202", datetime(2022, 8, 2, 20, 16, 52)),
            ("Thu Aug  3 20:16:52 UTC 202", datetime(2023, 8, 3, 20, 16, 52)),
            ("Thu Feb 29 00:00:00 UTC 202", datetime(2024, 2, 29)),
            ("Tue Aug  2 20:16:52 UTC 2022", datetime(2022, 8, 2, 20, 16, 52)),
        ],
    )
    def test_year_follows_from_the_weekday(self, tmp_path, time, day):
        assert self.first(tmp_path, time) == day

    @pytest.mark.parametrize(
        "time", ["Wed Aug  2 20:16:52 UTC 2022", "Tue Aug 32 20:16:52 UTC 202", "Tue Aux  2 20:16:52 UTC 202"]
    )
    def test_impossible_dates(self, tmp_path, time):
        assert self.first(tmp_path, time) == [(2, "bad_time")]

    def test_other_columns(self, tmp_path):
        log = "timestamp, bus_id, memory.free [MiB], memory.used [MiB]\n"
        log += "Tue Aug  2 20:16:52 UTC 202, 0000:33:00.0, 32256 MiB, 512 MiB\n"
        reading = read_text(tmp_path, log)
        assert reading.format == "hl_smi"
        (row,) = telemetry(reading)
        assert (row["device_id"], row["memory_used_mib"]) == ("0000:33:00.0", 512)
        assert dict(row["metrics"]) == {"memory.free [MiB]": 32256}


CELLS = st.sampled_from(
    [
        "70.25 W",
        "71 W",
        "[N/A]",
        "",
        "1e2 W",
        "+5 W",
        "7o W",
        "nan W",
        "1_0 W",
        "inf W",
        "70.25",
        "70.25 mW",
        "W",
        "70.25  W",
    ]
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.tuples(CELLS, st.sampled_from(["P0", "5", "[N/A]", "5 C"])), min_size=1, max_size=12))
def test_blocks_and_lines_give_the_same(tmp_path_factory, cells):
    header = "timestamp, index, power.draw [W], pstate\n"
    rows = [
        f"2024/05/01 10:00:{i:02d}.000, {i % 2}, {power}, {state}\n" for i, (power, state) in enumerate(cells)
    ]
    log = header + "".join(rows)
    folder = tmp_path_factory.mktemp("both")
    slow = read_text(folder, log)
    poll_log_limit = poll_log.SMALL_BLOCK_BYTES
    poll_log.SMALL_BLOCK_BYTES = 1
    try:
        fast = read_text(folder, log)
    finally:
        poll_log.SMALL_BLOCK_BYTES = poll_log_limit
    assert fast.tables == slow.tables
    assert vars(fast.records).keys() == vars(slow.records).keys()
    assert fast.records.rejected == slow.records.rejected


def test_a_large_dirty_log_in_blocks(tmp_path):
    rng = random.Random(3)
    lines = [HEADER]
    good = 0
    for i in range(120_000):
        if rng.random() < 0.0005:
            lines.append(rng.choice(["\n", HEADER, "No devices were found\n", "2024/05/01 10:00, 0\n"]))
        else:
            good += 1
            second = i // 4
            lines.append(
                f"2024/05/01 {second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}.000, {i % 4}, "
                "NVIDIA L40S,"
                f" {i % 100} %, {50 + i % 300}.25 W, {i % 4000} MiB\n"
            )
    reading = read_text(tmp_path, "".join(lines))
    rows = telemetry(reading)
    assert len(rows) == reading.records.records == good
    assert reading.records.lines_read == len(lines)
    assert all(
        lines[row["line_number"] - 1].endswith(f"{row['memory_used_mib']:.0f} MiB\n") for row in rows[::997]
    )
