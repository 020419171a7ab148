"""Jobs as processes of this machine, each in a session of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from perf_assets.measuring.engines.engine import (
    EXIT_CODE_FILE,
    OUTPUT_FILE,
    EngineError,
    Job,
    State,
    Status,
    check_name,
    exit_status,
)

TERMINATION_GRACE_S = 5.0
_NAME_VARIABLE = "PERF_ASSETS_JOB_NAME"

# The shell outlives the caller and leaves the exit code where a later attempt finds it. The name of the file
# and the command are its arguments, not part of its text.
_SCRIPT = (
    'file=$1; shift; "$@"; code=$?; echo $code > "$file.partial" && mv "$file.partial" "$file"; exit $code'
)


class LocalEngine:
    """Runs jobs here and now; there is no queue."""

    name = "local"
    poll_s = (0.25, 0.25)
    site = None
    shares_disk = True

    def submit(self, job: Job) -> str:
        """Start the process; the id is its pid and start time, so that a recycled pid is not mistaken for
        it."""
        check_name(job.name)
        try:
            with (job.work_dir / OUTPUT_FILE).open("ab") as output:
                process = subprocess.Popen(
                    ["/bin/sh", "-c", _SCRIPT, "sh", str(job.work_dir / EXIT_CODE_FILE), *job.command],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=os.environ | dict(job.environment) | {_NAME_VARIABLE: job.name},
                    start_new_session=True,
                )
        except OSError as error:
            raise EngineError(f"{job.name} cannot be started here: {error}") from error
        return f"{process.pid}-{_start_time(process.pid)}"

    def poll(self, job_id: str, work_dir: Path) -> Status:
        """Its state, from the process and the exit code that it left."""
        host = socket.gethostname()
        if _is_running(job_id):
            return Status(State.RUNNING, host=host)
        killed = Status(State.FAILED, "killed from outside, no exit code", host=host)
        return exit_status(work_dir, host) or killed

    def cancel(self, job_id: str) -> None:
        """SIGTERM to the whole session, and SIGKILL to what is left after a grace time."""
        pid = int(job_id.split("-")[0])
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not _is_running(job_id):
                return
            try:
                os.killpg(pid, number)
            except ProcessLookupError:
                return
            deadline_s = time.monotonic() + TERMINATION_GRACE_S
            while _is_running(job_id) and time.monotonic() < deadline_s:
                time.sleep(0.02)

    def find(self, prefix: str) -> list[tuple[str, str]]:
        """Jobs of this user that run now, by the name in their environment."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                environment = (entry / "environ").read_bytes().split(b"\0")
                session = os.getsid(int(entry.name))
            except (OSError, ValueError):
                continue
            if session != int(entry.name):
                continue  # a child of the job, not the job
            for variable in environment:
                name, _, value = variable.partition(b"=")
                if name == _NAME_VARIABLE.encode() and value.startswith(prefix.encode()):
                    found.append((f"{entry.name}-{_start_time(int(entry.name))}", value.decode()))
        return found


def _is_running(job_id: str) -> bool:
    pid, _, started = job_id.partition("-")
    with contextlib.suppress(ChildProcessError):
        os.waitpid(int(pid), os.WNOHANG)  # collects it where we are its parent
    # Without a start time it had ended before it could be looked at.
    return bool(started) and _start_time(int(pid)) == started


def _start_time(pid: int) -> str:
    """When the process started, in clock ticks since boot; empty where it is gone (or a zombie)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
