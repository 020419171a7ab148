"""Sweeps for machines that nothing reaches: pack here, carry the file there, run it, carry the results back.

The pack is a zip file with all that the sweep needs beside the installed package: the declared points, what is known
already, pruned models, own modules and weights. There, ``python -m perf_assets.measuring.sweeps --run FILE`` measures
it, again and again until it is done, and leaves ``FILE`` with ``.results.zip`` instead of its ending.
"""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perf_assets.measuring.sweeps.grid import SWEEP_STAGES, Sweep, parse_sweep, points
from perf_assets.workspace.validation import InvalidInputError

if TYPE_CHECKING:
    from perf_assets.measuring.sweeps.runner import Progress, SweepReport

FORMAT = "perf_assets_pack"
RESULTS_FORMAT = "perf_assets_results"
VERSION = 1
_ABOUT = "about.json"
_LOG_NAME = re.compile(r"[A-Za-z0-9_.-]{1,250}\.jsonl")


def pack(sweep: Sweep, stage: str, known: Mapping[str, str], file: Path) -> int:
    """Write a pack and return the number of points that it holds.

    Args:
        sweep: the grid, with the board's device and label filled in.
        stage: what is measured of it.
        known: status by key of points that need not be measured.
        file: the zip file; one that is there is replaced.
    """
    specs = points(sweep, stage)
    options = dict(sweep.options)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for folder in sorted({spec.pruned_model for spec in specs if spec.pruned_model}):
            for part in ("spec.json", "state_dict.pt"):
                if (Path(folder) / part).exists():
                    archive.write(Path(folder) / part, f"pruned/{Path(folder).name}/{part}")
        if module_folder := options.pop("module_folder", None):
            for module in sorted(Path(module_folder).rglob("*.py")):
                archive.write(module, f"modules/{module.relative_to(module_folder)}")
        if weights := options.pop("weights", None):
            archive.write(weights, f"weights/{Path(weights).name}")
        document = sweep.model_dump(mode="json", exclude_unset=True)
        document |= {"options": options, "pruned_models": "pruned"}
        about = {
            "format": FORMAT,
            "version": VERSION,
            "stage": stage,
            "sweep": document,
            "known": dict(known),
        }
        archive.writestr(_ABOUT, json.dumps(about, indent=1))
    return len(specs)


def run(
    file: Path,
    out: Path | None = None,
    *,
    again: bool = False,
    on_progress: Callable[[Progress], object] | None = None,
    say: Callable[[str], object] = print,
) -> tuple[SweepReport, Path | None]:
    """Measure what a pack asks for and nobody has measured yet.

    What was measured before lies in the folder of the logs: a run that was cut short goes on where it was.

    Args:
        file: the pack.
        out: folder for the logs; None for one beside the pack, and a zip file of them.
        again: measure what is known as well.
        on_progress: told before each point and at the end.
        say: told what a budget of hours will cover.

    Returns:
        What became of the points, and the zip file with their logs where one was written.

    Raises:
        InvalidInputError: the file is no pack.
    """
    from perf_assets.measuring.sweeps.runner import (
        run_sweep,
    )  # with numpy, which a command line does not need

    about = _about(file, FORMAT, "make one by 'perf-assets sweep SWEEP.toml --pack FILE'")
    if about.get("stage") not in SWEEP_STAGES or not isinstance(about.get("sweep"), dict):
        raise InvalidInputError(f"{file}: a pack without a sweep and a stage: pack it again")
    folder = file.with_suffix(".run").resolve()
    contents, logs = folder / "contents", out or folder / "logs"
    shutil.rmtree(contents, ignore_errors=True)
    logs.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file) as archive:
        archive.extractall(contents)
    document = about["sweep"] | {"pruned_models": str(contents / "pruned")}
    options = dict(document.get("options", {}))
    if (contents / "modules").exists():
        options["module_folder"] = str(contents / "modules")
    for weights in (contents / "weights").glob("*"):
        options["weights"] = str(weights)
    sweep = parse_sweep(document | {"options": options}, str(file))
    report = run_sweep(
        sweep,
        about["stage"],
        logs,
        known=about.get("known"),
        again=again,
        on_progress=on_progress,
        say=say,
    )
    if out is not None:
        return report, None
    results = file.with_suffix(".results.zip")
    with zipfile.ZipFile(results, "w", zipfile.ZIP_DEFLATED) as archive:
        head = {"format": RESULTS_FORMAT, "version": VERSION, "sweep": sweep.name}
        archive.writestr(_ABOUT, json.dumps(head))
        for log in sorted(logs.glob("*.jsonl")):
            archive.write(log, log.name)
    return report, results


def collect(file: Path, drops: Path) -> list[Path]:
    """Lay the logs of a results file into drops, as if they had been measured here; returns those that are new.

    Raises:
        InvalidInputError: the file holds no results, or something that is no log.
    """
    cure = "name what '--run' wrote there"
    about = _about(file, RESULTS_FORMAT, cure)
    name = str(about.get("sweep"))
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise InvalidInputError(f"{file}: {name!r} is no name of a sweep: {cure}")
    folder = drops / "perf_assets" / name
    folder.mkdir(parents=True, exist_ok=True)
    new = []
    with zipfile.ZipFile(file) as archive:
        names = [entry for entry in archive.namelist() if entry != _ABOUT]
        if strange := next((entry for entry in names if not _LOG_NAME.fullmatch(entry)), None):
            raise InvalidInputError(f"{file}: {strange[:80]!r} is no log of the profiler: {cure}")
        for entry in names:
            if not (folder / entry).exists():
                (folder / entry).write_bytes(archive.read(entry))
                new.append(folder / entry)
    return new


def _about(file: Path, expected: str, cure: str) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(file) as archive:
            about = json.loads(archive.read(_ABOUT))
    except OSError as error:
        raise InvalidInputError(f"{file}: cannot be read ({error.strerror}): {cure}") from None
    except (zipfile.BadZipFile, KeyError, ValueError):
        raise InvalidInputError(f"{file}: no {expected} file: {cure}") from None
    if not isinstance(about, dict) or about.get("format") != expected or about.get("version") != VERSION:
        raise InvalidInputError(f"{file}: no {expected} file of version {VERSION}: {cure}")
    return about
