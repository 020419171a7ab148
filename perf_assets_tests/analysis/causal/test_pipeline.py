"""The whole way: dropped run directories, tables, command line, asset, checks, figure and words."""

import json
import re

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from perf_assets.analysis.causal import pipeline
from perf_assets.analysis.causal.audit import against_tiers, into_constants
from perf_assets.analysis.causal.frame import build
from perf_assets.analysis.causal.graph import DIRECTED, UNDIRECTED, Edge, edges_of, find, reachable
from perf_assets.analysis.causal.settings import CausalSettings, read_settings
from perf_assets.analysis.causal.text import describe
from perf_assets.analysis.plots import causal_graph as figure
from perf_assets.cli.app import cli
from perf_assets.defs.build import build_defs
from perf_assets.intake.pipeline import ingest
from perf_assets.store.database import open_readonly
from perf_assets.workspace.paths import DataPaths
from perf_assets.workspace.validation import InvalidInputError
from perf_assets_tests.analysis.causal import TIERS, made_up_runs
from perf_assets_tests.support import sql

QUICK = "half_samples = 10\nbootstraps = 20\n"
OOM = {("host", "oom"), ("model", "oom"), ("batch_size", "oom")}


def drop_runs(paths: DataPaths, n: int = 360) -> None:
    """Run directories of the pruning profiler, with the outcomes of the made-up runs; the files say what was run."""
    for i, run in enumerate(made_up_runs(n).itertuples()):
        folder = paths.drops / "2025-03-01_lab" / "final" / f"{run.host}" / f"run-{i}"
        folder.mkdir(parents=True)
        facts = {
            "acc": "NDF-OOM" if run.status == "oom" else f"{run.accuracy_pct:.3f}",
            "prune_config": "l1_unstructured",
            "prune_ratio": f"0.{i % 5}",
            "model_name": run.model,
            "batchsz_arg": run.batch_size,
            "num_workers_arg": run.num_workers,
        }
        lines = [",0", *(f"{key},{value}" for key, value in facts.items()), ""]
        (folder / "system_stats.csv").write_text("\n".join(lines))
        end = min(59.0, run.latency_ms / 4)
        rows = [
            f"{row},2025-03-01 {i // 60:02d}:{i % 60:02d}:{second:09.6f},2800,{run.memory_used_mib:.0f},24000"
            for row, second in enumerate((0.0, end))
        ]
        header = ",time,cpu_0,gpu_GPU_Memory_Used_1,gpu_GPU_Total_Memory_1"
        (folder / "full_system_stats.csv").write_text("\n".join([header, *rows, ""]))


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    paths = DataPaths(tmp_path_factory.mktemp("causal") / "data")
    drop_runs(paths)
    ingest(paths)
    settings = CausalSettings(tool="pruning_profiler", half_samples=20, bootstraps=50)
    seen = []
    found = pipeline.publish_graphs(paths, [settings], progress=lambda *what: seen.append(what))
    assert {what for what, done, of in seen if done == of} == {
        "half-samples, tiered_score",
        "half-samples, pc",
        "effects",
    }
    return paths, found[0]


def test_causes_of_death_are_confirmed_in_sql(published):
    paths, _ = published
    query = "SELECT source, target FROM causal_edges WHERE confirmed AND target = 'oom' AND method = ?"
    for method in ("tiered_score", "pc"):
        assert set(sql(paths, query, method)) == OOM
    assert sql(
        paths,
        "SELECT count(*) FROM causal_edges WHERE kind <> 'effect' AND target = 'oom' AND source IN ('num_workers', 'pruning_ratio')",
    ) == [(0,)]
    assert sql(paths, "SELECT count(*) FROM cleaned_runs WHERE status = 'oom'")[0][0] == sum(
        made_up_runs(360)["status"] == "oom"
    )


def test_rows_are_complete(published):
    paths, found = published
    with open_readonly(paths.database) as connection:
        rows = connection.execute("SELECT * FROM causal_edges").df()
    assert set(rows["method"]) == {"tiered_score", "pc", "adjustment", "double_ml", "placebo"}
    edges = rows[rows["kind"] != "effect"]
    assert edges["frequency"].between(0, 1).all()
    assert edges["confirmed"].notna().all()
    assert (rows["snapshot"] == found.snapshot).all()
    assert json.loads(rows["settings"].iloc[0])["tool"] == "pruning_profiler"
    sizes = rows.dropna(subset="effect")
    assert (sizes["effect_lower"] <= sizes["effect_upper"]).all()
    assert sizes["unit"].notna().all()
    batch = edges[
        (edges["source"] == "batch_size") & (edges["target"] == "oom") & (edges["method"] == "pc")
    ].iloc[0]
    assert (batch["contrast"], batch["unit"], batch["effect"] > 0) == (
        "64 against 4",
        "percentage points",
        True,
    )
    # Every setting's effect on every measured column was asked for, whatever the graph says.
    asked = rows[rows["method"] == "adjustment"]
    assert ("num_workers", "oom") in set(zip(asked["source"], asked["target"], strict=True))


def test_checks_hold_and_find_what_is_wrong(published):
    paths, found = published
    assert {name: pipeline.check(paths, name) for name in pipeline.CHECKS} == {
        name: [] for name in pipeline.CHECKS
    }
    frame = build(pipeline.read_runs(paths, found.settings), found.settings)
    assert "pruning_method" in frame.set_aside
    edge = {"graph": "g", "method": "pc", "kind": "directed"}
    assert into_constants([edge | {"source": "host", "target": "pruning_method"}], frame)
    for source, target, kind in [
        ("oom", "host", "directed"),
        ("host", "model", "undirected"),
        ("host", "oom", "undirected"),
    ]:
        assert against_tiers([edge | {"source": source, "target": target, "kind": kind}], found.settings)
    assert not against_tiers(
        [edge | {"source": "duration_s", "target": "latency_ms", "kind": "undirected"}], found.settings
    )


def test_words(published):
    _, found = published
    text = describe(found)
    assert "360 runs" in text
    assert "observational" in text
    assert "Confirmed: oom depends on" in text
    assert "num_workers" in next(line for line in text.splitlines() if "no effect on oom" in line)
    assert re.search(r"Set aside:[^.]*pruning_method[^();]*\(constant\)", text)
    assert "The order of the tiers is assumed" in text


def test_figure_of_the_table(published, tmp_path):
    paths, _ = published
    with open_readonly(paths.database) as connection:
        frame = connection.execute(figure.QUERY).df()
    drawn = figure.causal_graph(frame)
    names = {text.get_text() for text in drawn.axes[0].texts}
    assert {"host", "model", "batch_size", "num_workers", "oom", "configuration", "outcome"} <= names
    arrows = sum(type(patch).__name__ == "FancyArrowPatch" for patch in drawn.axes[0].patches)
    assert arrows == (frame["method"] == "tiered_score").sum() > 5
    drawn.savefig(tmp_path / "graph.png")
    assert "too few" in figure.causal_graph(frame.head(0), why_empty="3 runs are too few").texts[0].get_text()


def test_command_with_a_condition(published, monkeypatch, tmp_path):
    paths, _ = published
    monkeypatch.setenv("PERF_ASSETS_DATA", str(paths.root))
    bad = CliRunner().invoke(cli, ["causal", "--where", "hosts = 'laptop'"])
    assert bad.exit_code == 1
    assert "hosts" in bad.output
    both = CliRunner().invoke(cli, ["causal", "--tool", "x", "--config", "y.toml"])
    assert both.exit_code == 2
    file = tmp_path / "graphs.toml"
    file.write_text(f'[[graph]]\ntool = "pruning_profiler"\n{QUICK}')
    condition = "host = 'laptop' AND num_workers < 3"
    done = CliRunner().invoke(cli, ["causal", "--config", str(file), "--where", condition])
    assert done.exit_code == 0, done.output
    assert re.search(r"Set aside:[^.]*host[^();]*\(constant\)", done.output)
    n = sql(paths, "SELECT count(*) FROM cleaned_runs WHERE host = 'laptop' AND num_workers < 3")[0][0]
    assert sql(paths, "SELECT DISTINCT condition, graph FROM causal_edges") == [
        (condition, "pruning_profiler")
    ]
    assert f"{n} runs" in done.output
    assert (paths.plots / "causal_graph_pruning_profiler.png").stat().st_size > 10_000


def test_a_condition_reads_only_the_table(published, tmp_path):
    paths, _ = published
    (tmp_path / "secret.csv").write_text("a\n1\n")
    settings = CausalSettings(tool="pruning_profiler")
    for condition in (
        f"(SELECT count(*) FROM read_csv('{tmp_path}/secret.csv')) > 0",
        "true; DROP TABLE cleaned_runs",
        "tool =",
    ):
        with pytest.raises(ValueError, match="condition"):
            pipeline.read_runs(paths, settings, condition)


def test_asset(published, monkeypatch):
    paths, _ = published
    monkeypatch.setenv("PERF_ASSETS_DATA", str(paths.root))
    graphs = [{"tool": tool, "half_samples": 10, "bootstraps": 20} for tool in pipeline.DEFAULT_TOOLS]
    config = {"ops": {"causal_graph": {"config": {"graphs": graphs}}}}
    defs = build_defs()
    graph = defs.resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.ephemeral() as instance:
        result = graph.execute_in_process(
            run_config=config, asset_selection=[dg.AssetKey("causal_graph")], instance=instance
        )
    assert result.success
    assert all(check.passed for check in result.get_asset_check_evaluations())
    assert len(result.get_asset_check_evaluations()) == len(pipeline.CHECKS)
    (event,) = result.get_asset_materialization_events()
    shown = {name: value.value for name, value in event.materialization.metadata.items()}
    assert shown["pruning_profiler: runs"] == 360
    assert shown["pruning_profiler: confirmed"] >= 3
    assert "perf_assets: no graph" in shown["perf_assets: in words"]
    assert len(shown["pruning_profiler: thumbnail"]) < 70_000


CONFIG = """
[[graph]]
name = "laptops"
tool = "pruning_profiler"
randomised = true
half_samples = 10
[graph.filters]
host = ["laptop"]
batch_size = [4, 16]
[graph.tiers]
configuration = ["model", "batch_size"]
outcome = ["accuracy_pct", "oom"]
"""


def test_configuration_chooses_runs_columns_and_tiers(published, tmp_path):
    paths, _ = published
    file = tmp_path / "graphs.toml"
    file.write_text(CONFIG)
    (settings,) = read_settings(file)
    runs = pipeline.read_runs(paths, settings)
    assert (
        len(runs)
        == sql(paths, "SELECT count(*) FROM cleaned_runs WHERE host = 'laptop' AND batch_size < 20")[0][0]
    )
    found = find(runs, settings)
    assert set(found.frame.names) | set(found.frame.set_aside) == {
        "model",
        "batch_size",
        "accuracy_pct",
        "oom",
    }
    assert {row["graph"] for row in found.rows()} == {"laptops"}
    # Dealt out at random: the runs themselves are asked, and each answer has a verdict.
    tried = [row for row in found.rows() if row["method"] == "randomised"]
    assert tried
    assert all(row["verdict"] for row in tried)
    assert "those of an experiment" in describe(found)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "laptops"', 'name = "../x"', "name"),
        ("half_samples", "halfsamples", "half_samples"),
        ('"model", "batch_size"', '"model", "batch"', "no column 'batch'"),
        ('host = ["laptop"]', "oom = [1.0]", "no column 'oom'"),
        ("configuration =", "settings =", "configuration"),
        ('"accuracy_pct", "oom"', '"model", "oom"', "two tiers"),
        ('tool = "pruning_profiler"', "", "tool"),
        ('tool = "pruning_profiler"', 'tool = "x"\nwhere = "true"', "where"),
    ],
)
def test_a_wrong_configuration_says_what_is_wrong(tmp_path, old, new, message):
    file = tmp_path / "graphs.toml"
    file.write_text(CONFIG.replace(old, new, 1))
    with pytest.raises(InvalidInputError, match=message):
        read_settings(file)


def test_without_causal_learn_nothing_is_confirmed(monkeypatch):
    monkeypatch.setattr("perf_assets.analysis.causal.graph.is_installed", lambda: False)
    settings = CausalSettings(tool="any", tiers=TIERS, half_samples=5, bootstraps=20)
    found = find(made_up_runs(200), settings)
    assert found.drawn
    assert not any(edge.confirmed for edge in found.edges)
    assert "perf-assets[causal]" in describe(found)


@pytest.mark.parametrize("rows", [0, 5, 25])
def test_few_runs_end_in_words_not_errors(rows):
    found = find(made_up_runs(200).head(rows), CausalSettings(tool="any", tiers=TIERS, half_samples=5))
    assert bool(found.why_empty) is (rows < 20)
    assert describe(found)
    assert pipeline.draw(found) is not None


def test_same_runs_same_graph():
    settings = CausalSettings(tool="any", tiers=TIERS, half_samples=5, bootstraps=20)
    one, two = (find(made_up_runs(200), settings) for _ in range(2))
    assert one.rows() == two.rows()
    assert find(made_up_runs(201), settings).snapshot != one.snapshot


def test_confirmed_needs_both_searches_often_and_no_contradiction():
    class Names:
        names = ("a", "b", "c")

    def matrix(*cells):
        found = np.zeros((3, 3))
        for i, j, value in cells:
            found[i, j] = value
        return found

    graphs = {"tiered_score": matrix((0, 1, 1), (1, 2, 1)) > 0, "pc": matrix((0, 1, 1), (2, 1, 1)) > 0}
    linked = {name: matrix((0, 1, 0.95), (1, 0, 0.95), (1, 2, 1), (2, 1, 1)) for name in graphs}
    arrows = {"tiered_score": matrix((0, 1, 0.95), (1, 2, 1)), "pc": matrix((0, 1, 0.95), (2, 1, 1))}
    first, second, *_ = edges_of(Names, graphs, linked, arrows, 0.9)
    assert (first.source, first.target, first.confirmed) == ("a", "b", True)
    assert (second.source, second.target, second.confirmed) == ("b", "c", False)
    # A direction that half of the halves turn round is no direction.
    arrows["tiered_score"] = matrix((0, 1, 0.95), (1, 2, 0.5), (2, 1, 0.5))
    _, second, *_ = edges_of(Names, graphs, linked, arrows, 0.9)
    assert (second.kind, second.frequency, second.confirmed) == (UNDIRECTED, 1, True)
    rare = {name: value * 0.9 for name, value in linked.items()}
    assert not any(edge.confirmed for edge in edges_of(Names, graphs, rare, arrows, 0.95))


def test_ways_through_the_graph():
    edges = [
        Edge("a", "b", DIRECTED, "m", 1, True),
        Edge("b", "c", UNDIRECTED, "m", 1, True),
        Edge("d", "c", DIRECTED, "m", 1, True),
    ]
    ways = reachable(["a", "b", "c", "d"], edges)
    assert {("a", "b"), ("a", "c"), ("b", "c"), ("c", "b"), ("d", "b")} <= ways
    assert ("a", "d") not in ways
    assert ("b", "a") not in ways


def test_excluded_runs_stay_out():
    runs = made_up_runs(100).assign(excluded=[True] * 10 + [None] * 90)
    frame = build(runs, CausalSettings(tool="any", tiers=TIERS))
    assert (len(frame.rows), frame.superseded) == (90, 10)
    assert isinstance(frame.rows, pd.DataFrame)
