"""Starting the recorder as people do, in a process of its own, and a GPU that only exists in a module."""

import json
import os
import subprocess
import sys
from pathlib import Path

from perf_assets_tests.support import ROOT

FAKE_NVML = """
import math, time
class NVMLError(Exception): pass
NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
def nvmlInit(): pass
def nvmlDeviceGetCount(): return 1
def nvmlDeviceGetHandleByIndex(index): return "gpu"
def nvmlDeviceGetHandleByUUID(uuid): return "gpu"
def nvmlDeviceGetUUID(gpu): return "GPU-0b1c"
def nvmlDeviceGetName(gpu): return "NVIDIA A100-SXM4-40GB"
def nvmlDeviceGetClockInfo(gpu, clock): return 1410
def nvmlDeviceGetTemperature(gpu, sensor): return 41
def nvmlDeviceGetPowerUsage(gpu): return round(1000 * (200 + 80 * math.sin(2 * time.monotonic())))
def nvmlDeviceGetTotalEnergyConsumption(gpu):
    now_s = time.monotonic()
    return round(1000 * (200 * now_s - 40 * math.cos(2 * now_s)))
"""
"""Power of 200 W and a wave of 80 W; the counter is its integral."""


def command(out: Path, *arguments: str, options: tuple[str, ...] = ()) -> list[str]:
    python = [sys.executable, "-m", "perf_assets.measuring.recording", "--out", str(out)]
    return [*python, *options, "--", *arguments]


def environment(*folders: Path, **variables: str) -> dict[str, str]:
    paths = os.pathsep.join([*map(str, folders), str(ROOT)])
    return os.environ | {"PYTHONPATH": paths} | variables


def record(out: Path, *arguments: str, options=(), env=None, **kwargs) -> subprocess.CompletedProcess:
    return subprocess.run(
        command(out, *arguments, options=options),
        capture_output=True,
        text=True,
        env=env or environment(),
        timeout=60,
        check=False,
        **kwargs,
    )


def lines(out: Path) -> list[dict]:
    (log,) = out.glob("*/recording.jsonl")
    return [json.loads(line) for line in log.read_text().splitlines()]


def last(rows: list[dict], kind: str) -> dict:
    return [row for row in rows if row["line"] == kind][-1]
