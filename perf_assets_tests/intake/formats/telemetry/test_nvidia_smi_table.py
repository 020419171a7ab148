from datetime import datetime

from perf_assets_tests.support import read_text

TITLE = "| NVIDIA-SMI 535.54.03    Driver Version: 535.54.03    CUDA Version: 12.2 |\n"
FRAME = "+-----------------------------------------------------------------------------+\n"
HEADINGS = (
    "| GPU  Name        Persistence-M| Bus-Id        Disp.A | Volatile Uncorr. ECC |\n"
    "| Fan  Temp  Perf  Pwr:Usage/Cap|         Memory-Usage | GPU-Util  Compute M. |\n"
    "|===============================+======================+======================|\n"
)


def gpu(index: int, bus: str, state: str) -> str:
    return (
        f"|   {index}  NVIDIA L4           On   | {bus} Off |                    0 |\n{state}\n"
        "|                               |                      |                  N/A |\n"
    )


BUSY = "| 31%   60C    P0    68W /  72W |   9120MiB / 23034MiB |     97%      Default |"
BROKEN = "| N/A  ERR!    P0    N/A /  N/A |      4MiB / 23034MiB |     N/A      Default |"
PROCESSES = (
    "| Processes:                                                                  |\n"
    "|    0   N/A  N/A     70123      C   python3 train.py              9112MiB |\n"
)
TABLE = (
    FRAME + TITLE + FRAME + HEADINGS + gpu(0, "00000000:31:00.0", BUSY) + gpu(1, "00000000:4B:00.0", BROKEN)
)
TABLE += FRAME + "\n" + FRAME + PROCESSES + FRAME


def telemetry(tmp_path, text: str):
    reading = read_text(tmp_path, text)
    assert reading.format == "nvidia_smi_table"
    return reading.rows("cleaned_telemetry"), reading.records


def test_a_loop(tmp_path):
    text = f"Tue Jun 11 13:00:00 2024\n{TABLE}Tue Jun 11 13:00:20 2024\n{TABLE}"
    rows, records = telemetry(tmp_path, text)
    assert [(row["device_id"], row["polled_at"].second) for row in rows] == [
        ("00000000:31:00.0", 0),
        ("00000000:4B:00.0", 0),
        ("00000000:31:00.0", 20),
        ("00000000:4B:00.0", 20),
    ]
    busy, broken = rows[:2]
    assert (busy["power_w"], busy["power_limit_w"], busy["temperature_c"]) == (68, 72, 60)
    assert (busy["memory_used_mib"], busy["memory_total_mib"], busy["utilization_pct"]) == (9120, 23034, 97)
    assert (broken["power_w"], broken["temperature_c"], broken["utilization_pct"]) == (None, None, None)
    labels = dict(busy["labels"])
    assert (labels["driver"], labels["cuda"], labels["index"]) == ("535.54.03", "12.2", "0")
    assert labels["processes"] == "70123 C python3 train.py 9112MiB"
    assert dict(busy["metrics"]) == {"fan [%]": 31}
    assert records.rejected == 0


def test_watch_tells_host_and_time(tmp_path):
    rows, _ = telemetry(tmp_path, f"Every 2.0s: nvidia-smi     node5: Tue Jun 11 13:00:00 2024\n\n{TABLE}")
    assert {(row["host"], row["polled_at"]) for row in rows} == {("node5", datetime(2024, 6, 11, 13))}


def test_without_a_time(tmp_path):
    rows, _ = telemetry(tmp_path, TABLE)
    assert {(row["polled_at"], row["time_source"]) for row in rows} == {(None, "none")}


def test_parts_of_a_gpu_are_devices_of_their_own(tmp_path):
    parts = (
        "| MIG devices:                                                                |\n"
        "|  0    1   0   0  |     11MiB / 20096MiB | 42      0 |  3   0    2    0    0 |\n"
        "|                  |      0MiB / 32767MiB |           |                       |\n"
        "|  0    2   0   1  |     13MiB / 20096MiB | 42      0 |  3   0    2    0    0 |\n"
        "|    0    2    0      14049      C   python                             9MiB |\n"
    )
    rows, records = telemetry(tmp_path, f"Tue Jun 11 13:00:00 2024\n{TABLE}{parts}")
    own = {row["device_id"]: row for row in rows[2:]}
    assert set(own) == {"00000000:31:00.0/1/0", "00000000:31:00.0/2/0"}
    assert own["00000000:31:00.0/2/0"]["memory_used_mib"] == 13
    assert "processes" in dict(own["00000000:31:00.0/2/0"]["labels"])
    assert records.rejected == 0


def test_a_table_before_another_tools_log_is_a_banner(tmp_path):
    assert read_text(tmp_path, TABLE + "epoch 1 loss 0.5\n" * 9).format is None


def test_a_cut_table(tmp_path):
    rows, _ = telemetry(
        tmp_path, f"Tue Jun 11 13:00:00 2024\n{TABLE}Tue Jun 11 13:00:20 2024\n{FRAME}{TITLE}"
    )
    assert len(rows) == 2


def test_prompts_and_banners_around_a_table(tmp_path):
    around = (
        'root@node5:~# run "nvidia-smi"\n\n2024/06/11 13:00:00 node5 nvidia-smi\nTue Jun 11 13:00:00 2024\n'
    )
    rows, records = telemetry(tmp_path, f"{around}{TABLE}root@node5:~#\n")
    assert (len(rows), rows[0]["polled_at"], records.rejected) == (2, datetime(2024, 6, 11, 13), 3)


def test_a_table_without_its_title(tmp_path):
    rows, _ = telemetry(tmp_path, HEADINGS + gpu(0, "00000000:31:00.0", BUSY))
    assert [(row["power_w"], row["device_name"]) for row in rows] == [(68, "NVIDIA L4")]


def test_a_table_in_a_log_of_something_else_is_left_alone(tmp_path):
    log = TABLE + "".join(f"epoch {epoch}: loss {1 / (epoch + 1):.3f}\n" for epoch in range(30))
    assert read_text(tmp_path, log).format is None
