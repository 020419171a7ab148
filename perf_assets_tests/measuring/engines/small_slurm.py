"""A Slurm cluster of several nodes on this machine, for tests: no root, no munge, no systemd."""

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

DEVICES = ("alpha", "beta", "gamma")
# Each node's fake GPU needs a character device of its own.
GPU_FILES = ("/dev/null", "/dev/zero", "/dev/full")

needs_slurm = pytest.mark.skipif(
    shutil.which("slurmctld") is None or shutil.which("slurmd") is None,
    reason="slurmctld is not installed: the Debian package slurm-wlm has it",
)

CONFIGURATION = """
ClusterName=small
SlurmctldHost=localhost(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
MpiDefault=none
SlurmctldPort={port}
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool/%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd-%n.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
GresTypes=gpu
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
MinJobAge=300
KillWait=2
SlurmdTimeout=10
AccountingStorageType=accounting_storage/none
JobRequeue=0
NodeName=DEFAULT CPUs=2 RealMemory=1000 State=UNKNOWN
{nodes}
PartitionName=gpu Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""

SITE = """
[defaults]
gres = "gpu:1"
torch_device = "cpu"
[devices.alpha]
constraint = "alpha"
[devices.beta]
constraint = "beta"
[devices.gamma]
constraint = "gamma"
partition = "gpu"
[devices.delta]
constraint = "delta"
[devices.elsewhere]
constraint = "alpha"
partition = "absent"
[devices.greedy]
constraint = "alpha"
gres = "gpu:9"
"""


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class SmallSlurm:
    """A running cluster; ``environment`` points Slurm's commands to it, ``site`` is a site file for it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for folder in ("state", "spool"):
            (root / folder).mkdir(parents=True)
        port, *node_ports = free_ports(1 + len(DEVICES))
        nodes = "\n".join(
            f"NodeName={device}-0 NodeHostname=localhost NodeAddr=127.0.0.1 Port={node_port}"
            f" Feature={device} Gres=gpu:{device}:1"
            for device, node_port in zip(DEVICES, node_ports, strict=True)
        )
        self.configuration = root / "slurm.conf"
        self.configuration.write_text(
            CONFIGURATION.format(user=getpass.getuser(), port=port, root=root, nodes=nodes)
        )
        (root / "gres.conf").write_text(
            "\n".join(
                f"NodeName={device}-0 Name=gpu Type={device} File={path}"
                for device, path in zip(DEVICES, GPU_FILES, strict=True)
            )
            + "\n"
        )
        self.site = root / "cluster.toml"
        self.site.write_text(SITE)
        self.environment = {"SLURM_CONF": str(self.configuration), "PERF_ASSETS_CLUSTER": str(self.site)}
        self.controller: subprocess.Popen[bytes] | None = None
        self.daemons: list[subprocess.Popen[bytes]] = []

    def _spawn(self, *command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*command, "-D", "-f", str(self.configuration)],
            env=os.environ | self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def start_controller(self, *options: str) -> None:
        self.controller = self._spawn("slurmctld", *options)

    def kill_controller(self) -> None:
        assert self.controller is not None
        self.controller.kill()
        self.controller.wait()

    def start(self) -> None:
        self.start_controller("-c")
        self.daemons = [self._spawn("slurmd", "-N", f"{device}-0") for device in DEVICES]
        deadline_s = time.monotonic() + 30
        while self.run("sinfo", "-h", "-N", "-o", "%T").split() != ["idle"] * len(DEVICES):
            if time.monotonic() > deadline_s:
                raise RuntimeError((self.root / "slurmctld.log").read_text()[-2000:])
            time.sleep(0.05)

    def stop(self) -> None:
        self.run("scancel", "--me")
        # A step whose end nobody hears would try for ever to tell it; its socket is there as long as it is.
        deadline_s = time.monotonic() + 10
        while any(self.root.glob("spool/*/*_*.*")) and time.monotonic() < deadline_s:
            time.sleep(0.05)
        # The daemons first: a controller that is gone makes them wait.
        for process in [*self.daemons, *([self.controller] if self.controller else [])]:
            process.kill()
            process.wait()

    def run(self, *command: str) -> str:
        """Output of one of Slurm's commands on this cluster; empty where it fails."""
        return subprocess.run(
            command, env=os.environ | self.environment, capture_output=True, text=True, check=False
        ).stdout

    def set_node(self, device: str, state: str) -> None:
        self.run("scontrol", "update", f"nodename={device}-0", f"state={state}", "reason=test")

    def queue(self) -> list[str]:
        """Names of the jobs in the queue."""
        return self.run("squeue", "-h", "-o", "%j").split()


@contextmanager
def small_slurm(root: Path) -> Iterator[SmallSlurm]:
    """Start a cluster, and stop it at the end."""
    cluster = SmallSlurm(root)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
