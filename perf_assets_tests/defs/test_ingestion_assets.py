"""Materialising the ingestion and plot assets on the shipped examples."""

import shutil

import dagster as dg
import pytest

from perf_assets.analysis.plots.catalog import PLOTS
from perf_assets.definitions import defs
from perf_assets.defs.build import build_defs
from perf_assets.defs.resources import DataFolder
from perf_assets.defs.sensors import drop_sensor
from perf_assets.intake.pipeline import ingest
from perf_assets.schema.lineage import LINEAGE
from perf_assets.schema.tables import TABLES
from perf_assets_tests.support import EXAMPLES, sql


@pytest.fixture
def folder(data, monkeypatch) -> DataFolder:
    monkeypatch.setenv("PERF_ASSETS_DATA", str(data.root))
    return DataFolder()


def materialize(folder: DataFolder, selection: str) -> dg.ExecuteInProcessResult:
    job = build_defs({"data_folder": folder}).resolve_implicit_global_asset_job_def()
    graph = defs.resolve_asset_graph()
    keys = dg.AssetSelection.from_string(selection).resolve(graph)
    return job.execute_in_process(asset_selection=list(keys), instance=dg.DagsterInstance.ephemeral())


def metadata_of(result: dg.ExecuteInProcessResult, asset: str) -> dict:
    for event in result.get_asset_materialization_events():
        if event.asset_key == dg.AssetKey(asset):
            return {name: value.value for name, value in event.materialization.metadata.items()}
    raise AssertionError(f"{asset} was not materialised")


def test_everything_on_the_examples(data, folder):
    shutil.copytree(EXAMPLES, data.drops, dirs_exist_ok=True)
    result = materialize(folder, "group:ingestion or group:plots")
    assert result.success
    runs = metadata_of(result, "cleaned_runs")
    assert runs["dagster/row_count"] == sql(data, "SELECT count(*) FROM cleaned_runs")[0][0] > 0
    assert metadata_of(result, "raw_device_logs")["files"] == sum(
        1 for path in data.raw.rglob("*") if path.is_file()
    )
    for plot in ("training_time", "telemetry"):
        shown = metadata_of(result, f"{plot}_plot")
        assert (data.plots / f"{plot}.svg").read_bytes().startswith(b"<?xml")
        assert "SELECT" in shown["sql"]
        assert 1000 < len(shown["thumbnail"]) < 70_000
    failed = [check.check_name for check in result.get_asset_check_evaluations() if not check.passed]
    assert failed == []


def test_one_table_alone_takes_in_what_is_pending(data, folder):
    shutil.copytree(EXAMPLES, data.drops, dirs_exist_ok=True)
    result = materialize(folder, "cleaned_runs")
    assert [event.asset_key.to_user_string() for event in result.get_asset_materialization_events()] == [
        "cleaned_runs"
    ]
    assert metadata_of(result, "cleaned_runs")["files_not_taken_in"] == 0
    assert sql(data, "SELECT count(*) FROM cleaned_telemetry")[0][0] > 0


def test_figures_follow_their_tables_on_their_own(data, folder):
    shutil.copytree(EXAMPLES / "device_logs" / "training", data.drops / "training")
    ours = build_defs({"data_folder": folder})
    with dg.instance_for_test() as instance:

        def asked(cursor=None):
            result = dg.evaluate_automation_conditions(ours, instance, cursor=cursor)
            return result.cursor, {
                key.to_user_string()
                for key in ours.resolve_asset_graph().get_all_asset_keys()
                if result.get_num_requested(key)
            }

        figures = {f"{name}_plot" for name in PLOTS}
        cursor, before = asked()
        assert not before
        ours.resolve_job_def("ingest_drops").execute_in_process(instance=instance)
        _, then = asked(cursor)
        assert then == figures


def test_lineage_and_keys_are_shown(data, folder):
    result = materialize(folder, "run_telemetry")
    lineage = metadata_of(result, "run_telemetry")["dagster/column_lineage"]
    assert {dep.column_name for dep in lineage.deps_by_column["energy_j"]} == {"power_w", "polled_at"}
    for table, columns in LINEAGE.items():
        assert set(columns) <= set(TABLES[table].column_names)
        for sources in columns.values():
            assert all(name in TABLES[source].column_names for source, name in sources)


def test_nothing_dropped(data, folder):
    result = materialize(folder, "group:ingestion or group:plots")
    assert result.success
    assert metadata_of(result, "cleaned_runs")["dagster/row_count"] == 0


def test_a_broken_invariant_fails_its_check(data, folder):
    import duckdb

    shutil.copytree(EXAMPLES, data.drops, dirs_exist_ok=True)
    ingest(data)
    with duckdb.connect(data.database) as connection:
        connection.execute("UPDATE source_files SET records = records - 1 WHERE format = 'unet_run'")
        connection.execute("UPDATE cleaned_epochs SET run_id = 'nobody' WHERE epoch = 1")
    job = build_defs({"data_folder": folder}).resolve_implicit_global_asset_job_def()
    keys = [
        key
        for key in defs.resolve_asset_graph().asset_check_keys
        if key.name in ("lines_are_conserved", "epochs_belong_to_runs", "rejected_lines_are_listed")
    ]
    result = job.get_subset(asset_selection=set(), asset_check_selection=set(keys)).execute_in_process(
        instance=dg.DagsterInstance.ephemeral(), raise_on_error=False
    )
    passed = {check.check_name: check.passed for check in result.get_asset_check_evaluations()}
    assert passed == {
        "lines_are_conserved": False,
        "epochs_belong_to_runs": False,
        "rejected_lines_are_listed": True,
    }


class TestDropSensor:
    def tick(self, folder):
        with dg.instance_for_test() as instance:
            return drop_sensor(dg.build_sensor_context(instance=instance, resources={"data_folder": folder}))

    def test_requests_one_run_for_all_pending(self, data, folder):
        assert isinstance(self.tick(folder), dg.SkipReason)
        (data.drops / "a.txt").write_text("one\n")
        (data.drops / "b.txt").write_text("two\n")
        first = self.tick(folder)
        assert isinstance(first, dg.RunRequest)
        assert self.tick(folder).run_key == first.run_key
        (data.drops / "b.txt").write_text("two and more\n")
        assert self.tick(folder).run_key != first.run_key
        ingest(data)
        assert isinstance(self.tick(folder), dg.SkipReason)

    def test_waits_for_a_file_to_stand_still(self, data, folder, monkeypatch):
        monkeypatch.setenv("PERF_ASSETS_SETTLE_S", "3600")
        (data.drops / "a.txt").write_text("one\n")
        assert isinstance(self.tick(folder), dg.SkipReason)
