"""Jobs of a Slurm cluster, through its own commands; accounting is not needed.

Facts that shape this: Slurm's time limits are whole minutes and checked every half minute, so time-outs in
seconds are ``run_job``'s; a requeued job is a second run under the same number, so jobs are never requeued;
``scontrol`` knows a job for some minutes after its end, and the exit code file in the work folder for ever.
A controller that is killed forgets its last seconds: it may not know a job any more and give its number to
another, or starts one that has run already a second time, and says CANCELLED when the node refuses the copy.
"""

from __future__ import annotations

import math
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from perf_assets.measuring.engines.engine import (
    EXIT_CODE_FILE,
    OUTPUT_FILE,
    EngineError,
    EngineUnreachableError,
    Job,
    State,
    Status,
    device_of,
    exit_status,
)
from perf_assets.measuring.engines.site import Site

COMMAND_TIMEOUT_S = 30.0

_STATES = {
    "PENDING": State.PENDING,
    "CONFIGURING": State.PENDING,
    "REQUEUED": State.PENDING,
    "SUSPENDED": State.RUNNING,
    "RUNNING": State.RUNNING,
    "COMPLETING": State.RUNNING,
    "STAGE_OUT": State.RUNNING,
    "COMPLETED": State.SUCCEEDED,
    "CANCELLED": State.CANCELLED,
    "NODE_FAIL": State.LOST,
    "PREEMPTED": State.LOST,
    "BOOT_FAIL": State.LOST,
    "REVOKED": State.LOST,
    "FAILED": State.FAILED,
    "TIMEOUT": State.FAILED,
    "DEADLINE": State.FAILED,
    "OUT_OF_MEMORY": State.FAILED,
}


class Node(NamedTuple):
    """A node of the cluster."""

    name: str
    state: str
    features: str
    gres: str


class SlurmEngine:
    """Submits with sbatch, asks scontrol and squeue, cancels with scancel."""

    name = "slurm"
    poll_s = (1.0, 30.0)
    shares_disk = True

    def __init__(self, site: Site) -> None:
        self.site = site

    def submit(self, job: Job) -> str:
        """Queue the job on a node with its device.

        Raises:
            EngineError: Slurm is not installed here, or refuses the job; the message says what to change.
        """
        device = device_of(job)
        nodes = self.site.nodes_of(device)
        if shutil.which("sbatch") is None:
            raise EngineError(
                "sbatch is not installed on this machine: run this where jobs are submitted (a login node),"
                " or use the executor 'local'"
            )
        # Slurm's own limit is a backstop behind ours: the run time-out in whole minutes and one more.
        minutes = nodes.time_minutes if job.run_timeout_s is None else math.ceil(job.run_timeout_s / 60) + 1
        options = {
            "job-name": job.name,
            "output": str(job.work_dir / OUTPUT_FILE),
            "open-mode": "append",
            "time": str(minutes),
            "constraint": nodes.constraint,
            "partition": nodes.partition,
            "gres": nodes.gres or None,
            "account": nodes.account,
            "qos": nodes.qos,
            "mem": None if nodes.memory_gib is None else f"{math.ceil(nodes.memory_gib * 1024)}M",
            "cpus-per-task": None if nodes.cpus is None else str(nodes.cpus),
            "chdir": str(job.work_dir),
        }
        arguments = [f"--{name}={value}" for name, value in options.items() if value is not None]
        done = _run(
            ["sbatch", "--parsable", "--no-requeue", "--nodes=1", "--ntasks=1", *arguments],
            _script(job, nodes.setup),
        )
        if done.returncode != 0:
            raise EngineError(_refusal(job, done.stderr.strip(), self.site))
        return done.stdout.strip().split(";")[0]

    def poll(self, job_id: str, work_dir: Path) -> Status:
        """Its state by scontrol; the exit code that a job left tells when Slurm has forgotten it, or undoes
        its success."""
        done = _run(["scontrol", "--oneliner", "show", "job", job_id])
        is_unknown = done.returncode != 0 and "Invalid job id" in done.stderr
        if done.returncode != 0 and not is_unknown:
            raise EngineUnreachableError(done.stderr.strip() or "scontrol does not answer")
        if is_unknown or f" WorkDir={work_dir} " not in done.stdout:
            return exit_status(work_dir) or Status(
                State.LOST, "Slurm no longer knows it, and it left no exit code"
            )
        facts = dict(re.findall(r"(\w+)=(\S*)", done.stdout))
        state = _STATES.get(facts.get("JobState", ""), State.RUNNING)
        if state in (State.CANCELLED, State.LOST):
            ended = exit_status(work_dir)
            # A command that scancel ends may leave a code too, but not that of success.
            if ended is not None and ended.state is State.SUCCEEDED:
                return ended
        code, _, number = facts.get("ExitCode", "0:0").partition(":")
        exit_code = int(code) or (128 + int(number or 0) if int(number or 0) else 0)
        reason = "" if facts.get("Reason") == "None" else facts.get("Reason", "")
        if state is State.FAILED:
            reason = f"{facts['JobState']} {reason}".strip()
        host = facts.get("BatchHost") or facts.get("NodeList")
        return Status(
            state, reason or facts.get("JobState", ""), exit_code if state.is_final else None, _present(host)
        )

    def cancel(self, job_id: str) -> None:
        """``scancel``: SIGTERM, and SIGKILL after the cluster's grace time."""
        _run(["scancel", job_id])

    def find(self, prefix: str) -> list[tuple[str, str]]:
        """This user's jobs in the queue by name."""
        done = _run(["squeue", "--noheader", "--me", "--format=%A %j"])
        if done.returncode != 0:
            raise EngineUnreachableError(done.stderr.strip())
        pairs = [line.split(maxsplit=1) for line in done.stdout.splitlines() if line.strip()]
        return [(job_id, name) for job_id, name in pairs if name.startswith(prefix)]

    def nodes(self) -> list[Node]:
        """Every node, as sinfo prints it."""
        done = _run(["sinfo", "--noheader", "--Node", "--format=%N|%T|%f|%G"])
        if done.returncode != 0:
            raise EngineUnreachableError(done.stderr.strip())
        return sorted({Node(*line.split("|")) for line in done.stdout.splitlines() if line.count("|") == 3})


def _script(job: Job, setup: tuple[str, ...]) -> str:
    """The batch script: environment, set-up lines, the command, and its exit code into the work folder.

    Started again after its end (by a controller that forgot it), it repeats the exit code and nothing else.
    """
    exports = [f"export {name}={shlex.quote(value)}" for name, value in job.environment.items()]
    exit_code = shlex.quote(str(job.work_dir / EXIT_CODE_FILE))
    return "\n".join(
        [
            "#!/bin/sh",
            # Read, not looked for: a network file system may still show a file that the submission has
            # removed.
            f"code=$(cat {exit_code} 2>/dev/null) && exit $code",
            *exports,
            *setup,
            shlex.join(job.command),
            f"code=$?; echo $code > {exit_code}.partial && mv {exit_code}.partial {exit_code}; exit $code",
            "",
        ]
    )


def _run(command: list[str], stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise EngineUnreachableError(f"{command[0]} did not answer in {COMMAND_TIMEOUT_S:g} s") from error
    except FileNotFoundError as error:
        raise EngineError(f"{command[0]} is not installed on this machine") from error


def _refusal(job: Job, said: str, site: Site) -> str:
    cure = "see its message"
    if "feature" in said.lower():
        cure = (
            f"no node has the constraint of [devices.{job.device}] in {site.source}; 'sinfo -o \"%N "
            "%f\"' lists them"
        )
    elif "partition" in said.lower():
        cure = f"check the partition of [devices.{job.device}] in {site.source}; 'sinfo -s' lists them"
    elif "gres" in said.lower() or "node configuration" in said.lower():
        cure = (
            f"check gres, memory and cpus of [devices.{job.device}] in {site.source} against 'sinfo -o "
            '"%N %G %m %c"\''
        )
    return f"sbatch refused {job.name}: {said or 'no message'} ({cure})"


def _present(host: str | None) -> str | None:
    return None if host in (None, "", "(null)") else host
