"""What a reader of power is: one poll of a device, whatever reads it. How each kind is read stands in
``nvml``, ``rapl``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class PowerUnavailableError(RuntimeError):
    """This machine does not tell the power of this device; the message says why."""


@dataclass(frozen=True)
class PowerReading:
    """One poll of a device; None where it does not say."""

    at_s: float
    power_w: float | None = None
    counter_j: float | None = None
    sm_clock_mhz: float | None = None
    temperature_c: float | None = None
    throttle_reasons: tuple[str, ...] = ()


class PowerReader(Protocol):
    """Reads one device's power; the clock is the caller's."""

    name: str
    counter_range_j: float | None
    """Value at which the counter starts again from 0; None where it does not wrap in practice."""

    def read(self, at_s: float) -> PowerReading:
        """One reading, stamped with the given time."""
