"""The site file, ``cluster.toml``: which nodes and boards have which device, and how to get onto them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

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


class Board(StrictModel):
    """How a job gets onto one machine by ssh, without Slurm and without a shared disk.

    ``host`` is what ssh is told (a name, an address, ``user@name``, or a name of ssh's own configuration);
    ``folder`` is where jobs and their logs lie there; ``python`` is the interpreter there that has this package;
    ``setup`` are shell lines that prepare its environment; ``ssh_options`` are options as ssh's configuration
    writes them, ``Port=2222``. ``torch_device`` as of :class:`DeviceNodes`.
    """

    host: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.:%@-]*$", description="of ssh, without options")
    folder: str = Field(pattern=r"^(/|~/)[^\x00-\x1f]+$", description="absolute, or under ~/")
    python: str = Field(default="python3", pattern=r"^[^-\x00-\x1f][^\x00-\x1f]*$")
    setup: tuple[str, ...] = ()
    ssh_options: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9]+=[^\x00-\x1f]+$")], ...] = ()
    torch_device: str | None = Field(default=None, pattern=r"^(cpu|cuda(:\d{1,3})?)$")


class SiteFile(StrictModel):
    """Its tables of nodes; ``defaults`` hold for each of them unless its own table says otherwise."""

    defaults: DeviceNodes = DeviceNodes()
    devices: dict[str, DeviceNodes]


class BoardTables(StrictModel):
    """Its tables of boards, which take nothing from ``defaults``: these are what sbatch is told."""

    devices: dict[str, Board]


class Site(StrictModel):
    """The devices of a cluster, and the boards beside it, by the names that tags use."""

    devices: dict[str, DeviceNodes | Board]
    source: str

    @property
    def boards(self) -> dict[str, Board]:
        """Those that ssh reaches."""
        return {name: device for name, device in self.devices.items() if isinstance(device, Board)}

    def nodes_of(self, device: str) -> DeviceNodes:
        """How to get onto a node with this device.

        Raises:
            EngineError: the site has none, or a board; the message lists what it has.
        """
        found = self.device(device)
        if isinstance(found, Board):
            raise EngineError(
                f"{self.source}: [devices.{device}] has a host, so ssh reaches it and not Slurm: use the "
                "executor 'ssh'"
            )
        return found

    def board_of(self, device: str) -> Board:
        """How to get onto a board.

        Raises:
            EngineError: the site has none, or nodes of Slurm; the message lists what it has.
        """
        found = self.device(device)
        if not isinstance(found, Board):
            raise EngineError(
                f"{self.source}: [devices.{device}] has no host: add host and folder to reach it by ssh, or use "
                "the executor 'slurm'"
            )
        return found

    def device(self, device: str) -> DeviceNodes | Board:
        """The table of a device.

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
        """What torch measures on there: what the site file says, else what the name or the gres tells.

        Raises:
            EngineError: the site has no such device, or a board of which nothing tells.
        """
        found = self.device(device)
        if known := found.torch_device or torch_device_of(device):
            return known
        if isinstance(found, Board):
            raise EngineError(
                f"{self.source}: [devices.{device}] torch_device: nobody knows what kind of device {device!r} "
                'is: add torch_device = "cpu" or "cuda"'
            )
        return "cuda" if found.gres else "cpu"


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
        boards, nodes = _told_apart(document, path)
        devices: dict[str, DeviceNodes | Board] = {
            **validated(BoardTables, {"devices": boards}, str(path)).devices
        }
        validated(SiteFile, document | nodes, str(path))
        shared: dict[str, Any] = document.get("defaults", {})
        for name, table in nodes.get("devices", {}).items():
            devices[name] = validated(DeviceNodes, _merged(shared, table), f"{path}: [devices.{name}]")
    except InvalidInputError as error:
        raise EngineError(str(error)) from error
    return Site(devices=devices, source=str(path))


def _told_apart(document: dict[str, Any], path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tables of boards by name, and the document's ``devices`` without them, where it has any.

    Raises:
        InvalidInputError: a table that is of both kinds.
    """
    tables = document.get("devices")
    if not isinstance(tables, dict):
        return {}, {}  # the model says what is wrong
    if not tables:
        raise InvalidInputError(f"{path}: no table [devices.NAME]: add one a kind of device")
    boards = {name: table for name, table in tables.items() if isinstance(table, dict) and "host" in table}
    of_nodes = set(DeviceNodes.model_fields) - set(Board.model_fields)
    of_boards = set(Board.model_fields) - set(DeviceNodes.model_fields)
    for name, table in tables.items():
        if not isinstance(table, dict):
            continue
        if name in boards and (both := sorted(of_nodes & set(table))):
            raise InvalidInputError(
                f"{path}: [devices.{name}] has a host, which ssh reaches, and {both[0]}, which is Slurm's: "
                "leave one of them out"
            )
        if name not in boards and (alone := sorted(of_boards & set(table))):
            raise InvalidInputError(
                f"{path}: [devices.{name}] has {alone[0]} and no host: add the host that ssh is to reach"
            )
    return boards, {"devices": {name: table for name, table in tables.items() if name not in boards}}


def _merged(shared: dict[str, Any], table: dict[str, Any]) -> dict[str, Any]:
    return {**shared, **table, "setup": [*shared.get("setup", ()), *table.get("setup", ())]}
