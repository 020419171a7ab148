"""Record one command: run it, sample the machine meanwhile, and leave one folder that reads as a drop.

The folder holds ``recording.jsonl``, the log (lines below), ``stdout.txt`` and ``stderr.txt``, what the command
printed, and a file for each tool that polled a device. All have their final names from the first byte on: the
command writes its output itself, and each line of the log is one system call, so whoever is killed, what was
sampled until then is there. A log without a ``result`` line is of a recorder that was killed: ``incomplete``.

Lines are JSON objects with ``line``, their kind, and ``at_s``, seconds since the header:

``header``
    ``format`` (``perf_assets_recording``), ``version``, ``run``, ``name``, ``command``, ``cwd``,
    ``started_at`` (UTC) and ``started_monotonic_s`` (of the same moment), ``hz``, ``host``, ``engine``.
``device``
    A device that is polled: ``device``, ``name``, ``source`` (``nvml``, ``rapl``), ``power_limit_w``,
    ``driver_version``.
``power``
    One poll of a device: ``power_w``, ``energy_counter_j``, ``sm_clock_mhz``, ``memory_clock_mhz``,
    ``temperature_c``, ``utilization_pct``, ``memory_used_mib``, ``throttle_reasons``, ...
``start``
    The command was started: ``started_at``, ``started_monotonic_s``, ``pid``.
``sample``
    The process tree: ``processes``, ``threads``, ``rss_mib``, ``cpu_s`` (since the start), ``cpu_pct`` (of one
    core); once a second also the machine and ``read_mib``, ``written_mib``; every ten ``pss_mib``.
``counter``
    ``source`` (``perf``, ``getrusage``), ``scope``, ``counter``, ``value``, ``unit``, ``running_pct``.
``energy``
    Of one device from start to end: see :func:`perf_assets.measuring.recording.devices.energy_of`.
``result``
    ``status`` (``ok``, ``failed``, ``oom``), ``reason``, ``exit_code``, ``signal``, ``ended_at``,
    ``duration_s`` (monotonic clock), ``wall_duration_s`` (calendar clock), ``cpu_user_s``, ``cpu_system_s`` and
    ``largest_rss_mib`` (of the largest process; both of the kernel, exact), ``tree_rss_peak_sampled_mib``,
    ``processes_left`` (that outlive the command), ``energy_j``, ``idle_energy_j``, ``idle_share``,
    ``mean_power_w``, ``energy_source``, ``energy_reason``, ``recorder_cpu_pct`` (of one core, without polling
    devices), ``polling_cpu_ms`` (of one poll of a device).
"""

from __future__ import annotations

import contextlib
import datetime
import math
import os
import re
import shlex
import shutil
import signal
import time
import uuid
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from perf_assets.measuring.devices import counters, host
from perf_assets.measuring.devices.processes import TREE_S, TreeSampler
from perf_assets.measuring.recording import devices as polling
from perf_assets.measuring.recording.log import LogWriter
from perf_assets.measuring.recording.output import OutputStream
from perf_assets.measuring.recording.process import FORWARDED, CommandProcess, Usage, resolve, start

FORMAT = "perf_assets_recording"
VERSION = 1
LOG_FILE = "recording.jsonl"
OUTPUT_FILES = ("stdout.txt", "stderr.txt")
DEFAULT_HZ = 10.0
_LIVE_S = 0.1
"""How long output may wait before it is passed on."""
_CLOCK_STEP_S = 0.5
_GRACE_S = 10.0
_PERF_SETTLE_S = 0.2
"""perf tells nobody when it has attached; the command is held for so long where perf is installed."""


@dataclass(frozen=True)
class Recording:
    """What came of a recording: its folder, the result line, and the exit code to pass on."""

    folder: Path
    result: dict[str, Any]
    exit_code: int


def record(
    command: Sequence[str],
    out: Path,
    *,
    name: str | None = None,
    hz: float = DEFAULT_HZ,
    idle_s: float = polling.IDLE_S,
    pass_on: bool = True,
    limit_s: float | None = None,
) -> Recording:
    """Run a command and record it until it ends.

    Args:
        command: the program and its arguments; no shell reads them.
        out: folder in which the recording's own folder is made.
        name: of the recording, by default the program's.
        hz: samples per second.
        idle_s: how long devices that tell their power are polled before the command starts.
        pass_on: show the command's output while it comes.
        limit_s: ask the command to end (SIGTERM) after so many seconds, and kill it ten seconds later.

    Raises:
        CommandError: there is no such program; nothing was made.
        ValueError: a rate that cannot be.
    """
    if not 0.01 <= hz <= 100:
        raise ValueError(f"--hz {hz:g}: use 0.01 to 100 samples per second")
    resolved = resolve(command)
    run = uuid.uuid4().hex[:12]
    name = name or Path(command[0]).name
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S")
    folder = out / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', name).lstrip('.')[:100] or 'run'}-{stamp}-{run}"
    folder.mkdir(parents=True)
    facts = host.host_facts()
    header = {
        "run": run,
        "name": name,
        "command": shlex.join(command),
        "cwd": os.getcwd(),
        **_now(),
        "hz": hz,
        "pid": os.getpid(),
        "host": facts,
        "engine": host.engine_facts(),
    }
    with LogWriter(folder / LOG_FILE, header, FORMAT, VERSION) as log:
        recorder = _Recorder(resolved, folder, log, hz, pass_on=pass_on, limit_s=limit_s)
        return recorder.run(facts["cpu_model"], idle_s)


class _Recorder:
    def __init__(
        self,
        command: list[str],
        folder: Path,
        log: LogWriter,
        hz: float,
        *,
        pass_on: bool,
        limit_s: float | None,
    ) -> None:
        self._command = command
        self._limit_s = limit_s
        self._folder = folder
        self._log = log
        self._period_s = 1.0 / hz
        self._hz = hz
        self._streams = [
            OutputStream(folder / file, target if pass_on else None)
            for file, target in zip(OUTPUT_FILES, (1, 2), strict=True)
        ]
        self._sampler = TreeSampler(os.getpid())
        self._process: CommandProcess | None = None
        self._waiting_signals: list[int] = []
        self._limit_number = 0

    def run(self, cpu_name: str | None, idle_s: float) -> Recording:
        """Everything from the idle window to the result line."""
        found = polling.find_devices(cpu_name)
        ooms_before = _ooms()
        with (
            self._signals_passed_on(),
            polling.polled(found, self._hz, self._folder, self._log.write) as polled,
        ):
            idle_start_s = time.monotonic()
            if polled:
                self._wait_idle(idle_s)
            perf_is_here = shutil.which("perf") is not None
            process = start(
                self._command, *(stream.descriptor for stream in self._streams), hold=perf_is_here
            )
            perf = counters.PerfStat.attach(process.pid, settle_s=_PERF_SETTLE_S)
            strangers = {*found.pids, *({perf.pid} if perf.pid else ())}
            for pid in strangers:
                self._sampler.exclude(pid)
            cpu_before_s = time.thread_time()
            started = _now()
            process.release()
            self._process = process
            self._log.write("start", pid=process.pid, **started)
            for number in self._waiting_signals:
                process.signal(number)
            self._follow(process, strangers)
            ended = _now()
            left = process.reap_orphans(strangers)
            recorder_cpu_s = time.thread_time() - cpu_before_s
            if polled:
                time.sleep(2 * self._period_s)  # one more reading, to interpolate the end
        for stream in self._streams:
            stream.pass_on(last=True)
            stream.close()
        self._sampler.close()
        window_s = started["started_monotonic_s"], ended["started_monotonic_s"]
        energies = [polling.energy_of(device, *window_s, idle_start_s) for device in polled]
        for energy in energies:
            self._log.write("energy", **energy)
        for row in perf.stop():
            self._log.write("counter", **row)
        self._write_usage(process.usage)
        result = {
            **_outcome(process, ooms_before),
            **({"reason": f"ended after its limit of {self._limit_s:g} s"} if self._limit_number else {}),
            "ended_at": ended["started_at"],
            "ended_monotonic_s": window_s[1],
            "duration_s": window_s[1] - window_s[0],
            "wall_duration_s": _seconds_between(started["started_at"], ended["started_at"]),
            "cpu_s": process.usage.user_s + process.usage.system_s,
            "cpu_user_s": process.usage.user_s,
            "cpu_system_s": process.usage.system_s,
            "largest_rss_mib": process.usage.largest_rss_mib,
            "rss_floor_mib": process.rss_floor_mib or None,
            "tree_rss_peak_sampled_mib": self._sampler.peak_rss_mib,
            "processes_sampled": len(self._sampler.processes_seen),
            "processes_left": left,
            **_total_energy(energies, found.reasons),
            "counter_reason": perf.reason,
            "devices_reason": found.reasons or None,
            "recorder_cpu_pct": 100 * recorder_cpu_s / max(window_s[1] - window_s[0], 1e-9),
            "polling_cpu_ms": {
                device.id: 1000 * device.reader.cpu_s / device.reader.reads
                for device in polled
                if device.reader.reads
            },
        }
        result["quality"] = _flags(result, energies)
        self._log.write("result", **result)
        exit_code = process.exit_code
        return Recording(self._folder, result, 1 if exit_code is None else exit_code)

    def _wait_idle(self, idle_s: float) -> None:
        deadline_s = time.monotonic() + idle_s
        while (left_s := deadline_s - time.monotonic()) > 0 and not self._waiting_signals:
            time.sleep(min(left_s, _LIVE_S))

    def _follow(self, process: CommandProcess, strangers: set[int]) -> None:
        """Sample, and pass output on, until the command has ended."""
        self._sampler.follow(process.pid)
        due_s = orphans_due_s = time.monotonic()
        end_due_s = math.inf if self._limit_s is None else due_s + self._limit_s
        while True:
            now_s = time.monotonic()
            if now_s >= due_s:
                self._log.write("sample", **self._sampler.sample(now_s))
                # Samples that were missed (a suspended machine) are not made up for.
                due_s = max(due_s + self._period_s, now_s)
            if now_s >= end_due_s:
                process.signal(signal.SIGTERM if self._limit_number == 0 else signal.SIGKILL)
                self._limit_number, end_due_s = self._limit_number + 1, now_s + _GRACE_S
            if now_s >= orphans_due_s:
                process.reap_orphans(strangers)
                orphans_due_s = now_s + TREE_S
            if process.wait(min(_LIVE_S, max(0.0, due_s - time.monotonic()))):
                return
            for stream in self._streams:
                stream.pass_on()

    @contextlib.contextmanager
    def _signals_passed_on(self) -> Generator[None]:
        def pass_on(number: int, _frame: object) -> None:
            if self._process is not None:
                self._process.signal(number)
            else:
                self._waiting_signals.append(number)

        if not _in_main_thread():
            yield
            return
        before = {number: signal.signal(number, pass_on) for number in FORWARDED}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _write_usage(self, usage: Usage) -> None:
        units = {"user_s": "s", "system_s": "s", "largest_rss_mib": "MiB"}
        for counter, value in asdict(usage).items():
            self._log.write(
                "counter",
                source="getrusage",
                scope="process",
                counter=counter,
                value=value,
                unit=units.get(counter, ""),
                running_pct=100.0,
            )


def _outcome(process: CommandProcess, ooms_before: int | None) -> dict[str, Any]:
    code, ended_by = process.exit_code, process.ended_by
    if code == 0:
        status, reason = "ok", None
    elif ended_by == "SIGKILL" and ooms_before is not None and (_ooms() or 0) > ooms_before:
        status, reason = "oom", "the kernel killed it: out of memory"
    else:
        status, reason = "failed", f"ended by {ended_by}" if ended_by else f"exit code {code}"
    return {"status": status, "reason": reason, "exit_code": code, "signal": ended_by}


def _now() -> dict[str, Any]:
    """The moment on two clocks, read one after the other."""
    return {
        "started_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds"),
        "started_monotonic_s": time.monotonic(),
    }


def _seconds_between(start: str, end: str) -> float:
    return (datetime.datetime.fromisoformat(end) - datetime.datetime.fromisoformat(start)).total_seconds()


def _total_energy(energies: list[dict[str, Any]], reasons: dict[str, str]) -> dict[str, Any]:
    """Energy of the run: of its GPUs where there are any, else of the processors (RAPL)."""
    gpus = [energy for energy in energies if energy["device"] != "cpu"]
    counted = [energy for energy in gpus or energies if energy["energy_j"] is not None]
    if not counted:
        reason = "; ".join(reasons.values()) if not energies else "no device told its power"
        return {"energy_j": None, "energy_reason": reason}
    energy_j = sum(energy["energy_j"] for energy in counted)
    idle = [energy["idle_energy_j"] for energy in counted]
    idle_j = sum(idle) if None not in idle else None
    return {
        "energy_j": energy_j,
        "energy_devices": [energy["device"] for energy in counted],
        "energy_source": ", ".join(sorted({energy["energy_source"] for energy in counted})),
        "idle_energy_j": idle_j,
        "idle_share": None if idle_j is None or energy_j <= 0 else min(1.0, idle_j / energy_j),
        "mean_power_w": sum(energy["mean_power_w"] or 0.0 for energy in counted),
        "energy_reason": None,
    }


def _flags(result: dict[str, Any], energies: list[dict[str, Any]]) -> list[str]:
    flags = {flag for energy in energies for flag in energy["quality"]}
    if abs(result["wall_duration_s"] - result["duration_s"]) > _CLOCK_STEP_S:
        flags.add("clock_stepped")
    if result["processes_left"]:
        flags.add("processes_left")
    if result["rss_floor_mib"] and result["largest_rss_mib"] <= result["rss_floor_mib"]:
        flags.add("rss_is_of_recorder")
    return sorted(flags)


def _ooms() -> int | None:
    """How often the kernel killed for want of memory on this machine; None where it does not say."""
    with contextlib.suppress(OSError, ValueError, StopIteration), open("/proc/vmstat") as file:
        return int(next(line for line in file if line.startswith("oom_kill ")).split()[1])
    return None


def _in_main_thread() -> bool:
    import threading

    return threading.current_thread() is threading.main_thread()
