"""Run directories of the pruning profiler: layouts, outcomes, what is only in the path, running sums."""

import json

import pytest

from perf_assets_tests.support import read

SAMPLES = ",time,cpu_0,gpu_GPU_Memory_Used_1,gpu_GPU_Total_Memory_1,vm_percent,vm_used\n"


def samples(count=3, mhz="3000.0", step_s=2, memory_mib="500", start=0) -> str:
    return SAMPLES + "".join(
        f"{i},2024-04-18 10:00:{start + i * step_s:02d}.250000,{mhz},{memory_mib},4096,20.0,2097152\n"
        for i in range(count)
    )


def means(acc="70.5", **facts: str) -> str:
    lines = {
        "vm_percent": "20.0",
        "acc": acc,
        "prune_config": "l1_unstructured",
        "prune_ratio": "0.30000000000000004",
    }
    return ",0\n" + "".join(f"{key},{value}\n" for key, value in (lines | facts).items() if value is not None)


def read_run(tmp_path, path="lab/resnet-l1_unstructured-0.30000000000000004-8-2", **files):
    folder = tmp_path / path
    folder.mkdir(parents=True)
    names = {
        "means": "system_stats.csv",
        "samples": "full_system_stats.csv",
        "perf": "perf_data.csv",
        "nvprof": "nvprof_data.csv",
    }
    for key, text in files.items():
        (folder / names[key]).write_text(text)
    return read(folder, path)


@pytest.mark.parametrize(
    ("acc", "status", "accuracy"),
    [
        ("70.5", "ok", 70.5),
        ("0.0", "ok", 0.0),
        ("NDF-OOM", "oom", None),
        ("DNF", "failed", None),
        ("", "missing", None),
        (None, "unknown", None),
    ],
)
def test_outcomes(tmp_path, acc, status, accuracy):
    run = read_run(tmp_path, means=means(acc), samples=samples()).run
    assert (run["status"], run["accuracy_pct"]) == (status, accuracy)


def test_facts_inside_win_over_the_name(tmp_path):
    files = {"means": means(model_name="vgg16", batchsz_arg="16", num_workers_arg="4"), "samples": samples()}
    run = read_run(tmp_path, **files).run
    assert (run["model"], run["batch_size"], run["num_workers"]) == ("vgg16", 16, 4)
    assert run["pruning_ratio"] == 0.3
    assert "from_path" not in json.loads(run["config"])


def test_facts_from_the_path_are_marked(tmp_path):
    path = "2024-04-18_owner/final/Laptop/resnet-ln_structured-0.1-32-8"
    run = read_run(tmp_path, path, means=",0\nvm_percent,20.0\nacc,70.5\n", samples=samples()).run
    assert (run["model"], run["pruning_method"], run["batch_size"]) == ("resnet", "ln_structured", 32)
    assert run["host"] == "Laptop"
    assert json.loads(run["config"])["from_path"] == ["model", "method", "ratio", "batch", "workers", "host"]


def test_times_and_peaks(tmp_path):
    reading = read_run(tmp_path, means=means(), samples=samples(4))
    run = reading.run
    assert (run["duration_s"], run["memory_used_mib"]) == (6.0, 500.0)
    assert json.loads(run["config"])["mean_cpu_mhz"] == 3000.0
    first = dict(reading.rows("cleaned_samples")[0]["metrics"])
    assert first["vm_percent"] == 20.0
    assert "" not in first


def test_system_memory_where_there_is_no_gpu(tmp_path):
    text = samples().replace("gpu_GPU_Memory_Used_1", "other").replace("gpu_GPU_Total_Memory_1", "more")
    run = read_run(tmp_path, means=means(chipset_name="Cortex-A53"), samples=text).run
    assert (run["memory_used_mib"], run["device_raw"]) == (2.0, "Cortex-A53")
    assert json.loads(run["config"])["memory_kind"] == "system"


class TestRunningSums:
    def test_sum_repeated_on_every_row_is_recovered(self, tmp_path):
        run = read_run(tmp_path, means=means(), samples=samples(4, mhz="12000.0")).run
        assert run["quality"] == ["running_sums"]
        assert json.loads(run["config"])["mean_cpu_mhz"] == 3000.0

    def test_single_row_is_not_recoverable(self, tmp_path):
        run = read_run(tmp_path, means=means(), samples=samples(1, mhz="12000.0")).run
        assert run["quality"] == ["running_sums"]
        assert "mean_cpu_mhz" not in json.loads(run["config"])

    def test_single_row_of_a_long_run(self, tmp_path):
        perf = ",counter-value,unit,event,event-runtime,pcnt-running,metric-value,metric-unit\n"
        perf += "0,1000,,cycles,60000000000,83.0,,\n"
        run = read_run(tmp_path, means=means(), samples=samples(1, mhz="5500.0"), perf=perf).run
        assert run["quality"] == ["running_sums"]

    def test_a_plausible_clock_is_left_alone(self, tmp_path):
        assert read_run(tmp_path, means=means(), samples=samples(1, mhz="5500.0")).run["quality"] == []


def test_other_flags(tmp_path):
    run = read_run(tmp_path, means=means("NDF-OOM"), samples=samples(3, step_s=12)).run
    assert run["quality"] == ["oom_not_seen_in_memory", "sampling_gap"]


def test_oldest_layout_does_not_count_samples_twice(tmp_path):
    again = ",vm_percent,cpu_0\n0,20.0,12000.0\n1,20.0,12000.0\n"
    reading = read_run(
        tmp_path, "lenet-global_unstructured-0.1", means=again, samples=samples(2, mhz="12000.0")
    )
    assert len(reading.rows("cleaned_samples")) == 2
    assert reading.run["status"] == "unknown"
    assert reading.records.rejected == 0


def test_counters(tmp_path):
    perf = ",counter-value,unit,event,event-runtime,pcnt-running,metric-value,metric-unit\n"
    perf += "0,1000,,instructions,2000000000,83.5,0.8,insn per cycle\n1,<not counted>,,cycles,0,0.0,,\n"
    nvprof = ",Device,Kernel,Invocations,Metric Name,Metric Description,Min,Max,Avg\n"
    nvprof += '0,Tesla P40 (0),"void k<float, int=1>(float*, int)",3,dram_read_throughput,x,1.5KB/s,2GB/s,10.5MB/s\n'
    nvprof += (
        '1,Tesla P40 (0),"void k<float, int=1>(float*, int)",3,dram_utilization,x,Idle (0),High (8),Mid (4)\n'
    )
    nvprof += '2,Tesla P40 (0),"void k<float, int=1>(float*, int)",3,sm_efficiency,x,10.0%,20.0%,15.5%\n'
    nvprof += '3,Tesla P40 (0),"void k<float, int=1>(float*, in\n4,Tesla P40 (0),k,3,ipc,x,a,b,c\n'
    reading = read_run(tmp_path, means=means(), samples=samples(), perf=perf, nvprof=nvprof)
    counters = {(row["source"], row["counter"]): row for row in reading.rows("cleaned_counters")}
    assert counters["perf", "instructions"]["value"] == 1000
    assert (
        counters["perf", "instructions"]["running_s"],
        counters["perf", "instructions"]["running_pct"],
    ) == (2.0, 83.5)
    assert counters["perf_metric", "instructions"]["value"] == 0.8
    assert counters["perf", "cycles"]["value"] is None
    rate = counters["nvprof", "dram_read_throughput"]
    assert (rate["value"], rate["value_min"], rate["value_max"], rate["unit"]) == (10.5e6, 1500.0, 2e9, "B/s")
    assert rate["scope"] == "void k<float, int=1>(float*, int)"
    assert (
        counters["nvprof", "dram_utilization"]["value"],
        counters["nvprof", "dram_utilization"]["unit"],
    ) == (4, "level")
    assert (counters["nvprof", "sm_efficiency"]["value"], counters["nvprof", "sm_efficiency"]["unit"]) == (
        15.5,
        "%",
    )
    assert reading.run["device_raw"] == "Tesla P40 (0)"
    rejected = [(row["member"], row["line_number"], row["reason"]) for row in reading.rows("rejected_lines")]
    assert rejected == [("nvprof_data.csv", 5, "bad_row"), ("nvprof_data.csv", 6, "bad_cell")]


def test_broken_lines(tmp_path):
    text = samples(2) + "2,not a time,3000,1,2,3,4\n3,2024-04-18 10:00:09,30o0,1,2,3,4\n4,2024-04-18 10:0"
    reading = read_run(tmp_path, means=means(batchsz_arg="9" * 30) + "alone\n", samples=text)
    rejected = [(row["member"], row["line_number"], row["reason"]) for row in reading.rows("rejected_lines")]
    assert sorted(rejected) == [
        ("full_system_stats.csv", 4, "bad_time"),
        ("full_system_stats.csv", 5, "bad_cell"),
        ("full_system_stats.csv", 6, "bad_row"),
        ("system_stats.csv", 6, "bad_cell"),
        ("system_stats.csv", 7, "wrong_columns"),
    ]
    assert len(reading.rows("cleaned_samples")) == 2
