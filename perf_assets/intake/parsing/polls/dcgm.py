"""Metrics of DCGM as its exporter names them: their columns, and the GPU and host that labels tell. W, °C, %, MHz, MiB."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PREFIX = "DCGM_FI_"

_COLUMNS = {
    "DCGM_FI_DEV_GPU_UTIL": "utilization_pct",
    "DCGM_FI_DEV_MEM_COPY_UTIL": "memory_utilization_pct",
    "DCGM_FI_DEV_POWER_USAGE": "power_w",
    "DCGM_FI_DEV_POWER_MGMT_LIMIT": "power_limit_w",
    "DCGM_FI_DEV_FB_USED": "memory_used_mib",
    "DCGM_FI_DEV_FB_TOTAL": "memory_total_mib",
    "DCGM_FI_DEV_GPU_TEMP": "temperature_c",
    "DCGM_FI_DEV_SM_CLOCK": "sm_clock_mhz",
    "DCGM_FI_DEV_MEM_CLOCK": "memory_clock_mhz",
}
# Labels that have a column, or say nothing of the device or its work.
_KNOWN_LABELS = frozenset(("__name__", "UUID", "modelName", "Hostname", "job", "instance"))


def new_poll(labels: Mapping[str, str]) -> dict[str, Any]:
    """A poll without samples, with what labels tell of the device."""
    return {
        "device_name": labels.get("modelName"),
        "host": labels.get("Hostname") or labels.get("instance"),
        "labels": sorted((name, value) for name, value in labels.items() if name not in _KNOWN_LABELS),
        "metrics": {},
    }


def add_sample(poll: dict[str, Any], metric: str, value: float) -> bool:
    """Put a metric's value where it belongs; False, and nothing done, where the poll has one already."""
    into, name = (poll, _COLUMNS[metric]) if metric in _COLUMNS else (poll["metrics"], metric)
    if name in into:
        return False
    into[name] = value
    return True


def device_id(labels: Mapping[str, str]) -> str:
    """The GPU's uuid, or its host and index; of a part of it (MIG) also the number of its instance.

    Raises:
        ValueError: no label names a GPU.
    """
    gpu = labels.get("UUID") or "/".join(
        part for part in (labels.get("Hostname") or labels.get("instance"), labels.get("gpu")) if part
    )
    if not gpu:
        raise ValueError("no GPU in its labels")
    instance = labels.get("GPU_I_ID")
    return f"{gpu}/{instance}" if instance else gpu
