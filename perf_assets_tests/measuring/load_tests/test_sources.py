"""Other sources and what is measured around them: an OpenAI-compatible endpoint, the real perf_analyzer, energy,
recorded commands."""

import os
import shutil
import stat
import sys

import pytest

from perf_assets.intake.pipeline import ingest
from perf_assets.measuring.load_tests.requests import LoadError
from perf_assets.measuring.load_tests.runner import run_study
from perf_assets.measuring.load_tests.study import parse_study, read_study
from perf_assets_tests.measuring.load_tests.studies import lines, log_of, study
from perf_assets_tests.support import EXAMPLES, ROOT, sql

TWIN = {"kind": "openai_twin", "tokens": 8, "first_token_ms": 30.0, "token_ms": 10.0}


@pytest.fixture
def out(data):
    return data.drops / "load_tests"


def streaming(**load):
    return study(
        "llm", server=TWIN, model={"instances": [2]}, load={"source": "openai", "requests": 12, **load}
    )


def test_streamed_answers_tell_first_token_gaps_and_rate(data, out):
    run_study(streaming(levels=[2, 4]), out)
    ingest(data)
    rows = sql(
        data,
        "SELECT level, ttft_p50_us / 1000, itl_p50_us / 1000, tokens_per_s, throughput_per_s, mean_in_flight"
        " FROM cleaned_load_levels ORDER BY level",
    )
    [two, four] = rows
    whole_ms = 30 + 7 * 10
    assert two[1] == pytest.approx(30, rel=0.25)
    assert two[2] == pytest.approx(10, rel=0.25)
    assert four[1] > 30 + 0.8 * whole_ms  # two wait for two whole answers
    for level, _, _, tokens_per_s, throughput_per_s, mean_in_flight in rows:
        assert tokens_per_s == pytest.approx(8 * throughput_per_s, rel=0.01)
        assert mean_in_flight == pytest.approx(level, rel=0.05)


def test_an_unknown_model_and_failing_answers_are_clear(out):
    wrong = study("llm", server=TWIN, model={"name": "other"}, load={"source": "openai", "levels": [1]})
    with pytest.raises(LoadError, match=r"no model 'other'; it has timed: check model\.name"):
        run_study(wrong, out)
    failing = study(
        "f", server=TWIN | {"fail_every": 1}, load={"source": "openai", "levels": [1], "requests": 5}
    )
    with pytest.raises(LoadError, match=r"HTTP 500: .*fails as asked for"):
        run_study(failing, out)


METER = """
import os
class NVMLError(Exception): pass
def nvmlInit(): pass
def nvmlDeviceGetCount(): return 1
def nvmlDeviceGetHandleByIndex(index): return "gpu"
def nvmlDeviceGetHandleByUUID(uuid): return "gpu"
def nvmlDeviceGetUUID(gpu): return "GPU-0b1c"
def nvmlDeviceGetPowerUsage(gpu): return 250_000 if os.path.exists(os.environ["LOADED"]) else 100_000
"""


def test_joules_of_a_request_are_net_of_idle(data, out, tmp_path, monkeypatch):
    """The device draws 100 W, and 150 W more from the moment that load begins."""
    pytest.importorskip("tritonclient.grpc")
    (tmp_path / "pynvml.py").write_text(METER)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    monkeypatch.setenv("LOADED", str(tmp_path / "loaded"))
    declared = study(load={"levels": [1], "requests": 30}, hz=20.0).model_copy(update={"idle_s": 0.6})
    from perf_assets.measuring.load_tests import runner

    measured = runner.closed_loop

    def loaded(*arguments):
        (tmp_path / "loaded").touch()
        return measured(*arguments)

    monkeypatch.setattr(runner, "closed_loop", loaded)
    run_study(declared, out)
    [level] = lines(log_of(out), "level")
    per_request_s = level["window_s"] / level["requests"]
    assert level["idle_power_w"] == pytest.approx(100, rel=0.02)
    assert level["mean_power_w"] == pytest.approx(250, rel=0.02)
    assert level["joules_per_request"] == pytest.approx(150 * per_request_s, rel=0.05)
    assert level["gross_joules_per_request"] == pytest.approx(250 * per_request_s, rel=0.05)
    ingest(data)
    assert sql(data, "SELECT energy_basis, energy_j > 0 FROM cleaned_runs") == [("run", True)]


PERF_ANALYZER = shutil.which(os.environ.get("PERF_ANALYZER", "perf_analyzer"))


@pytest.mark.skipif(PERF_ANALYZER is None, reason="no perf_analyzer: 'make test-pa' fetches it")
@pytest.mark.parametrize(("mode", "levels"), [("concurrency", [1, 3]), ("request_rate", [30])])
def test_perf_analyzer_and_our_own_load_make_the_same_rows(data, out, mode, levels):
    pytest.importorskip("tritonclient.grpc")
    for source in ("generator", "perf_analyzer"):
        load = {
            "source": source,
            "mode": mode,
            "levels": levels,
            "requests": 60,
            "perf_analyzer": PERF_ANALYZER or "",
        }
        run_study(study(source, model={"instances": [2]}, load=load), out)
    ingest(data)
    columns = (
        "mode",
        "level",
        "model_instances",
        "requests",
        "throughput_per_s",
        "p50_us",
        "avg_us",
        "queue_us",
    )
    rows = {
        source: sql(
            data,
            f"SELECT {', '.join(columns)} FROM cleaned_load_levels WHERE run_id IN"
            " (SELECT run_id FROM cleaned_runs WHERE config->>'source' = ?) ORDER BY level",
            source,
        )
        for source in ("generator", "perf_analyzer")
    }
    assert [row[:3] for row in rows["generator"]] == [row[:3] for row in rows["perf_analyzer"]]
    for ours, theirs in zip(rows["generator"], rows["perf_analyzer"], strict=True):
        assert None not in ours + theirs
        # On a machine that others use no closer; docs/studies.md has the table of a quiet one.
        place = columns.index("throughput_per_s")
        assert ours[place] == pytest.approx(theirs[place], rel=0.35)


def test_recorded_commands_of_a_study_are_read(data, tmp_path, monkeypatch):
    """traccc's study as it is shipped, with a program that prints what traccc does."""
    tool = tmp_path / "bin" / "traccc_throughput_mt"
    tool.parent.mkdir()
    log = EXAMPLES / "load_tests" / "traccc" / "out_gpu_mu200.log"
    for path in (tool, tool.with_name("traccc_throughput_mt_cuda")):
        path.write_text(f"#!/bin/sh\ncat {log}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    declared = read_study(ROOT / "studies" / "traccc.toml")
    fields = declared.model_dump(mode="json", exclude_unset=True)
    fields["commands"] |= {"repeats": 1, "parameters": {"program": ["", "_cuda"], "mu": [20, 300]}}
    monkeypatch.chdir(tmp_path)
    run_study(parse_study(fields), data.drops / "recordings")
    ingest(data)
    assert sql(data, "SELECT name, status FROM cleaned_runs WHERE workload = 'command' ORDER BY name") == [
        ("out_cuda_mu20", "ok"),
        ("out_cuda_mu300", "ok"),
        ("out_mu20", "ok"),
        ("out_mu300", "ok"),
    ]
    rows = sql(
        data,
        "SELECT DISTINCT (config->>'mu')::INT FROM cleaned_runs JOIN cleaned_stages USING (run_id)"
        " WHERE tool = 'traccc' ORDER BY 1",
    )
    assert rows == [(20,), (300,)]
