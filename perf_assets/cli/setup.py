"""Setting up: ``init`` makes a project folder, ``doctor`` says what works on this machine and what would cure
the rest."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from perf_assets.cli.render import print_table
from perf_assets.workspace.paths import DATA_VARIABLE, DataPaths

_OURS = Path(__file__).parent / "project"
_CLONE = Path(__file__).parents[2]
_FILES = (
    "dagster.yaml",
    "workspace.yaml",
    "sweeps/demo.toml",
    "sweeps/nightly.toml",
    "studies/demo_load.toml",
    "studies/nightly.toml",
    "studies/record.toml",
    "studies/traccc.toml",
    "cluster.example.toml",
)
_ACTIVATE = """\
# source this: 'dagster asset materialize' then knows which definitions are meant, from whichever folder
export DAGSTER_CLI_ASSET_MATERIALIZE_MODULE_NAME=perf_assets.definitions
"""


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
def init(folder: Path) -> None:
    """Make FOLDER a project: a data folder, Dagster's settings, sweeps, studies. What is there already stays."""
    if (folder / "drops").is_dir():
        raise click.ClickException(f"{folder} is a data folder already: name the folder around it")
    (folder / "data" / "drops").mkdir(parents=True, exist_ok=True)
    for name in _FILES:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            shutil.copy(_shipped(name), target)
    activate = folder / "activate-perf-assets"
    if not activate.exists():
        activate.write_text(_ACTIVATE)
    click.echo(f"{folder} is ready: put logs under {folder / 'data' / 'drops'}, then")
    click.echo(f"  cd {folder} && source activate-perf-assets && perf-assets ingest")


def _shipped(name: str) -> Path:
    """A file of the project, from the wheel or from the clone."""
    return _OURS / name if (_OURS / name).exists() else _CLONE / name


@click.command()
def doctor() -> None:
    """Check Python, disk, data folder, database, torch, NVML, counters, Slurm, Dagster and time zone.

    Exits with 0, or with 1 when something that every command needs is wrong.
    """
    rows = list(_findings())
    print_table(["", "what", "found or cure"], rows)
    sys.exit(1 if any(state == "wrong" for state, _, _ in rows) else 0)


def _findings() -> Iterator[tuple[str, str, str]]:
    checks: tuple[tuple[str, Callable[[], tuple[str, str]]], ...] = (
        ("Python", _python),
        ("data folder", _data_folder),
        ("disk", _disk),
        ("database", _database),
        ("time zone", _time_zone),
        ("Dagster", _dagster),
        ("torch", _torch),
        ("NVML", _nvml),
        ("counters", _counters),
        ("Slurm", _slurm),
    )
    for name, check in checks:
        try:
            state, said = check()
            yield state, name, said
        except Exception as error:  # noqa: BLE001 - a doctor names what is wrong, whatever it is
            yield "wrong", name, str(error).splitlines()[0] if str(error) else type(error).__name__


def _root() -> Path:
    return Path(os.environ.get(DATA_VARIABLE) or "data")


def _python() -> tuple[str, str]:
    found = ".".join(map(str, sys.version_info[:3]))
    return ("ok", found) if sys.version_info >= (3, 11) else ("wrong", f"{found}: 3.11 or newer is needed")


def _data_folder() -> tuple[str, str]:
    from perf_assets.workspace.filesystems import network_type

    root = _root()
    if not root.is_dir():
        return (
            "wrong",
            f"{root.absolute()} is missing: go to the project's folder, or 'perf-assets init FOLDER'",
        )
    if shared := network_type(root):
        return (
            "wrong",
            f"{root.absolute()} lies on {shared}: use a local disk, and PERF_ASSETS_DROPS for shared drops",
        )
    if not os.access(root, os.W_OK):
        return "wrong", f"{root.absolute()} cannot be written to: check its permissions"
    return "ok", str(root.absolute())


def _disk() -> tuple[str, str]:
    root = _root() if _root().is_dir() else Path.cwd()
    free_gib = shutil.disk_usage(root).free / 2**30
    return (
        "ok" if free_gib > 2 else "look",
        f"{free_gib:.1f} GiB free" + ("" if free_gib > 2 else ": make room"),
    )


def _database() -> tuple[str, str]:
    from perf_assets.store.database import open_readonly

    database = DataPaths(_root().absolute()).database
    if not database.exists():
        return "look", "nothing was published yet: perf-assets ingest"
    with open_readonly(database) as connection:
        (count,) = connection.execute("SELECT count(*) FROM source_files").fetchone() or (0,)
    return "ok", f"{database.stat().st_size / 2**20:.0f} MiB, {count} files"


def _time_zone() -> tuple[str, str]:
    from perf_assets.workspace.settings import local_timezone

    return "ok", f"local times in logs are read as {local_timezone()} (PERF_ASSETS_TIMEZONE)"


def _dagster() -> tuple[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    try:
        found = version("dagster")
    except PackageNotFoundError:
        return "look", "not installed: ingest and sql work without; install the whole package for the UI"
    if not Path("dagster.yaml").exists() and not os.environ.get("DAGSTER_HOME"):
        return (
            "look",
            f"{found}, but no dagster.yaml here: runs are forgotten; 'perf-assets init .' makes one",
        )
    return "ok", found


def _torch() -> tuple[str, str]:
    from importlib.util import find_spec

    if find_spec("torch") is None:
        return "look", "not installed: needed to measure, see requirements/node.txt"
    import torch

    if torch.cuda.is_available():
        return "ok", f"{torch.__version__}, {torch.cuda.get_device_name(0)}"
    return "ok", f"{torch.__version__}, no GPU: measures on the processor"


def _nvml() -> tuple[str, str]:
    from importlib.util import find_spec

    if find_spec("pynvml") is None:
        return "look", "nvidia-ml-py is not installed: no power and energy of NVIDIA GPUs"
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return "look", f"no NVIDIA driver here ({error})"
    return "ok", f"driver {pynvml.nvmlSystemGetDriverVersion()}, {pynvml.nvmlDeviceGetCount()} GPUs"


def _counters() -> tuple[str, str]:
    setting = Path("/proc/sys/kernel/perf_event_paranoid")
    if not setting.exists():
        return "look", "this kernel has no performance counters"
    level = int(setting.read_text())
    return (
        ("ok", "allowed")
        if level <= 2
        else ("look", f"perf_event_paranoid is {level}: 2 or less allows them")
    )


def _slurm() -> tuple[str, str]:
    if shutil.which("sbatch") is None:
        return "look", "no sbatch here: use the executors 'local' and 'ssh'"
    from perf_assets.measuring.engines.engine import EngineError
    from perf_assets.measuring.engines.site import load_site

    try:
        site = load_site()
    except EngineError as error:
        return "look", str(error)
    return "ok", f"devices {', '.join(site.devices)}"
