"""NVML: power, energy counter, clocks, temperature and throttle reasons of NVIDIA GPUs."""

from __future__ import annotations

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
        if nvml is None:
            try:
                import pynvml as nvml
            except ImportError:
                raise PowerUnavailableError("NVML is not installed: install nvidia-ml-py") from None
        self._nvml = nvml
        try:
            nvml.nvmlInit()
            name = uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
            self._device = nvml.nvmlDeviceGetHandleByUUID(name)
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

    def other_processes(self, own_pid: int) -> int | None:
        """Number of other processes that compute on this GPU."""
        running = self._try(lambda: self._nvml.nvmlDeviceGetComputeRunningProcesses(self._device))
        return None if running is None else sum(process.pid != own_pid for process in running)

    def driver_version(self) -> str | None:
        """Version of the GPU driver."""
        version = self._try(self._nvml.nvmlSystemGetDriverVersion)
        return version.decode() if isinstance(version, bytes) else version

    def _try(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except self._nvml.NVMLError:
            return None


THROTTLE_BITS = {
    "sw_power_cap": 0x4,
    "hw_slowdown": 0x8,
    "sw_thermal": 0x20,
    "hw_thermal": 0x40,
    "hw_power_brake": 0x80,
}
"""NVML's clock event reasons that mean slower than asked; idle and application clocks are none."""
