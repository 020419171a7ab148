"""Cheap samples of a process tree and its machine, from /proc.

What changes fast is read often, the rest rarely: processor time and resident memory of each process every time,
the tree itself and the machine once a second, the proportional set size every ten seconds. The files stay open
between reads, so that one process costs one system call a sample. Fields as in proc(5).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Iterable
from pathlib import Path

TREE_S = 1.0
PSS_S = 10.0
_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")
_PAGE_MIB = os.sysconf("SC_PAGE_SIZE") / 2**20
_MIB = 2**20
_KERNEL_LISTS_CHILDREN = os.path.exists(f"/proc/self/task/{os.getpid()}/children")


def children_of(pid: int) -> list[int]:
    """Processes whose parent is this one now, whichever of its threads made them; dead ones that nobody waited
    for count."""
    if not _KERNEL_LISTS_CHILDREN:
        return _children_by_parent(pid)
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{thread}/children") as file:
                found += map(int, file.read().split())
    return found


def _children_by_parent(pid: int) -> list[int]:
    """The same on kernels that were built without the lists: every process is looked at."""
    found = []
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            if int(Path(f"/proc/{int(name)}/stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(name))
    return found


def descendants(roots: Iterable[int]) -> list[int]:
    """These processes and all that come from them, parents first."""
    found = list(dict.fromkeys(roots))
    seen = set(found)
    for pid in found:  # it grows while it is walked
        for child in children_of(pid):
            if child not in seen:
                seen.add(child)
                found.append(child)
    return found


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies; for ``preexec_fn``."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG; Linux only, like the device lock


def process_state(pid: int) -> str | None:
    """The state letter of a process (``Z``: dead, nobody waited for it); None where it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0].decode()
    except OSError:
        return None


class TreeSampler:
    """Samples a tree of processes and the machine.

    Args:
        own_pid: processes that are handed to this one when their parent dies belong to the tree, too.
        strangers: children of ``own_pid`` that do not belong to it.
    """

    def __init__(self, own_pid: int | None = None, strangers: Iterable[int] = ()) -> None:
        self._own_pid = own_pid
        self._strangers = set(strangers)
        self._root: int | None = None
        self._files: dict[int, int] = {}
        self._next_tree_s = self._next_pss_s = float("-inf")
        self._last_cpu: tuple[float, float] | None = None
        self._last_machine: tuple[int, int] | None = None
        self.peak_rss_mib: float | None = None
        self.processes_seen: set[int] = set()

    def follow(self, root: int) -> None:
        """Sample this process and all that comes from it."""
        self._root = root
        self._next_tree_s = float("-inf")

    def exclude(self, pid: int) -> None:
        """Leave out a child of ``own_pid``."""
        self._strangers.add(pid)

    def sample(self, now_s: float) -> dict[str, float]:
        """Numbers of the tree now, by names that say their unit; those of the machine once a second."""
        values: dict[str, float] = {}
        is_tree_due = now_s >= self._next_tree_s
        if is_tree_due:
            self._next_tree_s = now_s + TREE_S
            self._look_for_processes()
        cpu_s, rss_pages, threads = 0.0, 0, 0
        for pid, file in list(self._files.items()):
            try:
                stat = os.pread(file, 1024, 0)
            except OSError:  # it is gone
                self._forget(pid)
                continue
            fields = stat[stat.rfind(b")") + 2 :].split()
            # utime, stime, and those of children that were waited for
            cpu_s += (int(fields[11]) + int(fields[12]) + int(fields[13]) + int(fields[14])) * _TICK_S
            threads += int(fields[17])
            rss_pages += int(fields[21])
        values["processes"] = len(self._files)
        values["threads"] = threads
        values["rss_mib"] = rss_pages * _PAGE_MIB
        values["cpu_s"] = cpu_s
        if self._last_cpu is not None and now_s > self._last_cpu[0]:
            # A process that was handed to us and ended takes its time with it.
            values["cpu_pct"] = max(0.0, 100 * (cpu_s - self._last_cpu[1]) / (now_s - self._last_cpu[0]))
        self._last_cpu = (now_s, cpu_s)
        if self._files:
            self.peak_rss_mib = max(self.peak_rss_mib or 0.0, values["rss_mib"])
        if is_tree_due:
            values |= self._disk() | self._machine()
        if now_s >= self._next_pss_s:
            self._next_pss_s = now_s + PSS_S
            values |= self._proportional()
        return {name: round(value, 4) for name, value in values.items()}

    def close(self) -> None:
        """Close all files."""
        for pid in list(self._files):
            self._forget(pid)

    def _look_for_processes(self) -> None:
        roots = [] if self._root is None else [self._root]
        if self._own_pid is not None:
            roots += [pid for pid in children_of(self._own_pid) if pid not in self._strangers]
        alive = set(descendants(roots))
        self.processes_seen |= alive
        for pid in self._files.keys() - alive:
            self._forget(pid)
        for pid in alive - self._files.keys():
            with contextlib.suppress(OSError):
                self._files[pid] = os.open(f"/proc/{pid}/stat", os.O_RDONLY)

    def _forget(self, pid: int) -> None:
        os.close(self._files.pop(pid))

    def _disk(self) -> dict[str, float]:
        """Bytes that the living processes moved to and from storage."""
        read, written, told = 0, 0, False
        for pid in self._files:
            with contextlib.suppress(OSError, ValueError), open(f"/proc/{pid}/io") as file:
                fields = dict(line.split(": ") for line in file.read().splitlines())
                read, written, told = (
                    read + int(fields["read_bytes"]),
                    written + int(fields["write_bytes"]),
                    True,
                )
        return {"read_mib": read / _MIB, "written_mib": written / _MIB} if told else {}

    def _proportional(self) -> dict[str, float]:
        """Memory of the tree with shared pages counted once."""
        pss_kib, told = 0, False
        for pid in self._files:
            with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps_rollup") as file:
                for line in file:
                    if line.startswith("Pss:"):
                        pss_kib, told = pss_kib + int(line.split()[1]), True
        return {"pss_mib": pss_kib / 1024} if told else {}

    def _machine(self) -> dict[str, float]:
        values: dict[str, float] = {}
        with contextlib.suppress(OSError, ValueError, IndexError):
            with open("/proc/stat") as file:
                ticks = [int(each) for each in file.readline().split()[1:9]]
            total, idle = sum(ticks), ticks[3] + ticks[4]
            if self._last_machine is not None and total > self._last_machine[0]:
                idle_share = (idle - self._last_machine[1]) / (total - self._last_machine[0])
                values["machine_busy_pct"] = 100 * (1 - idle_share)
            self._last_machine = (total, idle)
        with contextlib.suppress(OSError, ValueError):
            with open("/proc/meminfo") as file:
                memory = dict(line.split(":") for line in file.readlines()[:3])
            values["machine_used_mib"] = (_kib(memory["MemTotal"]) - _kib(memory["MemAvailable"])) / 1024
        with contextlib.suppress(OSError):
            values["load_1min"] = os.getloadavg()[0]
        for resource in ("cpu", "io", "memory"):
            with contextlib.suppress(OSError, ValueError, IndexError):
                some = Path(f"/proc/pressure/{resource}").read_text().split()
                values[f"{resource}_pressure_pct"] = float(some[1].removeprefix("avg10="))
        return values


def _kib(text: str) -> int:
    return int(text.split()[0])
