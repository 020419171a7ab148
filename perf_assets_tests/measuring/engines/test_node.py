"""A virtual environment as a node may have it: torch and what it needs, none of the rest."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from perf_assets_tests.support import ROOT

ABSENT = ("dagster", "duckdb", "pyarrow", "pandas", "click", "rich", "matplotlib", "sqlalchemy", "grpc")


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    folder = tmp_path_factory.mktemp("node")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (own,) = folder.glob("lib/python*/site-packages")
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.lower().startswith((*ABSENT, "_duckdb", "__editable__", "_perf_assets")):
            (own / entry.name).symlink_to(entry)
    for path in own.glob("*perf_assets*"):
        path.unlink()
    (own / "project.pth").write_text(f"{ROOT}\n")
    return folder / "bin" / "python"


def run(python, *arguments):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run([python, *arguments], capture_output=True, text=True, check=False, env=environment)


def test_they_are_absent(python):
    for name in ("dagster", "duckdb", "pyarrow", "pandas"):
        assert run(python, "-c", f"import {name}").returncode == 1, name


def test_engines_import_and_run(python, tmp_path):
    done = run(
        python,
        "-m",
        "perf_assets_tests.measuring.engines.caller",
        "local",
        "pa-node",
        str(tmp_path / "work"),
        "true",
    )
    assert done.returncode == 0, done.stderr


def test_payload_measures(python, tmp_path):
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps({"network": "lenet5", "passes": ["latency", "layers"]}))
    done = run(
        python,
        "-m",
        "perf_assets.measuring.profiling",
        "--spec",
        str(spec),
        "--out",
        str(tmp_path / "out"),
    )
    assert done.returncode == 0, done.stderr
    (log,) = (tmp_path / "out").glob("*.jsonl")
    assert json.loads(log.read_text().splitlines()[-1])["status"] == "ok"


def test_a_whole_sweep_runs(python, tmp_path):
    """With a budget, so that the choice of sizes is made there too; nothing that is absent is
    imported."""
    sweep = tmp_path / "sweep.toml"
    sweep.write_text(
        'name = "node"\nnetworks = ["lenet5"]\nvary = "batch_size"\nsmallest = 1\nlargest = 6\n'
        '[budget]\npoints = 4\n[options]\npasses = ["latency", "memory"]\n'
        "[options.protocol]\nmax_time_s = 0.1\nwarmup_max_s = 0.1\nmin_time_s = 0.05\n"
    )
    for stage, points in (("sanity", 1), ("full", 4)):
        command = ["-m", "perf_assets.measuring.sweeps", "--sweep", str(sweep), "--stage", stage]
        done = run(python, *command, "--out", str(tmp_path / "out"))
        assert done.returncode == 0, done.stderr
        assert len(list((tmp_path / "out").glob("*.jsonl"))) == points
