"""Profiling through the unchanged asset graph, on this machine and on a small real Slurm, whatever
happens."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
from typing import ClassVar

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from perf_assets.defs.build import build_defs
from perf_assets.defs.device_runner import (
    DEVICE_TAG,
    EXECUTOR_TAG,
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
from perf_assets_tests.measuring.engines.small_slurm import needs_slurm, small_slurm
from perf_assets_tests.measuring.engines.small_sshd import needs_sshd, small_sshd
from perf_assets_tests.support import ROOT, sql, wait_for

# A point in about a second: what is tested here is the way, not the number.
SWEEP = """
name = "small"
networks = ["lenet5"]
vary = "batch_size"
smallest = 2
largest = 4
devices = ["cpu"]
[options]
passes = ["latency"]
[options.protocol]
warmup_max_s = 0.2
min_time_s = {seconds}
max_time_s = {seconds}
max_blocks = 100000
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with small_slurm(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


@pytest.fixture
def project(data, tmp_path, monkeypatch):
    """A data folder with a sweep in it, and everything told by the environment."""
    monkeypatch.setenv("PERF_ASSETS_DATA", str(data.root))
    monkeypatch.setenv("PERF_ASSETS_LOCKS", str(tmp_path / "locks"))
    monkeypatch.setenv("PERF_ASSETS_SWEEPS", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "small.toml").write_text(SWEEP.format(seconds=0.2))
    return tmp_path


@pytest.fixture
def on_slurm(cluster, monkeypatch):
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    for device in ("alpha", "beta", "gamma"):
        cluster.set_node(device, "resume")
    return cluster


def run_config(project, **options) -> dict:
    config = {"sweep": str(project / "small.toml"), **options}
    return {"ops": {"device_profiles": {"config": config}}}


def materialize(project, tags=None, runner=None, *, ok=True, **options):
    definitions = build_defs({"device_runner": runner} if runner else None)
    job = definitions.resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        run_config=run_config(project, **options),
        asset_selection=[dg.AssetKey("device_profiles")],
        tags=tags or {},
        instance=dg.DagsterInstance.ephemeral(),
        raise_on_error=ok,
    )
    assert result.success == ok
    return result


def failure_of(result) -> str:
    (event,) = [event for event in result.all_events if event.is_step_failure]
    return str(event.step_failure_data.error) + str(event.step_failure_data.user_failure_data)


RUNS = """
    SELECT status, host, coalesce(config->'spec'->>'device_label', '?'), config->'engine'->>'name',
        config->'engine'->>'job_id'
    FROM cleaned_runs WHERE tool = 'perf_assets' ORDER BY started_at
"""


def test_local_run_lands_in_sql_and_is_not_measured_again(project, data):
    result = materialize(project)
    ((status, host, device, engine, _),) = sql(data, RUNS)
    assert (status, device, engine) == ("ok", "cpu", "local")
    assert host == os.uname().nodename
    (event,) = result.get_asset_materialization_events()
    assert event.materialization.metadata["executor"].value == "local"
    materialize(project)
    assert len(sql(data, RUNS)) == 1
    materialize(project, again=True)
    assert len(sql(data, RUNS)) == 2


def test_points_are_batched_and_the_next_job_goes_on(project, data):
    result = materialize(project, runner=DeviceRunner(points_per_job=1), stage="quick")
    (event,) = result.get_asset_materialization_events()
    assert len(sql(data, RUNS)) == 3  # batch sizes 2, 3 and 4
    assert len(json.loads(event.materialization.metadata["jobs"].value)) == 3


def test_sweep_that_cannot_be(project):
    (project / "small.toml").write_text('name = "x"\nnetworks = ["nonsense"]\nvary = "batch_size"\n')
    assert "key 'smallest' is missing" in failure_of(materialize(project, ok=False))
    (project / "small.toml").write_text("not toml")
    assert "not TOML" in failure_of(materialize(project, ok=False))


def test_unknown_executor(project):
    result = materialize(project, {EXECUTOR_TAG: "cloud"}, ok=False)
    assert "use local, slurm or ssh" in failure_of(result)


@needs_slurm
class TestOnSlurm:
    TAGS: ClassVar = {EXECUTOR_TAG: "slurm", DEVICE_TAG: "alpha"}

    def test_same_op_same_kind_of_drop(self, project, data, on_slurm):
        materialize(project, self.TAGS)
        materialize(project)
        slurm, local = sql(data, RUNS)
        assert slurm[:4] == ("ok", os.uname().nodename, "alpha", "slurm")
        assert slurm[4].isdigit()
        assert (local[2], local[3], local[4]) == ("cpu", "local", None)
        logs = sorted(path.parent.name for path in data.drops.rglob("*.jsonl"))
        assert logs == ["small", "small"]

    def test_launch_config_overrides_run_tags(self, project, data, on_slurm):
        materialize(project, self.TAGS, device="beta")
        label = "SELECT config->'spec'->>'device_label' FROM cleaned_runs"
        assert sql(data, label) == [("beta",)]

    def test_unknown_device_and_feature(self, project, on_slurm):
        result = materialize(project, self.TAGS | {DEVICE_TAG: "abacus"}, ok=False)
        assert "add a table [devices.abacus]" in failure_of(result)
        result = materialize(project, self.TAGS | {DEVICE_TAG: "delta"}, ok=False)
        assert "no node has the constraint" in failure_of(result)

    def test_queue_timeout(self, project, on_slurm):
        on_slurm.set_node("alpha", "drain")
        result = materialize(project, self.TAGS, DeviceRunner(queue_timeout_s=1), ok=False)
        assert "in the queue" in failure_of(result)
        assert on_slurm.queue() == []

    def test_run_timeout(self, project, on_slurm):
        (project / "small.toml").write_text(SWEEP.format(seconds=60))
        result = materialize(project, self.TAGS, DeviceRunner(run_timeout_s=1), ok=False)
        assert "ran more than 1 s" in failure_of(result)

    def test_node_lost_in_mid_run(self, project, data, on_slurm):
        def lose():
            wait_for(lambda: list((data.root / "work").rglob("progress.json")), timeout_s=150)
            on_slurm.set_node("alpha", "down")

        thread = threading.Thread(target=lose)
        thread.start()
        result = materialize(project, self.TAGS)
        thread.join()
        (event,) = result.get_asset_materialization_events()
        assert len(json.loads(event.materialization.metadata["jobs"].value)) == 2
        assert [row[0] for row in sql(data, RUNS)][-1] == "ok"


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


@pytest.mark.parametrize("way", ["command", "asset"])
def test_processes_on_one_device_never_overlap(project, data, way):
    """From several processes at once; the time stamps in the logs are the proof."""
    out = data.drops / "overlap"
    spec = project / "spec.json"
    spec.write_text(
        json.dumps(
            {"network": "lenet5", "passes": ["latency"], "protocol": {"warmup_max_s": 0.2, "max_time_s": 0.5}}
        )
    )
    if way == "command":
        command = [
            sys.executable,
            "-m",
            "perf_assets.measuring.profiling",
            "--spec",
            str(spec),
            "--out",
            str(out),
        ]
        children = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(5)]
    else:
        script = (
            "import sys, dagster as dg\n"
            "from perf_assets.defs.build import build_defs\n"
            "job = build_defs().resolve_implicit_global_asset_job_def()\n"
            "job.execute_in_process(run_config={'ops': {'device_profiles': {'config': {'sweep': sys.argv[1],"
            " 'again': True}}}}, asset_selection=[dg.AssetKey('device_profiles')],"
            " instance=dg.DagsterInstance.ephemeral())"
        )
        for number in range(3):
            (project / f"sweep-{number}.toml").write_text(
                SWEEP.format(seconds=0.2).replace('"small"', f'"sweep-{number}"')
            )
        children = [
            subprocess.Popen(
                [sys.executable, "-c", script, str(project / f"sweep-{number}.toml")],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for number in range(3)
        ]
        children += [
            subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "perf_assets.measuring.profiling",
                    "--spec",
                    str(spec),
                    "--out",
                    str(out),
                ],
                stdout=subprocess.DEVNULL,
            )
            for _ in range(2)
        ]
    assert [child.wait(timeout=240) for child in children] == [0] * 5
    ingest(data)
    spans = sql(
        data,
        "SELECT epoch(started_at), epoch(started_at) + duration_s FROM cleaned_runs WHERE tool = "
        "'perf_assets'"
        " ORDER BY started_at",
    )
    assert len(spans) == 5
    assert all(end <= begin + 0.002 for (_, end), (begin, _) in itertools.pairwise(spans))
