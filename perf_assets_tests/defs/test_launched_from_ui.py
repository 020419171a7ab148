"""Runs in processes of their own, as the UI launches and ends them, and the jobs that they leave behind."""

import json
import os
import re
import signal
import sys

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from perf_assets.defs.device_runner import (
    JOB_PREFIX,
    DeviceRunner,
    end_orphans,
)
from perf_assets.defs.resources import DataFolder
from perf_assets.defs.sensors import orphan_sensor
from perf_assets.defs.status import status
from perf_assets.intake.pipeline import ingest
from perf_assets.measuring.engines.engine import JOB_FILE, Job
from perf_assets.measuring.engines.local import LocalEngine
from perf_assets.measuring.engines.site import load_site
from perf_assets.measuring.engines.slurm import SlurmEngine
from perf_assets.measuring.engines.ssh import SshEngine
from perf_assets_tests.defs.profiling import run_config
from perf_assets_tests.measuring.engines.small_slurm import needs_slurm
from perf_assets_tests.measuring.engines.small_sshd import needs_sshd, small_sshd
from perf_assets_tests.support import sql, wait_for

LONG = """
name = "long"
networks = ["lenet5"]
vary = "batch_size"
smallest = 1
largest = 1000
devices = ["cpu"]
[options]
passes = ["latency"]
[options.protocol]
warmup_max_s = 0.2
min_time_s = 2.0
max_time_s = 2.0
max_blocks = 100000
"""


class TestLaunchedFromTheUi:
    """Runs in processes of their own, as the UI launches them."""

    @pytest.fixture(params=["local", pytest.param("slurm", marks=needs_slurm)])
    def engine(self, request, project):
        """The engine; what it needs is in the environment before the code server starts."""
        if request.param == "local":
            return LocalEngine()
        request.getfixturevalue("on_slurm")
        return SlurmEngine(load_site())

    @pytest.fixture
    def ui(self, project, engine):
        from dagster._core.workspace.context import WorkspaceProcessContext
        from dagster._core.workspace.load_target import ModuleTarget

        coordinator = {"module": "dagster._core.run_coordinator", "class": "DefaultRunCoordinator"}
        (project / "small.toml").write_text(LONG)
        with (
            dg.instance_for_test(overrides={"run_coordinator": coordinator}) as instance,
            WorkspaceProcessContext(
                instance, ModuleTarget("perf_assets.definitions", None, None, "perf_assets")
            ) as workspace,
        ):
            yield Ui(instance, workspace)

    def test_cancel_ends_the_job_within_seconds(self, ui, engine, project, data):
        run_id = ui.launch(run_config(project, stage="quick", executor=engine.name, device="alpha"))
        prefix = f"{JOB_PREFIX}{run_id}"
        wait_for(lambda: list((data.root / "work").rglob("progress.json")), timeout_s=150)
        assert len(engine.find(prefix)) == 1
        shown = {section.title: section.rows for section in status(data, ui.instance)}
        assert shown["runs"][0][:3] == (run_id[:8], "sanity_sweep", "STARTED")
        # Other tests may have jobs on this machine at the same time.
        assert [row[0] for row in shown["profiling jobs"] if run_id in row[2]] == [engine.name]
        assert shown["sweeps"][0][:2] == ("long", "quick")
        ui.terminate(run_id)
        wait_for(lambda: engine.find(prefix) == [], timeout_s=15)
        wait_for(lambda: ui.instance.get_run_by_id(run_id).is_finished, timeout_s=150)
        assert ui.instance.get_run_by_id(run_id).status == dg.DagsterRunStatus.CANCELED

    def test_killed_worker_leaves_an_orphan_that_is_found(self, ui, engine, project, data):
        run_id = ui.launch(run_config(project, stage="quick", executor=engine.name, device="alpha"))
        prefix = f"{JOB_PREFIX}{run_id}"
        folder = data.drops / "perf_assets" / "long"
        wait_for(lambda: len(list(folder.glob("*.jsonl"))) >= 2, timeout_s=150)
        ui.kill_worker(run_id)
        assert len(engine.find(prefix)) == 1
        # What it measured is taken in like any drop, by the sensor's ingest.
        ingest(data)
        assert sql(data, "SELECT count(*) FROM cleaned_runs WHERE status = 'ok'")[0][0] >= 1
        run = ui.instance.get_run_by_id(run_id)
        if not run.is_finished:  # the code server may have seen its worker die already
            ui.instance.report_run_failed(run)
        tick = orphan_sensor(
            dg.build_sensor_context(
                instance=ui.instance,
                resources={"device_runner": DeviceRunner(), "data_folder": DataFolder()},
            )
        )
        assert f"{prefix}.0" in tick.skip_message
        wait_for(lambda: engine.find(prefix) == [], timeout_s=15)


@needs_sshd
def test_orphans_of_boards_are_ended_and_their_logs_taken_back(data, tmp_path):
    """Only the jobs that work folders know of are asked for."""
    with small_sshd(tmp_path / "sshd") as sshd, dg.instance_for_test() as instance:
        engine = SshEngine(load_site(sshd.site))
        alive, over = (
            create_run_for_test(instance, status=status)
            for status in (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.FAILURE)
        )
        out = data.drops / "logs"
        script = "import pathlib, sys, time; (pathlib.Path(sys.argv[1]) / 'a.jsonl').touch(); time.sleep(600)"
        for run in (alive, over):
            folder = data.work / run.run_id
            folder.mkdir(parents=True)
            command = [sys.executable, "-c", script, str(out)]
            job = Job(f"{JOB_PREFIX}{run.run_id}.0", command, folder, device="alpha", out=out)
            note = {"engine": "ssh", "job_id": engine.submit(job), "name": job.name}
            (folder / JOB_FILE).write_text(json.dumps(note))
        wait_for(lambda: len(list(sshd.folder.glob("*/out/a.jsonl"))) == 2)
        assert end_orphans(engine, instance, data.work) == [f"{JOB_PREFIX}{over.run_id}.0"]
        assert [name for _, name in engine.find(JOB_PREFIX) if over.run_id in name] == []
        assert [name for _, name in engine.find(f"{JOB_PREFIX}{alive.run_id}")] != []
        assert (out / "a.jsonl").exists()
        assert end_orphans(engine, instance, data.work) == []
        for job_id, _ in engine.find(f"{JOB_PREFIX}{alive.run_id}"):
            engine.cancel(job_id)


class Ui:
    """What the web UI does: launch and terminate by GraphQL."""

    def __init__(self, instance, workspace):
        self.instance, self.workspace = instance, workspace

    def ask(self, text: str, variables: dict) -> dict:
        from dagster_graphql.test.utils import execute_dagster_graphql

        return execute_dagster_graphql(self.workspace.create_request_context(), text, variables).data

    def launch(self, config: dict) -> str:
        launched = self.ask(
            """
            mutation Launch($params: ExecutionParams!) {
                launchRun(executionParams: $params) {
                    __typename
                    ... on LaunchRunSuccess { run { runId } }
                    ... on PythonError { message }
                    ... on RunConfigValidationInvalid { errors { message } }
                }
            }
            """,
            {
                "params": {
                    "runConfigData": config,
                    "selector": {
                        "repositoryLocationName": "perf_assets",
                        "repositoryName": "__repository__",
                        "pipelineName": "sanity_sweep",
                    },
                }
            },
        )["launchRun"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        return launched["run"]["runId"]

    def terminate(self, run_id: str) -> None:
        answer = self.ask(
            "mutation End($runId: String!) { terminateRun(runId: $runId) { __typename } }", {"runId": run_id}
        )
        assert answer["terminateRun"]["__typename"] == "TerminateRunSuccess"

    def kill_worker(self, run_id: str) -> None:
        """SIGKILL the process that executes the run, as its event log names it."""
        for record in self.instance.all_logs(run_id):
            if found := re.search(r"Executing steps in process \(pid: (\d+)\)", record.message):
                os.kill(int(found.group(1)), signal.SIGKILL)
                return
        raise AssertionError("no worker of this run")
