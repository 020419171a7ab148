"""The record job where its tags say, and what a launch may name."""

import dagster as dg
import pytest

from perf_assets.defs.assets.load_tests import RecordingConfig, StudyConfig, load_studies, record_commands
from perf_assets.defs.device_runner import DeviceRunner
from perf_assets.defs.resources import DataFolder
from perf_assets_tests.support import sql


@pytest.fixture
def studies(data, tmp_path, monkeypatch):
    folder = tmp_path / "studies"
    folder.mkdir()
    (folder / "hello.toml").write_text(
        'name = "hello"\n[commands]\ncommand = ["echo", "hello"]\nname = "hello"\n'
    )
    monkeypatch.setenv("PERF_ASSETS_STUDIES", str(folder))
    monkeypatch.setenv("PERF_ASSETS_DATA", str(data.root))
    return folder


def launch(job, config, **options):
    resources = {"data_folder": DataFolder(), "device_runner": DeviceRunner()}
    return job.execute_in_process(
        run_config={"ops": config}, resources=resources, raise_on_error=False, **options
    )


def test_record_job_leaves_a_recording(data, studies):
    config = {"record_command": {"config": {"study": str(studies / "hello.toml")}}}
    assert launch(record_commands, config).success
    assert sql(data, "SELECT name, status, config->'engine'->>'name' FROM cleaned_runs") == [
        ("hello", "ok", "local")
    ]


def test_run_tags_choose_the_executor(studies, monkeypatch, tmp_path):
    """Nobody has a cluster here: the tag's engine says what is missing."""
    monkeypatch.setenv("PERF_ASSETS_CLUSTER", str(tmp_path / "none.toml"))
    config = {"record_command": {"config": {"study": str(studies / "hello.toml")}}}
    result = launch(record_commands, config, tags={"perf_assets/executor": "slurm"})
    assert not result.success
    assert "none.toml" in str(result.all_events)


@pytest.mark.parametrize("config", [StudyConfig, RecordingConfig])
def test_a_launch_names_no_file_elsewhere(studies, tmp_path, config):
    (tmp_path / "evil.toml").write_text('name = "evil"\n[commands]\ncommand = ["true"]\nname = "evil"\n')
    from perf_assets.defs.assets.load_tests import _declared

    with pytest.raises(dg.Failure, match=r"evil\.toml is not in .*studies: put it there"):
        _declared(config(study=str(tmp_path / "evil.toml")), of_commands=True)


def test_the_other_kind_of_study_is_refused(studies):
    result = dg.materialize(
        [load_studies],
        run_config={"ops": {"load_studies": {"config": {"study": str(studies / "hello.toml")}}}},
        resources={"data_folder": DataFolder(), "device_runner": DeviceRunner()},
        raise_on_error=False,
        selection=[load_studies],
    )
    assert not result.success
    assert "the job record_commands" in str(result.all_events)
