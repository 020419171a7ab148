"""The device runner: measures a sweep where a tag says, on this machine or on a node of a Slurm cluster.

An op says what it needs by the tags ``perf_assets/executor`` and ``perf_assets/device``; run tags override them,
and what the launch configures overrides both. Here the tags become an engine and a job; everything else is the
library's (``perf_assets.measuring.engines``), and the payload is ``python -m perf_assets.measuring.profiling`` on every engine.

The payload's own log is the result, so no messages have to travel back through Dagster: the runner shows the
output while it comes and reads nothing but exit codes.
"""

import hashlib
import json
import sys
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from perf_assets.measuring.engines.engine import (
    JOB_FILE,
    Engine,
    EngineError,
    Job,
    JobFailedError,
    Status,
    Watcher,
    cancel_orphans,
    run_job,
)
from perf_assets.measuring.engines.local import LocalEngine
from perf_assets.measuring.engines.site import load_site
from perf_assets.measuring.engines.slurm import SlurmEngine

EXECUTOR_TAG = "perf_assets/executor"
DEVICE_TAG = "perf_assets/device"
JOB_PREFIX = "perf-assets."
POINTS_LEFT = 75
"""Exit code of a payload whose point limit left some of the sweep undone."""


@dataclass(frozen=True)
class Place:
    """Where to measure: an engine's name and a device's."""

    executor: str
    device: str


def place_of(context: dg.AssetExecutionContext, configured: Mapping[str, str | None]) -> Place:
    """Executor and device: from the launch's config, else the run's tags, else the op's, else this machine's CPU."""
    op_tags = context.op_execution_context.op.tags
    run_tags = context.run.tags

    def nearest(tag: str, name: str, default: str) -> str:
        return configured.get(name) or run_tags.get(tag) or op_tags.get(tag) or default

    return Place(nearest(EXECUTOR_TAG, "executor", "local"), nearest(DEVICE_TAG, "device", "cpu"))


class DeviceRunner(dg.ConfigurableResource):
    """Runs the profiler on an engine, follows it in the UI, and leaves nothing behind."""

    site_file: str = Field(
        default="", description="cluster.toml; empty for PERF_ASSETS_CLUSTER or ./cluster.toml."
    )
    points_per_job: int = Field(
        default=100, description="Points measured by one job; the next job goes on where it stopped."
    )
    run_timeout_s: float | None = Field(default=None, description="Longest run of one job, in seconds.")
    queue_timeout_s: float | None = Field(default=None, description="Longest wait in the queue, in seconds.")
    lost_retries: int = Field(default=2, description="New jobs after a node was lost.")

    def engine(self, executor: str) -> Engine:
        """The engine of this name.

        Raises:
            dagster.Failure: there is none.
        """
        if executor == "local":
            return LocalEngine()
        if executor == "slurm":
            return SlurmEngine(load_site(Path(self.site_file) if self.site_file else None))
        raise dg.Failure(f"unknown executor {executor!r} in the tag {EXECUTOR_TAG}: use local or slurm")

    def run_sweep(
        self,
        context: dg.AssetExecutionContext,
        *,
        place: Place,
        sweep: Mapping[str, Any],
        stage: str,
        known: Mapping[str, str],
        again: bool,
        out: Path,
        work: Path,
    ) -> list[str]:
        """Measure a sweep's stage; returns the ids of the jobs that did it.

        ``out`` (for the logs) and ``work`` (for job files) are folders that the node sees as well.

        Raises:
            dagster.Failure: a job was refused or failed; never retried after an interrupt.
        """
        engine = self.engine(place.executor)
        request = json.dumps(
            {"sweep": sweep, "stage": stage, "known": known, "device": place.device}, sort_keys=True
        )
        folder = work / hashlib.sha256(request.encode()).hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)
        out.mkdir(parents=True, exist_ok=True)
        (folder / "sweep.json").write_text(json.dumps(sweep))
        (folder / "known.json").write_text(json.dumps(known))
        python = sys.executable
        if isinstance(engine, SlurmEngine):
            python = engine.site.nodes_of(place.device).python or python
        command = [
            python,
            "-m",
            "perf_assets.measuring.profiling",
            "--sweep",
            str(folder / "sweep.json"),
            "--stage",
            stage,
        ]
        command += ["--known", str(folder / "known.json"), "--out", str(out), *(["--again"] if again else [])]
        command += ["--progress", str(folder / "progress.json"), "--points", str(self.points_per_job)]
        jobs: list[str] = []
        while True:
            job = Job(
                name=f"{JOB_PREFIX}{context.run.run_id}.{len(jobs)}",
                command=command,
                work_dir=folder,
                environment={"PERF_ASSETS_ENGINE": engine.name},
                device=place.device,
                run_timeout_s=self.run_timeout_s,
                queue_timeout_s=self.queue_timeout_s,
            )
            points_left = self._run(context, engine, job, jobs)
            (folder / JOB_FILE).unlink(
                missing_ok=True
            )  # what it measured is in its logs; nothing to attach to
            if not points_left or again:
                return jobs

    def _run(self, context: dg.AssetExecutionContext, engine: Engine, job: Job, jobs: list[str]) -> bool:
        """Run one job; True when its point limit left something undone."""

        def on_status(job_id: str, status: Status) -> None:
            if job_id not in jobs:
                jobs.append(job_id)
            on = f" on {status.host}" if status.host else ""
            why = f" ({status.reason})" if status.reason else ""
            context.log.info("%s job %s is %s%s%s", engine.name, job_id, status.state, on, why)

        last_lines: deque[str] = deque(maxlen=5)

        def on_output(line: str) -> None:
            last_lines.append(line)
            print(line, flush=True)  # the step's stdout, which the UI shows live
            context.log.info("%s", line)

        try:
            run_job(engine, job, Watcher(on_output, on_status), self.lost_retries)
        except JobFailedError as error:
            if error.status.exit_code == POINTS_LEFT:
                return True
            said = "".join(f"\n  {line}" for line in last_lines)
            raise dg.Failure(f"{error}; it said last:{said or ' nothing'}") from error
        except EngineError as error:
            raise dg.Failure(str(error)) from error
        except dg.DagsterExecutionInterruptedError as error:
            # run_job has cancelled the job; a retry policy must not submit another.
            raise dg.Failure("interrupted; its job was cancelled", allow_retries=False) from error
        return False


def end_orphans(engine: Engine, instance: dg.DagsterInstance) -> list[str]:
    """Cancel jobs of runs of this instance that are over; returns their names."""

    def is_alive(rest: str) -> bool:
        run = instance.get_run_by_id(rest.rpartition(".")[0])
        # A run that this instance never knew belongs to another one.
        return run is None or not run.is_finished

    return cancel_orphans(engine, JOB_PREFIX, is_alive)
