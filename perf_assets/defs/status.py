"""What runs, waits and failed, and who holds which device: Dagster's runs and the engines' jobs in one
view."""

import contextlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

from perf_assets.measuring.devices.lock import holder, lock_folder
from perf_assets.measuring.engines.engine import Engine, EngineError
from perf_assets.measuring.engines.jobs import JOB_PREFIX
from perf_assets.measuring.engines.local import LocalEngine
from perf_assets.measuring.engines.site import load_site
from perf_assets.measuring.engines.slurm import SlurmEngine
from perf_assets.measuring.engines.ssh import SshEngine
from perf_assets.workspace.paths import DataPaths

Row = tuple[str, ...]


@dataclass(frozen=True)
class Section:
    """One table of the view."""

    title: str
    columns: Row
    rows: list[Row]


def status(paths: DataPaths, instance: dg.DagsterInstance, recent: int = 10) -> list[Section]:
    """Recent runs, jobs, sweeps, devices, nodes and boards; sections that this machine has nothing for are empty."""
    return [
        Section("runs", ("run", "job", "status", "started", "what"), _runs(instance, recent)),
        Section("profiling jobs", ("engine", "job", "name"), _jobs()),
        Section("sweeps", ("sweep", "stage", "done", "current", "left", "points"), _sweeps(paths)),
        Section("held devices", ("device", "host", "process", "since", "command"), _devices()),
        Section("Slurm nodes", ("node", "state", "features", "gres"), _nodes()),
        Section("boards", ("device", "host", "state"), _boards()),
    ]


def _runs(instance: dg.DagsterInstance, recent: int) -> list[Row]:
    return [
        (
            record.dagster_run.run_id[:8],
            record.dagster_run.job_name,
            record.dagster_run.status.value,
            _time(record.start_time),
            ", ".join(sorted(key.to_user_string() for key in record.dagster_run.asset_selection or ())[:4]),
        )
        for record in instance.get_run_records(limit=recent)
    ]


def _engines() -> list[Engine]:
    engines: list[Engine] = [LocalEngine()]
    with contextlib.suppress(EngineError):  # no site file: this machine alone
        site = load_site()
        if len(site.boards) < len(site.devices):
            engines.append(SlurmEngine(site))
        if site.boards:
            engines.append(SshEngine(site))
    return engines


def _jobs() -> list[Row]:
    rows: list[Row] = []
    for engine in _engines():
        try:
            rows += [(engine.name, job_id, name) for job_id, name in engine.find(JOB_PREFIX)]
        except EngineError as error:
            rows.append((engine.name, "", f"cannot be asked: {error}"))
    return rows


def _sweeps(paths: DataPaths) -> list[Row]:
    rows: list[Row] = []
    files = sorted(paths.work.glob("*/progress.json"), key=lambda path: -path.stat().st_mtime)
    for path in files[:10]:
        try:
            told = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
        left_s = told.get("remaining_s")
        counts = ", ".join(f"{count} {status}" for status, count in told.get("statuses", {}).items())
        rows.append(
            (
                told["sweep"],
                told["stage"],
                f"{told['done']} of {told['total']}",
                told.get("current") or "",
                "" if left_s is None else f"{left_s:.0f} s",
                counts,
            )
        )
    return rows


def _devices() -> list[Row]:
    rows: list[Row] = []
    folder: Path = lock_folder()
    for path in sorted(folder.glob("*.lock")):
        held = holder(path.stem, folder)
        if held:
            rows.append(
                (
                    path.stem,
                    held["host"],
                    str(held["pid"]),
                    _time(held["since_unix_s"]),
                    str(held["command"])[:80],
                )
            )
    return rows


def _nodes() -> list[Row]:
    for engine in _engines():
        if isinstance(engine, SlurmEngine):
            try:
                return [tuple(node) for node in engine.nodes()]
            except EngineError as error:
                return [("", str(error), "", "")]
    return []


def _boards() -> list[Row]:
    return [
        tuple(board) for engine in _engines() if isinstance(engine, SshEngine) for board in engine.boards()
    ]


def _time(unix_s: float | None) -> str:
    if unix_s is None:
        return ""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S")
