"""Synthetic machines: timers and power meters whose truth is known."""

import math
from collections.abc import Callable

import numpy as np

from perf_assets.measuring.profiling.protocol import Block


class SyntheticTimer:
    """A timer whose blocks come from a function of the block's number; no time passes."""

    resolution_s = 1e-7

    def __init__(self, block: Callable[[int], Block]) -> None:
        self._block = block
        self.count = 0

    def time_block(self, step, steps):
        step()
        self.count += 1
        return self._block(self.count - 1)


def noisy(rng: np.random.Generator, latency_ms: float = 10.0, spread: float = 0.03) -> float:
    """Seconds of one step: log-normal around a median."""
    return latency_ms / 1e3 * math.exp(rng.normal(0, spread))


class PowerTrace:
    """True power of a device over time: idle, then a load that swings, then idle again.

    What its meter shows is worse: an average over the last ``averaging_s`` seconds, renewed every
    ``update_s``; its energy counter is renewed as rarely and starts again from 0 at ``range_j``.
    """

    def __init__(
        self,
        start_s: float,
        end_s: float,
        *,
        idle_w=60.0,
        load_w=300.0,
        averaging_s=1.0,
        update_s=0.1,
        range_j=None,
        counter_start_j=0.0,
        phase_s=0.0,
    ) -> None:
        self._grid_s = np.arange(start_s - 60, end_s + 60, 0.001)
        swing = 1 + 0.1 * np.sin(2 * np.pi * self._grid_s / 0.7)
        busy = (self._grid_s >= start_s) & (self._grid_s < end_s)
        power_w = np.where(busy, load_w * swing, idle_w)
        self._energy_j = np.concatenate([[0.0], np.cumsum(power_w[:-1] * 0.001)])
        self._averaging_s, self._update_s, self._phase_s = averaging_s, update_s, phase_s
        self._range_j, self._counter_start_j = range_j, counter_start_j

    def energy_j(self, start_s: float, end_s: float) -> float:
        """True energy between two times."""
        low, high = np.interp([start_s, end_s], self._grid_s, self._energy_j)
        return float(high - low)

    def shown_power_w(self, at_s: float) -> float:
        """What the meter shows."""
        updated_s = self._updated(at_s)
        return self.energy_j(updated_s - self._averaging_s, updated_s) / self._averaging_s

    def shown_counter_j(self, at_s: float) -> float:
        """What the counter shows, in whole millijoules."""
        value = self._counter_start_j + self.energy_j(self._grid_s[0], self._updated(at_s))
        value = round(value, 3)
        return value % self._range_j if self._range_j else value

    def _updated(self, at_s: float) -> float:
        return math.floor((at_s - self._phase_s) / self._update_s) * self._update_s + self._phase_s
