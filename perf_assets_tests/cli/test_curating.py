"""``tag``, ``note`` and ``exclude``: words survive a rebuild and follow a log that grew."""

from datetime import datetime

import pytest
from click.testing import CliRunner

from perf_assets.cli.app import cli
from perf_assets.intake import pipeline
from perf_assets.intake.annotating import annotations_file
from perf_assets_tests.cli.test_comparing import write_profile
from perf_assets_tests.support import sql

START = datetime(2026, 3, 1, 12)
STATE = "SELECT tags, note, excluded FROM cleaned_runs WHERE name = ? ORDER BY run_index LIMIT 1"


@pytest.fixture
def runs(data, monkeypatch):
    """Two published runs."""
    monkeypatch.setenv("PERF_ASSETS_DATA", str(data.root))
    for name, latency_ms in (("a", 10.0), ("b", 11.0)):
        write_profile(data, f"runs/{name}.jsonl", latency_ms, START)
    pipeline.ingest(data)
    return data


def call(*arguments: str):
    answer = CliRunner().invoke(cli, arguments)
    assert answer.exit_code == 0, answer.output


def run_id(data, name: str) -> str:
    return sql(data, "SELECT run_id FROM cleaned_runs WHERE name = ?", name)[0][0]


def test_words_reach_the_tables_and_the_last_one_counts(runs):
    first = run_id(runs, "a")
    call("tag", "good", first)
    call("tag", "release 2", first)
    call("note", "fan was loud", first)
    call("exclude", first, "--why", "wrong clock")
    assert sql(runs, STATE, "a") == [(["good", "release 2"], "wrong clock\nfan was loud", True)]
    assert sql(runs, STATE, "b") == [([], None, False)]
    call("tag", "good", first, "--remove")
    call("exclude", first, "--undo")
    assert sql(runs, STATE, "a") == [(["release 2"], "wrong clock\nfan was loud", False)]
    assert len(annotations_file(runs).read_text().splitlines()) == 6
    query = "SELECT records FROM source_files WHERE format = 'run_annotations' AND status = 'ingested'"
    assert sql(runs, query) == [(6,)]


def test_words_survive_a_rebuild_and_a_move(runs):
    call("exclude", "--where", "name = 'a'", "--why", "noise")
    before = sql(runs, "FROM cleaned_runs ORDER BY run_id")
    pipeline.rebuild(runs)
    assert sql(runs, "FROM cleaned_runs ORDER BY run_id") == before
    (runs.drops / "runs" / "a.jsonl").rename(runs.drops / "a.jsonl")
    pipeline.ingest(runs)
    assert sql(runs, STATE, "a") == [([], "noise", True)]


def test_words_follow_a_log_that_grew_and_not_another_run_in_its_place(runs):
    old = run_id(runs, "a")
    call("tag", "kept", old)
    file = runs.drops / "runs" / "a.jsonl"
    file.write_text(file.read_text() * 2)
    pipeline.ingest(runs)
    assert run_id(runs, "a") != old
    assert sql(runs, "SELECT tags FROM cleaned_runs WHERE name = 'a' ORDER BY run_index") == [
        (["kept"],),
        ([],),
    ]
    write_profile(runs, "runs/a.jsonl", 10.0, START.replace(day=2))
    pipeline.ingest(runs)
    assert sql(runs, STATE, "a") == [([], None, False)]


def test_excluded_runs_do_not_count(runs):
    from perf_assets.analysis.predictors.features.configurations import RUNS_QUERY

    call("exclude", run_id(runs, "a"))
    assert len(sql(runs, RUNS_QUERY)) == 1
    answer = CliRunner().invoke(cli, ["compare", "name:a", "name:b"])
    assert answer.exit_code == 3
    assert "excluded" in answer.output
    assert CliRunner().invoke(cli, ["compare", "name:a", "name:b", "--with-excluded"]).exit_code == 2


def test_wrong_lines_are_rejected(runs):
    file = annotations_file(runs)
    file.parent.mkdir(parents=True)
    good = '{"format": "perf_assets_annotation", "action": "tag", "value": "x", "path": "runs/a.jsonl", "run_index": 0}'
    wrong = [
        good.replace("tag", "shout"),
        good.replace('"x"', "[1]"),
        good.replace(": 0}", ": -1}"),
        good.replace('"path": "runs/a.jsonl", ', ""),
        good.replace("}", ', "said_at": "yesterday"}'),
        "[" * 5000,
        '{"format": "perf_assets_annotation"',
    ]
    file.write_text("\n".join([good, *wrong]) + "\n")
    pipeline.ingest(runs)
    assert sql(runs, STATE, "a") == [(["x"], None, False)]
    query = "SELECT records, rejected FROM source_files WHERE format = 'run_annotations'"
    assert sql(runs, query) == [(1, len(wrong))]
