"""Predicted against measured: what is joined with what, and which scores count."""

import duckdb
import pytest

from perf_assets.analysis.plots.catalog import PLOTS
from perf_assets.store.database import create_tables


@pytest.fixture
def store():
    connection = duckdb.connect()
    create_tables(connection)
    connection.execute("INSERT INTO source_files (file_id, path, status) VALUES ('f', 'a.csv', 'ingested')")
    for i, latency_ms in enumerate((10.0, 30.0, 20.0)):
        connection.execute(
            """INSERT INTO cleaned_runs
                (run_id, file_id, status, model, device, stage, batch_size, input_size, latency_ms)
            VALUES (?, 'f', 'ok', 'net', 'h100', 'inference', 8, 224, ?)""",
            [str(i), latency_ms],
        )
    for batch, measured in ((8, True), (16, False)):
        connection.execute(
            """INSERT INTO predictions
                (target, model, device, stage, batch_size, input_size, predicted, lower, upper, unit, was_measured)
            VALUES ('latency', 'net', 'h100', 'inference', ?, 224, 22, 18, 26, 'ms', ?)""",
            [batch, measured],
        )
    for method, split, mape in (
        ("perf_assets", "leave_one_network_out", 6.0),
        ("constant", "leave_one_network_out", 80.0),
        ("perf_assets", "random_leaky", 1.0),
    ):
        connection.execute(
            """INSERT INTO predictor_scores (target, device, stage, method, split, "group", n, mape)
            VALUES ('latency', 'h100', 'inference', ?, ?, 'all', 100, ?)""",
            [method, split, mape],
        )
    return connection


def test_predictions_stand_against_the_median_of_what_was_measured(store):
    frame = PLOTS["predictions"].frame(store)
    point = frame[frame["part"] == "point"]
    assert point[["measured", "predicted", "lower", "upper"]].to_numpy().tolist() == [[20, 22, 18, 26]]


def test_leaky_scores_are_no_scores(store):
    points, scores = PLOTS["predictions"].draw(PLOTS["predictions"].frame(store)).axes
    assert [bar.get_width() for bar in scores.patches] == [6, 80]
    assert "held out" not in points.get_title(loc="left")
    assert points.get_xlabel() == "measured (ms)"


def test_runs_that_people_excluded_are_not_shown(store):
    store.execute("UPDATE cleaned_runs SET excluded = true WHERE latency_ms > 10")
    frame = PLOTS["predictions"].frame(store)
    assert frame.loc[frame["part"] == "point", "measured"].tolist() == [10]
