"""trtexec, timm's benchmark tables, CodeCarbon."""

import json
from datetime import datetime

import pytest

from perf_assets_tests.support import read_text

PREFIX = "[06/11/2024-15:30:00] [I] "
SUMMARY = (
    f"{PREFIX}=== Performance summary ===\n{PREFIX}Throughput: 500.5 qps\n"
    f"{PREFIX}Latency: min = 1.5 ms, max = 3.25 ms, mean = 2.0 ms, median = 1.75 ms, percentile(99%) = 3 ms\n"
    f"{PREFIX}GPU Compute Time: min = 1 ms, max = 3 ms, mean = 1.25 ms, median = 1.2 ms, percentile(99%) = "
    "2 ms\n"
    f"{PREFIX}Total Host Walltime: 3.5 s\n"
)


def banner(fate: str, version: str = "v8601") -> str:
    return f"&&&& {fate} TensorRT.trtexec [TensorRT {version}] # trtexec --onnx=a/net.onnx --fp16\n"


class TestTrtexec:
    def test_what_someone_kept_of_it(self, tmp_path):
        """No banner and no titles: the commands at the prompt, and the lines of the figures."""
        kept = "".join(line + "\n" for line in SUMMARY.splitlines() if "===" not in line)
        text = (
            f"$ /opt/bin/trtexec --loadEngine=a/net.plan --shapes=x:16x3x32x32 --int8 --fp16\n{kept}"
            f"$ trtexec --onnx=other.onnx --batch=4\n{kept}{kept}"
        )
        runs = read_text(tmp_path, text).rows("cleaned_runs")
        assert [(run["model"], run["batch_size"], run["precision"]) for run in runs] == [
            ("net", 16, "fp32+fp16+int8"),
            ("other", 4, None),
            (None, None, None),
        ]
        assert {run["throughput_per_s"] for run in runs} == {500.5}
        assert {run["status"] for run in runs} == {"ok"}

    def test_a_shell_that_repeats_the_command(self, tmp_path):
        text = "+ trtexec --onnx=a/net.onnx --fp16\n" + banner("RUNNING") + SUMMARY + banner("PASSED")
        run = read_text(tmp_path, text).run
        assert (run["model"], run["precision"], run["framework_version"]) == ("net", "fp32+fp16", "8.6.1")

    def test_a_run(self, tmp_path):
        options = (
            f"{PREFIX}=== Model Options ===\n{PREFIX}Model: a/net.onnx\n{PREFIX}=== Inference Options ===\n"
            f"{PREFIX}Input inference shape: x=8x3x224x224\n{PREFIX}=== Device Information ===\n"
            f"{PREFIX}Selected Device: NVIDIA L4\n{PREFIX}Engine built in 3 sec.\n[06/11/2024-15:30:00] [W] "
            "slow clock\n"
        )
        reading = read_text(tmp_path, banner("RUNNING") + options + SUMMARY + banner("PASSED"))
        run = reading.run
        assert (run["status"], run["model"], run["device_raw"], run["batch_size"]) == (
            "ok",
            "net",
            "NVIDIA L4",
            8,
        )
        assert (run["latency_ms"], run["latency_statistic"], run["throughput_per_s"]) == (2.0, "mean", 500.5)
        assert (run["duration_s"], run["started_at"]) == (3.5, datetime(2024, 6, 11, 15, 30))
        assert json.loads(run["config"])["warnings"] == ["slow clock"]
        counters = {row["counter"]: row for row in reading.rows("cleaned_counters")}
        compute = counters["GPU Compute Time"]
        assert (compute["value"], compute["value_min"], compute["value_max"]) == (1.25, 1, 3)
        assert counters["GPU Compute Time p99"]["value"] == 2
        assert reading.records.rejected == 0

    @pytest.mark.parametrize(
        ("word", "version"),
        [("v8601", "8.6.1"), ("v100900", "10.9.0"), ("v8203", "8.2.3"), ("v10.1.0", "10.1.0")],
    )
    def test_versions(self, tmp_path, word, version):
        assert read_text(tmp_path, banner("RUNNING", word) + SUMMARY).run["framework_version"] == version

    def test_runs_of_one_log_keep_their_numbers(self, tmp_path):
        failed = f"{PREFIX}=== Model Options ===\n[06/11/2024-15:31:00] [E] out of memory\n"
        text = banner("RUNNING") + failed + banner("FAILED") + banner("RUNNING") + SUMMARY + banner("PASSED")
        runs = read_text(tmp_path, text + banner("RUNNING")).rows("cleaned_runs")
        assert [(run["status"], run["latency_ms"]) for run in runs] == [
            ("failed", None),
            ("ok", 2.0),
            ("incomplete", None),
        ]

    def test_a_cut_summary(self, tmp_path):
        text = banner("RUNNING") + SUMMARY.split("mean = 2.0")[0]
        reading = read_text(tmp_path, text)
        assert (reading.records.rejected, reading.run["latency_ms"]) == (1, None)


class TestTimm:
    HEADER = "model,infer_img_size,infer_samples_per_sec,infer_step_time,infer_batch_size,param_count,infer_gmacs\n"

    def test_a_row_is_a_run_and_the_name_tells_the_rest(self, tmp_path):
        name = "benchmark-infer-amp-nhwc-pt113-cu117-rtx3090.csv"
        reading = read_text(tmp_path, f"{self.HEADER}net_a,224,1000.5,255.875,256,4.5,0.31\n", name)
        run = reading.run
        assert (run["tool"], run["workload"], run["model"], run["input_size"]) == (
            "timm",
            "inference",
            "net_a",
            224,
        )
        assert (run["batch_size"], run["throughput_per_s"], run["latency_ms"]) == (256, 1000.5, 255.875)
        assert (run["device_raw"], run["precision"], run["framework_version"]) == ("rtx3090", "amp", "1.13")
        assert run["runtime_version"] == "CUDA 11.7"
        assert "device" in json.loads(run["config"])["from_path"]
        counters = {row["counter"]: (row["value"], row["unit"]) for row in reading.rows("cleaned_counters")}
        assert counters == {"param_count": (4.5, "M"), "gmacs": (0.31, "GMAC")}

    def test_a_processor(self, tmp_path):
        name = "benchmark-infer-fp32-nchw-pt221-cpu-i9_10940x-dynamo.csv"
        run = read_text(tmp_path, f"{self.HEADER}net_a,224,10.5,95.2,1,4.5,0.31\n", name).run
        assert (run["device_raw"], run["framework_version"], run["precision"]) == (
            "i9-10940x",
            "2.2.1",
            "fp32",
        )
        assert json.loads(run["config"])["compiler"] == "dynamo"

    def test_another_name_tells_nothing(self, tmp_path):
        run = read_text(tmp_path, f"{self.HEADER}net_a,224,10.5,95.2,1,4.5,0.31\n", "results.csv").run
        assert (run["device_raw"], run["precision"]) == (None, None)

    def test_training_and_models_that_did_not_run(self, tmp_path):
        text = "model,train_samples_per_sec,train_step_time,train_batch_size,train_img_size,param_count\n"
        runs = read_text(tmp_path, f"{text}a,100,5,8,224,1\nb,0.0,0.0,8,224,1\n,1,1,1,1,1\n").rows(
            "cleaned_runs"
        )
        assert [(run["workload"], run["status"], run["throughput_per_s"]) for run in runs] == [
            ("training", "ok", 100),
            ("training", "failed", None),
        ]


class TestCodeCarbon:
    HEADER = (
        "timestamp,project_name,run_id,duration,emissions,energy_consumed,cpu_power,gpu_power,gpu_energy,country_name,"
        "cpu_model,gpu_count,gpu_model\n"
    )

    def row(self, **changes) -> str:
        cells = {
            "timestamp": "2024-06-11T10:00:30",
            "project_name": "net",
            "run_id": "r1",
            "duration": "30.0",
            "emissions": "0.01",
            "energy_consumed": "0.001",
            "cpu_power": "42.5",
            "gpu_power": "200.0",
            "gpu_energy": "0.0008",
            "country_name": "Norway",
            "cpu_model": "EPYC",
            "gpu_count": "2",
            "gpu_model": "2 x NVIDIA A100",
        }  # one cell a column of the header
        return ",".join((cells | changes).values()) + "\n"

    def test_a_run(self, tmp_path):
        reading = read_text(tmp_path, self.HEADER + self.row())
        run = reading.run
        assert (run["tool"], run["name"], run["duration_s"]) == ("codecarbon", "net", 30)
        assert (run["energy_j"], run["energy_basis"], run["mean_power_w"]) == (3600, "run", 120)
        assert (run["device_raw"], run["device_count"]) == ("NVIDIA A100", 2)
        assert run["started_at"] == datetime(2024, 6, 11, 10)

    def test_without_a_gpu_its_zeros_are_not_measured(self, tmp_path):
        text = self.HEADER + self.row(gpu_count="", gpu_model="", gpu_power="0.0", gpu_energy="0.0")
        reading = read_text(tmp_path, text)
        assert reading.run["device_raw"] == "EPYC"
        assert {row["counter"] for row in reading.rows("cleaned_counters")} == {"emissions", "cpu_power"}

    def test_later_rows_of_a_run_take_the_place_of_earlier_ones(self, tmp_path):
        text = self.HEADER + self.row() + self.row(duration="60.0") + self.row(run_id="r2")
        assert [run["status"] for run in read_text(tmp_path, text).rows("cleaned_runs")] == [
            "superseded",
            "ok",
            "ok",
        ]


class TestNeusight:
    HEADER = (
        "OPName,Latency,Device,Torch Version,CUDNN Version,CUDA Version,Kernels,B,Input_Channel,Output_Channel,"
        "Kernel_Szie,Input_Size,Stride,Padding\n"
    )

    def test_a_row_is_a_run_with_one_layer(self, tmp_path):
        row = 'conv,1.25,Tesla T4,p2.1.0,8902,cu121,";one<0, 1>;two",8,64,128,3,14,1,1\n'
        reading = read_text(tmp_path, self.HEADER + row)
        run = reading.run
        assert (run["tool"], run["device_raw"], run["batch_size"], run["latency_ms"]) == (
            "neusight",
            "Tesla T4",
            8,
            1.25,
        )
        assert (run["framework_version"], run["runtime_version"]) == ("2.1.0", "CUDA 12.1")
        (layer,) = reading.rows("cleaned_layers")
        assert (layer["kind"], layer["in_channels"], layer["out_channels"], layer["in_hw"]) == (
            "conv",
            64,
            128,
            14,
        )
        assert (layer["kernel_size"], layer["stride"], layer["padding"], layer["mean_ms"]) == (3, 1, 1, 1.25)

    @pytest.mark.parametrize("row", ["linear,1,T4", "conv,-1,T4", "conv,1,", "conv,1,T4"])
    def test_what_is_no_convolution_is_rejected(self, tmp_path, row):
        sizes = "8,64,128,3,14,1,1" if row != "conv,1,T4" else "8,64,0,3,14,1,1"
        reading = read_text(tmp_path, f"{self.HEADER}{row},p2.1.0,8902,cu121,k,{sizes}\n")
        assert reading.records.rejected == 1


class TestZeus:
    HEADER = "dataset,network,batch_size,optimizer,power_limit,time_per_epoch,average_power\n"

    def test_a_row_is_a_run_and_its_energy_follows(self, tmp_path):
        text = f"{self.HEADER}cifar100,shufflenetv2,1024,adadelta,125,16.5,120.0\n"
        run = read_text(tmp_path, text, "summary_power_a40.csv").run
        assert (run["tool"], run["workload"], run["model"], run["device_raw"]) == (
            "zeus",
            "training",
            "shufflenetv2",
            "a40",
        )
        assert (run["power_limit_w"], run["mean_power_w"], run["duration_s"]) == (125, 120, 16.5)
        assert (run["energy_j"], run["energy_basis"]) == (1980, "epoch")

    def test_no_power_is_no_row(self, tmp_path):
        reading = read_text(tmp_path, f"{self.HEADER}a,b,8,c,125,16.5,0\n", "summary_power_a40.csv")
        assert reading.records.rejected == 1
