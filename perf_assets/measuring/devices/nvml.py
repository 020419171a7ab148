"""NVML: power, energy counter, clocks, temperature and throttle reasons of NVIDIA GPUs."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from perf_assets.measuring.devices.power import PowerReading, PowerUnavailableError


class NvmlReader:
    """Power, energy counter, clock, temperature and throttle reasons of one NVIDIA GPU.

    Args:
        uuid: the GPU, as CUDA names it (``GPU-...``, or without the prefix), because NVML's index ignores
            CUDA_VISIBLE_DEVICES.
        nvml: the ``pynvml`` module (of nvidia-ml-py).

    Raises:
        PowerUnavailableError: no library, no driver or no such GPU.
    """

    name = "nvml"
    counter_range_j = None

    def __init__(self, uuid: str, nvml: Any = None) -> None:
        self._nvml = nvml = nvml or _library()
        try:
            nvml.nvmlInit()
            self._device = _handle(nvml, uuid)
        except nvml.NVMLError as error:
            raise PowerUnavailableError(f"NVML: {error}") from None
        self.highest_sm_clock_mhz = self._try(
            lambda: float(nvml.nvmlDeviceGetMaxClockInfo(self._device, nvml.NVML_CLOCK_SM))
        )

    def read(self, at_s: float) -> PowerReading:
        """One reading; what this GPU does not support is None."""
        nvml, device = self._nvml, self._device
        power_mw = self._try(lambda: nvml.nvmlDeviceGetPowerUsage(device))
        energy_mj = self._try(lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(device))
        mask = self._try(lambda: nvml.nvmlDeviceGetCurrentClocksEventReasons(device))
        if mask is None:  # a driver before 535 knows the older name only
            mask = self._try(lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(device)) or 0
        return PowerReading(
            at_s,
            power_w=None if power_mw is None else power_mw / 1e3,
            counter_j=None if energy_mj is None else energy_mj / 1e3,
            sm_clock_mhz=self._try(lambda: float(nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_SM))),
            temperature_c=self._try(
                lambda: float(nvml.nvmlDeviceGetTemperature(device, nvml.NVML_TEMPERATURE_GPU))
            ),
            throttle_reasons=tuple(name for name, bit in THROTTLE_BITS.items() if mask & bit),
        )

    def load(self) -> dict[str, float]:
        """Utilization, memory and memory clock now, by the columns of ``cleaned_telemetry``; what this GPU does
        not tell is left out."""
        nvml, device = self._nvml, self._device
        rates = self._try(lambda: nvml.nvmlDeviceGetUtilizationRates(device))
        memory = self._try(lambda: nvml.nvmlDeviceGetMemoryInfo(device))
        clock = self._try(lambda: float(nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_MEM)))
        values = {"memory_clock_mhz": clock}
        if rates is not None:
            values |= {"utilization_pct": float(rates.gpu), "memory_utilization_pct": float(rates.memory)}
        if memory is not None:
            values |= {"memory_used_mib": memory.used / 2**20, "memory_total_mib": memory.total / 2**20}
        return {name: value for name, value in values.items() if value is not None}

    def facts(self) -> dict[str, Any]:
        """What does not change: name, power limit, highest clocks, partitions, driver."""
        nvml, device = self._nvml, self._device
        limit_mw = self._try(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(device))
        modes = self._try(lambda: nvml.nvmlDeviceGetMigMode(device))
        return {
            "highest_sm_clock_mhz": self.highest_sm_clock_mhz,
            "highest_memory_clock_mhz": self._try(
                lambda: float(nvml.nvmlDeviceGetMaxClockInfo(device, nvml.NVML_CLOCK_MEM))
            ),
            "application_sm_clock_mhz": self._try(
                lambda: float(nvml.nvmlDeviceGetApplicationsClock(device, nvml.NVML_CLOCK_SM))
            ),
            "mig_mode": None if modes is None else bool(modes[0]),
            "name": _text(self._try(lambda: self._nvml.nvmlDeviceGetName(self._device))),
            "power_limit_w": None if limit_mw is None else limit_mw / 1e3,
            "driver_version": self.driver_version(),
        }

    def other_processes(self, own_pid: int) -> int | None:
        """Number of other processes that compute on this GPU."""
        running = self._try(lambda: self._nvml.nvmlDeviceGetComputeRunningProcesses(self._device))
        return None if running is None else sum(process.pid != own_pid for process in running)

    def driver_version(self) -> str | None:
        """Version of the GPU driver."""
        return _text(self._try(lambda: self._nvml.nvmlSystemGetDriverVersion()))

    def _try(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except Exception:  # noqa: BLE001 - an older binding lacks the call, a new one may raise errors of its own
            return None


def _handle(nvml: Any, uuid: str) -> Any:
    """The GPU, or the part of one, with this UUID; CUDA tells it without saying which of the two it is."""
    if uuid.startswith(("GPU-", "MIG-")):
        return nvml.nvmlDeviceGetHandleByUUID(uuid)
    try:
        return nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
    except nvml.NVMLError:
        return nvml.nvmlDeviceGetHandleByUUID(f"MIG-{uuid}")


def gpu_uuids(nvml: Any = None) -> list[str]:
    """The GPUs that a program started here would see, in NVML's order.

    ``CUDA_VISIBLE_DEVICES`` chooses by UUID or by index; indices are taken in the order of the bus.

    Raises:
        PowerUnavailableError: no library or no driver.
    """
    nvml = nvml or _library()
    try:
        nvml.nvmlInit()
        handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
        found = [_text(nvml.nvmlDeviceGetUUID(handle)) or "" for handle in handles]
    except nvml.NVMLError as error:
        raise PowerUnavailableError(f"NVML: {error}") from None
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return found
    names = [name.strip() for name in chosen.split(",") if name.strip()]
    return [
        uuid
        for index, uuid in enumerate(found)
        if any(name == str(index) or (name.startswith("GPU-") and uuid.startswith(name)) for name in names)
    ]


def auto_device() -> str:
    """What torch measures on where nobody says: ``cuda`` where a program started here sees a GPU, else
    ``cpu``."""
    try:
        return "cuda" if gpu_uuids() else "cpu"
    except PowerUnavailableError:
        return "cpu"


def gpu_name() -> str | None:
    """What the first GPU that a program started here sees is called; None where there is none."""
    try:
        uuids = gpu_uuids()
        return NvmlReader(uuids[0]).facts()["name"] if uuids else None
    except PowerUnavailableError:
        return None


def _library() -> Any:
    try:
        import pynvml
    except ImportError:
        raise PowerUnavailableError("NVML is not installed: install nvidia-ml-py") from None
    return pynvml


def _text(value: Any) -> str | None:
    return value.decode() if isinstance(value, bytes) else value


THROTTLE_BITS = {
    "sw_power_cap": 0x4,
    "hw_slowdown": 0x8,
    "sw_thermal": 0x20,
    "hw_thermal": 0x40,
    "hw_power_brake": 0x80,
}
"""NVML's clock event reasons that mean slower than asked; idle and application clocks are none."""
