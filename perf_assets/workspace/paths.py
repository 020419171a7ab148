"""Where things lie under the data folder."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path

from perf_assets.workspace.errors import PerfAssetsError

DATA_VARIABLE = "PERF_ASSETS_DATA"
DROPS_VARIABLE = "PERF_ASSETS_DROPS"
WORK_VARIABLE = "PERF_ASSETS_WORK"
SWEEPS_VARIABLE = "PERF_ASSETS_SWEEPS"
STUDIES_VARIABLE = "PERF_ASSETS_STUDIES"


class NoDataFolderError(PerfAssetsError):
    """There is no data folder to work in: the message says how to name one."""


@dataclass(frozen=True)
class DataPaths:
    """The data folder and everything in it. Only ``drops`` is the user's; the rest can be made again from
    it."""

    root: Path
    shared_drops: Path | None = None
    """Drops on a file system that other machines see, where they do not lie in the data folder."""
    shared_work: Path | None = None

    @property
    def drops(self) -> Path:
        """What tools wrote, in any sub-folder; never changed by us."""
        return self.shared_drops or self.root / "drops"

    @property
    def raw(self) -> Path:
        """An immutable copy of every drop, by its file_id."""
        return self.root / "raw"

    @property
    def parts(self) -> Path:
        """Immutable Parquet files of parsed rows, a folder a batch."""
        return self.root / "parts"

    @property
    def computed(self) -> Path:
        """Tables that assets computed, a Parquet file each."""
        return self.root / "computed"

    @property
    def predictors(self) -> Path:
        """Fitted predictors."""
        return self.root / "predictors"

    @property
    def ledger(self) -> Path:
        """Every file ever seen, and what became of it."""
        return self.root / "ledger.sqlite"

    @property
    def quarantine(self) -> Path:
        """What was found damaged and set aside; nothing reads it."""
        return self.root / "quarantine"

    @property
    def database(self) -> Path:
        """The published tables."""
        return self.root / "perf.duckdb"

    @property
    def pruned_models(self) -> Path:
        """Pruned networks, a folder each."""
        return self.root / "pruned_models"

    @property
    def feature_cache(self) -> Path:
        """Analytic features by architecture: costs seconds to compute, nothing to keep."""
        return self.root / "cache" / "features"

    @property
    def work(self) -> Path:
        """Job files of campaigns: specs, progress, output. Seen by the nodes."""
        return self.shared_work or self.root / "work"

    @property
    def plots(self) -> Path:
        """Figures."""
        return self.root / "plots"

    @property
    def devices(self) -> Path:
        """The site's own names and facts of devices; there may be none."""
        return self.root / "devices.toml"

    @property
    def lock(self) -> Path:
        """Held by the one process that ingests."""
        return self.root / "ingest.lock"


def data_paths() -> DataPaths:
    """The data folder: ``PERF_ASSETS_DATA``, or ``data`` in the current folder.

    Raises:
        NoDataFolderError: there is no such folder; the message names the nearest that there is.
    """
    named = os.environ.get(DATA_VARIABLE)
    if named:
        return existing_folder(Path(named), f"{DATA_VARIABLE}={named}")
    if not Path("data").is_dir():
        raise NoDataFolderError(
            f"no folder 'data' in {Path.cwd()}: go to the project's folder, or name one with {DATA_VARIABLE}"
        )
    return in_folder(Path("data"))


def existing_folder(root: Path, named_by: str = "") -> DataPaths:
    """A data folder that must be there; ``named_by`` says in the message who named it.

    Raises:
        NoDataFolderError: there is no such folder; the message names the nearest that there is.
    """
    if not root.is_dir():
        near = _nearest(root)
        hint = f"did you mean {near}? " if near else ""
        raise NoDataFolderError(f"{named_by or root} is no folder: {hint}'perf-assets init FOLDER' makes one")
    return in_folder(root)


def _nearest(folder: Path) -> Path | None:
    """The folder beside a mistyped one whose name is most like it."""
    try:
        names = [path.name for path in folder.absolute().parent.iterdir() if path.is_dir()]
    except OSError:
        return None
    near = difflib.get_close_matches(folder.name, names, n=1)
    return folder.absolute().parent / near[0] if near else None


def in_folder(root: Path) -> DataPaths:
    """A data folder with its drops; ``PERF_ASSETS_DROPS`` and ``PERF_ASSETS_WORK`` may lie elsewhere."""
    drops, work = (os.environ.get(name) for name in (DROPS_VARIABLE, WORK_VARIABLE))
    paths = DataPaths(
        root.absolute(),
        Path(drops).absolute() if drops else None,
        Path(work).absolute() if work else None,
    )
    paths.drops.mkdir(parents=True, exist_ok=True)
    return paths


def launchable_sweep(name: str) -> Path:
    """The file of a sweep that may be launched: one in ``PERF_ASSETS_SWEEPS``, by default the folder
    ``sweeps``.

    Raises:
        ValueError: it lies elsewhere.
    """
    return _launchable("sweep", name, SWEEPS_VARIABLE, "sweeps")


def launchable_study(name: str) -> Path:
    """The file of a load study that may be launched: one in ``PERF_ASSETS_STUDIES``, by default the folder
    ``studies``. Its commands are run, so a launch cannot name any other.

    Raises:
        ValueError: it lies elsewhere.
    """
    return _launchable("study", name, STUDIES_VARIABLE, "studies")


def _launchable(kind: str, name: str, variable: str, default: str) -> Path:
    folder = Path(os.environ.get(variable, default)).resolve()
    path = Path(name).resolve()
    if not path.is_relative_to(folder):
        raise ValueError(
            f"{kind} {name} is not in {folder}: put it there, or name its folder with {variable}"
        )
    return path
