"""What newcomers get wrong: each ends in words that name the cure, with exit code 1 to 3 and no traceback."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from perf_assets_tests.support import EXAMPLES, ROOT

BIN = Path(sys.executable).parent
ANSWERS = 60


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A project folder with a few drops taken in; nothing in this module changes it."""
    folder = tmp_path_factory.mktemp("mistakes")
    shutil.copytree(EXAMPLES / "load_tests" / "instance_study", folder / "data" / "drops" / "study")
    shutil.copytree(ROOT / "sweeps", folder / "sweeps")
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "query.sql").write_text("SELECT nope FROM cleaned_runs")
    (folder / "odd.toml").write_text('name = "odd"\nnetworks = ["lenet5"]\nbatch = 3\n')
    (folder / "empty").mkdir()
    (folder / "empty" / "data").mkdir()
    assert run(folder, "ingest").returncode == 0
    return folder


def run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PERF_ASSETS_DATA", "DAGSTER_HOME"))
    }
    return subprocess.run(
        [BIN / "perf-assets", *arguments],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=ANSWERS,
    )


MISTAKES = {
    "a command's name": (["ingets"], {}, "Did you mean one of: 'ingest'"),
    "an option's name": (["sql", "--cvs", "SELECT 1"], {}, "Did you mean '--csv'"),
    "quotes": (["sql", "SELECT", "1"], {}, "put the query in quotes"),
    "SQL": (["sql", "SELEC 1"], {}, 'syntax error at or near "SELEC"'),
    "a column's name": (["sql", "SELECT latncy_ms FROM cleaned_runs"], {}, '"latency_ms"'),
    "a table's name in SQL": (["sql", "SELECT * FROM cleaned_run"], {}, 'Did you mean "cleaned_runs"'),
    "a table's name": (["tables", "cleaned_rnus"], {}, "did you mean cleaned_runs"),
    "no query": (["sql", ""], {}, "the query is empty: write one like SELECT"),
    "a query's file": (["sql", "-f", "nope.sql"], {}, "nope.sql: No such file"),
    "a query that writes": (["sql", "DROP TABLE cleaned_runs"], {}, "read-only"),
    "SQL in a file": (["sql", "-f", "query.sql"], {}, '"nope"'),
    "a figure's name": (["plot", "load_curv"], {}, "load_curve"),
    "a figure's format": (["plot", "load_curve", "--out", "x.gif"], {}, ".svg, .png or .pdf"),
    "a figure's condition": (["plot", "load_curve", "--where", "modl = 1"], {}, '"modl"'),
    "a file to explain": (["explain", "nope.csv"], {}, "'nope.csv' does not exist"),
    "a file to ingest": (["ingest", "nope"], {}, "'nope' does not exist"),
    "a device that nobody measured": (
        ["predict", "--model", "resnet18", "--device", "tx9", "--batch-size", "4"],
        {},
        "drop runs of it and fit again",
    ),
    "too few runs to fit": (["fit"], {}, "measure more with 'perf-assets sweep'"),
    "a sweep's file": (
        ["sweep", "sweeps/dmeo.toml", "--stage", "sanity"],
        {},
        "sweeps/dmeo.toml: cannot be read",
    ),
    "a sweep's stage": (["sweep", "sweeps/demo.toml", "--stage", "santy"], {}, "did you mean 'sanity'"),
    "a sweep's key": (["sweep", "odd.toml", "--stage", "sanity"], {}, "batch"),
    "a GPU where there is none": (
        ["sweep", "sweeps/demo.toml", "--stage", "sanity", "--device", "h100"],
        {},
        "no CUDA device is visible: use cpu",
    ),
    "Slurm where there is none": (
        ["sweep", "sweeps/demo.toml", "--stage", "sanity", "--executor", "slurm"],
        {},
        "copy cluster.example.toml to cluster.toml",
    ),
    "runs that nobody knows": (["compare", "this", "that"], {}, "no finished run is meant by 'that'"),
    "a run to tag": (["tag", "good", "nosuchrun"], {}, "there is no run nosuchrun"),
    "a time zone": (["ingest"], {"PERF_ASSETS_TIMEZONE": "Mars/Base"}, "use a name like Europe/Berlin"),
    "a size": (["ingest"], {"PERF_ASSETS_MAX_FILE": "big"}, "a number like 500M or 8G"),
    "a data folder": (["sql", "SELECT 1"], {"PERF_ASSETS_DATA": "dta"}, "did you mean"),
    "a project in a data folder": (["init", "data"], {}, "name the folder around it"),
    "a port": (["ui", "--port", "99999999"], {}, "not in the range"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_with_its_cure(project, mistake):
    arguments, variables, cure = MISTAKES[mistake]
    done = run(project, *arguments, **variables)
    said = done.stderr + done.stdout
    assert done.returncode in (1, 2, 3), said
    assert cure in said
    assert "Traceback" not in said


def test_nothing_was_published_yet(project):
    for command in (["sql", "SELECT 1"], ["plot", "load_curve"], ["regressions"], ["report"]):
        done = run(project / "empty", *command)
        assert done.returncode in (1, 3)
        assert "run 'perf-assets ingest' first" in done.stderr
        assert "Traceback" not in done.stderr


def test_the_wrong_folder(tmp_path):
    for command, cure in (("sql", "name one with PERF_ASSETS_DATA"), ("status", "PERF_ASSETS_DATA")):
        done = run(tmp_path, command, *(["SELECT 1"] if command == "sql" else []))
        assert done.returncode == 1
        assert cure in done.stderr
    (tmp_path / "data").mkdir()
    done = run(tmp_path, "status")
    assert done.returncode == 1
    assert "no dagster.yaml" in done.stderr
    done = run(tmp_path, "ui")
    assert done.returncode == 1
    assert "go to the project's folder" in done.stderr


def test_a_port_that_is_taken(project):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run(project, "ui", "--port", str(taken.getsockname()[1]))
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "--port" in done.stderr


def test_an_error_of_ours_is_one_line_and_debug_shows_where(tmp_path):
    (tmp_path / "data" / "drops").mkdir(parents=True)
    (tmp_path / "data" / "ingest.lock").mkdir()  # a folder where a file belongs
    done = run(tmp_path, "ingest")
    assert done.returncode == 1
    assert "ingest.lock" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" in run(tmp_path, "--debug", "ingest").stderr
