"""Servers of a study: started for one configuration, waited for until they are ready, and ended without a trace.

Each runs under a keeper (see ``keeper``) that ends it when this process is gone, however it went.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, fields
from pathlib import Path
from urllib.parse import urlsplit

from perf_assets.measuring.load_tests.requests import LoadError
from perf_assets.measuring.load_tests.study import Cell, Server, Study

_LOOK_S = 0.1
_SHOWN_LINES = 3
_LOOPBACK = "127.0.0.1"


@dataclass
class RunningServer:
    """A server that runs: its addresses, and the process that keeps it (None where it is not ours)."""

    grpc_address: str | None
    http_address: str | None
    keeper: subprocess.Popen | None = None
    output: Path | None = None

    @property
    def pid(self) -> int | None:
        """The root of its processes."""
        return None if self.keeper is None else self.keeper.pid

    @property
    def is_here(self) -> bool:
        """Does it run on this machine, so that what is polled here is about it?"""
        if self.keeper is not None:
            return True
        address = self.http_address or self.grpc_address or ""
        host = urlsplit(address if "//" in address else f"//{address}").hostname
        return host in ("localhost", "::1") or (host or "").startswith("127.")

    def check_alive(self) -> None:
        """See that it still runs.

        Raises:
            LoadError: it has ended; the message says what it said last.
        """
        if self.keeper is not None and self.keeper.poll() is not None:
            raise LoadError(f"the server ended with exit code {self.keeper.returncode}{self.last_words()}")

    def last_words(self) -> str:
        """What it printed last, for a message."""
        if self.output is None:
            return ""
        with contextlib.suppress(OSError):
            lines = self.output.read_text(errors="replace").strip().splitlines()[-_SHOWN_LINES:]
            if lines:
                return "; it said last: " + " | ".join(line.strip()[:300] for line in lines)
        return ""


@contextlib.contextmanager
def running_server(
    study: Study, cell: Cell, work: Path, repository: Callable[[Path], Path] | None = None
) -> Generator[RunningServer]:
    """Run the server of a study in one configuration for the duration of a ``with`` block.

    Args:
        study: what is declared.
        cell: the configuration.
        work: folder for its output and, of Triton, the copy of its models.
        repository: makes that copy in a folder and returns its path.

    Raises:
        LoadError: a port is taken, or the program cannot be started.
    """
    server = study.server
    if server is None:
        raise LoadError("this study has no server")
    if server.kind == "running":
        grpc = server.url if server.url and not server.url.startswith("http") else None
        http = server.http_url or (server.url if server.url and server.url.startswith("http") else None)
        yield RunningServer(grpc, http)
        return
    work.mkdir(parents=True, exist_ok=True)
    ports = {"grpc_port": _port(server.grpc_port), "http_port": _port(server.http_port)}
    if server.kind in ("embedded", "openai_twin"):
        command = _embedded(server, cell)
    elif server.kind == "triton":
        command = _triton(server, (repository or Path)(work), ports)
    else:
        facts = {**ports, "instances": cell.instances, "device_count": cell.device_count or 0}
        command = [
            re.sub(r"\{(\w+)\}", lambda m: str(facts.get(m[1], m[0])), each) for each in server.command
        ]
    environment = dict(server.environment)
    if server.gpus and cell.device_count is not None:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, server.gpus[: cell.device_count]))
    with _kept(command, environment, work / "server.log", server.stop_timeout_s) as (keeper, output):
        running = RunningServer(
            f"{_LOOPBACK}:{ports['grpc_port']}", f"http://{_LOOPBACK}:{ports['http_port']}", keeper, output
        )
        if server.kind in ("embedded", "openai_twin"):
            _read_ports(running, server.ready_timeout_s)
        yield running


def wait_ready(running: RunningServer, is_ready: Callable[[], bool], timeout_s: float) -> float:
    """Wait until the server takes requests; returns how long that took, in seconds.

    Raises:
        LoadError: it ended, or was not ready in time.
    """
    started_s = time.monotonic()
    while not is_ready():
        running.check_alive()
        if time.monotonic() - started_s > timeout_s:
            raise LoadError(
                f"the server was not ready after {timeout_s:g} s{running.last_words()}; look at its output, or raise"
                " server.ready_timeout_s"
            )
        time.sleep(_LOOK_S)
    return time.monotonic() - started_s


@contextlib.contextmanager
def _kept(
    command: list[str], environment: dict[str, str], output: Path, grace_s: float
) -> Generator[tuple[subprocess.Popen, Path]]:
    keeping = [
        sys.executable,
        "-P",
        "-m",
        "perf_assets.measuring.load_tests.serving.keeper",
        "--grace",
        str(grace_s),
    ]
    with output.open("wb") as file:
        keeper = subprocess.Popen(
            [*keeping, "--", *command],
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} | environment,
            start_new_session=True,  # Ctrl-C is ours to pass on
        )
    try:
        yield keeper, output
    finally:
        if keeper.stdin is not None:
            keeper.stdin.close()
        try:
            keeper.wait(grace_s + 10)
        except subprocess.TimeoutExpired:
            keeper.kill()  # the kernel kills the server with it
            keeper.wait()


def _embedded(server: Server, cell: Cell) -> list[str]:
    module = "kserve_server" if server.kind == "embedded" else "openai_server"
    command = [sys.executable, "-P", "-m", f"perf_assets.measuring.load_tests.serving.{module}"]
    command += ["--http-port", str(server.http_port)]
    if server.kind == "embedded":
        command += ["--grpc-port", str(server.grpc_port)]
    else:
        for name in ("tokens", "first_token_ms", "token_ms"):
            command += [f"--{name.replace('_', '-')}", str(getattr(server, name))]
    behaviour = server.behaviour(cell.instances)
    for each in fields(behaviour):
        value, option = getattr(behaviour, each.name), f"--{each.name.replace('_', '-')}"
        if isinstance(value, bool):
            command += [option] if value else []
        else:
            command += [option, str(value)]
    return command


def _triton(server: Server, repository: Path, ports: dict[str, int]) -> list[str]:
    return [
        server.program,
        f"--model-repository={repository}",
        f"--grpc-address={_LOOPBACK}",
        f"--grpc-port={ports['grpc_port']}",
        f"--http-address={_LOOPBACK}",
        f"--http-port={ports['http_port']}",
        "--allow-metrics=false",
        *server.arguments,
    ]


def _port(wanted: int) -> int:
    """The wanted port, or a free one for 0.

    Raises:
        LoadError: it is taken.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_LOOPBACK, wanted))
        except OSError:
            raise LoadError(
                f"port {wanted} is taken: end what listens there, or choose another port in [server] (0: a free one)"
            ) from None
        return probe.getsockname()[1]


def _read_ports(running: RunningServer, timeout_s: float) -> None:
    """An embedded server takes free ports and prints them."""
    output = running.output

    def has_told() -> bool:
        first, end, _ = (output.read_text() if output is not None else "").partition("\n")
        if not end:
            return False
        try:
            ports = json.loads(first)
        except ValueError:
            return False
        running.http_address = f"http://{_LOOPBACK}:{ports['http_port']}"
        running.grpc_address = f"{_LOOPBACK}:{ports['grpc_port']}" if "grpc_port" in ports else None
        return True

    wait_ready(running, has_told, timeout_s)
