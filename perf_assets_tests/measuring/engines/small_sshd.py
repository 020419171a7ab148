"""A real sshd of this user on a high port, for tests: own host key, own user key, own configuration."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from perf_assets_tests.support import ROOT

SSHD = "/usr/sbin/sshd"

needs_sshd = pytest.mark.skipif(
    not Path(SSHD).exists() or shutil.which("ssh") is None,
    reason="sshd or ssh is not installed: the Debian packages openssh-server and openssh-client have them",
)

CONFIGURATION = """
Port {port}
ListenAddress 127.0.0.1
HostKey {root}/host_key
AuthorizedKeysFile {root}/authorized_keys
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
"""


class SmallSshd:
    """A running sshd; ``options`` are what a site file says to reach it, ``site`` is a site file for it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(exist_ok=True)
        for name in ("host_key", "user_key"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(root / name)], check=True
            )
        shutil.copy(root / "user_key.pub", root / "authorized_keys")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        (root / "sshd_config").write_text(CONFIGURATION.format(port=self.port, root=root))
        host_key = " ".join((root / "host_key.pub").read_text().split()[:2])
        (root / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {host_key}\n")
        self.folder = root / "board"
        self.options = (
            f"Port={self.port}",
            f"IdentityFile={root}/user_key",
            "IdentitiesOnly=yes",
            f"UserKnownHostsFile={root}/known_hosts",
        )
        self.site = self.write_site(root / "cluster.toml")
        self._daemon: subprocess.Popen[bytes] | None = None

    def write_site(self, path: Path, **changes: object) -> Path:
        """A site file whose devices alpha and beta are this board; ``changes`` replace keys of their tables."""
        keys = {
            "host": "127.0.0.1",
            "folder": str(self.folder),
            "python": sys.executable,
            "setup": [f"export PYTHONPATH='{ROOT}'", "echo noise of a module system"],
            "torch_device": "cpu",
            "ssh_options": list(self.options),
            **changes,
        }
        table = "\n".join(f"{name} = {value!r}" for name, value in keys.items()).replace("\\'", "'")
        path.write_text(f"[devices.alpha]\n{table}\n[devices.beta]\n{table}\n")
        return path

    def start(self) -> None:
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # sshd wants it of root
        self._daemon = subprocess.Popen(
            [SSHD, "-D", "-e", "-f", str(self.root / "sshd_config")],
            stdin=subprocess.DEVNULL,
            stderr=(self.root / "sshd.log").open("ab"),
        )
        deadline_s = time.monotonic() + 20
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert time.monotonic() < deadline_s, (self.root / "sshd.log").read_text()
            time.sleep(0.05)

    def break_connections(self) -> int:
        """Kill what serves the connections that there are; returns how many."""
        assert self._daemon is not None
        children = Path(f"/proc/{self._daemon.pid}/task/{self._daemon.pid}/children").read_text().split()
        for pid in children:
            os.kill(int(pid), signal.SIGKILL)
        return len(children)

    def stop(self) -> None:
        assert self._daemon is not None
        self.break_connections()
        self._daemon.kill()
        self._daemon.wait()


@contextmanager
def small_sshd(root: Path) -> Iterator[SmallSshd]:
    """Start an sshd, and stop it at the end."""
    server = SmallSshd(root)
    server.start()
    try:
        yield server
    finally:
        server.stop()
