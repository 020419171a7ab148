"""The asset graph as a whole, and what it costs to import."""

import subprocess
import sys

import dagster as dg
import pytest

from perf_assets.analysis.causal.pipeline import CHECKS as CAUSAL_CHECKS
from perf_assets.analysis.predictors.pipeline import CHECKS as PREDICTOR_CHECKS
from perf_assets.analysis.predictors.pipeline import TARGETS
from perf_assets.definitions import defs
from perf_assets.schema.tables import COMPUTED_TABLES, TABLES
from perf_assets.store.invariants import CHECKS
from perf_assets_tests.support import ROOT

GRAPH = {
    "raw_device_logs": set(),
    **{name: {"raw_device_logs"} for name in TABLES if name not in COMPUTED_TABLES},
    **{name: {"cleaned_runs", "cleaned_layers", "cleaned_layer_tables"} for name in TARGETS},
    "predictor_scores": set(TARGETS),
    "predictions": set(TARGETS),
    "pruned_models": set(),
    "network_features": {"pruned_models"},
    "causal_graph": {"cleaned_runs"},
    "regressions": {"cleaned_runs", "cleaned_load_levels"},
    "report": {"source_files", "cleaned_runs", "cleaned_load_levels", "cleaned_telemetry"},
    "device_profiles": {"raw_device_logs", "pruned_models", "network_features"},
    "load_studies": {"raw_device_logs"},
    "training_time_plot": {"source_files", "cleaned_runs", "cleaned_epochs"},
    "telemetry_plot": {"source_files", "cleaned_telemetry"},
    "load_curve_plot": {"source_files", "cleaned_runs", "cleaned_load_levels"},
    "load_scaling_plot": {"source_files", "cleaned_runs", "cleaned_load_levels", "cleaned_load_gpus"},
    "latency_components_plot": {"source_files", "cleaned_runs", "cleaned_load_levels"},
    "metric_history_plot": {"source_files", "cleaned_runs"},
    "device_scaling_plot": {"source_files", "cleaned_runs", "cleaned_epochs", "cleaned_load_levels"},
    "run_throughput_plot": {"source_files", "cleaned_runs"},
    "energy_plot": {"source_files", "cleaned_runs"},
    "algorithm_curves_plot": {"source_files", "cleaned_runs"},
    "layer_breakdown_plot": {"source_files", "cleaned_runs", "cleaned_layers"},
    "pruned_networks_plot": {"source_files", "cleaned_runs", "cleaned_layer_tables", "pruned_models"},
    "memory_limits_plot": {"source_files", "cleaned_runs"},
    "reconstruction_plot": {"source_files", "cleaned_runs", "cleaned_stages"},
    "predictions_plot": {"source_files", "cleaned_runs", "predictions", "predictor_scores"},
    "roofline_plot": {"source_files", "cleaned_runs", "cleaned_layer_tables", "network_features"},
}


def test_loads_completely():
    dg.Definitions.validate_loadable(defs)


def test_graph_is_as_intended():
    graph = defs.resolve_asset_graph()
    keys = {key.to_user_string() for key in graph.get_all_asset_keys()}
    assert keys == set(GRAPH)
    for name, parents in GRAPH.items():
        node = graph.get(dg.AssetKey(name))
        assert {key.to_user_string() for key in node.parent_keys} == parents, name
        assert not node.is_partitioned
        assert node.is_executable


def test_every_invariant_is_a_check():
    keys = defs.resolve_asset_graph().asset_check_keys
    assert {(key.asset_key.to_user_string(), key.name) for key in keys} == {
        *((check.table, check.name) for check in CHECKS),
        *(("predictor_scores", name) for name in PREDICTOR_CHECKS),
        ("predictions", "predictions_hold"),
        ("regressions", "nothing_became_worse"),
        *(("causal_graph", name) for name in CAUSAL_CHECKS),
    }


def test_tables_show_their_columns():
    node = defs.resolve_asset_graph().get(dg.AssetKey("cleaned_load_gpus"))
    columns = node.metadata["dagster/column_schema"].columns
    assert [column.name for column in columns] == list(TABLES["cleaned_load_gpus"].column_names)
    assert "[W]" in next(column for column in columns if column.name == "power_w").description


@pytest.mark.parametrize("module", ["perf_assets.definitions", "perf_assets.cli"])
def test_import_stays_light(module):
    heavy = ("torch", "torchvision", "sklearn", "matplotlib", "pandas", "scipy", "numpy")
    script = f"import sys, {module}; print([name for name in {heavy!r} if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"


def test_what_runs_by_itself():
    """Taking in is harmless and on; measuring is off until somebody switches it on."""
    on = {sensor.name: sensor.default_status.value for sensor in defs.sensors or ()}
    on |= {schedule.name: schedule.default_status.value for schedule in defs.schedules or ()}
    assert on == {
        "drop_sensor": "RUNNING",
        "orphan_sensor": "RUNNING",
        "plot_sensor": "RUNNING",
        "nightly_ingest": "RUNNING",
        "nightly_predictors": "RUNNING",
        "nightly_report": "RUNNING",
        "nightly_causal_graphs": "RUNNING",
        "nightly_regressions": "RUNNING",
        "nightly_quick_sweep": "STOPPED",
        "weekly_full_sweep": "STOPPED",
        "nightly_load_study": "STOPPED",
        "nightly_recordings": "STOPPED",
    }
    stages = {"sanity_sweep": "sanity", "quick_sweep": "quick", "full_sweep": "full"}
    for name, stage in stages.items():
        job = defs.resolve_job_def(name)
        config = job.run_config["ops"]["device_profiles"]["config"]
        assert config == {"sweep": "sweeps/nightly.toml", "stage": stage}


def test_shipped_studies_are_valid():
    from perf_assets.measuring.load_tests.study import cells, read_study

    for path in sorted((ROOT / "studies").glob("*.toml")):
        study = read_study(path)
        assert list(study.commands.combinations()) if study.commands else cells(study)


def test_shipped_sweeps_are_valid():
    from perf_assets.measuring.sweeps.grid import points, read_sweep

    for path in sorted((ROOT / "sweeps").glob("*.toml")):
        sweep = read_sweep(path)
        assert points(sweep, "quick")
