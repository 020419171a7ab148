"""The site file, ``cluster.toml``: which nodes have which device, and how to get onto them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from perf_assets.measuring.engines.engine import EngineError
from perf_assets.schema.device_catalog import catalog
from perf_assets.workspace.validation import InvalidInputError, StrictModel, read_toml, validated

SITE_VARIABLE = "PERF_ASSETS_CLUSTER"
DEFAULT_SITE = "cluster.toml"


class DeviceNodes(StrictModel):
    """How a job gets onto a node with one kind of device. All but ``gres`` may stay unset.

    ``constraint``, ``partition``, ``gres``, ``account`` and ``qos`` are sbatch's options of these names;
    ``time_minutes`` is the longest run, ``memory_gib`` and ``cpus`` what it needs; ``setup`` are shell lines
    that prepare the environment before the command; ``python`` is the interpreter there. ``torch_device`` is
    what torch measures on (``cpu``, ``cuda``); unset, it follows from the device's name and its gres.
    """

    constraint: str | None = None
    partition: str | None = None
    gres: str | None = "gpu:1"
    account: str | None = None
    qos: str | None = None
    time_minutes: int = Field(default=60, ge=1)
    memory_gib: float | None = Field(default=None, gt=0)
    cpus: int | None = Field(default=None, ge=1)
    setup: tuple[str, ...] = ()
    python: str | None = None
    torch_device: str | None = Field(default=None, pattern=r"^(cpu|cuda(:\d{1,3})?)$")


class SiteFile(StrictModel):
    """The whole file; ``defaults`` hold for every device unless its own table says otherwise."""

    defaults: DeviceNodes = DeviceNodes()
    devices: dict[str, DeviceNodes]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.devices:
            raise ValueError("no table [devices.NAME]: add one a kind of device")
        return self


class Site(StrictModel):
    """The devices of a cluster by the names that tags use."""

    devices: dict[str, DeviceNodes]
    source: str

    def nodes_of(self, device: str) -> DeviceNodes:
        """How to get onto a node with this device.

        Raises:
            EngineError: the site has none; the message lists what it has.
        """
        try:
            return self.devices[device]
        except KeyError:
            known = ", ".join(sorted(self.devices)) or "none"
            raise EngineError(
                f"no device {device!r} in {self.source} (it has: {known}); add a table [devices.{device}] "
                "there"
            ) from None

    def torch_device(self, device: str) -> str:
        """What torch measures on there: what the site file says, else what the name or the gres tells."""
        nodes = self.nodes_of(device)
        return nodes.torch_device or torch_device_of(device) or ("cuda" if nodes.gres else "cpu")


def torch_device_of(device: str) -> str | None:
    """What torch calls a device of this name; None where its kind is not known."""
    kind = catalog().name(device)[1]
    return {"cpu": "cpu", "gpu": "cuda", "soc": "cuda"}.get(kind or "")


def load_site(path: Path | None = None) -> Site:
    """Read the site file: ``path``, or ``PERF_ASSETS_CLUSTER``, or ``cluster.toml`` in the current folder.

    Raises:
        EngineError: it is missing or wrong; the message names the file and the key.
    """
    path = path or Path(os.environ.get(SITE_VARIABLE, DEFAULT_SITE))
    if not path.exists():
        raise EngineError(
            f"no site file {path}: copy cluster.example.toml to {DEFAULT_SITE}, or name one with "
            f"{SITE_VARIABLE}"
        )
    try:
        document = read_toml(path, "cluster.example.toml")
        validated(SiteFile, document, str(path))
        shared: dict[str, Any] = document.get("defaults", {})
        devices = {
            name: validated(DeviceNodes, _merged(shared, table), f"{path}: [devices.{name}]")
            for name, table in document["devices"].items()
        }
    except InvalidInputError as error:
        raise EngineError(str(error)) from error
    return Site(devices=devices, source=str(path))


def _merged(shared: dict[str, Any], table: dict[str, Any]) -> dict[str, Any]:
    return {**shared, **table, "setup": [*shared.get("setup", ()), *table.get("setup", ())]}
