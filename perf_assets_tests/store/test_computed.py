"""Computed tables go through files of their own: they show in SQL, survive a rebuild, and never half-way."""

import pytest

from perf_assets.intake.pipeline import ingest, rebuild
from perf_assets.store.computed import computed_file, write_computed
from perf_assets.store.publish import publish_computed
from perf_assets_tests.support import sql

ROW = {"target": "latency", "device": "tx2", "method": "constant", "split": "config", "group": "all", "n": 3}
QUERY = 'SELECT target, "group", n, mape FROM predictor_scores ORDER BY n'


def test_rows_show_in_sql_and_survive_a_rebuild(data):
    publish_computed(data, {"predictor_scores": [ROW]})
    assert sql(data, QUERY) == [("latency", "all", 3, None)]
    ingest(data)
    rebuild(data)
    assert sql(data, QUERY) == [("latency", "all", 3, None)]
    data.database.unlink()
    ingest(data)
    assert sql(data, QUERY) == [("latency", "all", 3, None)]


def test_rows_are_replaced_and_a_deleted_file_empties_the_table(data):
    assert publish_computed(data, {"predictor_scores": [ROW]}).changed
    assert not publish_computed(data, {"predictor_scores": [ROW]}).changed
    assert publish_computed(data, {"predictor_scores": [ROW | {"n": 4}]}).changed
    assert sql(data, QUERY) == [("latency", "all", 4, None)]
    computed_file(data, "predictor_scores").unlink()
    assert ingest(data).publication.changed
    assert sql(data, QUERY) == []


def test_a_file_of_an_older_schema_is_read_by_the_columns_it_has(data):
    import pyarrow.parquet as pq

    write_computed(data, {"predictor_scores": [ROW]})
    file = computed_file(data, "predictor_scores")
    pq.write_table(pq.read_table(file).drop_columns(["mape"]), file)
    ingest(data)
    assert sql(data, QUERY) == [("latency", "all", 3, None)]


def test_what_the_schema_does_not_know_is_refused_before_anything_is_written(data):
    with pytest.raises(ValueError, match="no computed table"):
        publish_computed(data, {"cleaned_runs": []})
    with pytest.raises(ValueError, match="no column colour"):
        publish_computed(data, {"predictor_scores": [ROW | {"colour": "red"}]})
    assert not computed_file(data, "predictor_scores").exists()


def test_two_files_take_turns(data):
    ingest(data)
    files = []
    for n in range(4):
        publish_computed(data, {"predictor_scores": [ROW | {"n": n}]})
        assert sql(data, QUERY) == [("latency", "all", n, None)]
        files.append(data.database.stat().st_ino)
    assert files[:2] == files[2:]
