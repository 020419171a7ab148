"""The machine as a time series while steps run one after the other, in a window of its own: what samples it would
disturb the timing."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

from perf_assets.measuring.devices.power import PowerReader
from perf_assets.measuring.devices.processes import TreeSampler
from perf_assets.measuring.recording.log import LogWriter

WINDOW_S = 3.0
PERIOD_S = 0.1


def sample_host(step: Callable[[], object], timer: Any, reader: PowerReader | None, log: LogWriter) -> None:
    """Run steps for three seconds, at least one, and write a sample ten times a second.

    Fields are those of ``perf-assets record``: of this process and its children processor time, memory and threads, of
    the machine load, memory in use and pressure; and power, clock and temperature of a device that tells them.
    """
    done = threading.Event()
    sampler = TreeSampler()
    sampler.follow(os.getpid())

    def sample() -> None:
        due_s = time.monotonic()
        while not done.is_set():
            values = sampler.sample(due_s)
            if reader is not None:
                reading = reader.read(time.perf_counter())
                told = {
                    "power_w": reading.power_w,
                    "sm_clock_mhz": reading.sm_clock_mhz,
                    "temperature_c": reading.temperature_c,
                }
                values |= {name: value for name, value in told.items() if value is not None}
            log.write("sample", cache="host", **values)
            # Samples that were missed are not made up for.
            due_s = max(due_s + PERIOD_S, time.monotonic())
            done.wait(due_s - time.monotonic())

    thread = threading.Thread(target=sample, daemon=True)
    end_s = time.monotonic() + WINDOW_S
    thread.start()
    try:
        while True:
            step()
            timer.synchronize()
            if time.monotonic() >= end_s:
                break
    finally:
        done.set()
        thread.join()
        sampler.close()
