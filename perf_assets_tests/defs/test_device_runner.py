"""Profiling through the unchanged asset graph, on this machine and on a small real Slurm, whatever
happens."""

import itertools
import json
import os
import subprocess
import sys
import threading
from typing import ClassVar

import dagster as dg
import pytest

from perf_assets.defs.build import build_defs
from perf_assets.defs.device_runner import (
    DEVICE_TAG,
    EXECUTOR_TAG,
    DeviceRunner,
)
from perf_assets.intake.pipeline import ingest
from perf_assets_tests.defs.profiling import SWEEP, run_config
from perf_assets_tests.measuring.engines.small_slurm import needs_slurm
from perf_assets_tests.support import sql, wait_for


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
