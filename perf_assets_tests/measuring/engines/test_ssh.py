"""What only boards have: files that travel, connections that break, and site files that do not fit."""

import os
import re
import sys
import threading
from pathlib import Path

import pytest

from perf_assets.measuring.engines import ssh
from perf_assets.measuring.engines.engine import (
    EXIT_CODE_FILE,
    EngineError,
    EngineUnreachableError,
    Job,
    State,
    Status,
    Watcher,
    run_job,
)
from perf_assets.measuring.engines.site import load_site
from perf_assets.measuring.engines.ssh import SshEngine
from perf_assets_tests.measuring.engines.small_sshd import needs_sshd, small_sshd
from perf_assets_tests.support import ROOT, wait_for

pytestmark = needs_sshd


@pytest.fixture(scope="module")
def sshd(tmp_path_factory):
    with small_sshd(tmp_path_factory.mktemp("sshd")) as sshd:
        yield sshd


@pytest.fixture
def engine(sshd):
    return SshEngine(load_site(sshd.site))


def job(tmp_path, script: str, *arguments: str, **options) -> Job:
    work = tmp_path / "work"
    work.mkdir(exist_ok=True)
    return Job("pa-board", [sys.executable, "-u", "-c", script, *arguments], work, device="alpha", **options)


def test_work_folder_goes_there_and_logs_come_back(engine, sshd, tmp_path):
    """Into folders of its own: the command gets the board's paths, and never sees this machine's."""
    out = tmp_path / "drops" / "a folder"
    script = """
import pathlib, sys
question, out = map(pathlib.Path, sys.argv[1:])
print(question.read_text(), question.is_relative_to(sys.path[0] or '/'), out)
(out / 'one.jsonl').write_text('1')
(out / 'recording').mkdir()
(out / 'recording' / 'stdout.txt').write_text('2')
"""
    the_job = job(tmp_path, script, str(tmp_path / "work" / "question.txt"), str(out), out=out)
    (the_job.work_dir / "question.txt").write_text("what?")
    lines: list[str] = []
    assert run_job(engine, the_job, Watcher(on_output=lines.append)).state is State.SUCCEEDED
    assert lines[0].startswith("what? ")
    assert str(sshd.folder) in lines[0]
    files = {path.relative_to(out).as_posix(): path.read_text() for path in out.rglob("*") if path.is_file()}
    assert files == {"one.jsonl": "1", "recording/stdout.txt": "2"}
    assert [path.name for path in out.iterdir() if path.name.startswith(".")] == []


def test_logs_that_were_left_behind_come_with_the_next_job(engine, tmp_path):
    out = tmp_path / "drops"
    script = "import pathlib, sys; (pathlib.Path(sys.argv[1]) / sys.argv[2]).write_text('x')"
    for name in ("first", "second"):
        run_job(engine, job(tmp_path, script, str(out), f"{name}.jsonl", out=out))
        (tmp_path / "work" / "job.json").unlink()
        if name == "first":
            (out / "first.jsonl").unlink()
    assert sorted(path.name for path in out.iterdir()) == ["first.jsonl", "second.jsonl"]


def test_a_connection_that_breaks_is_not_the_end_of_the_job(engine, sshd, tmp_path):
    gate, lines = tmp_path / "gate", []
    script = f"""
import os, time
print('begun')
while not os.path.exists({str(gate)!r}): time.sleep(0.05)
print('done')
"""
    statuses = []

    def on_output(line):
        lines.append(line)
        if line == "begun":
            assert sshd.break_connections() == 1
            gate.touch()

    watcher = Watcher(on_output, lambda job_id, status: statuses.append((job_id, status.state)))
    assert run_job(engine, job(tmp_path, script), watcher).state is State.SUCCEEDED
    assert lines == ["begun", "done"]
    assert len({job_id for job_id, _ in statuses}) == 1


def test_a_board_that_is_away_while_its_job_ends(sshd, tmp_path, monkeypatch):
    monkeypatch.setattr(ssh, "RECONNECT_S", 0.2)
    with small_sshd(tmp_path / "another") as away:
        engine = SshEngine(load_site(away.site))
        ended = tmp_path / "ended"
        script = f"import time; print('go'); time.sleep(2); open({str(ended)!r}, 'w').close()"

        def leave():
            away.stop()
            wait_for(ended.exists)
            away.start()

        lines: list[str] = []
        thread = threading.Thread(target=leave)
        status = run_job(
            engine, job(tmp_path, script), Watcher(lambda line: (lines.append(line), thread.start()))
        )
        thread.join()
    assert status.state is State.SUCCEEDED
    assert lines == ["go"]


def test_a_cancelled_job_leaves_no_process_and_its_logs_come_back(engine, tmp_path):
    out, pids = tmp_path / "drops", []
    script = """
import pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])
(pathlib.Path(sys.argv[1]) / 'so far.jsonl').write_text('x')
print(child.pid)
time.sleep(600)
"""

    def on_output(line):
        pids.append(int(line))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(engine, job(tmp_path, script, str(out), out=out), Watcher(on_output))
    assert engine.find("pa-board") == []
    wait_for(lambda: not _is_alive(pids[0]))
    assert [path.name for path in out.iterdir()] == ["so far.jsonl"]


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_board_that_was_started_anew_has_lost_its_job(engine, tmp_path):
    the_job = job(tmp_path, "pass")
    job_id = engine.submit(the_job)
    assert _end_of(engine, job_id, the_job).state is State.SUCCEEDED
    of_another_start = re.sub(r"(?<=/)\w+", "0" * 8, job_id)
    # Its exit code outlives the start.
    assert _end_of(engine, of_another_start, the_job).state is State.SUCCEEDED
    for code in Path(engine.site.board_of("alpha").folder).rglob(EXIT_CODE_FILE):
        code.unlink()
    status = _end_of(engine, of_another_start, the_job)
    assert (status.state, status.reason) == (State.LOST, "the board was started anew")


def _end_of(engine, job_id: str, the_job: Job) -> Status:
    statuses = []

    def has_ended():
        statuses.append(engine.poll(job_id, the_job.work_dir))
        return statuses[-1].state.is_final

    wait_for(has_ended)
    return statuses[-1]


WRONG_BOARDS = {
    "host": ({"host": "no-such-host.invalid"}, "correct its host"),
    "nobody listens": ({"ssh_options": ["Port=1"]}, "is it up"),
    "host key": (
        {"ssh_options": ["UserKnownHostsFile=/dev/null", "Port={port}"]},
        "connect once by hand with 'ssh 127.0.0.1'",
    ),
    "user key": ({"ssh_options": ["IdentityFile=/dev/null"]}, "authorized_keys"),
    "option": ({"ssh_options": ["Prot=22"]}, "correct its ssh_options"),
    "folder": ({"folder": "/proc/no/such"}, "correct its folder"),
    "python": ({"python": "/no/such/python"}, "correct its python and setup"),
    "without the package": ({"setup": []}, "install perf_assets"),
    "another version": ({"setup": ["export PYTHONPATH={old}"]}, "install the same version"),
}


@pytest.mark.parametrize("name", WRONG_BOARDS)
def test_wrong_boards_are_one_line_with_the_cure(sshd, tmp_path, name):
    changes, cure = WRONG_BOARDS[name]
    old = _other_version(tmp_path)
    changes = {
        key: [each.format(port=sshd.port, old=old) for each in value] if isinstance(value, list) else value
        for key, value in changes.items()
    }
    if "ssh_options" in changes and name != "host key":
        first = [each.partition("=")[0] for each in changes["ssh_options"]]
        rest = [each for each in sshd.options if each.partition("=")[0] not in first]
        changes["ssh_options"] += rest
    if name == "without the package":
        changes["python"] = _bare_python(tmp_path)
    engine = SshEngine(load_site(sshd.write_site(tmp_path / "site.toml", **changes)))
    with pytest.raises(EngineError, match=cure) as caught:
        run_job(engine, job(tmp_path, "pass"))
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "site.toml") in str(caught.value)
    assert "[devices.alpha]" in str(caught.value)
    assert not (tmp_path / "work" / "job.json").exists()


def _bare_python(tmp_path: Path) -> str:
    wrapper = tmp_path / "python"
    wrapper.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    wrapper.chmod(0o755)
    return str(wrapper)


def _other_version(tmp_path: Path) -> Path:
    """A folder with this package, and what says that it was installed in another version."""
    folder = tmp_path / "old"
    (folder / "perf_assets-0.0.1.dist-info").mkdir(parents=True)
    (folder / "perf_assets-0.0.1.dist-info" / "METADATA").write_text("Name: perf-assets\nVersion: 0.0.1\n")
    (folder / "perf_assets").symlink_to(ROOT / "perf_assets")
    return folder


def test_boards_and_whether_they_answer(sshd, tmp_path):
    engine = SshEngine(load_site(sshd.site))
    assert [tuple(board) for board in engine.boards()] == [
        ("alpha", "127.0.0.1", "answers"),
        ("beta", "127.0.0.1", "answers"),
    ]
    away = SshEngine(load_site(sshd.write_site(tmp_path / "site.toml", ssh_options=["Port=1"])))
    assert all("is it up" in board.state for board in away.boards())
    with pytest.raises(EngineUnreachableError, match="is it up"):
        away.find("pa-")


def test_ssh_is_not_installed(sshd, tmp_path, monkeypatch):
    engine = SshEngine(load_site(sshd.site))
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    with pytest.raises(EngineError, match="openssh-client"):
        run_job(engine, job(tmp_path, "pass"))
