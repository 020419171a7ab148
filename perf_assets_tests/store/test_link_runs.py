import json
import random
from pathlib import Path

import pytest

from perf_assets.store import invariants
from perf_assets_tests.linking import dump, linked, rows
from perf_assets_tests.support import EXAMPLES, SAMPLES, needs_samples

DROPS = EXAMPLES.parent
CHECKS = {check.name: check for check in invariants.CHECKS}
OURS = (
    "littles_law",
    "sources_agree",
    "percentiles_in_order",
    "composing_queue_fits",
    "layers_fit_into_run",
    "twins_count_once",
    "cleaned_load_levels_key_is_unique",
    "cleaned_load_gpus_key_is_unique",
    "cleaned_runs_key_is_unique",
    "run_sources_key_is_unique",
    "load_level_sources_key_is_unique",
)


def drops_of(root: Path, *folders: str) -> list[tuple[Path, str]]:
    return [
        (path, str(path.relative_to(root)))
        for folder in folders
        for path in sorted((root / folder).rglob("*"))
        if path.is_file()
    ]


def write(tmp_path, files: dict[str, str]) -> list[tuple[Path, str]]:
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return [(tmp_path / name, name) for name in files]


EXAMPLE_DROPS = drops_of(DROPS, "examples/load_tests", "examples/profiles", "examples/telemetry")


def test_order_of_arrival_changes_nothing():
    expected = dump(linked(EXAMPLE_DROPS))
    for seed in range(3):
        shuffled = random.Random(seed).sample(EXAMPLE_DROPS, len(EXAMPLE_DROPS))
        assert dump(linked(shuffled)) == expected


def test_one_run_of_three_sources():
    connection = linked(drops_of(DROPS, "examples/load_tests/tracks"))
    (run,) = rows(connection, "SELECT * FROM cleaned_runs")
    sources = rows(connection, "SELECT * FROM run_sources ORDER BY format")
    assert [source["format"] for source in sources] == [
        "perf_analyzer_csv",
        "perf_analyzer_export",
        "perf_analyzer_report",
    ]
    assert {source["run_id"] for source in sources} == {run["run_id"]}
    assert run["file_id"] == sources[0]["file_id"], "the CSV is the kept one"
    assert (run["batch_size"], run["quality"]) == (1, [])
    assert run["started_at"] is not None, "from the export"
    config = json.loads(run["config"])
    assert (config["measurement_window"], config["version"]) == ("1000 msec", "2.48.0"), (
        "of report and export"
    )
    for level in rows(connection, "SELECT * FROM cleaned_load_levels"):
        assert level["std_us"] > 0, "from the report"
        assert level["requests"] > 0, "from the report"
        assert level["network_us"] > 0, "from the CSV"
    assert rows(connection, "SELECT count(*) AS n FROM load_level_sources") == [{"n": 12}]


@pytest.mark.parametrize(
    "keep", [("stdout.txt", "profile_export.json"), ("profile_export.json",), ("stdout.txt",)]
)
def test_fewer_sources_are_one_run_too(keep):
    drops = [drop for drop in drops_of(DROPS, "examples/load_tests/tracks") if drop[0].name in keep]
    connection = linked(drops)
    assert len(rows(connection, "SELECT * FROM cleaned_runs")) == 1
    assert len(rows(connection, "SELECT * FROM run_sources")) == (2 if len(keep) == 2 else 0)


def test_sources_are_matched_by_content_wherever_they_lie():
    drops = [
        (path, f"{index}/{path.name}")
        for index, (path, _) in enumerate(drops_of(DROPS, "examples/load_tests/tracks"))
    ]
    assert len(rows(linked(drops), "SELECT * FROM cleaned_runs")) == 1


def test_another_runs_report_is_not_taken(tmp_path):
    files = {path.name: path.read_text() for path, _ in drops_of(DROPS, "examples/load_tests/tracks")}
    lines = files["stdout.txt"].splitlines()
    place = next(number for number, line in enumerate(lines) if "p50 latency" in line)
    lines[place] = "    p50 latency: 1 usec"
    files["stdout.txt"] = "\n".join(lines)
    assert len(rows(linked(write(tmp_path, files)), "SELECT * FROM cleaned_runs")) == 2


def test_the_batch_size_follows_from_export_and_csv(tmp_path):
    files = {
        path.name: path.read_text()
        for path, _ in drops_of(DROPS, "examples/load_tests/tracks")
        if path.name != "stdout.txt"
    }
    header, *csv_rows = files["gpu_2instance_sync.csv"].splitlines()
    cells = [row.split(",") for row in csv_rows]
    for row in cells:
        row[1] = repr(float(row[1]) * 8)
    files["gpu_2instance_sync.csv"] = "\n".join([header, *map(",".join, cells)]) + "\n"
    connection = linked(write(tmp_path, files))
    (run,) = rows(connection, "SELECT batch_size FROM cleaned_runs")
    assert run["batch_size"] == 8
    assert rows(connection, CHECKS["sources_agree"].sql) == []


def test_ensemble_queue_is_attributed():
    connection = linked(drops_of(DROPS, "examples/load_tests/ensemble"))
    parts = rows(
        connection,
        "SELECT p.model, e.name FROM cleaned_runs AS p JOIN cleaned_runs AS e ON e.run_id = p.parent_run_id "
        "ORDER BY 1",
    )
    assert parts == [{"model": "clusters", "name": "chain"}, {"model": "prepare", "name": "chain"}]
    levels = rows(
        connection,
        """SELECT l.level, any_value(l.composing_queue_us) AS queue_us, sum(x.queue_us) AS sum_us, count(*)
            AS models
           FROM cleaned_load_levels AS l JOIN cleaned_runs AS p ON p.parent_run_id = l.run_id
           JOIN cleaned_load_levels AS x ON x.run_id = p.run_id AND x.level = l.level GROUP BY l.level""",
    )
    assert len(levels) == 3
    for level in levels:
        assert level["queue_us"] == level["sum_us"]
        assert level["models"] == 2, "the report's composing models and those of the CSVs are the same ones"


def test_composing_files_in_a_folder_of_their_own():
    drops = drops_of(DROPS, "examples/load_tests/ensemble")
    moved = [
        (
            path,
            {
                "clusters_v1.chain.csv": "clusters_v1.out/chain.csv",
                "prepare_v1.chain.csv": "prepare_v1.out/chain.csv",
            }.get(path.name, f"out/{path.name}"),
        )
        for path, _ in drops
        if path.suffix == ".csv"
    ]
    connection = linked(moved)
    assert rows(connection, "SELECT count(*) AS n FROM cleaned_runs WHERE parent_run_id IS NOT NULL") == [
        {"n": 2}
    ]


def test_a_composing_file_without_its_parent_stays_alone():
    drops = [
        drop
        for drop in drops_of(DROPS, "examples/load_tests/ensemble")
        if drop[0].name == "clusters_v1.chain.csv"
    ]
    (run,) = rows(linked(drops), "SELECT * FROM cleaned_runs")
    assert run["parent_run_id"] is None


def test_an_unstable_level_of_the_report_comes_along(tmp_path):
    files = {path.name: path.read_text() for path, _ in drops_of(DROPS, "examples/load_tests/tracks")}
    files["stdout.txt"] += (
        "Failed to obtain stable measurement within 4 measurement windows for concurrency 5. Please try\n"
    )
    connection = linked(write(tmp_path, files))
    (run,) = rows(connection, "SELECT * FROM cleaned_runs")
    assert run["quality"] == ["unstable_level"]
    (level,) = rows(connection, "SELECT * FROM cleaned_load_levels WHERE level = 5")
    assert (level["run_id"], level["stable"]) == (run["run_id"], False)


def test_delayed_rate_reaches_the_kept_run():
    connection = linked(drops_of(DROPS, "examples/load_tests/rate"))
    (run,) = rows(connection, "SELECT * FROM cleaned_runs")
    assert "delayed_rate" in run["quality"]
    (level,) = rows(connection, "SELECT * FROM cleaned_load_levels WHERE level = 120")
    assert (level["delayed_pct"], level["quality"]) == (31.75, ["delayed_rate", "rate_not_reached"])
    assert level["throughput_per_s"] == 83.1177, "six digits of the CSV, not two decimals of the report"


def test_model_analyzer_gpus_join_their_runs():
    connection = linked(drops_of(DROPS, "examples/load_tests/model_analyzer"))
    gpus = rows(
        connection,
        """SELECT r.name, g.level, g.power_w, r.mean_power_w, r.quality FROM cleaned_load_gpus AS g
           JOIN cleaned_runs AS r USING (run_id) JOIN cleaned_load_levels AS l USING (run_id, level) ORDER BY
               ALL""",
    )
    assert [(gpu["name"], gpu["level"], gpu["power_w"]) for gpu in gpus] == [
        ("vertex_config_2", 4, 118.9),
        ("vertex_config_2", 8, 141.2),
        ("vertex_config_default", 8, 104.6),
    ]
    assert gpus[0]["mean_power_w"] == 141.2
    assert gpus[0]["quality"] == []


def test_twins_count_once():
    connection = linked(drops_of(DROPS, "examples/profiles/perf4sight"))
    runs = rows(connection, "SELECT * FROM cleaned_runs")
    assert len(runs) == 24
    assert {json.loads(run["config"])["layout"] for run in runs} == {"dict"}
    (removed,) = [run for run in runs if run["quality"]]
    assert removed["quality"] == ["removed_from_twin", "swap_thrashing"]
    assert len(rows(connection, "SELECT * FROM run_sources")) == 2 * 23
    assert len([run for run in runs if run["status"] == "oom"]) == 5


def test_a_twin_alone_stays_whole():
    drops = [
        drop for drop in drops_of(DROPS, "examples/profiles/perf4sight") if "latency/tinynet_0-gt" in drop[1]
    ]
    assert len(rows(linked(drops), "SELECT * FROM cleaned_runs")) == 8


def test_failures_alone_make_no_twins_across_folders(tmp_path):
    plain = (
        "passed|latency|params\nFalse|None|{'test_var': 'latency', 'bs': 8, 'dataset': 'i', 'net_name': "
        "'n', 'model': '/m/n_0.py'}\n"
    )
    twin = "passed|latency|test_var|bs|dataset|net_name|model\nFalse|None|latency|8|i|n|/m/n_0.py\n"
    apart = linked(write(tmp_path / "a", {"tx2/n_0.csv": plain, "xavier/n_0-gt.csv": twin}))
    assert len(rows(apart, "SELECT * FROM cleaned_runs")) == 2
    beside = linked(write(tmp_path / "b", {"tx2/n_0.csv": plain, "tx2/n_0-gt.csv": twin}))
    assert len(rows(beside, "SELECT * FROM cleaned_runs")) == 1


def test_repeated_measurements_are_kept(tmp_path):
    row = "True|5.5|{'test_var': 'latency', 'bs': 8, 'dataset': 'i', 'net_name': 'n', 'model': '/m/n_0.py'}\n"
    twin = "True|5.5|latency|8|i|n|/m/n_0.py\n"
    drops = write(
        tmp_path,
        {
            "n_0.csv": "passed|latency|params\n" + row * 2,
            "n_0-gt.csv": "passed|latency|test_var|bs|dataset|net_name|model\n" + twin * 2,
        },
    )
    assert len(rows(linked(drops), "SELECT * FROM cleaned_runs")) == 2


def test_layers_are_parts_of_their_run():
    connection = linked(drops_of(DROPS, "examples/profiles/ai3"))
    parts = rows(
        connection,
        """SELECT l.device, l.input_size, o.latency_ms FROM cleaned_runs AS l JOIN cleaned_runs AS o ON
            o.run_id = l.parent_run_id
           WHERE o.algorithm = l.algorithm AND o.input_size = l.input_size""",
    )
    assert len(parts) == 7
    assert all(part["latency_ms"] for part in parts)


@pytest.mark.parametrize("name", OURS)
def test_checks_pass_on_the_examples(name):
    assert rows(linked(EXAMPLE_DROPS), CHECKS[name].sql) == []


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("littles_law", "UPDATE cleaned_load_levels SET avg_us = 3 * avg_us WHERE avg_us IS NOT NULL"),
        (
            "sources_agree",
            "UPDATE load_level_sources SET p99_us = p99_us + 5 WHERE format = 'perf_analyzer_export'",
        ),
        ("percentiles_in_order", "UPDATE cleaned_load_levels SET p90_us = 0"),
        (
            "composing_queue_fits",
            "UPDATE cleaned_load_levels SET composing_queue_us = 10 * avg_us WHERE composing_queue_us > 0",
        ),
        ("layers_fit_into_run", "UPDATE cleaned_layers SET mean_ms = 10 * mean_ms"),
    ],
)
def test_checks_find_what_is_wrong(name, damage):
    connection = linked(EXAMPLE_DROPS)
    connection.execute(damage)
    assert rows(connection, CHECKS[name].sql)


def test_the_twin_check_sees_unlinked_files():
    assert rows(linked(EXAMPLE_DROPS, link=False), CHECKS["twins_count_once"].sql)


@needs_samples("load_tests")
def test_real_load_tests_become_one_run_each():
    connection = linked(drops_of(SAMPLES, "load_tests"))
    reports = rows(
        connection,
        "SELECT count(*) AS n FROM run_sources WHERE format = 'perf_analyzer_report' AND run_id IN (SELECT "
        "run_id FROM cleaned_runs WHERE parent_run_id IS NULL)",
    )
    assert reports == [{"n": 10}], "every stdout.txt found its CSV"
    exports = rows(connection, "SELECT count(*) AS n FROM run_sources WHERE format = 'perf_analyzer_export'")
    assert exports == [{"n": 2}]
    queues = rows(
        connection,
        "SELECT l.level, l.composing_queue_us AS queue_us FROM cleaned_load_levels AS l JOIN cleaned_runs "
        "AS r USING (run_id) WHERE r.name = 'chain_248' ORDER BY 1",
    )
    assert [level["queue_us"] for level in queues] == [51 + 110, 9897 + 74, 22842 + 62, 35639 + 65]
    unlinked = rows(
        connection,
        "SELECT * FROM cleaned_runs WHERE parent_run_id IS NULL AND json_extract_string(config, "
        "'$.ensemble_part') = 'true'",
    )
    assert unlinked == []
    for name in OURS:
        assert rows(connection, CHECKS[name].sql) == [], name


@needs_samples("predictors")
def test_real_profiles_count_once():
    connection = linked(drops_of(SAMPLES, "predictors"))
    (count,) = rows(
        connection,
        """SELECT count(*) FILTER (json_extract_string(config, '$.layout') = 'columns') AS twins,
           count(*) FILTER (list_contains(quality, 'removed_from_twin')) AS removed FROM cleaned_runs WHERE
               tool = 'perf4sight'""",
    )
    assert count == {"twins": 0, "removed": 1}, "of resnet50's rows the authors removed one by hand"
    for name in OURS:
        assert rows(connection, CHECKS[name].sql) == [], name
    layers = rows(
        connection,
        "SELECT count(*) AS n FROM cleaned_runs WHERE json_extract_string(config, '$.measures') = 'layers' "
        "AND parent_run_id IS NULL",
    )
    assert layers == [{"n": 0}]


class TestEvidence:
    """Files are joined by evidence alone, a contradiction keeps them apart, and each link says why."""

    INFERENCE = (
        "Model,Batch,Concurrency,Model Config Path,Instance Group,Throughput (infer/sec),p99 Latency (ms)\n"
        "net,1,1,net_config_0,1:GPU,20,50\nnet,1,2,net_config_0,1:GPU,30,60\n"
    )
    GPU = (
        "Model,GPU UUID,Batch,Concurrency,Model Config Path,Instance Group,GPU Utilization (%),GPU Power "
        "Usage (W)\n"
        "net,GPU-1,1,1,net_config_0,1:GPU,50,60\nnet,GPU-1,1,2,net_config_0,1:GPU,70,80\n"
    )

    def runs(self, tmp_path, files: dict[str, str]) -> int:
        return len(rows(linked(write(tmp_path, files)), "SELECT * FROM cleaned_runs"))

    def test_a_gpu_table_beside_its_runs(self, tmp_path):
        assert self.runs(tmp_path, {"a/inference.csv": self.INFERENCE, "a/gpu.csv": self.GPU}) == 1

    def test_a_gpu_table_elsewhere_is_another_experiments(self, tmp_path):
        assert self.runs(tmp_path, {"a/inference.csv": self.INFERENCE, "b/gpu.csv": self.GPU}) == 2

    def test_another_instance_group_contradicts(self, tmp_path):
        files = {"a/inference.csv": self.INFERENCE, "a/gpu.csv": self.GPU.replace("1:GPU", "2:GPU")}
        assert self.runs(tmp_path, files) == 2

    def test_another_batch_size_contradicts(self, tmp_path):
        files = {path.name: path.read_text() for path, _ in drops_of(DROPS, "examples/load_tests/tracks")}
        report = files["stdout.txt"]
        assert "Batch size: 1" in report
        with_batch = {"csv/net_batch4.csv": files["gpu_2instance_sync.csv"], "csv/stdout.txt": report}
        assert self.runs(tmp_path, with_batch) == 2

    def test_a_sweep_that_never_got_stable_with_its_empty_csv(self, tmp_path):
        header = "Concurrency,Inferences/Second,Client Send,Client Recv,p50 latency\n"
        report = (
            "*** Measurement Settings ***\n  Batch size: 1\n\nRequest concurrency: 4\nFailed to obtain "
            "stable "
            "measurement within 4 measurement windows for concurrency 4. Please try to increase the "
            "interval.\n"
        )
        connection = linked(write(tmp_path, {"a/sweep.csv": header, "a/stdout.txt": report}))
        (run,) = rows(connection, "SELECT status, batch_size FROM cleaned_runs")
        assert run["status"] == "failed"
        (level,) = rows(connection, "SELECT level, stable FROM cleaned_load_levels")
        assert (level["level"], level["stable"]) == (4, False)
        apart = linked(write(tmp_path, {"a/sweep.csv": header, "b/stdout.txt": report}))
        assert len(rows(apart, "SELECT * FROM cleaned_runs")) == 2

    def test_layers_that_take_longer_than_the_network_are_not_its_own(self, tmp_path):
        overall = "model,algorithm,batch_size,input_size,mean,std,device\nnet,gemm,1,224,10,1,a40\n"
        layers = (
            "model,algorithm,input_size,layer,in_channels,out_channels,kernel_size,stride,padding,mean_ms,std_ms,device\n"
            "net,gemm,224,a,3,8,3,1,1,{},1,a40\n"
        )
        for mean_ms, parts in ((8, 1), (80, 0)):
            files = {"a/net_overall.csv": overall, "a/net_layers.csv": layers.format(mean_ms)}
            connection = linked(write(tmp_path / str(mean_ms), files))
            (count,) = rows(
                connection, "SELECT count(*) AS n FROM cleaned_runs WHERE parent_run_id IS NOT NULL"
            )
            assert count["n"] == parts

    def test_every_link_of_the_examples_says_why(self):
        connection = linked(EXAMPLE_DROPS)
        assert rows(connection, "SELECT * FROM run_sources WHERE why IS NULL OR length(why) < 10") == []
        parts = rows(
            connection,
            "SELECT * FROM cleaned_runs WHERE parent_run_id IS NOT NULL AND parent_run_id NOT IN "
            "(SELECT run_id FROM run_sources) AND run_id NOT IN (SELECT run_id FROM run_sources) AND tool = "
            "'ai3'",
        )
        assert parts == []
