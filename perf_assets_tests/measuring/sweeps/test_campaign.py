"""Campaigns from the shell, locally, on a small real Slurm and by a real sshd: what they refuse, follow and take
in."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from perf_assets.intake.pipeline import ingest
from perf_assets.measuring.engines.jobs import CampaignError, Launch, Limits, Place
from perf_assets.measuring.sweeps.campaign import run_campaign
from perf_assets.measuring.sweeps.grid import read_sweep
from perf_assets_tests.measuring.engines.small_slurm import needs_slurm, small_slurm
from perf_assets_tests.measuring.engines.small_sshd import needs_sshd, small_sshd
from perf_assets_tests.measuring.sweeps.board_net import write_own_network
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


@pytest.fixture(scope="module")
def sshd(tmp_path_factory):
    with small_sshd(tmp_path_factory.mktemp("sshd")) as sshd:
        yield sshd


@pytest.fixture
def on_board(sshd, monkeypatch, tmp_path):
    """A board whose locks are the test's own, as its commands get this machine's environment in no other way."""
    site = sshd.write_site(
        tmp_path / "board.toml",
        setup=[f"export PYTHONPATH={ROOT}", f"export PERF_ASSETS_LOCKS={tmp_path / 'locks'}"],
    )
    monkeypatch.setenv("PERF_ASSETS_CLUSTER", str(site))
    return sshd


@pytest.mark.parametrize(
    "executor", ["local", pytest.param("slurm", marks=needs_slurm), pytest.param("ssh", marks=needs_sshd)]
)
def test_a_sweep_started_again_follows_the_job_that_runs(request, sweep_file, data, executor):
    """Also when its logs were taken in meanwhile, so that more is known than when the job began."""
    if executor != "local":
        board_or_cluster = request.getfixturevalue({"slurm": "on_slurm", "ssh": "on_board"}[executor])
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
    on_board = executor == "ssh"
    logs, pattern = (board_or_cluster.folder, "*/out/*.jsonl") if on_board else (data.drops, "*/long/*.jsonl")
    wait_for(lambda: len(list(logs.glob(pattern))) >= 2, timeout_s=120)
    os.kill(first.pid, signal.SIGKILL)
    said = first.communicate()[1]
    ingest(data)
    if not on_board:  # a board's logs come when its job is over
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


@needs_sshd
def test_a_whole_sweep_on_a_board(sweep_file, data, on_board, tmp_path, monkeypatch):
    """With a module that only this machine has; what is in SQL is not measured again, and jobs of few points go on."""
    monkeypatch.chdir(tmp_path)
    write_own_network(tmp_path, sweep_file, largest=4)
    command = [Path(sys.executable).parent / "perf-assets", "sweep", sweep_file, "--executor", "ssh"]
    done = subprocess.run(
        [*command, "--device", "alpha"], capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    launch = Launch(Limits(points_per_job=2), on_output=lambda line: None)
    report = run_campaign(data, read_sweep(sweep_file), "quick", Place("ssh", "alpha"), launch=launch)
    assert len(report.jobs) == 2
    runs = "SELECT batch_size, status, config->'engine'->>'name', config->'spec'->>'device_label' FROM cleaned_runs"
    assert sql(data, f"{runs} ORDER BY 1") == [(size, "ok", "ssh", "alpha") for size in (1, 2, 3, 4)]
    sweep_file.write_text(f'devices = ["cuda"]\n{sweep_file.read_text()}')
    with pytest.raises(CampaignError, match="leave 'devices' out of the sweep"):
        run_campaign(data, read_sweep(sweep_file), "quick", Place("ssh", "alpha"))
