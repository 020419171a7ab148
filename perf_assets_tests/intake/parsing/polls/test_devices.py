"""GPUs that a poll log tells apart by their order alone."""

from perf_assets.intake.parsing.polls.devices import device_order
from perf_assets_tests.support import read_text

HEADER = "timestamp, power.draw [W]\n"


def row(second: int, millisecond: int, power_w: float) -> str:
    return f"2024/06/11 10:{second // 60:02d}:{second % 60:02d}.{millisecond:03d}, {power_w:.2f} W\n"


def devices(tmp_path, text: str) -> list[tuple[str, float]]:
    rows = read_text(tmp_path, text, "gpu.csv").rows("cleaned_telemetry")
    return [(each["device_id"], each["power_w"]) for each in rows]


def test_rows_that_follow_fast_are_one_poll(tmp_path):
    text = HEADER + "".join(row(i, 500 + 4 * k, 100 * k + i) for i in range(5) for k in range(3))
    assert devices(tmp_path, text) == [(str(k), 100.0 * k + i) for i in range(5) for k in range(3)]


def test_one_device_stays_one(tmp_path):
    steady = HEADER + "".join(row(i, 500, i) for i in range(9))
    paused = HEADER + "".join(row(60 * m + i, 500, i) for m in range(3) for i in range(4))
    fast = HEADER + "".join(row(0, 50 * i, i) for i in range(12))
    for text in (steady, paused, fast):
        assert {device for device, _ in devices(tmp_path, text)} == {"0"}


def test_a_poll_across_the_second(tmp_path):
    text = HEADER + "".join(row(i, 998, 70) + row(i + 1, 2, 20) for i in range(6))
    assert devices(tmp_path, text) == [("0", 70.0), ("1", 20.0)] * 6


def test_whole_seconds(tmp_path):
    text = "timestamp,power.draw\n"
    text += "".join(f"2024-06-11T10:00:{i:02d}Z,{10 * k + i}\n" for i in range(5) for k in range(2))
    assert [device for device, _ in devices(tmp_path, text)] == ["0", "1"] * 5


def test_a_header_before_every_poll(tmp_path):
    text = "".join("name, power.draw [W]\n" + "".join(f"L4, {k}.00 W\n" for k in range(3)) for _ in range(4))
    assert devices(tmp_path, text) == [(str(k), float(k)) for k in range(3)] * 4


def test_a_poller_that_was_started_again_is_no_poll(tmp_path):
    text = "".join(HEADER + "".join(row(30 * j + i, 500, i) for i in range(4)) for j in range(3))
    assert {device for device, _ in devices(tmp_path, text)} == {"0"}


def test_names_of_unlike_devices(tmp_path):
    text = "name, power.draw [W]\n" + "T4, 10.00 W\nL4, 20.00 W\n" * 4
    assert devices(tmp_path, text) == [("0", 10.0), ("1", 20.0)] * 4


def test_a_single_poll(tmp_path):
    assert [device for device, _ in devices(tmp_path, HEADER + row(0, 500, 1) + row(0, 504, 2))] == ["0", "1"]


def test_a_large_log_is_told_apart_in_every_block(tmp_path):
    text = HEADER + "".join(row(i, 500 + 4 * k, 50 + 20 * k) for i in range(3000) for k in range(2))
    assert len(text) > 2 * 64 * 1024
    assert devices(tmp_path, text) == [("0", 50.0), ("1", 70.0)] * 3000


def test_a_short_poll_shifts_nobody(tmp_path):
    rows = [row(i, 500 + 4 * k, 50 + 20 * k) for i in range(9) for k in range(2)]
    del rows[7]
    assert devices(tmp_path, HEADER + "".join(rows))[-2:] == [("0", 50.0), ("1", 70.0)]


def test_nothing_to_judge_by():
    assert device_order([], [], []).count == 1
    assert device_order([None, None], [None, None], [2]).count == 1
