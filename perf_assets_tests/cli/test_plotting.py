"""``perf-assets plot``: the list, a file, and what goes wrong."""

import pytest
from click.testing import CliRunner

from perf_assets.cli.app import cli
from perf_assets.intake.pipeline import ingest


@pytest.fixture
def run(data, monkeypatch):
    monkeypatch.setenv("PERF_ASSETS_DATA", str(data.root))
    return lambda *words: CliRunner().invoke(cli, ["plot", *words])


def test_without_a_name_it_lists_the_figures(run):
    shown = run()
    assert shown.exit_code == 0
    assert "load_curve" in shown.output
    assert "latency runs away" in shown.output


def test_an_empty_store_gives_a_figure_and_says_so(run, data, tmp_path):
    ingest(data)
    done = run("energy", "--out", str(tmp_path / "a.svg"), "--where", "device = 'h100'")
    assert done.exit_code == 3
    assert "no run with an energy" in (tmp_path / "a.svg").read_text()


def test_wrong_words_are_one_line(run, data, tmp_path):
    assert "ingest" in run("energy", "--out", str(tmp_path / "a.svg")).output
    ingest(data)
    assert "there are load_curve" in run("nothing").output
    assert ".svg, .png or .pdf" in run("energy", "--out", str(tmp_path / "a.jpg")).output
    wrong = run("energy", "--where", "no_such_column = 1", "--out", str(tmp_path / "a.svg"))
    assert wrong.exit_code == 1
    assert "no_such_column" in wrong.output
    assert not (tmp_path / "a.svg").exists()


def test_the_sql_can_be_printed(run):
    assert "device = 'h100'" in run("energy", "--sql", "--where", "device = 'h100'").output
