"""Campaigns from the shell, locally and on a small real Slurm: what they refuse, follow and take in."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from perf_assets.intake.pipeline import ingest
from perf_assets.measuring.engines.jobs import CampaignError, Launch, Place
from perf_assets.measuring.sweeps.campaign import run_campaign
from perf_assets.measuring.sweeps.grid import read_sweep
from perf_assets_tests.measuring.engines.small_slurm import needs_slurm, small_slurm
from perf_assets_tests.support import ROOT, sql, wait_for

SWEEP = """
name = "long"
networks = ["lenet5"]
vary = "batch_size"
smallest = 1
largest = 1000
[options]
passes = ["latency"]
[options.protocol]
warmup_max_s = 0.2
min_time_s = 1.0
max_time_s = 1.0
max_blocks = 100000
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with small_slurm(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


@pytest.fixture
def sweep_file(tmp_path, data, monkeypatch) -> Path:
    monkeypatch.setenv("PERF_ASSETS_DATA", str(data.root))
    monkeypatch.setenv("PERF_ASSETS_LOCKS", str(tmp_path / "locks"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    file = tmp_path / "long.toml"
    file.write_text(SWEEP)
    return file


@pytest.fixture
def on_slurm(cluster, monkeypatch):
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    return cluster


@pytest.mark.parametrize("executor", ["local", pytest.param("slurm", marks=needs_slurm)])
def test_a_sweep_started_again_follows_the_job_that_runs(request, sweep_file, data, executor):
    """Also when its logs were taken in meanwhile, so that more is known than when the job began."""
    if executor == "slurm":
        request.getfixturevalue("on_slurm")
    place = Place(executor, "alpha")
    first = subprocess.Popen(
        [
            *(Path(sys.executable).parent / "perf-assets", "sweep", sweep_file, "--stage", "quick"),
            *("--executor", executor, "--device", "alpha"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    logs = data.drops / "perf_assets" / "long"
    wait_for(lambda: len(list(logs.glob("*.jsonl"))) >= 2, timeout_s=120)
    os.kill(first.pid, signal.SIGKILL)
    said = first.communicate()[1]
    ingest(data)
    assert sql(data, "SELECT count(*) FROM cleaned_runs WHERE status = 'ok'")[0][0] >= 1
    lines: list[str] = []
    report = run_campaign(data, read_sweep(sweep_file), "quick", place, launch=Launch(on_output=lines.append))
    assert len(report.jobs) == 1
    assert f"job {report.jobs[0]} is running" in said
    assert any(line.startswith(f"attached to {executor} job {report.jobs[0]}") for line in lines)
    keys = "SELECT count(*), count(DISTINCT config->>'key') FROM cleaned_runs WHERE status = 'ok'"
    assert sql(data, keys) == [(10, 10)]


@pytest.mark.parametrize(
    ("devices", "device"), [('devices = ["cpu"]', "h100"), ('devices = ["cuda"]', "epyc-7763")]
)
@pytest.mark.parametrize("executor", ["local", pytest.param("slurm", marks=needs_slurm)])
def test_work_on_another_kind_of_device_than_its_name_says_is_refused(
    request, sweep_file, data, tmp_path, executor, devices, device
):
    if executor == "slurm":
        cluster = request.getfixturevalue("on_slurm")
    sweep_file.write_text(f"{devices}\n{SWEEP}")
    site = tmp_path / "site.toml"
    site.write_text(f'[devices.{device}]\nconstraint = "alpha"\n')
    with pytest.raises(CampaignError, match="leave 'devices' out of the sweep") as caught:
        run_campaign(
            data, read_sweep(sweep_file), "sanity", Place(executor, device), launch=Launch(site_file=site)
        )
    assert "\n" not in str(caught.value)
    assert not data.work.exists() or not list(data.work.rglob("output.txt"))
    if executor == "slurm":
        assert cluster.queue() == []
