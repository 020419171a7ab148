"""Facts of devices (``device_catalog.toml``): what a fit starts from, and what lets one device stand in for another."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Device:
    """Data-sheet facts of one device."""

    name: str
    peak_fp32_tflops: float
    memory_bandwidth_gbps: float
    memory_gib: float
    tdp_w: float
    integrated: bool
    launched_year: int
    source: str


DEVICES_FILE = Path(__file__).parent / "device_catalog.toml"


@cache
def devices() -> dict[str, Device]:
    """All known devices by name."""
    return {
        name: Device(name=name, **facts) for name, facts in tomllib.loads(DEVICES_FILE.read_text()).items()
    }


def device_facts(name: str) -> Device:
    """Facts of a device; of an unknown one, those of a middling accelerator, which a fit then scales as a whole."""
    typical = Device(name, 10.0, 500.0, float("inf"), 250.0, False, 2023, "not in device_catalog.toml")
    return devices().get(name, typical)
