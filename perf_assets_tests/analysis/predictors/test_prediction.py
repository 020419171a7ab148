"""The whole way with dropped logs: ingest, fit, tables, command line, Dagster."""

import shutil

import numpy as np
import pytest
from click.testing import CliRunner

from perf_assets.analysis.predictors import pipeline as prediction
from perf_assets.analysis.predictors.features.shapes import NetworkTables
from perf_assets.cli.app import cli
from perf_assets.intake.pipeline import ingest, rebuild
from perf_assets.measuring.sweeps.grid import read_sweep
from perf_assets_tests.analysis.predictors import small
from perf_assets_tests.support import EXAMPLES, SAMPLES, needs_samples, sql


def drop_layers(folder):
    """Timed convolutions as ai3 logs them: no batch size, the network's input size in every row, times by
    bytes."""
    folder.mkdir()
    header = "model,algorithm,input_size,layer,in_channels,out_channels,kernel_size,stride,padding,mean_ms,std_ms,percentage,device"
    for model in ("alexnet", "vgg11"):
        lines = [header]
        for size in range(96, 256, 10):
            arrays = NetworkTables().get(model, 0.0, size)
            for i in np.flatnonzero(arrays["kind"] == "conv"):
                cells = [
                    int(arrays[name][i])
                    for name in ("in_channels", "out_channels", "kernel_size", "stride", "padding")
                ]
                moved_mib = (
                    (cells[0] * arrays["in_hw"][i] ** 2 + cells[1] * arrays["out_hw"][i] ** 2) * 4 / 2**20
                )
                lines.append(
                    ",".join(
                        map(
                            str,
                            [
                                model,
                                "gemm",
                                size,
                                arrays["layer"][i],
                                *cells,
                                0.3 + 0.2 * moved_mib,
                                0.01,
                                5.0,
                                "l40s",
                            ],
                        )
                    )
                )
        (folder / f"{model}_gemm_layers_l40s.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A data folder with the logs of the small world, fitted."""
    from perf_assets.workspace.paths import DataPaths

    paths = DataPaths(tmp_path_factory.mktemp("world") / "data")
    paths.drops.mkdir(parents=True)
    runs = small.runs()
    for (model, ratio), rows in runs.groupby(["model", "pruning_ratio"]):
        for kind in ("latency", "memory"):
            folder = paths.drops / "tx2" / kind
            folder.mkdir(parents=True, exist_ok=True)
            lines = [
                "passed|latency|params"
                if kind == "latency"
                else "passed|mem_alloc|mem_reserved|mem_used|mem_avail|free|capacity|params"
            ]
            for row in rows.itertuples():
                params = {
                    "test_var": kind,
                    "bs": row.batch_size,
                    "dataset": "imagenet",
                    "net_name": model,
                    "model": f"/m/{model}.py",
                }
                used = row.memory_used_mib
                cells = (
                    [str(row.latency_ms)]
                    if kind == "latency"
                    else [str((used - 180) * 0.9), str(used - 180), str(used), "7000", "6000", "7859"]
                )
                passed = row.status == "ok"
                lines.append(
                    "|".join([str(passed), *(cells if passed else ["None"] * len(cells)), str(params)])
                )
            (folder / f"{model}_{round(ratio * 100)}.csv").write_text("\n".join(lines) + "\n")
    names = {
        "network": "net",
        "pruning_level_pct": "level",
        "layer_index": "idx",
        "kind": "type",
        "kernel_size": "kernel",
    }
    kinds = {"conv": "Conv2d", "batchnorm": "BatchNorm2d", "avgpool": "AvgPool2d", "linear": "Linear"}
    import pandas as pd

    shapes = pd.DataFrame(
        [
            row
            for name in small.NETWORKS
            for level in small.LEVELS_PCT
            for row in small.layer_rows(name, level)
        ]
    )
    shapes["kind"] = shapes["kind"].map(kinds)
    for column in ("kernel_size", "stride", "padding", "groups"):
        shapes[column] = shapes[column].astype("Int64")
    shapes.rename(columns=names).to_csv(paths.drops / "layer_tables.csv", index=False)
    drop_layers(paths.drops / "ai3")
    ingest(paths)
    prediction.fit_all(paths)
    return paths


def run(world, *arguments):
    return CliRunner().invoke(cli, list(arguments), env={"PERF_ASSETS_DATA": str(world.root)})


def test_scores_and_predictions_are_tables(world):
    methods = sql(
        world,
        """SELECT DISTINCT method FROM predictor_scores WHERE split = 'leave_one_network_out'
                            AND target = 'latency' AND "group" = 'all' ORDER BY ALL""",
    )
    assert methods == [("constant",), ("nnls",), ("perf4sight",), ("perf_assets",), ("roofline",)]
    [(rows, ordered)] = sql(
        world,
        "SELECT count(*), bool_and(lower <= predicted AND predicted <= upper) FROM predictions WHERE target "
        "= 'latency'",
    )
    assert rows > 100
    assert ordered
    before = sql(world, "SELECT count(*), sum(mape) FROM predictor_scores")
    rebuild(world)
    assert sql(world, "SELECT count(*), sum(mape) FROM predictor_scores") == before


def test_timed_layers_are_fitted_and_scored(world):
    scores = sql(
        world,
        """SELECT method, device, n, mape FROM predictor_scores WHERE target = 'layer_latency' AND "group" =
            'all'
                           AND split = 'leave_one_network_out'""",
    )
    assert {(device, rows) for _, device, rows, _ in scores} == {("l40s", 16 * (5 + 8))}
    mape = {method: error for method, _, _, error in scores}
    assert mape["perf_assets"] < mape["constant"] / 2
    assert mape["perf_assets"] < mape["ai3"] / 2
    assert (world.predictors / "layer_latency-ai3-l40s-inference.json").exists()


def test_predict_and_plan(world):
    done = run(
        world, "predict", "--model", "wide", "--device", "tx2", "--batch-size", "32", "--pruning", "30"
    )
    assert done.exit_code == 0, done.output
    assert "latency" in done.output
    assert "ms" in done.output
    done = run(world, "plan", "--device", "tx2", "--max-memory-mib", "1100", "--max-latency-ms", "200")
    assert done.exit_code == 0, done.output
    assert "largest batch" in done.output
    assert run(world, "plan", "--device", "tx2", "--max-latency-ms", "0.001").exit_code == 1
    done = run(world, "plan", "--device", "tx2", "--model", "wide", "--measure-next", "3")
    assert "to measure next" in done.output, done.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--model", "wide", "--device", "abacus", "--batch-size", "1"), "tx2"),
        (("--model", "nonesuch", "--device", "tx2", "--batch-size", "1"), "layer table"),
        (("--model", "wide", "--device", "tx2", "--batch-size", "1", "--pruning", "45"), "known are"),
    ],
)
def test_errors_say_what_can_be_done(world, arguments, says):
    done = run(world, "predict", *arguments)
    assert done.exit_code == 1
    assert says in done.output
    assert "Traceback" not in done.output


def test_a_module_of_your_own_is_predicted(world, tmp_path, monkeypatch):
    (tmp_path / "own_nets.py").write_text(
        "import torch\n"
        "def make(width=8):\n    return torch.nn.Sequential(torch.nn.Conv2d(3, width, 3), torch.nn.ReLU())\n"
        "def broken():\n    raise KeyError('no such width')\n"
    )
    monkeypatch.chdir(tmp_path)
    arguments = ("predict", "--device", "tx2", "--batch-size", "8", "--input-size", "64", "--model")
    done = run(world, *arguments, "own_nets:make")
    assert done.exit_code == 0, done.output
    assert "latency" in done.output
    for name, says in {
        "own_nets:broken": "no such width",
        "own_nets:nothing": "nothing",
        "no_nets:make": "no_nets",
        "builtins:dict": "not a torch.nn.Module",
    }.items():
        done = run(world, *arguments, name)
        assert done.exit_code == 1
        assert says in done.output
        assert "Traceback" not in done.output


def test_a_device_without_runs_is_named_as_such(world, tmp_path):
    import pandas as pd

    from perf_assets.analysis.predictors.features.configurations import measured
    from perf_assets.analysis.predictors.serve.predictor_set import fit_targets
    from perf_assets.workspace.paths import DataPaths

    copy = DataPaths(tmp_path / "copy")
    shutil.copytree(world.root, copy.root)
    runs = measured(pd.concat([small.runs(device=name) for name in ("l40s", "v100")]))
    fit_targets(runs, small.tables(), ("latency",), copy.predictors)
    done = run(copy, "predict", "--model", "wide", "--device", "a100", "--batch-size", "32")
    assert done.exit_code == 0, done.output
    assert "answered from l40s, v100" in done.output
    done = run(copy, "plan", "--device", "l40s", "--device", "v100", "--model", "wide", "--sure")
    assert done.exit_code == 0, done.output
    answer = done.output.partition("which device (most images a second)")[2].partition("worth their cost")[0]
    levels = [line for line in answer.splitlines() if "wide" in line]
    assert len(levels) == len(small.LEVELS_PCT)
    # Both are as slow as their data sheets say, and the L40S' says six times the arithmetic.
    assert all(line.split("│")[1].strip() == "l40s" for line in levels)
    assert all(line.split("│")[-3].strip() == "v100" for line in levels)
    done = run(copy, "predict", "--model", "wide", "--device", "abacus", "--batch-size", "32")
    assert done.exit_code == 1
    assert "device_catalog.toml" in done.output


def test_dagster_gives_the_same_scores_as_the_command(world, tmp_path, monkeypatch):
    import dagster as dg

    from perf_assets.defs.assets import predictors
    from perf_assets.defs.resources import DataFolder
    from perf_assets.workspace.paths import DataPaths

    copy = DataPaths(tmp_path / "copy")
    shutil.copytree(world.drops, copy.drops)
    ingest(copy)
    monkeypatch.setenv("PERF_ASSETS_DATA", str(copy.root))
    assets = [*predictors.predictor_assets, predictors.predictor_scores, predictors.predictions]
    result = dg.materialize(
        [*assets, *predictors.predictor_checks()], resources={"data_folder": DataFolder()}
    )
    assert result.success
    passed = {check.check_name: check.passed for check in result.get_asset_check_evaluations()}
    assert set(passed) == {*prediction.CHECKS, "predictions_hold"}
    assert passed["held_out_rows_do_not_leak"]
    assert passed["shuffled_target_is_not_learnt"]
    query = (
        'SELECT target, method, split, "group", n, round(mape, 6), round(coverage, 6) FROM '
        "predictor_scores ORDER BY ALL"
    )
    assert sql(copy, query) == sql(world, query)


def test_networks_to_learn_from_and_to_judge_by_can_be_named(world, tmp_path):
    from perf_assets.workspace.paths import DataPaths

    copy = DataPaths(tmp_path / "copy")
    shutil.copytree(world.root, copy.root)
    done = run(
        copy, "fit", "--train-networks", "wide", "--train-networks", "narrow", "--eval-networks", "pointwise"
    )
    assert done.exit_code == 0, done.output
    splits = sql(copy, """SELECT DISTINCT split, "group" FROM predictor_scores WHERE target = 'latency'""")
    assert set(splits) == {("chosen", "all")}
    [(errors, answered)] = sql(
        copy,
        "SELECT count(mape), count(*) FILTER (abstained = 100 OR mape_answered IS NOT NULL) FROM predictor_scores "
        "WHERE target = 'latency' AND method = 'perf_assets'",
    )
    assert errors == answered == 1


def test_few_runs_fit_nothing_and_say_so(data):
    shutil.copytree(EXAMPLES / "profiles" / "ai3", data.drops / "ai3")
    ingest(data)
    assert prediction.fit_all(data) == []
    done = run(data, "fit")
    assert done.exit_code == 1
    assert (
        "a10 (ai3), inference, latency: 0 measured configurations, 8 are needed; those of tinynet"
        in done.output
    )
    assert run(data, "predict", "--model", "resnet18", "--device", "a10", "--batch-size", "1").exit_code == 1


def test_a_dozen_runs_are_fitted_and_planned_with(data, tmp_path):
    """The shipped runs of a Xavier: one network, so nothing is promised of others."""
    for name in ("perf4sight", "layer_tables"):
        shutil.copytree(EXAMPLES / "profiles" / name, data.drops / name)
    ingest(data)
    done = run(data, "fit")
    assert done.exit_code == 0, done.output
    assert "nothing could be left out of one network: latency-perf4sight-xavier-training" in done.output
    assert "xavier (perf4sight), training, memory: 6 measured configurations, 8 are needed" in done.output
    asked = ("plan", "--device", "xavier", "--model", "resnet34", "--max-latency-ms", "2000")
    file = tmp_path / "next.toml"
    done = run(data, *asked, "--measure-next", "2", "--next-sweep", str(file))
    assert done.exit_code == 0, done.output
    listed = read_sweep(file).points
    assert [point["network"] for point in listed] == ["resnet34", "resnet34"]
    assert {point["stage"] for point in listed} == {"training"}
    assert run(data, *asked, "--next-sweep", str(file)).exit_code == 1


def test_what_was_measured_stands_beside_what_is_predicted(world):
    asked = ("predict", "--model", "wide", "--device", "tx2", "--batch-size", "32")
    done = run(world, *asked)
    [(latency_ms,)] = sql(
        world,
        "SELECT latency_ms FROM cleaned_runs WHERE model = 'wide' AND batch_size = 32 AND pruning_ratio = 0"
        " AND latency_ms IS NOT NULL",
    )
    line = next(line for line in done.output.splitlines() if "latency" in line)
    assert float(line.split("│")[6]) == pytest.approx(latency_ms, rel=1e-4)
    assert "measured" not in run(world, *asked[:-1], "33").output


@needs_samples("predictors")
def test_real_logs_leave_one_network_out(data):
    from perf_assets.analysis.predictors.evaluation.scores import score_oom, score_target
    from perf_assets.analysis.predictors.features.design import design
    from perf_assets.analysis.predictors.fit.predictor import fit_predictor

    shutil.copytree(SAMPLES / "predictors" / "tx2", data.drops / "tx2")
    ingest(data)
    seen = prediction.read_measurements(data)
    rows = design(seen.runs, seen.tables)
    targets = ("latency", "memory", "memory_reserved", "memory_allocated")
    scores = [row for target in targets for row in score_target(rows, target, "tx2")] + score_oom(rows, "tx2")
    mape = {(r["target"], r["method"], r["split"]): r["mape"] for r in scores if r["group"] == "all"}
    held = "leave_one_network_out"
    assert mape["latency", "perf_assets", held] * 1.7 < mape["latency", "perf4sight", held]
    assert mape["memory", "perf_assets", held] * 1.3 < mape["memory", "perf4sight", held]
    assert mape["memory_reserved", "perf_assets", held] * 1.7 < mape["memory_reserved", "perf4sight", held]
    assert mape["memory_allocated", "perf_assets", held] * 4 < mape["memory_allocated", "perf4sight", held]
    assert mape["oom", "perf_assets", held] <= 3
    assert mape["memory", "perf_assets", "config"] <= 1.9
    assert mape["latency", "perf_assets", "config"] <= 3.2

    # One network measured: another one is still judged by what data sheets say of it.
    measured = rows.rows(np.isfinite(rows.frame["latency_ms"].to_numpy(float)))
    one = (measured.frame["model"] == "mobilenetv2").to_numpy()
    predicted, _, _ = fit_predictor(measured.rows(one), "latency", ("network",)).predict(measured.rows(~one))
    errors = np.abs(predicted / measured.frame["latency_ms"].to_numpy(float)[~one] - 1)
    assert np.median(errors) < 0.25
