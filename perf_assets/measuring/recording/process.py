"""Start one command, pass signals on to it, and wait for it so that the kernel's own figures are exact.

The command runs in a session of its own and writes to files, not to us: it goes on unharmed when the recorder
dies. It is started through ``setsid --fork`` and so is handed to us when that ends (we are its subreaper):
``ru_maxrss`` of a direct child begins with the memory of whoever forked it (getrusage(2) counts it from before
the exec), which would be ours.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from perf_assets.measuring.devices.processes import children_of, process_state

FORWARDED = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
_PR_SET_CHILD_SUBREAPER = 36
_HOLD_S = 5.0
NOT_FOUND_EXIT_CODE = 127
NOT_EXECUTABLE_EXIT_CODE = 126


class CommandError(Exception):
    """The command cannot be started; ``exit_code`` is what a shell would give."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass
class Usage:
    """What the kernel counted of the processes that were waited for (getrusage(2))."""

    user_s: float = 0.0
    system_s: float = 0.0
    largest_rss_mib: float = 0.0
    minor_faults: int = 0
    major_faults: int = 0
    voluntary_context_switches: int = 0
    involuntary_context_switches: int = 0
    processes: int = 0

    def add(self, usage: resource.struct_rusage) -> None:
        """Count another process (with all children that it waited for)."""
        self.user_s += usage.ru_utime
        self.system_s += usage.ru_stime
        self.largest_rss_mib = max(self.largest_rss_mib, usage.ru_maxrss / 1024)
        self.minor_faults += usage.ru_minflt
        self.major_faults += usage.ru_majflt
        self.voluntary_context_switches += usage.ru_nvcsw
        self.involuntary_context_switches += usage.ru_nivcsw
        self.processes += 1


def resolve(command: Sequence[str]) -> list[str]:
    """The command with its program's path, found as a shell would find it.

    Raises:
        CommandError: there is no such program, or it may not be run.
    """
    program = command[0]
    found = shutil.which(program)
    if found is None:
        if os.path.exists(program) and "/" in program:
            raise CommandError(f"{program}: not executable: 'chmod +x' it, or name its interpreter", 126)
        raise CommandError(f"{program}: no such program: give its path, or install it", NOT_FOUND_EXIT_CODE)
    return [found, *command[1:]]


@dataclass
class CommandProcess:
    """A command that runs, and what the kernel says of it."""

    pid: int
    usage: Usage = field(default_factory=Usage)
    status: int | None = None
    """As wait(2) gives it; None while it runs."""
    rss_floor_mib: float = 0.0
    """Memory that ``largest_rss_mib`` cannot be below: that of whoever forked it."""
    _pidfd: int | None = None

    def wait(self, timeout_s: float) -> bool:
        """Wait for its end, no longer than so many seconds; true once it has ended."""
        if self.status is not None:
            return True
        if self._pidfd is None:
            time.sleep(min(timeout_s, 0.01))
        else:
            # Signals interrupt the wait, their handlers run, and it goes on.
            select.select([self._pidfd], [], [], max(timeout_s, 0.0))
        pid, status, usage = os.wait4(self.pid, os.WNOHANG)
        if pid == 0:
            return False
        self.status = status
        self.usage.add(usage)
        if self._pidfd is not None:
            os.close(self._pidfd)
        return True

    def reap_orphans(self, strangers: Iterable[int]) -> int:
        """Wait for ended processes that were handed to us; returns how many of them still run."""
        alive = 0
        for pid in set(children_of(os.getpid())) - {self.pid, *strangers}:
            with contextlib.suppress(ChildProcessError):
                ended, _, usage = os.wait4(pid, os.WNOHANG)
                if ended:
                    self.usage.add(usage)
                else:
                    alive += 1
        return alive

    def release(self) -> None:
        """Let a held command go."""
        self.signal(signal.SIGCONT)

    def signal(self, number: int) -> None:
        """Send a signal to its process group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    @property
    def exit_code(self) -> int | None:
        """Its exit code; for one that a signal ended 128 + the signal, as shells say it."""
        if self.status is None:
            return None
        code = os.waitstatus_to_exitcode(self.status)
        return code if code >= 0 else 128 - code

    @property
    def ended_by(self) -> str | None:
        """Name of the signal that ended it."""
        if self.status is None or not os.WIFSIGNALED(self.status):
            return None
        number = os.WTERMSIG(self.status)
        try:
            return signal.Signals(number).name
        except ValueError:
            return f"signal {number}"


def start(command: Sequence[str], stdout: int, stderr: int, *, hold: bool = False) -> CommandProcess:
    """Start a command (see :func:`resolve`) that writes to these files.

    With ``hold`` it waits, not yet executed, for :meth:`CommandProcess.release`, so that what is to watch it
    from the first instruction on can be attached.

    Raises:
        CommandError: the kernel refuses.
    """
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    launcher = shutil.which("setsid")
    before = set(children_of(os.getpid()))
    if hold:
        command = ["/bin/sh", "-c", 'kill -STOP $$; exec "$@"', "sh", *command]
    try:
        if launcher is not None:
            forking = subprocess.Popen([launcher, "--fork", *command], stdout=stdout, stderr=stderr)
            if forking.wait() == 0:
                return _process(_handed_over(before), hold=hold)
        direct = subprocess.Popen(list(command), stdout=stdout, stderr=stderr, start_new_session=True)
    except OSError as error:
        raise CommandError(f"{command[0]}: {error.strerror}", NOT_EXECUTABLE_EXIT_CODE) from None
    direct.returncode = 0  # we wait for it ourselves; its object must not
    floor_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return _process(direct.pid, hold=hold, rss_floor_mib=floor_mib)


def _process(pid: int, *, hold: bool, rss_floor_mib: float = 0.0) -> CommandProcess:
    process = CommandProcess(pid, rss_floor_mib=rss_floor_mib, _pidfd=_pidfd(pid))
    deadline_s = time.monotonic() + _HOLD_S
    while hold and process_state(pid) not in ("T", "Z", None) and time.monotonic() < deadline_s:
        time.sleep(0.001)
    return process


def _handed_over(before: set[int]) -> int:
    """The process that became our child when the launcher ended: of several, the leader of its session."""
    new = [pid for pid in children_of(os.getpid()) if pid not in before]
    leaders = []
    for pid in new:
        with contextlib.suppress(OSError):
            if os.getsid(pid) == pid or process_state(pid) == "Z":
                leaders.append(pid)
    return min(leaders or new, key=_started)


def _started(pid: int) -> tuple[int, int]:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]), pid
    except OSError:
        return 0, pid


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):  # kernels before 5.3
        return None
