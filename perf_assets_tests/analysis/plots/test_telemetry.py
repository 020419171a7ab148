"""Telemetry over time: thinning keeps spikes, sessions are the devices' own, joules are joules."""

import duckdb
import pytest

from perf_assets.analysis.plots import telemetry
from perf_assets.analysis.plots.catalog import PLOTS
from perf_assets.store.database import create_tables


@pytest.fixture
def store():
    connection = duckdb.connect()
    create_tables(connection)
    connection.execute(
        "INSERT INTO source_files (file_id, path, status) VALUES ('f', 'polls/a.csv', 'ingested')"
    )
    return connection


def poll(connection, device: str, session: int, begin: str, seconds: int, power: str) -> None:
    """Polls once a second; ``power`` is SQL of i."""
    connection.execute(
        f"""INSERT INTO cleaned_telemetry
            (file_id, line_number, device_id, session, polled_at, power_w, utilization_pct)
        SELECT 'f', i, ?, ?, ?::TIMESTAMP + to_seconds(i), {power}, 50 FROM range(?) AS t(i)""",
        [device, session, begin, seconds],
    )


def test_no_spike_is_lost(store):
    poll(store, "0", 0, "2026-01-01 00:00:00", 200_001, "CASE WHEN i = 77777 THEN 400 ELSE 100 END")
    frame = PLOTS["telemetry"].frame(store)
    assert len(frame) == telemetry.PIXELS
    assert frame["power_high"].max() == 400
    assert frame["power_low"].min() == 100
    assert frame["polls"].sum() == 200_001


def test_sessions_that_overlap_belong_together_whatever_their_numbers(store):
    poll(store, "0", 0, "2026-01-01 00:00:00", 100, "100")
    poll(store, "0", 1, "2026-01-02 00:00:00", 300, "100")
    # this device was not there the first time: its first session is the other's second
    poll(store, "1", 0, "2026-01-02 00:00:01", 300, "200")
    frame = PLOTS["telemetry"].frame(store)
    together = frame.groupby("place")["device_id"].unique().map(sorted).tolist()
    assert together == [["0", "1"], ["0"]]
    fig = PLOTS["telemetry"].draw(frame)
    titles = [" ".join(ax.get_title(loc="left").split()) for ax in fig.axes if ax.get_title(loc="left")]
    # 299 s at 100 W and 299 s at 200 W; 99 s at 100 W
    assert "89.7 kJ in all" in titles[0]
    assert "9.9 kJ in all" in titles[1]
    legend = next(ax for ax in fig.axes if ax.get_legend()).get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["0: 29.9 kJ", "1: 59.8 kJ"]
    assert fig.axes[0].get_ylabel() == "power (W)"


def test_idle_is_where_no_device_is_at_work(store):
    poll(store, "0", 0, "2026-01-01 00:00:00", 400, "CASE WHEN i BETWEEN 100 AND 199 THEN 300 ELSE 60 END")
    poll(store, "1", 0, "2026-01-01 00:00:00", 400, "CASE WHEN i BETWEEN 150 AND 299 THEN 300 ELSE 60 END")
    (first, last) = telemetry.idle_spans(PLOTS["telemetry"].frame(store))
    assert first == pytest.approx((0, 100), abs=2)
    assert last == pytest.approx((300, 399), abs=2)


def test_a_device_whose_power_stands_still_is_not_called_idle(store):
    poll(store, "0", 0, "2026-01-01 00:00:00", 100, "250 + i % 2")
    assert telemetry.idle_spans(PLOTS["telemetry"].frame(store)) == []
