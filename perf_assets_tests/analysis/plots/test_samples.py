"""Figures on real logs: the numbers that are known of them."""

import shutil

import pytest

from perf_assets.analysis.plots import load_scaling
from perf_assets.analysis.plots.catalog import PLOTS
from perf_assets.intake.pipeline import ingest
from perf_assets.store.database import open_readonly
from perf_assets_tests.support import SAMPLES, needs_samples


def frame_of(data, name: str, *folders: str, where: str | None = None):
    for folder in folders:
        source = SAMPLES / folder
        copy = shutil.copytree if source.is_dir() else shutil.copy
        (data.drops / folder).parent.mkdir(parents=True, exist_ok=True)
        copy(source, data.drops / folder)
    ingest(data)
    with open_readonly(data.database) as connection:
        return PLOTS[name].frame(connection, where)


@needs_samples("load_tests")
def test_servers_are_full_at_as_many_requests_as_instances(data):
    frame = frame_of(data, "load_scaling", "load_tests/local_triton", where="name LIKE 'cpu_%'")
    full = {
        int(run["model_instances"].iloc[0]): load_scaling.saturation(run)
        for _, run in frame.groupby("run_id")
    }
    assert full == {1: 1, 2: 2, 3: 3, 4: 4}


@needs_samples("load_tests")
def test_the_idle_gpus_of_a_machine_do_not_thin_the_busy_one(data):
    frame = frame_of(data, "load_scaling", "load_tests/perf_csv/acts_aas_1insts_1gpus_sync.csv")
    assert frame["utilization_pct"].iloc[0] == pytest.approx(52.53, abs=0.01)


@needs_samples("device_logs")
def test_joules_of_whole_poll_logs(data):
    frame = frame_of(data, "telemetry", "device_logs/hl_smi")
    joules = frame.drop_duplicates(["path", "part", "device_id"]).groupby("path")["energy_j"].sum()
    assert joules["device_logs/hl_smi/normal-128.txt"] == pytest.approx(1_774_400, abs=50)
    assert joules["device_logs/hl_smi/resnet50_4.txt"] == pytest.approx(1_776_600, abs=50)
