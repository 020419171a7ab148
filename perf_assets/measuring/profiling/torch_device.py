"""The device that torch measures on: finding it, its facts, its memory, and whether it is what its label
says."""

from __future__ import annotations

from typing import Any

import torch

from perf_assets.measuring.devices import energy, host
from perf_assets.measuring.devices.lock import DeviceBusyError, device_lock
from perf_assets.measuring.devices.nvml import NvmlReader
from perf_assets.measuring.devices.power import PowerUnavailableError
from perf_assets.schema.device_catalog import catalog


def torch_device(name: str) -> torch.device:
    """Find the device and make it the current one.

    Raises:
        ValueError: it does not exist here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise ValueError(
                f"device {name}: no CUDA device is visible: use cpu, or look at CUDA_VISIBLE_DEVICES"
            )
        device = torch.device("cuda", device.index or 0)
        if device.index >= torch.cuda.device_count():
            last = torch.cuda.device_count() - 1
            raise ValueError(
                f"device {name}: the last one here is cuda:{last}: use one of cuda:0 to cuda:{last}"
            )
    elif device.type != "cpu":
        raise ValueError(f"device {name}: only cpu and cuda can be measured")
    return device


def uuid_of(device: torch.device) -> str | None:
    """Tell a GPU's UUID; None for the processor."""
    return str(torch.cuda.get_device_properties(device).uuid) if device.type == "cuda" else None


def lock_name(device: torch.device) -> str:
    """Name the lock of a device, the same for all of its names."""
    return uuid_of(device) or "cpu"


def device_facts(device: torch.device) -> dict[str, Any]:
    """Describe the device: type and name, and of a GPU its memory and capability."""
    if device.type == "cpu":
        return {"type": "cpu", "name": host.host_facts()["cpu_model"]}
    facts = torch.cuda.get_device_properties(device)
    try:
        told = NvmlReader(str(facts.uuid)).facts()
    except PowerUnavailableError:
        told = {}
    return told | {
        "type": "cuda",
        "name": facts.name,
        "uuid": uuid_of(device),
        "memory_total_mib": facts.total_memory / 2**20,
        "multiprocessors": facts.multi_processor_count,
        "compute_capability": f"{facts.major}.{facts.minor}",
    }


def measurable(name: str) -> list[tuple[str, str]]:
    """Say what this machine can measure on a device: rows of (quantity, what is there or why it is not).

    Raises:
        ValueError: the device does not exist here.
    """
    device = torch_device(name)
    rows = [(fact, str(value)) for fact, value in device_facts(device).items() if value is not None]
    rows += [(package, str(version)) for package, version in host.versions("torch", "torchvision").items()]
    free = free_mib(device)
    rows.append(("memory_free_mib", "not told" if free is None else f"{free:.0f}"))
    try:
        rows.append(("energy", energy.open_reader(device.type, uuid_of(device)).name))
    except PowerUnavailableError as error:
        rows.append(("energy", f"not measured: {error}"))
    try:
        with device_lock(lock_name(device), 0.0):
            rows.append(("lock", "free"))
    except DeviceBusyError as error:
        rows.append(("lock", str(error)))
    return rows


def free_mib(device: torch.device) -> float | None:
    """Tell the memory that is free on the device (of the machine, for the processor), in MiB."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] / 2**20
    return host.host_facts()["memory_available_mib"]


def used_mib(device: torch.device) -> float | None:
    """Tell the memory in use on the device (of the machine, for the processor), in MiB."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return (total - free) / 2**20
    return host.system_used_mib()


def check_label(label: str | None, facts: dict[str, Any]) -> None:
    """Refuse a label that names another device than the one that is there.

    A label that the catalogue of devices does not know, and one that leaves the variant open (``h100`` of an
    ``h100-nvl``), contradicts nothing.

    Raises:
        ValueError: it names another one; the message says what is there.
    """
    names = catalog()
    asked, asked_kind = names.name(label)
    found, _ = names.name(facts.get("name"))
    if asked is None or found is None or asked_kind is None or facts["type"] == "cpu":
        return
    if found != asked and not found.startswith(f"{asked}-"):
        raise ValueError(
            f"device_label {label!r}, but this machine has {facts['name']!r} ({found}): use that label,"
            " or correct the site file's constraint"
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, on the device or on the host."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    words = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in words for sign in _OUT_OF_MEMORY_WORDS)


_OUT_OF_MEMORY_WORDS = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "cublas_status_alloc_failed",
    "(4004)",  # cuDNN's number for an allocation on the device that failed
    "unable to find an engine",
)
