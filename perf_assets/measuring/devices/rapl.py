"""RAPL: the energy counters of processors, as Linux shows them under /sys/class/powercap."""

from __future__ import annotations

from pathlib import Path

from perf_assets.measuring.devices.power import PowerReading, PowerUnavailableError


class RaplReader:
    """Energy of all processor packages from ``/sys/class/powercap``: the whole machine, not one process.

    Raises:
        PowerUnavailableError: no RAPL here, or it is readable by root only.
    """

    name = "rapl"

    def __init__(self, folder: Path = Path("/sys/class/powercap")) -> None:
        self._counters = [zone / "energy_uj" for zone in sorted(folder.glob("intel-rapl:[0-9]"))]
        if not self._counters:
            raise PowerUnavailableError(f"no RAPL: {folder} has no intel-rapl package")
        try:
            # One range for the sum would be wrong: each package wraps by itself.
            self._ranges_uj = [int((c.parent / "max_energy_range_uj").read_text()) for c in self._counters]
            self._last_uj = [int(counter.read_text()) for counter in self._counters]
        except PermissionError as error:
            raise PowerUnavailableError(
                f"RAPL is not readable: give this user read access to {error.filename}"
            ) from None
        self.counter_range_j = None
        self._total_uj = 0

    def read(self, at_s: float) -> PowerReading:
        """Joules since this reader was made; it must be polled at least once per wrap (minutes)."""
        for index, counter in enumerate(self._counters):
            now_uj = int(counter.read_text())
            self._total_uj += (now_uj - self._last_uj[index]) % (self._ranges_uj[index] + 1)
            self._last_uj[index] = now_uj
        return PowerReading(at_s, counter_j=self._total_uj / 1e6)
