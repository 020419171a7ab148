"""Specs, sweeps, site files and launch configs that cannot be: one line with file, key and cure, and nothing
starts."""

import json
import tomllib
import zipfile

import dagster as dg
import pytest
from click.testing import CliRunner

from perf_assets.cli.app import cli
from perf_assets.defs.build import build_defs

SPEC = {"network": "lenet5", "batch_size": 4, "passes": ["latency"]}
SWEEP = """
name = "small"
networks = ["lenet5"]
vary = "batch_size"
smallest = 2
largest = 4
"""
SITE = """
[defaults]
gres = ""
[devices.alpha]
constraint = "alpha"
"""

WRONG_SPECS = {
    "typo": ({"netwrok": "lenet5"}, "'netwrok'", "did you mean 'network'"),
    "missing": ({"network": None}, "'network'", "valid string"),
    "zero batch": ({"batch_size": 0}, "'batch_size'", "greater than or equal to 1"),
    "text for a number": ({"batch_size": "8"}, "'batch_size'", "valid integer"),
    "truth for a number": ({"batch_size": True}, "'batch_size'", "valid integer"),
    "unknown stage": ({"stage": "test"}, "'test'", "use one of inference, training"),
    "unknown precision": ({"precision": "fp8"}, "'fp8'", "use one of float32"),
    "unknown algorithm": ({"algorithm": "winogard"}, "'winogard'", "did you mean 'winograd'"),
    "unknown pass": ({"passes": ["speed"]}, "'speed'", "use one of latency"),
    "unknown memory format": ({"memory_format": "nhwc"}, "'nhwc'", "use one of contiguous, channels_last"),
    "unknown compile mode": ({"compile_mode": "fast"}, "'fast'", "use one of default"),
    "text for a truth": ({"cudnn_benchmark": "yes"}, "'cudnn_benchmark'", "valid boolean"),
    "no threads": ({"threads": 0}, "'threads'", "greater than or equal to 1"),
    "tf32 on a processor": ({"precision": "tf32"}, "precision 'tf32'", "use 'float32'"),
    "compiled by name": (
        {"compile_mode": "default", "algorithm": "gemm"},
        "compile_mode 'default'",
        "use algorithm",
    ),
    "autocast by name": ({"precision": "autocast", "algorithm": "gemm"}, "'autocast'", "algorithm 'guess'"),
    "channels last by name": (
        {"memory_format": "channels_last", "algorithm": "gemm", "device": "cuda"},
        "'channels_last'",
        "algorithm 'guess'",
    ),
    "energy of layers without layers": (
        {"passes": ["latency", "layer_energy"]},
        "'layer_energy' needs 'layers'",
        "leave it out",
    ),
    "accuracy of no images": ({"passes": ["accuracy"]}, "'accuracy' and image_folder", "add image_folder"),
    "images for nothing": ({"image_folder": "x"}, "belong together", "add the pass 'accuracy'"),
    "workers for nothing": ({"loader_workers": 2}, "loader_workers without image_folder", "leave it out"),
    "unknown runtime": ({"runtime": "tensorrt"}, "'tensorrt'", "use one of torch, torchscript, onnxruntime"),
    "exported training": (
        {"runtime": "torchscript", "stage": "training"},
        "stage 'training' with runtime 'torchscript'",
        "or runtime 'torch'",
    ),
    "exported in bfloat16": (
        {"runtime": "onnxruntime", "precision": "bfloat16"},
        "precision 'bfloat16'",
        "use 'float32'",
    ),
    "unknown network": ({"network": "lenet6"}, "'lenet6'", "did you mean 'lenet5'"),
    "unknown timm network": ({"network": "timm:resnet17"}, "'resnet17'", "did you mean"),
    "unknown transformers network": ({"network": "transformers:brt"}, "'brt'", "did you mean 'bert'"),
    "no network of a library": ({"network": "timm:"}, "'timm:'", "name one of timm's networks"),
    "own module without a name": (
        {"network": "own.nets:"},
        "'own.nets:'",
        "write the module, a colon, the name",
    ),
    "inputs without a colon": ({"inputs": "own.make"}, "'own.make'", "write the module, a colon, the name"),
    "arguments as a list": ({"network_kwargs": [5]}, "'network_kwargs'", "should be an object"),
    "unknown pruning method": ({"pruning_method": "l2"}, "'l2'", "use one of structured_magnitude"),
    "protocol typo": ({"protocol": {"max_blcks": 3}}, "'protocol.max_blcks'", "did you mean 'max_blocks'"),
    "no device of torch": ({"device": "xpu"}, "'device'", "match pattern"),
    "ratio of two": ({"pruning_ratio": 2.0}, "'pruning_ratio'", "less than 1"),
    "cpu under a gpu's name": ({"device_label": "h100"}, "device_label 'h100'", "use device 'cuda'"),
    "gpu under a cpu's name": ({"device": "cuda", "device_label": "xeon-gold-6248"}, "device_label", "'cpu'"),
}
WRONG_SWEEPS = {
    "not TOML": ("name = ", "not TOML", "sweeps/demo.toml"),
    "typo": (SWEEP + "smalest = 3", "'smalest'", "did you mean 'smallest'"),
    "missing": (SWEEP.replace("largest = 4", ""), "'largest' is missing", "add it"),
    "swapped": (SWEEP.replace("smallest = 2", "smallest = 9"), "smallest 9 is above largest 4", "swap them"),
    "path for a name": (SWEEP.replace('"small"', '"../small"'), "'name'", "match pattern"),
    "no networks": (SWEEP.replace('["lenet5"]', "[]"), "'networks'", "at least 1"),
    "vary depth": (SWEEP.replace('"batch_size"', '"depth"'), "'vary'", "'batch_size' or 'input_size'"),
    "unknown algorithm": (SWEEP + 'algorithms = ["magic"]', "'magic'", "use one of guess"),
    "option typo": (SWEEP + "[options]\npases = []", "'pases'", "did you mean 'passes'"),
    "budget typo": (SWEEP + "[budget]\npoint = 3", "'budget.point'", "did you mean 'points'"),
    "pruning without ratio": (
        SWEEP + '[[pruning]]\nmethod = "l1_unstructured"',
        "pruning.0",
        "say 'ratio' or 'ratios'",
    ),
    "pruning with both": (
        SWEEP + '[[pruning]]\nmethods = ["l1_unstructured"]\nratio = 0.5\nratios = [0.5]',
        "pruning.0",
        "one of them",
    ),
    "pruning method typo": (
        SWEEP + '[[pruning]]\nmethod = "structured_magnitud"\nratio = 0.5',
        "'structured_magnitud'",
        "did you mean 'structured_magnitude'",
    ),
    "pruned to nothing": (
        SWEEP + '[[pruning]]\nmethod = "l1_unstructured"\nratios = [0.99]',
        "ratio 0.99",
        "at most 0.95",
    ),
    "networks as a word": (SWEEP.replace('["lenet5"]', '"lenet5"'), "'networks'", "valid array"),
    "unknown network": (SWEEP.replace("lenet5", "vgg17"), "'vgg17'", "did you mean 'vgg19'"),
    "no sizes": (SWEEP + "[sizes]\nquick = 0", "'sizes.quick'", "greater than or equal to 1"),
    "sizes typo": (SWEEP + "[sizes]\nquik = 3", "'sizes.quik'", "did you mean 'quick'"),
    "factor typo": (SWEEP + "[factors]\nthread = [1]", "'thread'", "did you mean 'threads'"),
    "factor without values": (SWEEP + "[factors]\nthreads = []", "factors.threads", "name some"),
    "factor said twice": (SWEEP + "[factors]\nbatch_size = [1]", "factors.batch_size", "one place"),
    "factor out of range": (SWEEP + "[factors]\nthreads = [0]", "'threads'", "greater than or equal to 1"),
    "tf32 on this processor": (SWEEP + 'precisions = ["tf32"]', "precision 'tf32'", "device 'cuda'"),
    "wrong count": (
        SWEEP + "[options.protocol]\nmeasured_steps = 0",
        "'protocol.measured_steps'",
        "equal to 1",
    ),
    "gpu on this processor": (SWEEP + 'devices = ["cuda"]', "devices 'cuda' on 'cpu'", "leave 'devices' out"),
}
WRONG_SITES = {
    "not TOML": ("[devices", "not TOML", "cluster.example.toml"),
    "typo": (SITE + "partiton = 1", "'devices.alpha.partiton'", "did you mean 'partition'"),
    "board by Slurm": (
        '[devices.alpha]\nhost = "board"\nfolder = "/srv"\ntorch_device = "cpu"\n',
        "[devices.alpha] has a host",
        "use the executor 'ssh'",
    ),
    "board of two kinds": (
        SITE + 'host = "board"\n',
        "and constraint, which is Slurm's",
        "leave one of them out",
    ),
    "no devices": ("[defaults]\n", "'devices' is missing", "add it"),
    "text for minutes": (SITE + 'time_minutes = "1h"', "'devices.alpha.time_minutes'", "valid integer"),
    "unknown device": (SITE.replace("alpha", "beta"), "no device 'alpha'", "add a table [devices.alpha]"),
    "processor under a gpu's name": (
        SITE.replace("alpha", "h100") + 'torch_device = "cpu"',
        "[devices.h100] torch_device",
        "use device 'cuda'",
    ),
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PERF_ASSETS_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("PERF_ASSETS_SWEEPS", str(tmp_path))
    (tmp_path / "data" / "drops").mkdir(parents=True)
    (tmp_path / "sweep.toml").write_text(SWEEP)
    return tmp_path


def refused(project, *arguments: str) -> str:
    """The one line that a refused command ends with; nothing was measured."""
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 1
    assert not list((project / "data").rglob("*.jsonl"))
    assert not list((project / "data").rglob("output.txt")), "a job was started"
    (line,) = result.output.strip().splitlines()
    return line


@pytest.mark.parametrize("name", WRONG_SPECS)
def test_wrong_spec(project, name):
    change, problem, cure = WRONG_SPECS[name]
    (project / "spec.json").write_text(json.dumps(SPEC | change))
    line = refused(project, "profile", "spec.json")
    assert "spec.json" in line
    assert problem in line
    assert cure in line


@pytest.mark.parametrize("name", WRONG_SWEEPS)
def test_wrong_sweep(project, name):
    text, problem, cure = WRONG_SWEEPS[name]
    (project / "sweep.toml").write_text(text)
    line = refused(project, "sweep", "sweep.toml")
    assert problem in line
    assert cure in line


@pytest.mark.parametrize("name", WRONG_SITES)
def test_wrong_site_file(project, name):
    text, problem, cure = WRONG_SITES[name]
    (project / "cluster.toml").write_text(text)
    (device,) = (tomllib.loads(text).get("devices", {}) if "not TOML" not in problem else {}) or ["alpha"]
    device = "alpha" if "unknown" in name else device
    line = refused(project, "sweep", "sweep.toml", "--executor", "slurm", "--device", device)
    assert "cluster.toml" in line
    assert problem in line
    assert cure in line


WRONG_ARGUMENTS = {
    "unknown network": (["--network", "vgg17"], "'vgg17'", "did you mean 'vgg19'"),
    "unknown algorithm": (["--network", "lenet5", "--algorithm", "gem"], "'gem'", "did you mean 'gemm'"),
    "unknown device": (["--network", "lenet5", "--device", "toaster"], "'toaster'", "use auto, cpu, cuda"),
    "unknown stage": (["--network", "lenet5", "--stage", "huge"], "'huge'", "use one of sanity, quick, full"),
    "sizes of sanity": (["--network", "lenet5", "--sizes", "4"], "--sizes", "use --stage quick"),
    "nothing measured": (["--network", "lenet5", "--measure", "0"], "measured_steps", "equal to 1"),
    "negative warm-up": (["--network", "lenet5", "--warmup", "-1"], "warmup_steps", "equal to 0"),
    "unknown dimension": (["--network", "lenet5", "--vary", "depth"], "'depth'", "use one of batch_size"),
    "option without a value": (
        ["--network", "lenet5", "--option", "threads"],
        "'threads'",
        "--option threads=2",
    ),
    "option typo": (["--network", "lenet5", "--option", "thread=2"], "'thread'", "did you mean 'threads'"),
    "swapped": (["--network", "lenet5", "--smallest", "99"], "smallest 99 is above", "swap them"),
    "file and name": (["spec.json", "--network", "lenet5"], "spec.json and --network", "give one"),
    "nothing": ([], "nothing to measure", "--network NAME"),
}


@pytest.mark.parametrize("name", WRONG_ARGUMENTS)
def test_wrong_arguments(project, name):
    arguments, problem, cure = WRONG_ARGUMENTS[name]
    line = refused(project, "profile", *arguments)
    assert problem in line
    assert cure in line


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((), "name one of them"),
        (("sweep.toml", "--run", "board.zip"), "name one of them"),
        (("--run", "absent.zip"), "absent.zip: cannot be read"),
        (("--run", "sweep.toml"), "sweep.toml: no perf_assets_pack file: make one by"),
        (("--collect", "sweep.toml"), "sweep.toml: no perf_assets_results file: name what '--run' wrote"),
        (("--collect", "strange.zip"), "'../outside.jsonl' is no log of the profiler"),
        (("sweep.toml", "--pack", "no/folder/board.zip"), "No such file"),
    ],
)
def test_wrong_packs(project, arguments, problem):
    with zipfile.ZipFile(project / "strange.zip", "w") as archive:
        archive.writestr("about.json", '{"format": "perf_assets_results", "version": 1, "sweep": "s"}')
        archive.writestr("../outside.jsonl", "{}")
    assert problem in refused(project, "sweep", *arguments)


def test_a_gpu_name_with_a_sweep_that_says_cpu(project):
    (project / "sweep.toml").write_text(SWEEP + 'devices = ["cpu"]')
    assert "'cpu' on 'h100'" in refused(project, "sweep", "sweep.toml", "--device", "h100")


def test_unknown_stage_and_executor(project):
    assert "use one of sanity, quick, full" in refused(project, "sweep", "sweep.toml", "--stage", "huge")
    assert "use local, slurm or ssh" in refused(project, "sweep", "sweep.toml", "--executor", "cloud")


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"sweep": "../elsewhere/sweep.toml"}, "PERF_ASSETS_SWEEPS"),
        ({"sweep": "absent.toml"}, "name a TOML file like sweeps/demo.toml"),
        ({"sweep": "sweep.toml", "stage": "huge"}, "use one of sanity, quick, full"),
        ({"sweep": "sweep.toml", "executor": "cloud"}, "use local, slurm or ssh"),
        ({"sweep": "cpu.toml", "device": "l40s"}, "leave 'devices' out"),
    ],
)
def test_wrong_launch_config(project, config, problem):
    (project / "cpu.toml").write_text(SWEEP + 'devices = ["cpu"]')
    job = build_defs().resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        run_config={"ops": {"device_profiles": {"config": config}}},
        asset_selection=[dg.AssetKey("device_profiles")],
        instance=dg.DagsterInstance.ephemeral(),
        raise_on_error=False,
    )
    (event,) = [event for event in result.all_events if event.is_step_failure]
    assert problem in str(event.step_failure_data.user_failure_data) + str(event.step_failure_data.error)
    assert not list((project / "data").rglob("output.txt"))
