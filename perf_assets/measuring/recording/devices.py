"""The devices of this machine while something is recorded: polled through NVML and RAPL, or by the vendor's own
tool where only that exists.

A tool's output is kept as the tool prints it, in a file beside the log; it is read by the format of that tool.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perf_assets.measuring.devices.nvml import NvmlReader, gpu_uuids
from perf_assets.measuring.devices.power import PowerReader, PowerReading, PowerUnavailableError
from perf_assets.measuring.devices.processes import die_with_parent
from perf_assets.measuring.devices.rapl import RaplReader

if TYPE_CHECKING:
    from perf_assets.measuring.devices.energy import PowerMonitor

IDLE_S = 2.0
"""Polled before the command starts, where a device tells its power: what the machine draws without it."""
SHORT_S = 5.0
"""Energy of a shorter window is flagged: the counter moves ten times a second, and power lags by up to one."""
_TOOL_ROUND_S = 1.0
_STOP_S = 3.0

_NVIDIA_SMI_FIELDS = (
    "timestamp,index,uuid,name,utilization.gpu,utilization.memory,power.draw,power.limit,"
    "memory.used,memory.total,temperature.gpu,clocks.sm,clocks.mem"
)
# Tool -> its command and the file of its output. TZ=UTC makes their clock times UTC.
TOOLS: dict[str, tuple[Sequence[str], str]] = {
    "nvidia-smi": (
        (
            f"--query-gpu={_NVIDIA_SMI_FIELDS}",
            "--format=csv",
            "-lms",
            "{period_ms}",
        ),
        "telemetry_nvidia_smi.csv",
    ),
    "hl-smi": (
        (
            "-Q",
            "timestamp,module_id,utilization.aip,power.draw,memory.used,memory.total,temperature.aip",
            "-f",
            "csv",
        ),
        "telemetry_hl_smi.csv",
    ),
    "rocm-smi": (
        ("--showuse", "--showpower", "--showtemp", "--showclocks", "--showmeminfo", "vram", "--csv"),
        "telemetry_rocm_smi.csv",
    ),
    "tegrastats": (("--interval", "{period_ms}"), "telemetry_tegrastats.log"),
}
_ASKED_AGAIN = ("hl-smi", "rocm-smi")
"""Tools that answer once: asked every second, each answer under its own header."""


class TimedReader:
    """A reader whose own processor time is counted."""

    def __init__(self, reader: PowerReader) -> None:
        self.reader = reader
        self.name = reader.name
        self.counter_range_j = reader.counter_range_j
        self.reads = 0
        self.cpu_s = 0.0

    def read(self, at_s: float) -> PowerReading:
        """One reading."""
        before_s = time.thread_time()
        reading = self.reader.read(at_s)
        self.cpu_s += time.thread_time() - before_s
        self.reads += 1
        return reading


@dataclass
class Device:
    """A device that is polled through a library."""

    id: str
    name: str | None
    reader: TimedReader
    facts: dict[str, Any] = field(default_factory=dict)
    monitor: PowerMonitor | None = None

    def load(self) -> dict[str, float]:
        """What it tells beside its power."""
        return self.reader.reader.load() if isinstance(self.reader.reader, NvmlReader) else {}


@dataclass
class Devices:
    """Everything that is polled, and why the rest is not."""

    devices: list[Device] = field(default_factory=list)
    tools: dict[str, Path] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    pids: set[int] = field(default_factory=set)
    """Processes that poll."""


def find_devices(cpu_name: str | None = None) -> Devices:
    """Look for what this machine lets us poll."""
    found = Devices()
    try:
        for uuid in gpu_uuids():
            reader = NvmlReader(uuid)
            facts = reader.facts()
            found.devices.append(Device(uuid, facts.pop("name"), TimedReader(reader), facts))
    except PowerUnavailableError as error:
        found.reasons["nvml"] = str(error)
    try:
        found.devices.append(Device("cpu", cpu_name, TimedReader(RaplReader())))
    except PowerUnavailableError as error:
        found.reasons["rapl"] = str(error)
    has_nvml = any(device.reader.name == "nvml" for device in found.devices)
    for tool in TOOLS:
        path = shutil.which(tool)
        if path is not None and not (tool == "nvidia-smi" and has_nvml):
            found.tools[tool] = Path(path)
    return found


@contextlib.contextmanager
def polled(found: Devices, hz: float, folder: Path, write: Callable[..., None]) -> Generator[list[Device]]:
    """Poll all devices for the duration of a ``with`` block; ``write`` takes lines of the log."""
    with contextlib.ExitStack() as stack:
        if found.devices:
            from perf_assets.measuring.devices.energy import PowerMonitor

            for device in found.devices:
                write("device", device=device.id, name=device.name, source=device.reader.name, **device.facts)
                on_reading = _writes(device, write)
                device.monitor = PowerMonitor(device.reader, time.monotonic, on_reading, 1.0 / hz)
                stack.enter_context(device.monitor)
        for tool, path in found.tools.items():
            stack.enter_context(_tool(tool, path, hz, folder, found.pids))
        yield found.devices


def _writes(device: Device, write: Callable[..., None]) -> Callable[[PowerReading], None]:
    def on_reading(reading: PowerReading) -> None:
        before_s = time.thread_time()
        load = device.load()
        device.reader.cpu_s += time.thread_time() - before_s
        write(
            "power",
            device=device.id,
            polled_monotonic_s=round(reading.at_s, 6),
            power_w=reading.power_w,
            energy_counter_j=reading.counter_j,
            sm_clock_mhz=reading.sm_clock_mhz,
            temperature_c=reading.temperature_c,
            throttle_reasons=list(reading.throttle_reasons),
            **load,
        )

    return on_reading


@contextlib.contextmanager
def _tool(tool: str, path: Path, hz: float, folder: Path, pids: set[int]) -> Generator[None]:
    arguments, name = TOOLS[tool]
    period_ms = str(max(100, round(1000 / hz)))
    command = [str(path), *(each.format(period_ms=period_ms) for each in arguments)]
    environment = os.environ | {"TZ": "UTC", "LC_ALL": "C"}
    with (folder / name).open("ab") as output:
        if tool in _ASKED_AGAIN:
            stop = threading.Event()
            thread = threading.Thread(
                target=_ask_again, args=(command, environment, output, stop, pids), daemon=True
            )
            thread.start()
            try:
                yield
            finally:
                stop.set()
                thread.join(_STOP_S)
            return
        poller = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.DEVNULL,
            env=environment,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - a killed recorder must not leave it behind
        )
        pids.add(poller.pid)
        try:
            yield
        finally:
            poller.send_signal(signal.SIGTERM)
            try:
                poller.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                poller.kill()
                poller.wait()


def _ask_again(
    command: list[str], environment: dict[str, str], output: Any, stop: threading.Event, pids: set[int]
) -> None:
    while not stop.is_set():
        asked_s = time.time()
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            asking = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
            pids.add(asking.pid)
            try:
                answer, _ = asking.communicate(timeout=10)
            except subprocess.TimeoutExpired:
                asking.kill()
                asking.communicate()
                raise
            finally:
                pids.discard(asking.pid)
            output.write(_with_time(answer, asked_s) if command[0].endswith("rocm-smi") else answer)
            output.flush()
        stop.wait(max(0.0, asked_s + _TOOL_ROUND_S - time.time()))


def _with_time(answer: bytes, asked_s: float) -> bytes:
    """rocm-smi tells no time: it is put in front, as scripts do."""
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(asked_s)).encode()
    lines = [line for line in answer.split(b"\n") if line.strip()]
    return b"".join(
        (b"timestamp," if line.startswith(b"device") else stamp + b",") + line + b"\n" for line in lines
    )


def mean_power_w(device: Device, start_s: float, end_s: float) -> float | None:
    """Mean power of a device in a window without load that work follows.

    Between a poll in idle and one under load nobody knows when the load began, so the window ends a little sooner.
    """
    from perf_assets.measuring.devices.energy import COUNTER_UPDATE_S, counter_energy_j, trapezoid_energy_j

    readings = device.monitor.readings if device.monitor is not None else []
    end_s -= min(2 * COUNTER_UPDATE_S, (end_s - start_s) / 2)
    joules = trapezoid_energy_j(readings, start_s, end_s)
    if joules is None:
        joules = counter_energy_j(readings, start_s, end_s, device.reader.counter_range_j)
    return None if joules is None else joules / (end_s - start_s)


def energy_of(device: Device, start_s: float, end_s: float, idle_start_s: float | None) -> dict[str, Any]:
    """Energy of a device between two moments of the monotonic clock, two ways, and the idle part of it.

    The counter is the measurement and the trapezoid over polled power its check; both are interpolated at the
    ends. The idle part is the mean power of the window before ``start_s`` times the duration.
    """
    from perf_assets.measuring.devices.energy import MAX_DISAGREEMENT, counter_energy_j, trapezoid_energy_j

    readings = device.monitor.readings if device.monitor is not None else []
    counter_j = counter_energy_j(readings, start_s, end_s, device.reader.counter_range_j)
    trapezoid_j = trapezoid_energy_j(readings, start_s, end_s)
    if counter_j is not None and counter_j <= 0:
        counter_j = None  # a counter that stands still tells nothing
    idle_w = None
    if idle_start_s is not None and start_s > idle_start_s:
        idle_w = mean_power_w(device, idle_start_s, start_s)
    energy_j = counter_j if counter_j is not None else trapezoid_j
    duration_s = end_s - start_s
    quality = []
    if energy_j is not None and duration_s < SHORT_S:
        quality.append("short_energy_window")
    if (
        counter_j is not None
        and trapezoid_j is not None
        and abs(counter_j - trapezoid_j) > MAX_DISAGREEMENT * max(counter_j, trapezoid_j)
    ):
        quality.append("energy_suspect")
    known = energy_j is not None and idle_w is not None and energy_j > 0
    return {
        "device": device.id,
        "energy_j": energy_j,
        "counter_energy_j": counter_j,
        "trapezoid_energy_j": trapezoid_j,
        "energy_source": None if energy_j is None else ("counter" if counter_j is not None else "trapezoid"),
        "idle_power_w": idle_w,
        "idle_energy_j": None if idle_w is None else idle_w * duration_s,
        "idle_share": min(1.0, idle_w * duration_s / energy_j) if known else None,
        "mean_power_w": None if energy_j is None or duration_s <= 0 else energy_j / duration_s,
        "polls": len(readings) if device.monitor is not None else 0,
        "quality": quality,
    }
