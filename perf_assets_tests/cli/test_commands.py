"""The literal commands of the README, and the UI's way (GraphQL), on a copy of the project's top level."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from perf_assets_tests.support import EXAMPLES, ROOT, sql, wait_for

BIN = Path(sys.executable).parent


@pytest.fixture
def project(tmp_path, data):
    """A folder with the project's instance and workspace files, and drops of its own."""
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(EXAMPLES / "device_logs" / "training", data.drops / "training")
    return tmp_path


def run(project: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN / command[0]), *command[1:]],
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_asset_materialize(project, data):
    done = run(
        project,
        *["dagster", "asset", "materialize", "--select", "cleaned_runs"],
        DAGSTER_CLI_ASSET_MATERIALIZE_MODULE_NAME="perf_assets.definitions",
    )
    assert done.returncode == 0, done.stderr
    assert sql(data, "SELECT count(*) FROM cleaned_runs WHERE status = 'ok'") == [(8,)]
    # dagster.yaml keeps the run without any export.
    assert (project / "data" / "dagster_home" / "storage").is_dir()


@pytest.mark.timeout(1200)  # four minutes on two quiet cores, and other tests run beside it
def test_demo(project, data):
    """What 'make demo' runs once the environment stands."""
    for name in ("demo.sh", "sweeps", "studies"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, project / name)
    shutil.copytree(EXAMPLES, data.drops / "examples")
    done = subprocess.run(
        ["bash", "demo.sh"],
        cwd=project,
        env=os.environ
        | {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "DAGSTER_CLI_ASSET_MATERIALIZE_MODULE_NAME": "perf_assets.definitions",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lenet5" in done.stdout
    assert len(done.stdout.splitlines()) <= 40
    assert done.stdout.splitlines()[-1].startswith("The report: ")
    measured = (
        "SELECT count(*) FROM cleaned_runs WHERE tool = 'perf_assets' AND device_kind = 'cpu' AND "
        "status = 'ok' AND (config->'spec'->>'sweep') = 'demo' AND left(run_id, 16) NOT IN "
        "(SELECT left(file_id, 16) FROM source_files WHERE starts_with(path, 'examples/'))"
    )
    assert sql(data, measured) == [(1,)]
    # A network that no fit has seen was predicted and measured: both are shown, or why one is not.
    [(measured_ms, quality)] = sql(
        data,
        "SELECT latency_ms, quality FROM cleaned_runs WHERE model = 'resnet34' AND batch_size = 3 AND "
        "(config->'spec'->>'sweep') = 'unseen' AND status = 'ok'",
    )
    [(undisturbed,)] = sql(
        data,
        "SELECT count(*) FROM cleaned_runs WHERE (config->'spec'->>'sweep') = 'processor' AND status = 'ok' "
        "AND NOT list_has_any(quality, ['contended', 'throttled', 'unstable'])",
    )
    if undisturbed < 8:
        assert "Not predicted" in done.stdout
    elif not quality:
        line = next(line for line in done.stdout.splitlines() if line.startswith("│ latency"))
        assert f"{measured_ms:.4g}"[:4] in line
    # A request takes 40 ms, so as many requests as instances nearly reach what the instances can serve, and no
    # more requests pass it.
    levels = dict(
        sql(
            data,
            "SELECT (l.model_instances, l.level), l.throughput_per_s FROM cleaned_load_levels AS l"
            " JOIN cleaned_runs AS r USING (run_id) WHERE r.config->>'study' = 'demo_load'",
        )
    )
    assert len(levels) == 12
    for instances in (1, 2, 3):
        capacity_per_s = instances / 0.040
        assert levels[instances, instances] > 0.5 * capacity_per_s
        assert levels[instances, 4] < 1.05 * capacity_per_s
    assert "demo_load" in (data.root / "report.html").read_text()


def test_definitions_validate_without_a_warning_of_ours(project):
    done = run(project, "dagster", "definitions", "validate")
    assert done.returncode == 0, done.stderr
    assert "perf_assets" not in "".join(line for line in done.stderr.splitlines(True) if "Warning" in line)


def test_perf_assets_commands(project, data, tmp_path):
    done = run(project, "perf-assets", "ingest")
    assert done.returncode == 0, done.stderr
    assert "unet_run" in done.stdout
    (data.drops / "note.txt").write_text("nothing of ours\n")
    done = run(project, "perf-assets", "ingest")
    assert done.returncode == 3
    assert "note.txt" in done.stdout
    outside = tmp_path / "elsewhere.txt"
    shutil.copy(EXAMPLES / "device_logs/memory/habana_log.livealloc.log_0", outside)
    assert run(project, "perf-assets", "ingest", str(outside)).returncode == 0
    assert (data.drops / "elsewhere.txt").exists()
    query = "SELECT count(*) AS n FROM cleaned_counters WHERE source = 'livealloc'"
    assert run(project, "perf-assets", "sql", "--csv", query).stdout.split() == ["n", "14"]
    assert run(project, "perf-assets", "rebuild").returncode == 0
    assert run(project, "perf-assets", "sql", "--csv", query).stdout.split() == ["n", "14"]


def test_sql_as_csv_is_never_cut(project):
    run(project, "perf-assets", "ingest")
    printed = run(project, "perf-assets", "sql", "--csv", "SELECT i FROM range(1000) AS t(i)").stdout
    assert printed.split() == ["i", *map(str, range(1000))]
    shown = run(project, "perf-assets", "sql", "SELECT i FROM range(1000) AS t(i)")
    assert "the first 50 rows" in shown.stderr


def test_sql_may_begin_with_a_comment(project):
    run(project, "perf-assets", "ingest")
    query = "-- what became of my files, and why = ?\nSELECT count(*) AS n FROM source_files"
    assert run(project, "perf-assets", "sql", "--csv", query).stdout.split() == ["n", "8"]


def test_fit_on_too_few_runs_says_what_is_missing(project, data):
    shutil.copytree(EXAMPLES / "profiles" / "perf4sight", data.drops / "profiles")
    run(project, "perf-assets", "ingest")
    done = run(project, "perf-assets", "fit")
    assert done.returncode == 1
    assert "xavier (perf4sight), training, latency: 0 measured configurations, 8 are needed" in done.stderr
    assert "those of tinynet do not count, nobody knows its shapes" in done.stderr


@pytest.mark.parametrize(
    "query",
    [
        "DROP TABLE cleaned_runs",
        "CREATE TABLE mine AS SELECT 1",
        "SELECT * FROM read_csv('/etc/passwd')",
        "COPY cleaned_runs TO 'out.csv'",
        "SELECT nonsense FROM cleaned_runs",
    ],
)
def test_sql_reads_the_tables_and_nothing_else(project, query):
    run(project, "perf-assets", "ingest")
    done = run(project, "perf-assets", "sql", query)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr


def test_no_data_folder_is_a_clear_error(tmp_path):
    done = run(tmp_path, "perf-assets", "ingest")
    assert done.returncode == 1
    assert "PERF_ASSETS_DATA" in done.stderr


def test_a_package_that_is_missing_is_a_clear_error(project):
    """On a node without DuckDB a command names what is not there, and no traceback."""
    without = "import sys; sys.modules['duckdb'] = None; from perf_assets.cli.app import main; main()"
    done = run(project, "python", "-c", without, "sql", "SELECT 1")
    assert done.returncode == 1
    assert "needs duckdb, which is not installed" in done.stderr
    assert "Traceback" not in done.stderr


def test_unusable_device_catalog_is_a_clear_error(project, data):
    (data.root / "devices.toml").write_text("no = [")
    done = run(project, "perf-assets", "ingest")
    assert done.returncode == 1
    assert "devices.toml: not TOML" in done.stderr
    assert "Traceback" not in done.stderr


def test_unusable_timezone_is_a_clear_error(project):
    done = run(project, "perf-assets", "ingest", PERF_ASSETS_TIMEZONE="Europe/Atlantis")
    assert done.returncode == 1
    assert "PERF_ASSETS_TIMEZONE" in done.stderr
    assert "Traceback" not in done.stderr


def test_another_data_folder(project, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "drops").mkdir(parents=True)
    shutil.copy(EXAMPLES / "device_logs/memory/habana_log.livealloc.log_0", elsewhere / "drops")
    assert run(project, "perf-assets", "ingest", PERF_ASSETS_DATA=str(elsewhere)).returncode == 0
    assert (elsewhere / "perf.duckdb").exists()
    assert not (project / "data" / "perf.duckdb").exists()


def test_run_launched_from_the_ui(project, data, monkeypatch):
    """What the UI does when a person presses "Materialize": a GraphQL launch in a process of its own."""
    from dagster._core.test_utils import wait_for_runs_to_finish
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import ModuleTarget
    from dagster_graphql.test.utils import execute_dagster_graphql

    monkeypatch.setenv("PERF_ASSETS_DATA", str(data.root))
    overrides = {
        "run_coordinator": {"module": "dagster._core.run_coordinator", "class": "DefaultRunCoordinator"}
    }
    with (
        dg.instance_for_test(overrides=overrides) as instance,
        WorkspaceProcessContext(
            instance, ModuleTarget("perf_assets.definitions", None, None, "perf_assets")
        ) as workspace,
    ):
        launch = """
            mutation Launch($params: ExecutionParams!) {
                launchRun(executionParams: $params) {
                    __typename
                    ... on LaunchRunSuccess { run { runId } }
                    ... on PythonError { message }
                }
            }
        """
        variables = {
            "params": {
                "mode": "default",
                "selector": {
                    "repositoryLocationName": "perf_assets",
                    "repositoryName": "__repository__",
                    "pipelineName": "ingest_drops",
                },
            }
        }
        result = execute_dagster_graphql(workspace.create_request_context(), launch, variables)
        launched = result.data["launchRun"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        wait_for_runs_to_finish(instance, timeout=120)
        run = instance.get_run_by_id(launched["run"]["runId"])
        assert run is not None
        assert run.status == dg.DagsterRunStatus.SUCCESS
    assert sql(data, "SELECT count(*) FROM cleaned_runs WHERE status = 'ok'") == [(8,)]


def test_a_file_dropped_while_make_ui_runs_is_in_sql_within_a_minute(project, data):
    """On a machine as a newcomer has it: no DAGSTER_HOME, no instance yet."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PERF_ASSETS_SETTLE_S": "1"}
    environment.pop("DAGSTER_HOME", None)
    venv = BIN.parent
    make = ["make", "-f", str(ROOT / "Makefile"), "-o", f"{venv}/ready", f"VENV={venv}", "PORT=0", "ui"]
    dev_log = project / "dev.log"
    with dev_log.open("w") as log:
        # Started by a shell in the background, this process ignores SIGINT; Dagster would then ignore SIGTERM
        # too.
        dev = subprocess.Popen(
            ["env", "--default-signal=INT", *make],
            cwd=project,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_for(data.database.exists, timeout_s=180, every_s=0.5, why=dev_log.read_text)
        shutil.copy(EXAMPLES / "device_logs/memory/habana_log.livealloc.log_3", data.drops / "dropped.txt")
        query = "SELECT count(*) FROM source_files WHERE path = 'dropped.txt' AND status = 'ingested'"
        wait_for(lambda: sql(data, query) == [(1,)], timeout_s=60, every_s=0.5, why=dev_log.read_text)
    finally:
        dev.terminate()
        try:
            dev.wait(timeout=60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(dev.pid, signal.SIGKILL)
    warnings = [line for line in dev_log.read_text().splitlines() if "Warning" in line]
    assert not [line for line in warnings if "perf_assets" in line]


def test_explain(project):
    read = run(project, "perf-assets", "explain", str(next(EXAMPLES.rglob("rocm.csv"))))
    assert (read.returncode, "rocm_smi_csv reads it" in read.stdout) == (0, True)
    odd = project / "odd.csv"
    odd.write_text("device,foo\ncard0,1\n")
    unread = run(project, "perf-assets", "explain", str(odd))
    assert (unread.returncode, "rocm_smi_csv is nearest" in unread.stdout) == (3, True)
    assert "Traceback" not in read.stderr + unread.stderr
