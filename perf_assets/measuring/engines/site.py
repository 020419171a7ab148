"""The site file, ``cluster.toml``: which nodes have which device, and how to get onto them."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

from perf_assets.measuring.engines.engine import EngineError

SITE_VARIABLE = "PERF_ASSETS_CLUSTER"
DEFAULT_SITE = "cluster.toml"


@dataclass(frozen=True)
class DeviceNodes:
    """How a job gets onto a node with one kind of device. All but ``gres`` may stay unset.

    ``constraint``, ``partition``, ``gres``, ``account`` and ``qos`` are sbatch's options of these names;
    ``time_minutes`` is the longest run, ``memory_gib`` and ``cpus`` what it needs; ``setup`` are shell lines that
    prepare the environment before the command; ``python`` is the interpreter there.
    """

    constraint: str | None = None
    partition: str | None = None
    gres: str | None = "gpu:1"
    account: str | None = None
    qos: str | None = None
    time_minutes: int = 60
    memory_gib: float | None = None
    cpus: int | None = None
    setup: tuple[str, ...] = ()
    python: str | None = None


@dataclass(frozen=True)
class Site:
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
                f"no device {device!r} in {self.source} (it has: {known}); add a table [devices.{device}] there"
            ) from None


def load_site(path: Path | None = None) -> Site:
    """Read the site file: ``path``, or ``PERF_ASSETS_CLUSTER``, or ``cluster.toml`` in the current folder.

    Raises:
        EngineError: it is missing or wrong; the message names the file and the key.
    """
    path = path or Path(os.environ.get(SITE_VARIABLE, DEFAULT_SITE))
    try:
        document = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise EngineError(
            f"no site file {path}: copy cluster.example.toml to {DEFAULT_SITE}, or name one with {SITE_VARIABLE}"
        ) from None
    except (tomllib.TOMLDecodeError, OSError, UnicodeDecodeError) as error:
        raise EngineError(f"{path}: {error}") from error
    known = {each.name for each in fields(DeviceNodes)}
    shared = document.get("defaults", {})
    devices = {}
    for name, table in document.get("devices", {}).items():
        merged = shared | table
        unknown = sorted(set(merged) - known)
        if unknown:
            raise EngineError(
                f"{path}: [devices.{name}] has no setting {', '.join(unknown)}; use {', '.join(sorted(known))}"
            )
        merged["setup"] = (*shared.get("setup", ()), *table.get("setup", ()))
        devices[name] = DeviceNodes(**merged)
    return Site(devices, str(path))
