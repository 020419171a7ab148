"""The log survives being cut anywhere; the device lock survives its holder being killed."""

import itertools
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from perf_assets.measuring.devices.lock import DeviceBusyError, device_lock, holder
from perf_assets.measuring.recording.log import LogWriter, read_log


def written(path):
    with LogWriter(path, {"spec": {"network": "lenet5"}, "key": "k"}) as log:
        for block in range(3):
            log.write("sample", block=block, latency_ms=1.5, note="zwölf µs")
        log.write("result", status="ok", latency_ms=float("nan"), nested={"x": [float("inf"), 1.0]})
    return path


def test_log_reads_back(tmp_path):
    log = read_log(written(tmp_path / "a.jsonl"))
    assert log["status"] == "ok"
    assert log["header"]["format"] == "perf_assets_profile"
    assert [row["block"] for row in log["lines"]["sample"]] == [0, 1, 2]
    assert log["result"]["latency_ms"] is None
    assert log["result"]["nested"] == {"x": [None, 1.0]}
    assert log["rejected"] == []


def test_log_cut_at_any_byte_is_incomplete_and_loses_one_line_at_most(tmp_path):
    whole = written(tmp_path / "a.jsonl").read_bytes()
    header_end = whole.index(b"\n")
    cut = tmp_path / "cut.jsonl"
    for length in range(len(whole)):
        cut.write_bytes(whole[:length])
        if length < header_end:
            with pytest.raises(ValueError, match="first line must be the header"):
                read_log(cut)
            continue
        log = read_log(cut)
        complete_lines = whole[:length].count(b"\n")
        last_line_is_whole = length + 1 == len(whole) or whole[length : length + 1] == b"\n"
        assert log["status"] == ("ok" if length == len(whole) - 1 else "incomplete")
        assert sum(map(len, log["lines"].values())) == complete_lines + (
            last_line_is_whole and whole[length - 1 : length] != b"\n"
        )
        assert len(log["rejected"]) <= 1


def test_log_is_never_overwritten(tmp_path):
    written(tmp_path / "a.jsonl")
    with pytest.raises(FileExistsError):
        written(tmp_path / "a.jsonl")


def test_every_line_is_on_disk_at_once(tmp_path):
    with LogWriter(tmp_path / "a.jsonl", {}) as log:
        for count in range(1, 4):
            log.write("sample", block=count)
            assert len((tmp_path / "a.jsonl").read_text().splitlines()) == count + 1


HOLD = """
import sys, time
from pathlib import Path
from perf_assets.measuring.devices.lock import device_lock
with device_lock("GPU-1/2", folder=Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_killed_holder_frees_the_device(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline() == "held\n"
        facts = holder("GPU-1/2", tmp_path)
        assert facts["pid"] == child.pid
        assert sys.executable in facts["command"]
        with (
            pytest.raises(DeviceBusyError, match=f"process {child.pid} .*: wait for it, or end it"),
            device_lock("GPU-1/2", 0.2, tmp_path),
        ):
            pass
        with device_lock("another", folder=tmp_path):
            assert holder("another", tmp_path)["pid"] == os.getpid()
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert holder("GPU-1/2", tmp_path) is None
    with device_lock("GPU-1/2", folder=tmp_path):
        pass


def hold_for_a_moment(folder, spans):
    for _ in range(5):
        with device_lock("cpu", 60, folder):
            start = time.monotonic()
            time.sleep(0.01)
            spans.put((start, time.monotonic()))


def test_holders_never_overlap(tmp_path):
    context = multiprocessing.get_context("fork")
    spans = context.Queue()
    children = [context.Process(target=hold_for_a_moment, args=(tmp_path, spans)) for _ in range(6)]
    for child in children:
        child.start()
    found = sorted(spans.get(timeout=60) for _ in range(30))
    for child in children:
        child.join()
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(found))


def test_lock_file_of_a_free_device_names_nobody(tmp_path):
    with device_lock("cpu", folder=tmp_path) as path:
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert path.read_text() == ""
    assert holder("cpu", tmp_path) is None
    assert holder("never seen", tmp_path) is None
