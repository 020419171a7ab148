"""Studies of the embedded server from declaration to rows: saturation, Little's law, overload, stalls, and what
goes wrong."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from perf_assets.intake.pipeline import ingest
from perf_assets.measuring.load_tests.requests import LoadError
from perf_assets.measuring.load_tests.runner import run_study
from perf_assets.store.database import open_readonly
from perf_assets.store.invariants import CHECKS
from perf_assets_tests.measuring.load_tests.studies import (
    SERVICE_MS,
    lines,
    log_of,
    server_processes,
    study,
)
from perf_assets_tests.support import ROOT, sql, wait_for

# The optional dependency of load over gRPC.
pytest.importorskip("tritonclient.grpc")


@pytest.fixture
def out(data):
    return data.drops / "load_tests"


@pytest.fixture(autouse=True)
def nothing_is_left_over():
    yield
    wait_for(lambda: not server_processes(), why=lambda: str(server_processes()))


def offending(data, name):
    (check,) = [check for check in CHECKS if check.name == name]
    with open_readonly(data.database) as connection:
        return connection.execute(check.sql).fetchall()


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_throughput_saturates_at_the_number_of_instances(data, out, protocol):
    run_study(study(model={"instances": [2]}, load={"levels": [1, 2, 4], "protocol": protocol}), out)
    ingest(data)
    rows = sql(
        data,
        "SELECT level, throughput_per_s, queue_us, compute_infer_us, mean_in_flight, requests, verdict"
        " FROM cleaned_load_levels ORDER BY level",
    )
    by_level = {row[0]: row for row in rows}
    capacity_per_s = 2 * 1000 / SERVICE_MS
    assert by_level[1][1] < 0.6 * capacity_per_s
    assert by_level[4][1] == pytest.approx(capacity_per_s, rel=0.15)
    assert by_level[2][1] > 1.5 * by_level[1][1]
    # The server's own parts: two wait while two are served.
    assert by_level[4][2] > 0.5 * by_level[4][3] > 0
    for level, _, _, _, mean_in_flight, requests, _ in rows:
        assert mean_in_flight == pytest.approx(level, rel=0.05)
        assert requests == 24
    assert offending(data, "littles_law_of_own_load") == []
    # Every request is kept, and its times make the level's numbers.
    [(kept, mean_us, told_us)] = sql(
        data,
        "SELECT count(*), avg(s.metrics['latency_us']), any_value(l.avg_us) FROM cleaned_samples AS s"
        " JOIN cleaned_load_levels AS l ON l.run_id = s.run_id AND l.level = s.metrics['level']"
        " WHERE l.level = 4 AND s.metrics['latency_us'] IS NOT NULL",
    )
    assert kept == 24
    assert mean_us == pytest.approx(told_us, abs=1)
    assert sql(data, "SELECT status, workload, tool FROM cleaned_runs") == [
        ("ok", "load_test", "perf_assets")
    ]


def test_overload_is_no_healthy_row(data, out):
    levels = [15, 90]  # of at most 50 a second
    run_study(study(load={"mode": "request_rate", "levels": levels, "requests": 80}), out)
    ingest(data)
    [healthy, overloaded] = sql(
        data,
        "SELECT verdict, unanswered_pct, delayed_pct, throughput_per_s FROM cleaned_load_levels ORDER BY level",
    )
    assert healthy[0] != "overloaded"
    assert overloaded[0] == "overloaded"
    assert overloaded[1] > 25
    assert overloaded[2] is not None
    assert overloaded[3] < 60
    assert offending(data, "overload_is_told") == []


def test_a_limit_of_requests_under_way_is_told_as_delay(out):
    few = {"mode": "request_rate", "levels": [100], "requests": 60, "most_in_flight": 2}
    run_study(study(load=few), out)
    [level] = lines(log_of(out), "level")
    assert level["delayed_pct"] > 20
    assert level["verdict"] == "overloaded"
    # What waited to be sent waited for its answer.
    [requests] = lines(log_of(out), "requests")
    assert all(
        late <= latency for late, latency in zip(requests["late_us"], requests["latency_us"], strict=True)
    )
    assert max(requests["late_us"]) > 200_000


def test_a_stalled_server_shows_in_the_tail(out):
    """One stall of 600 ms: at 25 requests a second it delays some 15 of 100 that were due meanwhile. A loop that
    waits for answers would have sent one."""
    stall = {"stall_at_request": 60, "stall_ms": 600.0, "service_ms": 5.0}
    rate = {"mode": "request_rate", "levels": [25], "requests": 100, "most_in_flight": 64}
    run_study(study(server=stall, load=rate), out)
    [level] = lines(log_of(out), "level")
    assert level["p99_us"] > 500_000
    assert level["p95_us"] > 250_000
    assert level["p50_us"] < 100_000


def test_repeats_end_when_their_interval_is_tight_or_the_budget_ends(out):
    # Nothing is as tight as that.
    never = {"least": 2, "most": 4, "tolerance": 1e-6, "budget_s": 600.0}
    run_study(study("many", load={"levels": [1], "requests": 10}, repeats=never), out)
    run_study(study("few", load={"levels": [1], "requests": 10}, repeats={**never, "budget_s": 0.01}), out)
    wide = {**never, "most": 30, "tolerance": 1.0}
    run_study(study("tight", load={"levels": [1], "requests": 10}, repeats=wide), out)
    repeats = {path.name.split("-")[0]: lines(path, "level")[0] for path in out.glob("*.jsonl")}
    assert (repeats["many"]["repeats"], repeats["few"]["repeats"]) == (4, 1)
    assert 2 <= repeats["tight"]["repeats"] < 30
    assert repeats["many"]["verdict"] == "unstable"
    assert repeats["tight"]["verdict"] == "stable"


def free_port() -> socket.socket:
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    return taken


def test_a_taken_port_is_named(out):
    with free_port() as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            LoadError, match=f"port {port} is taken: end what listens there, or choose another"
        ):
            run_study(study(server={"grpc_port": port}, load={"levels": [1]}), out)


@pytest.mark.parametrize(
    ("server", "message"),
    [
        (
            {"kind": "command", "command": ["sleep", "60"], "ready_timeout_s": 0.5},
            "the server was not ready after 0.5 s",
        ),
        (
            {"kind": "command", "command": ["sh", "-c", "echo no models here; exit 3"]},
            "the server ended with exit code 3; it said last: no models here",
        ),
        ({"kind": "command", "command": ["no-such-server"]}, "no-such-server: No such file or directory"),
        ({"kind": "running", "url": "127.0.0.1:9", "ready_timeout_s": 0.5}, "was not ready after 0.5 s"),
        (
            {"fail_every": 2},
            r"concurrency 1: 12 of 24 requests failed: INTERNAL: request \d+ fails as asked for",
        ),
        (
            {"wrong_shape": True},
            r"output 'OUTPUT0' has the shape \[1, 17\], the model's metadata promise \[-1, 16\]",
        ),
    ],
)
def test_what_goes_wrong_is_one_clear_error(data, out, server, message):
    with pytest.raises(LoadError, match=message) as raised:
        run_study(study(server=server, load={"levels": [1]}), out)
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith("study small")
    ingest(data)
    statuses = [status for (status,) in sql(data, "SELECT status FROM cleaned_runs")]
    assert set(statuses) <= {"failed"}


def test_a_server_that_dies_keeps_finished_levels_and_the_study_goes_on(data, out):
    """It dies in the second level of three; started again with nothing to die of, the study measures the other
    two."""
    dying = study(
        server={"die_at_request": 30, "service_ms": 10.0}, load={"levels": [1, 2, 3], "requests": 16}
    )
    with pytest.raises(
        LoadError, match=r"exit code 3.*1 finished levels are kept in .*; the next start goes on"
    ):
        run_study(dying, out)
    ingest(data)
    assert sql(data, "SELECT level FROM cleaned_load_levels") == [(1.0,)]
    assert sql(data, "SELECT status FROM cleaned_runs") == [("failed",)]
    with pytest.raises(LoadError):  # the same study dies at the same request, counted from its server's start
        run_study(dying, out)
    path = log_of(out)
    assert [row["level"] for row in lines(path, "level")] == [1, 2]
    report = run_study(dying, out)
    assert (report.known, report.measured) == (2, 1)
    ingest(data)
    assert sql(data, "SELECT level FROM cleaned_load_levels ORDER BY level") == [(1.0,), (2.0,), (3.0,)]
    assert sql(data, "SELECT status FROM cleaned_runs") == [("ok",)]
    # What is finished is measured anew, into a log of its own.
    run_study(study(load={"levels": [1]}), out)
    assert len(list(out.glob("*.jsonl"))) == 2


def test_a_killed_study_leaves_no_process_and_goes_on(data, tmp_path, out):
    declared = study(load={"levels": [1, 2, 3], "requests": 24}, hz=5.0)
    (tmp_path / "study.json").write_text(declared.model_dump_json(exclude_unset=True))
    command = [
        sys.executable,
        "-m",
        "perf_assets.measuring.load_tests",
        "--study",
        str(tmp_path / "study.json"),
    ]
    running = subprocess.Popen(
        [*command, "--out", str(out)], env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL
    )
    wait_for(lambda: any(lines(path, "level") for path in out.glob("*.jsonl")))
    running.send_signal(signal.SIGKILL)
    running.wait()
    wait_for(lambda: not server_processes(), why=lambda: str(server_processes()))
    ingest(data)
    assert sql(data, "SELECT status FROM cleaned_runs") == [("incomplete",)]
    report = run_study(declared, out)
    assert report.known >= 1
    assert report.known + report.measured == 3
    ingest(data)
    assert sql(
        data, "SELECT status, count(*) FROM cleaned_runs JOIN cleaned_load_levels USING (run_id) GROUP BY 1"
    ) == [("ok", 3)]


def test_the_same_study_does_not_run_twice_at_once(out):
    from perf_assets.workspace.locks import exclusive

    declared = study(load={"levels": [1]})
    with (
        exclusive(out / f".{declared.name}-{declared.key[:8]}.lock"),
        pytest.raises(LoadError, match="runs already with its logs in"),
    ):
        run_study(declared, out)
