"""A board that nothing reaches: packed here, run in a folder of its own without the data, collected here."""

import json
import os
import subprocess
import sys
import zipfile

from click.testing import CliRunner

from perf_assets.cli.app import cli
from perf_assets.measuring.sweeps import grid
from perf_assets_tests.measuring.sweeps.board_net import write_own_network
from perf_assets_tests.support import ROOT, sql


def test_packed_run_there_and_collected_here(data, tmp_path, monkeypatch):
    monkeypatch.setenv("PERF_ASSETS_DATA", str(data.root))
    monkeypatch.chdir(tmp_path)
    module = write_own_network(tmp_path, tmp_path / "board.toml", largest=2)
    packed = CliRunner().invoke(cli, ["sweep", "board.toml", "--stage", "quick", "--pack", "board.zip"])
    assert packed.exit_code == 0, packed.output

    there = tmp_path / "there"
    there.mkdir()
    (tmp_path / "board.zip").rename(there / "board.zip")
    module.unlink()
    environment = {name: value for name, value in os.environ.items() if name != "PERF_ASSETS_DATA"}
    done = subprocess.run(
        [sys.executable, "-m", "perf_assets.measuring.sweeps", "--run", "board.zip"],
        cwd=there,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "--collect board.results.zip" in done.stdout

    for expected in ("2 new logs", "0 new logs"):
        collected = CliRunner().invoke(cli, ["sweep", "--collect", str(there / "board.results.zip")])
        assert collected.exit_code == 0, collected.output
        assert expected in collected.output
    assert sql(data, "SELECT batch_size, status FROM cleaned_runs ORDER BY 1") == [(1, "ok"), (2, "ok")]
    # What came back is known by the same keys: nothing is measured twice.
    again = CliRunner().invoke(cli, ["sweep", "board.toml", "--stage", "quick", "--pack", "again.zip"])
    assert again.exit_code == 0, again.output
    with zipfile.ZipFile(tmp_path / "again.zip") as archive:
        about = json.loads(archive.read("about.json"))
    assert {spec.key for spec in grid.points(grid.parse_sweep(about["sweep"]), "quick")} == set(
        about["known"]
    )
