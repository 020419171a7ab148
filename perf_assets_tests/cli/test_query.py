"""``perf-assets sql`` and ``tables`` where people look: what is written is whole, what is shown fits, errors
are a line."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from perf_assets.intake.pipeline import ingest
from perf_assets_tests.intake.test_pipeline import POLL_HEADER, poll_rows, write
from perf_assets_tests.support import ROOT

PROGRAM = str(Path(sys.executable).parent / "perf-assets")


@pytest.fixture
def ask(data):
    write(data, "a.csv", POLL_HEADER + poll_rows(0, 5))
    ingest(data)
    environment = os.environ | {"PERF_ASSETS_DATA": str(data.root), "PYTHONPATH": str(ROOT)}

    def run(*arguments: str, stdin: str | None = None, **options) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [PROGRAM, *arguments],
            env=environment,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            **options,
        )

    run.environment = environment
    return run


MANY = "SELECT i, i * 1.5 AS x FROM range(25000) AS t(i)"


def test_what_is_written_is_whole(ask, tmp_path):
    assert len(ask("sql", MANY, "--csv").stdout.splitlines()) == 25001
    assert len(ask("sql", "--csv", MANY).stdout.splitlines()) == 25001
    assert len(json.loads(ask("sql", MANY, "--json").stdout)) == 25000
    assert ask("sql", MANY, "--csv", str(tmp_path / "a.csv")).stdout == ""
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 25001
    ask("sql", MANY, "--parquet", str(tmp_path / "a.parquet"))
    assert pq.read_table(tmp_path / "a.parquet").num_rows == 25000
    assert len(ask("sql", MANY, "--limit", "0").stdout.splitlines()) == 25001


def test_lists_are_json(ask):
    assert ask("sql", "SELECT ['a', 'b'] AS flags", "--csv").stdout.splitlines()[1] == '"[""a"", ""b""]"'
    assert json.loads(ask("sql", "SELECT ['a', 'b'] AS flags, NULL AS n", "--json").stdout) == [
        {"flags": ["a", "b"], "n": None}
    ]


def test_a_query_from_a_file_and_from_standard_input(ask, tmp_path):
    (tmp_path / "q.sql").write_text("-- seven\nSELECT 7 AS n")
    assert ask("sql", "-f", str(tmp_path / "q.sql"), "--csv").stdout.split() == ["n", "7"]
    assert ask("sql", "--csv", stdin="SELECT 8 AS n").stdout.split() == ["n", "8"]


def test_a_wide_table_says_what_does_not_fit(ask):
    """On a terminal of 80 columns."""
    master, slave = pty.openpty()
    environment = ask.environment | {"COLUMNS": "80", "TERM": "xterm"}
    child = subprocess.Popen(
        [PROGRAM, "sql", "SELECT * FROM cleaned_telemetry"], env=environment, stdout=slave, stderr=slave
    )
    os.close(slave)
    output = b""
    while True:
        try:
            if not (read := os.read(master, 4096)):
                break
        except OSError:
            break
        output += read
    assert child.wait() == 0
    lines = output.decode().splitlines()
    assert "file_id" in output.decode()
    assert any("more columns do not fit" in line and "--records" in line for line in lines)


def test_records_show_every_column(ask):
    printed = ask("sql", "SELECT * FROM cleaned_telemetry", "--records").stdout
    assert printed.count("-- ") >= 5
    assert "power_w | 100" in printed


@pytest.mark.parametrize(
    ("arguments", "cure"),
    [
        (("sql", ""), "the query is empty"),
        (("sql", "SELEC 1"), "syntax error"),
        (("sql", "SELECT 1", "-f", "x.sql"), "not both"),
        (("sql", "-f", "absent.sql"), "name a file"),
        (("sql", "SELECT 1", "--csv", "/absent/folder/a.csv"), "name a file that can be written"),
        (("tables", "cleaned_run"), "did you mean cleaned_runs"),
    ],
)
def test_mistakes_end_in_a_line(ask, arguments, cure):
    done = ask(*arguments)
    assert done.returncode in (1, 2)
    assert cure in done.stderr
    assert "Traceback" not in done.stderr


def test_a_mistyped_folder_is_refused_with_the_nearest(ask, data):
    environment = ask.environment | {"PERF_ASSETS_DATA": str(data.root.parent / "dta")}
    done = subprocess.run([PROGRAM, "ingest"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"did you mean {data.root}" in done.stderr
    assert not (data.root.parent / "dta").exists()


def test_control_c_ends_a_long_query(ask):
    query = "SELECT count(*) FROM range(10000000000) AS a(i), range(1000) AS b(j) WHERE hash(i + j) = 7"
    # A suite that a shell started in the background ignores the signal, and so would its children.
    command = ["env", "--default-signal=INT", PROGRAM, "sql", query]
    child = subprocess.Popen(command, env=ask.environment, stderr=subprocess.PIPE, text=True)
    try:
        time.sleep(4)
        child.send_signal(signal.SIGINT)
        assert child.communicate(timeout=30)[1].strip().endswith("interrupted")
        assert child.returncode == 130
    finally:
        child.kill()


def test_a_project_made_by_init_works(tmp_path, ask):
    environment = {name: value for name, value in ask.environment.items() if name != "PERF_ASSETS_DATA"}
    environment |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    script = (
        "set -e; perf-assets init x; cd x; source activate-perf-assets; perf-assets ingest; perf-assets "
        "doctor;"
        " dagster asset materialize --select cleaned_runs; test -d data/dagster_home"
    )
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "is ready" in done.stdout
