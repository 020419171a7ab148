"""A project with a small sweep, and a small real Slurm, for the runs that Dagster launches."""

import pytest

from perf_assets_tests.defs.profiling import SWEEP
from perf_assets_tests.measuring.engines.small_slurm import small_slurm
from perf_assets_tests.support import ROOT


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with small_slurm(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


@pytest.fixture
def project(data, tmp_path, monkeypatch):
    """A data folder with a sweep in it, and everything told by the environment."""
    monkeypatch.setenv("PERF_ASSETS_DATA", str(data.root))
    monkeypatch.setenv("PERF_ASSETS_LOCKS", str(tmp_path / "locks"))
    monkeypatch.setenv("PERF_ASSETS_SWEEPS", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "small.toml").write_text(SWEEP.format(seconds=0.2))
    return tmp_path


@pytest.fixture
def on_slurm(cluster, monkeypatch):
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    for device in ("alpha", "beta", "gamma"):
        cluster.set_node(device, "resume")
    return cluster
