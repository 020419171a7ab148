import json

import pytest

from perf_assets_tests.support import read_text

INFERENCE = (
    "Model,Batch,Concurrency,Model Config Path,Instance Group,Max Batch Size,Satisfies "
    "Constraints,Throughput (infer/sec),p99 Latency (ms)"
)
GPU = (
    "Model,GPU UUID,Batch,Concurrency,Model Config Path,GPU Memory Usage (MB),GPU Utilization (%),GPU "
    "Power Usage (W)"
)


def test_units_become_those_of_the_tables(tmp_path):
    reading = read_text(
        tmp_path,
        f'{INFERENCE}\nnet,2,8,net_config_1,1:GPU,8,Yes,"1,204.5",9.802\nnet,2,4,net_config_1,1:GPU,8,Yes,900,5\n',
    )
    four, eight = reading.rows("cleaned_load_levels")
    assert (eight["throughput_per_s"], eight["p99_us"], eight["batch_size"]) == (
        1204.5,
        pytest.approx(9802),
        2,
    )
    assert four["level"] == 4
    assert reading.run["tool"] == "model_analyzer"
    assert json.loads(reading.run["config"])["instance_group"] == "1:GPU"


def test_gpu_table(tmp_path):
    reading = read_text(tmp_path, f"{GPU}\nnet,GPU-1,1,8,net_config_1,1845.5,63.5,141.2\n")
    (gpu,) = reading.rows("cleaned_load_gpus")
    assert (gpu["memory_used_bytes"], gpu["utilization"], gpu["power_w"]) == (
        1845.5e6,
        pytest.approx(0.635),
        141.2,
    )


def test_server_only_table(tmp_path):
    text = (
        "Model,GPU UUID,GPU Memory Usage (MB),GPU Utilization (%),GPU Power Usage "
        "(W)\ntriton-server,GPU-1,440.4,0.0,31.5\n"
    )
    reading = read_text(tmp_path, text)
    assert (reading.run["model"], reading.run["status"]) == ("triton-server", "ok")
    assert reading.rows("cleaned_load_gpus")[0]["level"] is None


def test_configurations_are_runs_and_a_level_again_is_another(tmp_path):
    rows = "net,1,4,a,1:GPU,8,Yes,900,5\nnet,1,4,b,1:GPU,8,Yes,800,6\nnet,1,4,a,1:GPU,8,Yes,910,5\n"
    assert len(read_text(tmp_path, f"{INFERENCE}\n{rows}").rows("cleaned_runs")) == 3


def test_quoted_lists_of_ensembles(tmp_path):
    reading = read_text(tmp_path, f'{INFERENCE}\n"a,b",1,4,"a_1,b_0","1:GPU,2:GPU",8,Yes,402.7,13.1\n')
    assert (reading.run["model"], reading.run["name"]) == ("a,b", "a_1,b_0")


def test_request_rate_tables(tmp_path):
    text = INFERENCE.replace("Concurrency", "Request Rate") + "\nnet,1,100,a,1:GPU,8,Yes,99,5\n"
    (level,) = read_text(tmp_path, text).rows("cleaned_load_levels")
    assert (level["mode"], level["level"]) == ("request_rate", 100)


@pytest.mark.parametrize(
    "row",
    [
        "net,1,4",
        "net,1.5,4,a,1:GPU,8,Yes,900,5",
        "net,1,4,a,1:GPU,8,Yes,,5",
        ",1,4,a,1:GPU,8,Yes,900,5",
        "net,1,4,a,1:GPU,8,Yes,-900,5",
        "net,1,four,a,1:GPU,8,Yes,900,5",
    ],
)
def test_broken_rows_are_rejected(tmp_path, row):
    reading = read_text(tmp_path, f"{INFERENCE}\n{row}\nnet,1,5,a,1:GPU,8,Yes,900,5\n")
    assert reading.records.rejected == 1
    assert [level["level"] for level in reading.rows("cleaned_load_levels")] == [5]


def test_other_tables_with_models_are_left_alone(tmp_path):
    assert read_text(tmp_path, "Model,Accuracy\nnet,0.9\n").format is None
