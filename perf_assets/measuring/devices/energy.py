"""Energy of a window of work, two ways: the device's own counter, and the trapezoid over polled power.

The counter is the measurement and the trapezoid its check. Both windows begin and end in idle, so that a
power reading that lags behind (NVML's is an average over the last second on most GPUs since Ampere) shifts
energy within the window and loses none of it. What cannot be read is None with a reason, never 0.
"""

from __future__ import annotations

import math
import threading
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

import numpy as np

from perf_assets.measuring.devices.nvml import NvmlReader
from perf_assets.measuring.devices.power import PowerReader, PowerReading
from perf_assets.measuring.devices.rapl import RaplReader

POLL_S = 0.05
COUNTER_UPDATE_S = 0.1
"""NVML's energy counter moves about ten times a second."""
MIN_WINDOW_S = 5.0
"""Shortest window whose energy is believed: fifty updates of the counter."""
SETTLE_S = 1.5
"""Idle kept after the work, longer than the second over which power readings are averaged."""
MAX_DISAGREEMENT = 0.10
"""Counter and trapezoid further apart than this share are flagged ``energy_suspect``."""
LONGEST_GAP_S = 1.0


def open_reader(device: str, uuid: str | None) -> PowerReader:
    """Reader for a device: NVML for CUDA, RAPL for the processor.

    Raises:
        PowerUnavailableError: the machine tells no power; the message is the reason to store.
    """
    return NvmlReader(uuid or "") if device.startswith("cuda") else RaplReader()


def trapezoid_energy_j(readings: Iterable[PowerReading], start_s: float, end_s: float) -> float | None:
    """Energy of a window by the trapezoid over polled power, in joules.

    Readings are ordered by time; of several with the same stamp the last counts. Repeated values are kept: a
    value that is held until the next update only shifts energy by part of a poll, while dropping repetitions
    would draw a ramp across them. Power at the ends of the window is interpolated, and held beyond the last
    reading.

    Returns:
        None with fewer than two readings of power.
    """
    power = {r.at_s: r.power_w for r in sorted(readings, key=lambda r: r.at_s) if r.power_w is not None}
    if len(power) < 2:
        return None
    times_s, power_w = np.array(list(power)), np.array(list(power.values()))
    inside = (times_s > start_s) & (times_s < end_s)
    grid_s = np.concatenate([[start_s], times_s[inside], [end_s]])
    return float(np.trapezoid(np.interp(grid_s, times_s, power_w), grid_s))


def counter_energy_j(
    readings: Iterable[PowerReading], start_s: float, end_s: float, counter_range_j: float | None = None
) -> float | None:
    """Energy of a window by the device's counter, in joules, interpolated at the ends of the window.

    Args:
        readings: polls, at most one wrap between two of them.
        start_s: begin of the window.
        end_s: end of the window.
        counter_range_j: value at which the counter starts again from 0.

    Returns:
        None with fewer than two readings of the counter, or where it fell without a known range: that is a
        reset (a reloaded driver), and what was used before it is unknown.
    """
    counter = {r.at_s: r.counter_j for r in sorted(readings, key=lambda r: r.at_s) if r.counter_j is not None}
    if len(counter) < 2:
        return None
    times_s, values_j = np.array(list(counter)), np.array(list(counter.values()))
    steps_j = np.diff(values_j)
    if (steps_j < 0).any():
        if counter_range_j is None:
            return None
        steps_j = np.where(steps_j < 0, steps_j + counter_range_j, steps_j)
    total_j = np.concatenate([[0.0], np.cumsum(steps_j)])
    low_j, high_j = np.interp([start_s, end_s], times_s, total_j)
    return float(high_j - low_j)


def account(
    readings: Iterable[PowerReading],
    idle: tuple[float, float],
    work: tuple[float, float],
    end_s: float,
    steps: int,
    counter_range_j: float | None = None,
) -> dict[str, Any]:
    """Energy of one step, from polls over an idle window, the work, and the idle that follows.

    The energy of the work is that of a window around it less the idle power before and after the work.

    Args:
        readings: all polls.
        idle: begin and end of the idle window before the work, seconds.
        work: begin and end of the work, seconds.
        end_s: end of the idle kept after the work.
        steps: steps done in the work.
        counter_range_j: see :func:`counter_energy_j`.

    Returns:
        Fields of the log's ``energy`` line. ``energy_j`` is that of one step by the counter (by the trapezoid
        where there is none) and None, with ``energy_reason``, where neither can be believed.
    """
    work_s, settle_s = work[1] - work[0], end_s - work[1]
    # Between a poll in idle and one under load nobody knows when the load began, so no window ends there.
    margin_s = min(2 * COUNTER_UPDATE_S, (idle[1] - idle[0]) / 2)
    idle = (idle[0], idle[1] - margin_s)
    around = (work[0] - margin_s, end_s)
    # Polled power knows idle best: a counter that moves in steps of 0.1 s is 5 % off over two seconds.
    idle_j = trapezoid_energy_j(readings, *idle)
    if idle_j is None:
        idle_j = counter_energy_j(readings, *idle, counter_range_j)
    idle_w = None if idle_j is None else idle_j / (idle[1] - idle[0])
    gross_j = {
        "counter": counter_energy_j(readings, *around, counter_range_j),
        "trapezoid": trapezoid_energy_j(readings, *around),
    }
    work_j = {
        source: joules - idle_w * (margin_s + settle_s)
        for source, joules in gross_j.items()
        if joules is not None and joules > 0
    }
    quality = []
    polled_s = sorted(r.at_s for r in readings if work[0] <= r.at_s <= end_s)
    if polled_s and max(np.diff(polled_s), default=0.0) > LONGEST_GAP_S:
        quality.append("polling_gap")
    if len(work_j) == 2 and abs(work_j["counter"] - work_j["trapezoid"]) > MAX_DISAGREEMENT * max(
        work_j.values()
    ):
        quality.append("energy_suspect")
    reason = None
    if not work_j:
        reason = "the device's counter and power stood still or are missing"
    elif work_s < MIN_WINDOW_S:
        reason = f"the work lasted {work_s:.3g} s, less than {MIN_WINDOW_S:g} s"
    source = next(iter(work_j), None) if reason is None else None
    return {
        "energy_j": work_j[source] / steps if source else None,
        "net_energy_j": (work_j[source] - idle_w * work_s) / steps if source else None,
        "mean_power_w": work_j[source] / work_s if source else None,
        "idle_power_w": idle_w if work_j else None,
        "counter_energy_j": work_j.get("counter"),
        "trapezoid_energy_j": work_j.get("trapezoid"),
        "window_s": work_s,
        "steps": steps,
        "energy_source": source,
        "quality": quality,
        "energy_reason": reason,
    }


class Readings:
    """Readings of power and counter in the order in which they came, in 24 bytes each: a day of them fits."""

    def __init__(self) -> None:
        self._times_s, self._power_w, self._counter_j = array("d"), array("d"), array("d")

    def append(self, reading: PowerReading) -> None:
        """Keep the power and the counter of a reading."""
        self._times_s.append(reading.at_s)
        self._power_w.append(math.nan if reading.power_w is None else reading.power_w)
        self._counter_j.append(math.nan if reading.counter_j is None else reading.counter_j)

    def __len__(self) -> int:
        return len(self._times_s)

    def __iter__(self) -> Iterator[PowerReading]:
        for at_s, power_w, counter_j in zip(self._times_s, self._power_w, self._counter_j, strict=False):
            yield PowerReading(
                at_s, None if math.isnan(power_w) else power_w, None if math.isnan(counter_j) else counter_j
            )


class PowerMonitor:
    """Polls a reader in a thread of its own; use as a context manager.

    Args:
        reader: what is polled.
        now_s: the clock that stamps readings and windows alike.
        on_reading: told of each reading.
    """

    def __init__(
        self,
        reader: PowerReader,
        now_s: Callable[[], float] = time.perf_counter,
        on_reading: Callable[[PowerReading], None] | None = None,
        poll_s: float = POLL_S,
    ) -> None:
        self.reader = reader
        self.readings = Readings()
        self._now_s = now_s
        self._on_reading = on_reading
        self._poll_s = poll_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _poll(self) -> None:
        while not self._stop.is_set():
            reading = self.reader.read(self._now_s())
            self.readings.append(reading)
            if self._on_reading:
                self._on_reading(reading)
            self._stop.wait(self._poll_s)


def measure_energy(
    step: Callable[[], object],
    reader: PowerReader,
    *,
    synchronize: Callable[[], object] = lambda: None,
    window_s: float = MIN_WINDOW_S + 0.5,
    idle_s: float = 2.0,
    now_s: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], object] = time.sleep,
    on_reading: Callable[[PowerReading], None] | None = None,
    poll_s: float = POLL_S,
) -> dict[str, Any]:
    """Run a step for ``window_s`` between two idle windows and account for its energy: see
    :func:`account`."""
    synchronize()
    sleep(SETTLE_S)  # readings still hold what ran before
    with PowerMonitor(reader, now_s, on_reading, poll_s) as monitor:
        idle_start_s = now_s()
        sleep(idle_s)
        work_start_s, steps = now_s(), 0
        while now_s() - work_start_s < window_s:
            step()
            synchronize()
            steps += 1
        work_end_s = now_s()
        sleep(SETTLE_S)
        end_s = now_s()
    return account(
        monitor.readings,
        (idle_start_s, work_start_s),
        (work_start_s, work_end_s),
        end_s,
        steps,
        reader.counter_range_j,
    )
