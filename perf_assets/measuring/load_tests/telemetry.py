"""Host and devices while a study runs: sampled into its log, and asked for the energy of each level."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from perf_assets.measuring.devices.processes import TreeSampler
from perf_assets.measuring.recording.devices import Device, energy_of, find_devices, mean_power_w, polled


class Telemetry:
    """Samples of the server's processes and polls of the devices, until the block ends."""

    def __init__(self, devices: list[Device], reasons: dict[str, str], idle_s: float) -> None:
        self._devices = devices
        self._reasons = reasons
        self._idle_s = idle_s
        self._sampler: TreeSampler | None = None
        self._idle: tuple[float, float] | None = None
        self._reason: str | None = None

    def follow(self, pid: int | None, *, is_here: bool) -> None:
        """Sample this process and what comes from it; ``is_here`` says whether its devices are ours."""
        self._idle = None
        self._reason = None if is_here else "the server runs elsewhere: its devices are not polled here"
        if self._sampler is not None:
            self._sampler.close()
        self._sampler = None
        if pid is not None:
            sampler = TreeSampler()
            sampler.follow(pid)
            self._sampler = sampler

    def note_idle(self) -> None:
        """Poll the devices without load: what the server costs while it waits."""
        if self._devices and self._reason is None and self._idle_s > 0:
            start_s = time.monotonic()
            time.sleep(self._idle_s)
            self._idle = start_s, time.monotonic()

    def sample(self) -> dict[str, float] | None:
        """Numbers of the server's processes; None where they are not ours."""
        return None if self._sampler is None else self._sampler.sample(time.monotonic())

    def energy(self, windows: list[tuple[float, float]], requests: int, tokens: int | None) -> dict[str, Any]:
        """Energy of some windows of the monotonic clock, in which so many requests (and tokens) were answered.

        Energies per request and token are net: the power without load times the windows is taken off. What was
        taken off stands beside them.
        """
        reason = self._reason or (None if self._devices else "; ".join(self._reasons.values()))
        if reason is None and self._idle is None:
            reason = "the power without load is not known: idle_s is 0"
        gpus = [device for device in self._devices if device.id != "cpu"] or self._devices
        gross_j = net_j = idle_w = 0.0
        length_s = sum(end_s - start_s for start_s, end_s in windows)
        if reason is None and self._idle is not None:
            for device in gpus:
                device_idle_w = mean_power_w(device, *self._idle)
                parts = [energy_of(device, *window, None)["energy_j"] for window in windows]
                if device_idle_w is None or None in parts:
                    reason = f"{device.id} told no power"
                    break
                idle_w += device_idle_w
                gross_j += sum(parts)
                net_j += sum(parts) - device_idle_w * length_s
        if reason is not None or not requests or length_s <= 0:
            return {"energy_reason": reason or "no request was answered"}
        values = {
            "energy_j": gross_j,
            "mean_power_w": gross_j / length_s,
            "idle_power_w": idle_w,
            "joules_per_request": net_j / requests,
            "gross_joules_per_request": gross_j / requests,
        }
        return values | ({"joules_per_token": net_j / tokens} if tokens else {})


@contextlib.contextmanager
def telemetry(hz: float, idle_s: float, folder: Path, write: Callable[..., None]) -> Generator[Telemetry]:
    """Sample and poll for the duration of a ``with`` block; lines go to the log."""
    found = find_devices()
    # A vendor's tool writes a file of its own, which only a recording has room for.
    found.tools.clear()
    with polled(found, hz, folder, write) as devices:
        watching = Telemetry(devices, found.reasons, idle_s)
        stop = threading.Event()

        def sample() -> None:
            while not stop.wait(1.0 / hz):
                if (values := watching.sample()) is not None:
                    write("sample", **values)

        thread = threading.Thread(target=sample, daemon=True)
        thread.start()
        try:
            yield watching
        finally:
            stop.set()
            thread.join()
            watching.follow(None, is_here=True)
