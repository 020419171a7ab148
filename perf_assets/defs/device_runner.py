"""The device runner: measures a sweep where a tag says, on this machine, on a node of a Slurm cluster or on a board.

An op says what it needs by the tags ``perf_assets/executor`` and ``perf_assets/device``; run tags override
them, and what the launch configures overrides both. Here the tags become a place; everything else is the
library's (``perf_assets.measuring.sweeps.campaign``), which the command line calls as well.

The payload's own log is the result, so no messages have to travel back through Dagster: the runner shows the
output while it comes and reads nothing but exit codes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import dagster as dg
from pydantic import Field

from perf_assets.measuring.engines.engine import (
    JOB_FILE,
    Engine,
    EngineError,
    Status,
    cancel_orphans,
    jobs_left,
)
from perf_assets.measuring.engines.jobs import JOB_PREFIX, CampaignError, Launch, Limits, Place, engine_of
from perf_assets.measuring.sweeps.campaign import CampaignReport, run_campaign
from perf_assets.measuring.sweeps.grid import Sweep
from perf_assets.workspace.paths import DataPaths

if TYPE_CHECKING:
    from perf_assets.measuring.load_tests.campaign import LoadReport
    from perf_assets.measuring.load_tests.study import Study

EXECUTOR_TAG = "perf_assets/executor"
DEVICE_TAG = "perf_assets/device"


def place_of(
    context: dg.AssetExecutionContext | dg.OpExecutionContext, configured: Mapping[str, str | None]
) -> Place:
    """Executor and device: from the launch's config, else the run's tags, else the op's, else this machine's
    CPU."""
    is_asset = isinstance(context, dg.AssetExecutionContext)
    op_tags = (context.op_execution_context if is_asset else context).op.tags
    run_tags = context.run.tags

    def nearest(tag: str, name: str, default: str) -> str:
        return configured.get(name) or run_tags.get(tag) or op_tags.get(tag) or default

    return Place(nearest(EXECUTOR_TAG, "executor", "local"), nearest(DEVICE_TAG, "device", "cpu"))


class DeviceRunner(dg.ConfigurableResource):
    """Runs the profiler on an engine, follows it in the UI, and leaves nothing behind.

    The site file is ``PERF_ASSETS_CLUSTER`` or ``./cluster.toml``, never a field: its lines become shell
    commands.
    """

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
        try:
            return engine_of(executor)
        except CampaignError as error:
            raise dg.Failure(f"tag {EXECUTOR_TAG}: {error}") from error

    def run_sweep(
        self,
        context: dg.AssetExecutionContext,
        paths: DataPaths,
        sweep: Sweep,
        stage: str,
        place: Place,
        *,
        again: bool,
    ) -> CampaignReport:
        """Measure a sweep's stage and take its logs in.

        Raises:
            dagster.Failure: a job was refused or failed; never retried after an interrupt.
        """

        with _failing_clearly():
            return run_campaign(
                paths,
                sweep,
                stage,
                place,
                again=again,
                launch=self._launch(context),
            )

    def run_study(
        self,
        context: dg.AssetExecutionContext | dg.OpExecutionContext,
        paths: DataPaths,
        study: Study,
        config: StudyPlace,
    ) -> LoadReport:
        """Run a load study, or the recordings that it declares, and take the logs in.

        Raises:
            dagster.Failure: the job was refused or failed; never retried after an interrupt.
        """
        from perf_assets.measuring.load_tests.campaign import run_at

        with _failing_clearly():
            return run_at(
                paths,
                study,
                place_of(context, {"executor": config.executor, "device": config.device}),
                again=config.again,
                launch=self._launch(context),
            )

    def _launch(self, context: dg.AssetExecutionContext | dg.OpExecutionContext) -> Launch:
        """Jobs are the run's, and it shows what they print and how they are."""
        return Launch(
            Limits(self.points_per_job, self.run_timeout_s, self.queue_timeout_s, self.lost_retries),
            owner=context.run.run_id,
            on_output=_shows_output(context),
            on_status=_shows_status(context),
        )


class StudyPlace(Protocol):
    """What the launch of a study may say of where and how."""

    executor: str | None
    device: str | None
    again: bool


def _shows_output(context: dg.AssetExecutionContext | dg.OpExecutionContext) -> Callable[[str], None]:
    def on_output(line: str) -> None:
        print(line, flush=True)  # the step's stdout, which the UI shows live
        context.log.info("%s", line)

    return on_output


def _shows_status(
    context: dg.AssetExecutionContext | dg.OpExecutionContext,
) -> Callable[[str, str, Status], None]:
    def on_status(engine: str, job_id: str, status: Status) -> None:
        on = f" on {status.host}" if status.host else ""
        why = f" ({status.reason})" if status.reason else ""
        context.log.info("%s job %s is %s%s%s", engine, job_id, status.state, on, why)

    return on_status


@contextlib.contextmanager
def _failing_clearly() -> Generator[None]:
    """What a job can end with, as Dagster's failure; never retried after an interrupt."""
    try:
        yield
    except (CampaignError, EngineError) as error:
        raise dg.Failure(str(error)) from error
    except dg.DagsterExecutionInterruptedError as error:
        # The job was cancelled on the way here; a retry policy must not submit another.
        raise dg.Failure("interrupted; its job was cancelled", allow_retries=False) from error


def end_orphans(engine: Engine, instance: dg.DagsterInstance, work: Path) -> list[str]:
    """Cancel jobs of runs of this instance that are over; returns their names.

    An engine without a shared disk is asked only for the jobs that work folders know: a look at a board that
    measures would disturb it.
    """

    def is_alive(rest: str) -> bool:
        run = instance.get_run_by_id(rest.rpartition(".")[0])
        # A run that this instance never knew belongs to another one.
        return run is None or not run.is_finished

    if engine.shares_disk:
        return cancel_orphans(engine, JOB_PREFIX, is_alive)
    ended = []
    for folder, job_id, name in jobs_left(work, engine.name):
        if not is_alive(name.removeprefix(JOB_PREFIX)):
            # A job that has ended brings its logs back when it is asked for.
            if not engine.poll(job_id, folder).state.is_final:
                engine.cancel(job_id)
                ended.append(name)
            (folder / JOB_FILE).unlink()
    return ended
