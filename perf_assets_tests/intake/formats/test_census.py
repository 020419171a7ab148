"""Who claims what: every example its own format, every sample its own, foreign text nobody."""

import random
import sysconfig
from collections import Counter
from pathlib import Path

import pytest

from perf_assets.intake.parsing import registry
from perf_assets.intake.parsing.source import PLAIN, Head
from perf_assets_tests.intake.formats.test_every_format import FORMAT_OF
from perf_assets_tests.support import EXAMPLES, SAMPLES, needs_samples, read_text, source_of

# Folder or end of the name → format; the first that fits. What fits none belongs to nobody.
EXPECTED_EXAMPLES = (
    ("curation/", "run_annotations"),
    ("device_logs/memory/", "livealloc"),
    ("a100-nvidia-smi.csv", "nvidia_smi"),
    ("gaudi-hl-smi.txt", "hl_smi"),
    ("LeNet5-first-study.csv", "legacy_experiment"),
    ("device_logs/pruning/", "prune_profile"),
    ("device_logs/training/", "unet_run"),
    ("profile_export_aiperf.json", "aiperf_json"),
    ("perf.csv", "genai_perf"),
    ("load_tests/llm/tinyllm-vllm/vllm", "vllm_bench"),
    ("load_tests/llm/tinyllm-vllm/stdout", "vllm_bench_text"),
    ("load_tests/mlperf/", "mlperf_loadgen"),
    ("load_tests/model_analyzer/", "model_analyzer"),
    ("_events_vs_mu.csv", "throughput_vs_mu"),
    ("throughput_mt.csv", "traccc_throughput_csv"),
    ("load_tests/traccc/", "traccc_log"),
    ("stdout.txt", "perf_analyzer_report"),
    ("served_model.md", "perf_analyzer_report"),
    ("export.json", "perf_analyzer_export"),
    ("load_tests/own/", "perf_assets_load_study"),
    ("load_tests/", "perf_analyzer_csv"),
    ("_overall.csv", "ai3_overall"),
    ("profiles/layer_tables/", "layer_table"),
    ("_layers.csv", "ai3_layers"),
    ("profiles/own/", "perf_assets_profile"),
    ("profiles/perf4sight/", "perf4sight"),
    ("profiles/timm/", "timm_benchmark"),
    ("profiles/neusight/", "neusight_conv"),
    ("profiles/zeus/", "zeus_power"),
    ("profiles/trtexec/", "trtexec_log"),
    ("history/", "trtexec_log"),
    ("profiles/torch_profiler/", "torch_profiler_table"),
    ("_overall_", "ai3_overall"),
    ("_layers_", "ai3_layers"),
    ("emissions.csv", "codecarbon_emissions"),
    ("telemetry/cluster/dcgm.log", "dcgmi_dmon"),
    ("telemetry/cluster/dcgm_range.json", "prometheus_dcgm"),
    ("telemetry/cluster/exporter.prom", "dcgm_exporter"),
    ("apps.csv", "nvidia_smi_apps"),
    ("gpu_monitor.log", "nvidia_smi_table"),
    ("gpustat.json", "gpustat"),
    ("gpustat.log", "gpustat_text"),
    ("rocm.csv", "rocm_smi_csv"),
    ("dmon.log", "nvidia_smi_dmon"),
    ("pmon.log", "nvidia_smi_pmon"),
    ("telemetry/tegrastats", "tegrastats"),
    ("recordings/", "perf_assets_recording"),
)

FOREIGN_FILES = 200
TEXT_SUFFIXES = [
    ".py",
    ".pyi",
    ".txt",
    ".csv",
    ".json",
    ".md",
    ".rst",
    ".h",
    ".c",
    ".cpp",
    ".cu",
    ".js",
    ".css",
    ".html",
    ".yaml",
    ".yml",
    ".toml",
    ".cfg",
    ".xml",
]


def expected(path: Path) -> str | None:
    """The format that an example is of, by where it lies."""
    text = path.relative_to(EXAMPLES).as_posix()
    return next(
        (name for place, name in EXPECTED_EXAMPLES if place in f"{text}/" or text.endswith(place)), "?"
    )


@pytest.mark.parametrize("unit", FORMAT_OF, ids=lambda unit: str(unit.relative_to(EXAMPLES)))
def test_an_example_is_claimed_by_its_own_format(unit):
    assert FORMAT_OF[unit] == expected(unit)


def foreign_files() -> list[Path]:
    """Text files of installed packages, drawn by a fixed seed: as many of each kind as there are, up to a
    share."""
    root = Path(sysconfig.get_paths()["purelib"])
    by_suffix: dict[str, list[Path]] = {suffix: [] for suffix in TEXT_SUFFIXES}
    for path in sorted(root.rglob("*")):
        if path.suffix in by_suffix and path.is_file() and path.stat().st_size:
            by_suffix[path.suffix].append(path)
    rng = random.Random(14)
    chosen: list[Path] = []
    share = FOREIGN_FILES // 10
    for paths in by_suffix.values():
        chosen += rng.sample(paths, min(share, len(paths)))
    rest = sorted(set(by_suffix[".py"]) - set(chosen))
    return chosen + rng.sample(rest, max(0, min(FOREIGN_FILES - len(chosen), len(rest))))


def test_foreign_text_is_claimed_by_nobody():
    files = foreign_files()
    assert len(files) >= FOREIGN_FILES
    assert len(Counter(path.suffix for path in files)) >= 6
    claimed = {str(path): names for path in files if (names := registry.claimants(source_of(path).head()))}
    assert claimed == {}


@pytest.mark.parametrize(
    "text",
    [
        "timestamp,epoch,loss\n2024-02-11 08:15:10,1,0.9\n",
        "timestamp,index,name,value\n2024-02-11 08:15:10,0,attic,19.5\n",
        "Metric,Value\naccuracy,0.91\n",
        "Metric,avg,min,max\nloss,0.4,0.1,0.9\n",
        "device,temperature (C),power (W)\ncard0,30,5\n",
        "pid,process_name,memory\n1,sshd,2\n",
        "model,infer_samples_per_sec\nnet,5\n",
        "duration,emissions\n1,2\n",
        "acc,prune_ratio\n1,2\n",
        "Concurrency,Inferences/Second,Latency\n1,2,3\n",
        '{"experiments":[{"name":"a","lr":0.1}]}',
        '{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"node_load1"},"values":[]}]}}',
        '{"request_throughput":5,"latency":3}',
        "Throughput: 5 images/s\nTime totals: 7 ms\n",
        "RAM 5/6MB used\n",
        "# gpu memory notes\nnothing here\n",
        "[0] first | second | third\n",
        "Scenario : Offline\nSamples per second: 5\n",
    ],
)
def test_one_common_word_claims_nothing(tmp_path, text):
    assert read_text(tmp_path, text).format is None


def test_two_claimants_are_named_and_neither_reads(monkeypatch, tmp_path):
    text = "one of two tools\n"
    names = ("livealloc", "dcgmi_dmon")
    for name in names:
        monkeypatch.setattr(registry.parser(name), "sniff", lambda head: "two tools" in head.text)
    path = tmp_path / "log.txt"
    path.write_text(text)
    head = Head(text, source_of(path).path, (PLAIN,))
    assert (set(registry.claimants(head)), registry.sniff(head)) == (set(names), None)


EXPECTED_SAMPLES = (
    ("causal/", set()),
    ("device_logs/hl_smi/", {"hl_smi"}),
    ("device_logs/nvidia_smi/", {"nvidia_smi"}),
    ("device_logs/habana_mem/", {"livealloc"}),
    ("device_logs/unet_runs/", {"unet_run"}),
    ("device_logs/legacy_experiment/", {"legacy_experiment"}),
    ("load_tests/traccc_logs/", {"traccc_log"}),
    ("load_tests/sonic_batch_sweep/", {"perf_analyzer_csv"}),
    ("load_tests/perf_csv/", {"perf_analyzer_csv"}),
    ("load_tests/perf_text/", {"perf_analyzer_report"}),
    ("load_tests/local_triton/", {"perf_analyzer_csv", "perf_analyzer_report", "perf_analyzer_export"}),
    ("public_devices/timm/", {"timm_benchmark"}),
    ("public_devices/conv/", {"neusight_conv"}),
    ("public_devices/power/", {"zeus_power"}),
    ("public_devices/", set()),
    ("own_profiles_h200/", {"perf_assets_profile"}),
    ("predictors/ai3/", {"ai3_layers", "ai3_overall"}),
    ("predictors/tx2/l", {"perf4sight", "layer_table"}),
)


@needs_samples("causal")
def test_samples_are_claimed_by_their_own_formats():
    wrong = {}
    for path in sorted(SAMPLES.rglob("*")):
        place = path.relative_to(SAMPLES).as_posix()
        fitting = next((names for start, names in EXPECTED_SAMPLES if place.startswith(start)), None)
        if not path.is_file() or fitting is None or path.name in ("README.md", "expected.json"):
            continue
        claimants = registry.claimants(source_of(path, place).head())
        if len(claimants) > 1 or not set(claimants) <= fitting or (fitting and not claimants):
            wrong[place] = claimants
    assert wrong == {}


@needs_samples("causal")
def test_notes_beside_samples_are_claimed_by_nobody():
    notes = [path for path in SAMPLES.rglob("*") if path.name in ("README.md", "why.txt", "expected.json")]
    assert {str(path): names for path in notes if (names := registry.claimants(source_of(path).head()))} == {}
