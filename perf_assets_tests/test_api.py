"""The Python door on the shipped drops."""

import subprocess
import sys

import pytest

import perf_assets
from perf_assets.store.database import NoDatabaseError, QueryError
from perf_assets.workspace.paths import NoDataFolderError
from perf_assets_tests.support import sql


@pytest.fixture(scope="module")
def door(examples):
    return perf_assets.open(examples.root)


def test_tables_are_the_databases(door, examples):
    names = {name for (name,) in sql(examples, "SHOW TABLES")}
    assert set(door.tables) == names
    for name in names:
        assert [(len(door.table(name)),)] == sql(examples, f'SELECT count(*) FROM "{name}"')


def test_a_condition_and_parameters_choose_rows(door):
    chosen = door.table("cleaned_runs", "device = 'a40'")
    assert set(chosen["device"]) == {"a40"}
    query = "SELECT count(*) AS runs FROM cleaned_runs WHERE device = ?"
    assert door.sql(query, ["a40"]).loc[0, "runs"] == len(chosen)
    assert door.arrow(query, ["a40"]).to_pylist() == [{"runs": len(chosen)}]
    # a value is no SQL
    assert door.sql(query, ["a40' OR true --"]).loc[0, "runs"] == 0


def test_figures_and_comparisons(door):
    assert door.plot("telemetry").axes
    same = door.compare("where:device = 'a40'", "where:device = 'a30'", anyway=True)
    assert same.unlike
    with pytest.raises(KeyError, match="no figure 'pie'; there are load_curve"):
        door.plot("pie")
    with pytest.raises(QueryError, match="nope"):
        door.plot("telemetry", "nope = 1")


def test_a_prediction_needs_a_predictor(door):
    with pytest.raises(ValueError, match=r"no predictor for a40.*perf-assets fit"):
        door.predict("resnet18", "a40", 8, stage="inference")


def test_what_is_wrong_is_said(door, data, tmp_path, monkeypatch):
    with pytest.raises(KeyError, match="no table 'runs'; there are source_files"):
        door.table("runs")
    with pytest.raises(ValueError, match="nope"):
        door.table("cleaned_runs", "nope = 1")
    for query in ("SELECT nope FROM cleaned_runs", "DROP TABLE cleaned_runs", "SELECT * FROM '/etc/passwd'"):
        with pytest.raises(QueryError):
            door.sql(query)
        with pytest.raises(QueryError):
            door.arrow(query)
    with pytest.raises(NoDatabaseError, match="perf-assets ingest"):
        perf_assets.open(data.root).sql("SELECT 1")
    with pytest.raises(NoDataFolderError, match=f"did you mean {data.root}"):
        perf_assets.open(data.root.with_name("dta"))
    monkeypatch.chdir(tmp_path)
    assert perf_assets.open().paths.root == data.root


def test_importing_the_package_imports_nothing_heavy():
    loaded = "import sys, perf_assets; perf_assets.open; print([n for n in ('duckdb', 'pandas', 'dagster', 'torch', 'matplotlib') if n in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True).stdout
        == "[]\n"
    )
