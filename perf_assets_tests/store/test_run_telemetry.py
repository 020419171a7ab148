"""Poll logs joined to runs: energies known by construction."""

from datetime import datetime, timedelta

import pytest

from perf_assets.intake import pipeline
from perf_assets_tests.cli.test_comparing import write_profile
from perf_assets_tests.support import sql

START = datetime(2026, 3, 1, 12)
IDLE_W, BUSY_W = 50.0, 250.0


def write_polls(
    data, path: str, busy: list[tuple[float, float]], *, length_s=600, device="NVIDIA A40", gpus=1
):
    """Polls every second: 250 W while busy (seconds after START), else 50 W; further GPUs are idle."""
    lines = ["timestamp, index, name, utilization.gpu [%], power.draw [W], memory.used [MiB]"]
    for second in range(length_s):
        moment = f"{START + timedelta(seconds=second):%Y/%m/%d %H:%M:%S}.000"
        is_busy = any(low <= second < high for low, high in busy)
        for gpu in range(gpus):
            power, load = (BUSY_W, 100) if is_busy and gpu == 0 else (IDLE_W, 0)
            lines.append(f"{moment}, {gpu}, {device}, {load} %, {power:.2f} W, 4 MiB")
    target = data.drops / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("\n".join(lines) + "\n")


def joined(data):
    columns = "name, matched_by, overlap_s, t.energy_j, t.mean_power_w, share, clock_offset_s, remark"
    query = (
        f"SELECT {columns} FROM run_telemetry AS t JOIN cleaned_runs USING (run_id) ORDER BY name, device_id"
    )
    names = (
        "name",
        "matched_by",
        "overlap_s",
        "energy_j",
        "mean_power_w",
        "share",
        "clock_offset_s",
        "remark",
    )
    return [dict(zip(names, row, strict=True)) for row in sql(data, query)]


def run(data, name: str, start_s: float, duration_s: float, **options) -> None:
    write_profile(
        data, f"runs/{name}.jsonl", 10.0, START + timedelta(seconds=start_s), duration_s=duration_s, **options
    )


def test_energy_of_a_run_within_one_percent(data):
    write_polls(data, "polls/a.csv", [(100, 300)])
    run(data, "r", 100, 200)
    pipeline.ingest(data)
    (row,) = joined(data)
    assert (row["matched_by"], row["share"], row["remark"], row["clock_offset_s"]) == (
        "device",
        1.0,
        None,
        None,
    )
    assert row["energy_j"] == pytest.approx(200 * BUSY_W, rel=0.01)
    assert row["overlap_s"] == pytest.approx(200)
    assert row["mean_power_w"] == pytest.approx(BUSY_W, rel=0.01)


def test_a_clock_that_is_off_is_seen(data):
    write_polls(data, "polls/a.csv", [(130, 330)])
    run(data, "r", 100, 200)
    pipeline.ingest(data)
    (row,) = joined(data)
    assert row["clock_offset_s"] == pytest.approx(30, abs=1)
    assert row["energy_j"] == pytest.approx(200 * BUSY_W, rel=0.01)


def test_a_run_that_polls_cover_in_part(data):
    write_polls(data, "polls/a.csv", [(500, 700)], length_s=601)
    run(data, "r", 500, 200)
    pipeline.ingest(data)
    (row,) = joined(data)
    assert row["overlap_s"] == pytest.approx(100)
    assert row["energy_j"] == pytest.approx(100 * BUSY_W, rel=0.01)


def test_two_runs_at_once_share_and_say_so(data):
    write_polls(data, "polls/a.csv", [(100, 400)])
    run(data, "r1", 100, 200)
    run(data, "r2", 200, 200)
    pipeline.ingest(data)
    first, second = joined(data)
    # 100 s alone and half of 100 s together, each.
    for row in (first, second):
        assert row["energy_j"] == pytest.approx(150 * BUSY_W, rel=0.01)
        assert row["share"] == pytest.approx(0.75)
        assert "shared with up to 1 other runs" in row["remark"]
    assert first["energy_j"] + second["energy_j"] == pytest.approx(300 * BUSY_W, rel=0.01)


def test_of_several_devices_the_busiest_is_taken_and_that_is_said(data):
    write_polls(data, "polls/a.csv", [(100, 300)], gpus=4)
    run(data, "r", 100, 200)
    pipeline.ingest(data)
    (row,) = joined(data)
    assert row["energy_j"] == pytest.approx(200 * BUSY_W, rel=0.01)
    assert "busiest" in row["remark"]


def test_another_product_or_time_is_not_joined(data):
    write_polls(data, "polls/a.csv", [(100, 300)], device="Tesla V100-SXM2-16GB")
    run(data, "r", 100, 200)
    run(data, "later", 5000, 200)
    pipeline.ingest(data)
    assert joined(data) == []


def test_a_run_without_a_time_is_proposed_and_marked(data):
    write_polls(data, "runs/polls.csv", [(100, 300)])
    run(data, "r", 0, 200, timed=False)
    pipeline.ingest(data)
    (row,) = joined(data)
    assert row["matched_by"] == "inferred"
    assert row["energy_j"] == pytest.approx(200 * BUSY_W, rel=0.01)
    # Two stretches of that length: nothing is proposed.
    write_polls(data, "runs/polls.csv", [(20, 220), (300, 500)])
    pipeline.ingest(data)
    assert joined(data) == []


def test_a_run_that_comes_later_finds_its_polls(data):
    write_polls(data, "polls/a.csv", [(100, 300)])
    pipeline.ingest(data)
    run(data, "r", 100, 200)
    pipeline.ingest(data)
    (row,) = joined(data)
    pipeline.rebuild(data)
    assert joined(data) == [row]


def test_publishing_what_changed_gives_what_all_of_it_gives(data):
    def check():
        pipeline.ingest(data)
        step_by_step = joined(data)
        pipeline.rebuild(data)
        assert joined(data) == step_by_step
        return {row["name"]: row["energy_j"] for row in step_by_step}

    write_polls(data, "polls/a.csv", [(100, 400)])
    write_polls(data, "elsewhere/b.csv", [(0, 50)], device="Tesla V100-SXM2-16GB")
    run(data, "r1", 100, 200)
    run(data, "other", 0, 50, device="v100")
    alone = check()
    assert alone["r1"] == pytest.approx(200 * BUSY_W, rel=0.01)
    # A second run takes its share of the first one's session, and nothing of the other's.
    run(data, "r2", 200, 200)
    shared = check()
    assert shared["r1"] == pytest.approx(150 * BUSY_W, rel=0.01)
    assert shared["r2"] == pytest.approx(150 * BUSY_W, rel=0.01)
    assert shared["other"] == alone["other"]
    # The same polls, read as hotter: all that hangs on them follows.
    log = data.drops / "polls/a.csv"
    log.write_text(log.read_text().replace(f"{BUSY_W:.2f} W", "500.00 W"))
    assert check()["r1"] == pytest.approx(150 * 500, rel=0.01)
    # The second run turns out to have been another day.
    run(data, "r2", 90_000, 200)
    assert check() == pytest.approx({"other": alone["other"], "r1": 200 * 500}, rel=0.01)
