from datetime import datetime

import pytest

from perf_assets_tests.support import read_text

TX2 = (
    "RAM 2448/7859MB (lfb 1x4MB) SWAP 5/3929MB (cached 0MB) CPU [12%@2035,off,3%@2035] EMC_FREQ 4%@1866 "
    "GR3D_FREQ 99%@1300 PLL@38C GPU@36.5C BCPU@-256C VDD_SYS_GPU 1520/1500 VDD_IN 2744/2700"
)
ORIN = (
    "06-11-2024 11:00:10 RAM 5100/62841MB (lfb 1x4MB) CPU [1%@729] GR3D_FREQ 7%@[305,310] gpu@45C "
    "VDD_GPU_SOC 2401mW/2401mW VDD_CPU_CV 800mW/801mW VIN_SYS_5V0 3626mW/3626mW"
)


def test_an_older_line(tmp_path):
    (row,) = read_text(tmp_path, TX2 + "\n").rows("cleaned_telemetry")
    assert (row["utilization_pct"], row["sm_clock_mhz"], row["temperature_c"]) == (99, 1300, 36.5)
    assert (row["memory_used_mib"], row["memory_total_mib"], row["power_w"]) == (2448, 7859, 2.744)
    assert (row["polled_at"], row["time_source"]) == (None, "none")
    assert dict(row["labels"]) == {"power_rail": "VDD_IN"}
    metrics = dict(row["metrics"])
    assert (
        metrics["CPU0 [%]"],
        metrics["CPU2 [MHz]"],
        metrics["VDD_SYS_GPU [mW]"],
        metrics["EMC_FREQ [%]"],
    ) == (12, 2035, 1520, 4)
    assert "BCPU [C]" not in metrics, "a part that is switched off"
    assert "CPU1 [%]" not in metrics


def test_a_newer_line(tmp_path):
    (row,) = read_text(tmp_path, ORIN + "\n").rows("cleaned_telemetry")
    assert row["polled_at"] == datetime(2024, 6, 11, 11, 0, 10)
    assert (row["utilization_pct"], row["sm_clock_mhz"], row["power_w"], row["temperature_c"]) == (
        7,
        305,
        6.827,
        45,
    )


@pytest.mark.parametrize(
    "line", ["RAM 2448/78", "RAM 2448/7859MB (lfb 1x4MB) SW", ORIN.replace("06-11", "13-41"), "hello"]
)
def test_broken_lines_are_rejected(tmp_path, line):
    reading = read_text(tmp_path, f"{TX2}\n{line}\n{TX2}\n")
    assert (len(reading.rows("cleaned_telemetry")), reading.records.rejected) == (2, 1)


def test_other_logs_are_left_alone(tmp_path):
    assert read_text(tmp_path, "RAM 5/6MB used\n").format is None


@pytest.mark.parametrize(
    ("in_front", "at"),
    [
        ("2026-06-13 14:17:07 ", datetime(2026, 6, 13, 14, 17, 7)),
        ("[2026-06-13T14:17:08.250] ", datetime(2026, 6, 13, 14, 17, 8, 250000)),
        ("1781360229.5: ", datetime(2026, 6, 13, 14, 17, 9, 500000)),
        ("Sat Jun 13 14:17:10 UTC 2026, ", datetime(2026, 6, 13, 14, 17, 10)),
    ],
)
def test_a_time_that_somebody_put_in_front(tmp_path, in_front, at):
    (row,) = read_text(tmp_path, in_front + TX2 + "\n").rows("cleaned_telemetry")
    assert (row["polled_at"], row["utilization_pct"]) == (at, 99)


def test_another_word_in_front_is_kept(tmp_path):
    (row,) = read_text(tmp_path, f"board7 {TX2}\n").rows("cleaned_telemetry")
    assert (row["polled_at"], row["power_w"]) == (None, 2.744)
    assert dict(row["labels"])["in_front"] == "board7"
