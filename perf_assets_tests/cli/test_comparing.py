"""``compare`` from profiles in drops to an exit code."""

import json
from datetime import datetime, timedelta

import pytest
from click.testing import CliRunner

from perf_assets.cli.app import cli
from perf_assets.intake import pipeline


def write_profile(
    data, path: str, latency_ms: float, started_at: datetime, *, duration_s=5.0, timed=True, **spec
) -> None:
    """Drop a profile log of one run."""
    header = {
        "format": "perf_assets_profile",
        "line": "header",
        "started_at": started_at.isoformat() if timed else None,
        "spec": {"network": "tinynet", "stage": "inference", "batch_size": 8, "input_size": 64, **spec},
        "host": {"hostname": "node1"},
        "device": {"name": "NVIDIA A40"},
        "environment": {},
    }
    result = {
        "line": "result",
        "status": "ok",
        "verdict": "stable",
        "latency_ms": latency_ms,
        "duration_s": duration_s,
    }
    target = data.drops / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("".join(json.dumps({"at_s": 0.0, **line}) + "\n" for line in (header, result)))


@pytest.fixture
def studies(data, monkeypatch):
    """Twelve runs of one revision, twelve slower ones of the next, three of another size."""
    monkeypatch.setenv("PERF_ASSETS_DATA", str(data.root))
    start = datetime(2026, 3, 1, 2)
    for i in range(12):
        wobble = 0.03 * (i % 5)
        write_profile(data, f"old/o{i:02}.jsonl", 10 + wobble, start + timedelta(days=i))
        write_profile(data, f"new/n{i:02}.jsonl", 12 + wobble, start + timedelta(days=20 + i))
        write_profile(data, f"same/s{i:02}.jsonl", 10.01 + wobble, start + timedelta(days=40 + i))
    for i in range(3):
        write_profile(data, f"large/l{i}.jsonl", 30.0, start, input_size=224)
    pipeline.ingest(data)
    return data


def call(*arguments: str):
    return CliRunner().invoke(cli, ["compare", *arguments])


def test_exit_codes_tell_slower_same_and_open(studies):
    assert call("old", "new").exit_code == 1
    assert "slower" in call("old", "new").stdout
    assert call("new", "old").exit_code == 0
    assert call("old", "same").exit_code == 0
    assert call("name:o0[0-4]", "name:s0[0-4]").exit_code == 2
    assert call("old", "large").exit_code == 2
    assert call("old", "large").stdout.startswith("Not compared: not the same work: input_size is 64")


def test_errors_are_told_from_answers(studies):
    for arguments in (("old", "nothing"), ("old", "where:no_such_column = 1"), ("old", "old")):
        answer = call(*arguments)
        assert answer.exit_code == 3, answer.output
    assert call("old").exit_code == 2
    assert "Usage" in call("old").output


def test_history_is_the_baseline_where_none_is_named(studies):
    answer = call("new", "--baseline", "--json")
    values = json.loads(answer.stdout)
    assert answer.exit_code == values["exit_code"] == 1
    (metric,) = values["metrics"]
    assert (metric["baseline_n"], metric["n"]) == (12, 12)
    assert metric["ratio"] == pytest.approx(1.2, rel=0.01)
    assert call("new", "--baseline", "old", "--metric", "latency_ms").exit_code == 1


def test_markdown_is_a_table_whose_cells_hold(studies):
    text = call("where:name LIKE 'o%' OR name = '|'", "new", "--markdown").stdout
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 3
    assert {line.replace("\\|", "").count("|") for line in rows} == {8}
    assert text.startswith("### 12 runs (path new) against 12 runs (")


def test_runs_can_be_named_by_id(studies):
    from perf_assets_tests.support import sql

    ids = [
        ",".join(row[0] for row in sql(studies, f"SELECT run_id FROM cleaned_runs WHERE name GLOB '{sign}*'"))
        for sign in "on"
    ]
    assert call(*ids).exit_code == 1


def test_regressions_are_published_and_fail(studies):
    from perf_assets_tests.support import sql

    start = datetime(2026, 6, 1, 2)
    for night in range(13):
        for repeat in range(5):
            latency_ms = (12 if night == 12 else 10) + 0.02 * repeat
            when = start + timedelta(days=night, minutes=repeat)
            write_profile(studies, f"nightly/n{night:02}_{repeat}.jsonl", latency_ms, when, batch_size=16)
    pipeline.ingest(studies)
    answer = CliRunner().invoke(cli, ["regressions", "--json"])
    assert answer.exit_code == 1
    (row,) = [row for row in json.loads(answer.stdout) if "batch_size=16" in row["configuration"]]
    assert (row["verdict"], row["n"], row["baseline_n"]) == ("slower", 5, 60)
    query = "SELECT verdict, ratio FROM regressions WHERE is_newest AND configuration LIKE '%batch_size=16%'"
    ((verdict, ratio),) = sql(studies, query)
    assert verdict == "slower"
    assert ratio == pytest.approx(1.2, rel=0.01)
