"""Files of one load test become one run: by content, wherever they lie, and contradictions keep them apart."""

import json

import pytest

from perf_assets_tests.linking import CHECKS, DROPS, LINK_CHECKS, drops_of, linked, rows, write
from perf_assets_tests.support import SAMPLES, needs_samples


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


INFERENCE = (
    "Model,Batch,Concurrency,Model Config Path,Instance Group,Throughput (infer/sec),p99 Latency (ms)\n"
    "net,1,1,net_config_0,1:GPU,20,50\nnet,1,2,net_config_0,1:GPU,30,60\n"
)
GPU = (
    "Model,GPU UUID,Batch,Concurrency,Model Config Path,Instance Group,GPU Utilization (%),GPU Power "
    "Usage (W)\n"
    "net,GPU-1,1,1,net_config_0,1:GPU,50,60\nnet,GPU-1,1,2,net_config_0,1:GPU,70,80\n"
)


def runs(tmp_path, files: dict[str, str]) -> int:
    return len(rows(linked(write(tmp_path, files)), "SELECT * FROM cleaned_runs"))


def test_a_gpu_table_beside_its_runs(tmp_path):
    assert runs(tmp_path, {"a/inference.csv": INFERENCE, "a/gpu.csv": GPU}) == 1


def test_a_gpu_table_elsewhere_is_another_experiments(tmp_path):
    assert runs(tmp_path, {"a/inference.csv": INFERENCE, "b/gpu.csv": GPU}) == 2


def test_another_instance_group_contradicts(tmp_path):
    files = {"a/inference.csv": INFERENCE, "a/gpu.csv": GPU.replace("1:GPU", "2:GPU")}
    assert runs(tmp_path, files) == 2


def test_another_batch_size_contradicts(tmp_path):
    files = {path.name: path.read_text() for path, _ in drops_of(DROPS, "examples/load_tests/tracks")}
    report = files["stdout.txt"]
    assert "Batch size: 1" in report
    with_batch = {"csv/net_batch4.csv": files["gpu_2instance_sync.csv"], "csv/stdout.txt": report}
    assert runs(tmp_path, with_batch) == 2


def test_a_sweep_that_never_got_stable_with_its_empty_csv(tmp_path):
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
    for name in LINK_CHECKS:
        assert rows(connection, CHECKS[name].sql) == [], name
