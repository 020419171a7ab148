"""Profiles count once: twins of one measurement, and layers as parts of their run."""

import json

from perf_assets_tests.linking import CHECKS, DROPS, LINK_CHECKS, drops_of, linked, rows, write
from perf_assets_tests.support import SAMPLES, needs_samples


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


def test_layers_that_take_longer_than_the_network_are_not_its_own(tmp_path):
    overall = "model,algorithm,batch_size,input_size,mean,std,device\nnet,gemm,1,224,10,1,a40\n"
    layers = (
        "model,algorithm,input_size,layer,in_channels,out_channels,kernel_size,stride,padding,mean_ms,std_ms,device\n"
        "net,gemm,224,a,3,8,3,1,1,{},1,a40\n"
    )
    for mean_ms, parts in ((8, 1), (80, 0)):
        files = {"a/net_overall.csv": overall, "a/net_layers.csv": layers.format(mean_ms)}
        connection = linked(write(tmp_path / str(mean_ms), files))
        (count,) = rows(connection, "SELECT count(*) AS n FROM cleaned_runs WHERE parent_run_id IS NOT NULL")
        assert count["n"] == parts


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
    for name in LINK_CHECKS:
        assert rows(connection, CHECKS[name].sql) == [], name
    layers = rows(
        connection,
        "SELECT count(*) AS n FROM cleaned_runs WHERE json_extract_string(config, '$.measures') = 'layers' "
        "AND parent_run_id IS NULL",
    )
    assert layers == [{"n": 0}]
