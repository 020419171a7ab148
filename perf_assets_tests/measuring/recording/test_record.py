"""A recorded command: the kernel's figures, its output, signals, kills, many at once, and the energy of a known
trace."""

import math
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from perf_assets.intake.pipeline import ingest
from perf_assets_tests.measuring.recording.recorder import (
    FAKE_NVML,
    command,
    environment,
    last,
    lines,
    record,
)
from perf_assets_tests.support import EXAMPLES, sql, wait_for

BURN = """
import sys, time
block = bytearray(48 << 20)
block[::4096] = bytes(len(block[::4096]))
while time.process_time() < 1.5:
    sum(range(1000))
"""
GNU_TIME = "/usr/bin/time"


@pytest.fixture
def out(data) -> Path:
    return data.drops / "recordings"


@pytest.mark.skipif(not os.path.exists(GNU_TIME), reason="GNU time is not installed")
def test_time_and_memory_are_those_of_gnu_time(out):
    done = record(out, GNU_TIME, "-v", sys.executable, "-c", BURN)
    result = last(lines(out), "result")

    def told(title):
        return re.search(rf"{title}.*: (\S+)$", done.stderr, re.MULTILINE)[1]

    cpu_s = float(told("User time")) + float(told("System time"))
    minutes, seconds = told("Elapsed").split(":")
    assert result["cpu_s"] == pytest.approx(cpu_s, rel=0.02, abs=0.02)  # it prints hundredths, cut off
    assert result["largest_rss_mib"] == pytest.approx(int(told("Maximum resident")) / 1024, rel=0.02)
    # Starting two programs takes a moment of its own on a loaded machine.
    assert result["duration_s"] == pytest.approx(60 * int(minutes) + float(seconds), rel=0.02, abs=0.1)


def test_memory_of_a_small_command_is_not_the_recorders(out):
    record(out, "/bin/sleep", "0.1")
    assert 0 < last(lines(out), "result")["largest_rss_mib"] < 8  # Python needs more


def test_children_that_nobody_waits_for_are_counted(out):
    """The middle process ends at once, and its child burns on until the command ends."""
    burn = "while time.process_time() < 0.4: pass"
    orphan = f"import os, time\nif os.fork() == 0:\n    if os.fork() == 0:\n        {burn}\n    os._exit(0)\n"
    record(out, sys.executable, "-c", f"{orphan}os.wait()\ntime.sleep(1.5)\n")
    assert last(lines(out), "result")["cpu_s"] > 0.35


def test_outcome_and_output_are_passed_on(out):
    script = "import sys; print('to stdout'); print('to stderr', file=sys.stderr); sys.exit(7)"
    done = record(out, sys.executable, "-c", script)
    assert done.returncode == 7
    assert done.stdout == "to stdout\n"
    assert "to stderr\n" in done.stderr
    assert (last(lines(out), "result")["status"], last(lines(out), "result")["exit_code"]) == ("failed", 7)
    (folder,) = out.iterdir()
    assert (folder / "stdout.txt").read_text() == "to stdout\n"


def test_what_cannot_be_started_makes_no_drop(out):
    done = record(out, "no-such-program")
    assert done.returncode == 127
    assert done.stderr == "no-such-program: no such program: give its path, or install it\n"
    assert not out.exists()


def started(out: Path, *arguments: str) -> subprocess.Popen:
    """A recorder whose command runs."""
    recorder = subprocess.Popen(
        command(out, *arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment()
    )
    wait_for(lambda: any('"sample"' in log.read_text() for log in out.glob("*/recording.jsonl")))
    return recorder


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_reach_the_command(out, number):
    """It may end in its own way: here with 5."""
    script = (
        "import signal, sys, time\n"
        "def end(*_): print('saving'); sys.exit(5)\n"
        "signal.signal(signal.SIGTERM, end); signal.signal(signal.SIGINT, end)\n"
        "print('ready', flush=True); time.sleep(60)\n"
    )
    recorder = started(out, sys.executable, "-c", script)
    (folder,) = out.iterdir()
    wait_for(lambda: "ready" in (folder / "stdout.txt").read_text())
    recorder.send_signal(number)
    assert recorder.wait(20) == 5
    assert (folder / "stdout.txt").read_text() == "ready\nsaving\n"


def test_whoever_is_killed_the_drop_reads(data, out):
    cases = {
        "incomplete recorder": ("recorder",),
        "failed command": ("command",),
        "incomplete both": ("recorder", "command"),
    }
    for case, killed in cases.items():
        place = out / case.split()[1]
        recorder = started(place, "sh", "-c", "echo before; exec sleep 60")
        pid = last(lines(place), "start")["pid"]
        (folder,) = place.iterdir()
        wait_for((folder / "stdout.txt").read_text)
        for name in killed:
            os.kill(recorder.pid if name == "recorder" else pid, signal.SIGKILL)
        assert recorder.wait(20) == (-9 if "recorder" in killed else 137)
        assert (folder / "stdout.txt").read_text() == "before\n"
        if "command" not in killed:
            os.kill(pid, signal.SIGKILL)  # it went on unharmed
    ingest(data)
    rows = sql(
        data,
        "SELECT r.status || ' ' || split_part(f.path, '/', 2), r.duration_s > 0, count(s.run_id) >= 1"
        " FROM cleaned_runs AS r JOIN source_files AS f USING (file_id) LEFT JOIN cleaned_samples AS s USING (run_id)"
        " GROUP BY ALL ORDER BY 1",
    )
    assert rows == [(case, True, True) for case in sorted(cases)]


def test_twenty_at_once_do_not_mix(data, out):
    recorders = [
        subprocess.Popen(
            command(out, "sh", "-c", f"echo mark-{i}; exit {i}", options=("--name", f"job{i}")),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(),
        )
        for i in range(20)
    ]
    for i, recorder in enumerate(recorders):
        output, _ = recorder.communicate(timeout=60)
        assert (recorder.returncode, output) == (i, f"mark-{i}\n".encode())
    for folder in out.iterdir():
        assert (folder / "stdout.txt").read_text() == f"mark-{folder.name.split('-')[0][3:]}\n"
    ingest(data)
    assert sorted(
        sql(data, "SELECT name, (config->'result'->>'exit_code')::INT FROM cleaned_runs")
    ) == sorted((f"job{i}", i) for i in range(20))


def test_energy_of_a_known_trace_is_found_both_ways(data, out, tmp_path):
    (tmp_path / "pynvml.py").write_text(FAKE_NVML)
    # Another recording polls the same GPU meanwhile.
    other = subprocess.Popen(
        command(data.drops / "other", "sleep", "1"), stderr=subprocess.DEVNULL, env=environment(tmp_path)
    )
    record(out, "sleep", "2", env=environment(tmp_path))
    other.wait(60)
    rows = lines(out)
    start_s = last(rows, "start")["started_monotonic_s"]
    end_s = last(rows, "result")["ended_monotonic_s"]
    truth_j = 200 * (end_s - start_s) - 40 * (math.cos(2 * end_s) - math.cos(2 * start_s))
    energy = last(rows, "energy")
    assert energy["counter_energy_j"] == pytest.approx(truth_j, rel=0.01)
    assert energy["trapezoid_energy_j"] == pytest.approx(truth_j, rel=0.01)
    ingest(data)
    [(energy_j, basis, idle_share, device)] = sql(
        data,
        "SELECT energy_j, energy_basis, (config->'result'->>'idle_share')::DOUBLE, device FROM cleaned_runs"
        " WHERE command = 'sleep 2'",
    )
    assert energy_j == pytest.approx(truth_j, rel=0.01)
    assert (basis, device) == ("run", "a100-sxm4-40gb")
    # Idle is the mean power of the window before, less its last moment: here some two seconds of the wave.
    idle_from_s = last(rows, "device")["at_s"] + rows[0]["started_monotonic_s"]
    idle_to_s = start_s - 0.2
    idle_w = 200 - 40 * (math.cos(2 * idle_to_s) - math.cos(2 * idle_from_s)) / (idle_to_s - idle_from_s)
    assert idle_share == pytest.approx(min(1.0, idle_w * (end_s - start_s) / truth_j), rel=0.03)
    joined = sql(
        data,
        "SELECT t.energy_j, t.matched_by, t.share, r.file_id = t.telemetry_file_id"
        " FROM run_telemetry AS t JOIN cleaned_runs AS r USING (run_id) ORDER BY t.energy_j",
    )
    assert joined[1][0] == pytest.approx(truth_j, rel=0.01)
    assert [row[1:] for row in joined] == [("recording", 1.0, True)] * 2


def test_where_only_the_vendors_tool_exists_it_polls(data, out, tmp_path):
    """Its output is read by its own format, in UTC whatever the machine's zone; energy follows from it."""
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text(
        "#!/bin/sh\n"
        "echo 'timestamp, index, name, power.draw [W], memory.used [MiB]'\n"
        "while :; do\n"
        "  echo \"$(date '+%Y/%m/%d %H:%M:%S.%3N'), 0, NVIDIA L40S, 90.00 W, 512 MiB\"; sleep 0.1\n"
        "done\n"
    )
    tool.chmod(0o755)
    env = environment(PATH=f"{tool.parent}:{os.environ['PATH']}", TZ="Asia/Tokyo")
    record(out, "sleep", "1.5", env=env)
    ingest(data)
    [(energy_j, basis, duration_s)] = sql(data, "SELECT energy_j, energy_basis, duration_s FROM cleaned_runs")
    assert energy_j == pytest.approx(
        90 * duration_s, rel=0.2
    )  # the first and the last poll lie within the run
    assert basis == "run"
    assert sql(data, "SELECT DISTINCT device_name, run_id IS NOT NULL FROM cleaned_telemetry") == [
        ("NVIDIA L40S", True)
    ]
    wait_for(
        lambda: (
            not shutil.which("pgrep") or subprocess.run(["pgrep", "-f", str(tool)], check=False).returncode
        )
    )


def test_what_commands_print_is_read(data, out):
    examples = {
        "load_tests/rate/stdout.txt": "perf_analyzer",
        "load_tests/traccc/out_gpu_mu200.log": "traccc",
        "device_logs/training/gaudi-1-card.txt": "unet",
        "load_tests/llm/tinyllm-vllm/stdout.txt": "vllm",
        "profiles/trtexec/trtexec.log": "trtexec",
    }
    for example, tool in examples.items():
        record(out, "cat", str(EXAMPLES / example), options=("--name", tool))
    record(out, "echo", "what no format knows", options=("--name", "nobody"))
    ingest(data)
    assert sql(data, "SELECT DISTINCT format, status FROM source_files") == [
        ("perf_assets_recording", "ingested")
    ]
    rows = sql(
        data,
        "SELECT DISTINCT whole.name, part.tool FROM cleaned_runs AS whole LEFT JOIN cleaned_runs AS part"
        " ON part.config->>'recorded_in' = whole.run_id AND part.file_id = whole.file_id"
        " WHERE whole.workload = 'command' ORDER BY 1",
    )
    assert rows == sorted([*((tool, tool) for tool in examples.values()), ("nobody", None)])
