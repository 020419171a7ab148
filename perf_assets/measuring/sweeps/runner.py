"""Measure what is left of a sweep's stage, each point in a fresh process, in the order that the grid says.

Runs on the node that is measured: no Dagster, no store. What is declared stands in ``grid``, the choice of
sizes under a budget in ``adaptive``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from perf_assets.measuring.devices.nvml import auto_device
from perf_assets.measuring.devices.processes import die_with_parent
from perf_assets.measuring.profiling.spec import ProfileSpec
from perf_assets.measuring.recording.log import read_log
from perf_assets.measuring.sweeps.adaptive import AdaptiveChooser, is_adaptive
from perf_assets.measuring.sweeps.budget import HoursBudget
from perf_assets.measuring.sweeps.grid import Sweep, combination_key, points

OUT_OF_MEMORY = ("oom", "predicted_oom")
ANSWERS = ("ok", *OUT_OF_MEMORY, "unsupported")
"""Statuses that are an answer; failed and incomplete points are measured again."""


@dataclass(frozen=True)
class Progress:
    """How far a sweep is."""

    done: int
    total: int
    current: str | None
    statuses: Mapping[str, int]
    elapsed_s: float
    remaining_s: float | None


@dataclass(frozen=True)
class SweepReport:
    """What became of every point: its name by status, skipped and refused ones included.

    ``refusals`` say why, by the name of a combination's sanity point.
    """

    points: Mapping[str, tuple[str, ...]]
    refusals: Mapping[str, str] = field(default_factory=dict)


def measured(folder: str | Path) -> dict[str, str]:
    """Status by key of all points whose logs lie in a folder; of several, the last one that is an answer."""
    found: dict[str, str] = {}
    for path in sorted(Path(folder).glob("*.jsonl"), key=lambda path: path.stat().st_mtime):
        try:
            log = read_log(path)
        except ValueError:
            continue
        if log["status"] in ANSWERS or log["header"]["key"] not in found:
            found[log["header"]["key"]] = log["status"]
    return found


def run_sweep(
    sweep: Sweep,
    sweep_stage: str,
    out: str | Path,
    *,
    known: Mapping[str, str] | None = None,
    again: bool = False,
    point_limit_s: float = 900.0,
    on_progress: Callable[[Progress], object] | None = None,
    say: Callable[[str], object] = lambda line: None,
) -> SweepReport:
    """Measure what a stage asks for and nobody has measured yet; of each combination its sanity point first.

    Args:
        sweep: the grid.
        sweep_stage: ``sanity``, ``quick`` or ``full``.
        out: folder for the logs; what lies there already is not measured again.
        known: status by key of further points that were measured before (from SQL).
        again: measure everything, whatever is known.
        point_limit_s: wall time after which a point's process is killed; its log stays ``incomplete``.
        on_progress: told before each point and at the end.
        say: told, before the first point, what part of the points a budget of hours will cover.

    Returns:
        Names of points by status: those of the logs, ``known``, ``skipped`` (above a size that ran out of
        memory), ``refused`` (its sanity point is not ``ok``), ``budget`` (the budget decided that they need not be
        measured).
    """
    if "auto" in sweep.devices:
        sweep = sweep.model_copy(update={"devices": (auto_device(),)})
    known = {**(known or {}), **measured(out)}
    outcomes: dict[str, list[str]] = {}
    refusals: dict[str, str] = {}

    def refuse(spec: ProfileSpec, sanity_status: str) -> None:
        outcomes.setdefault("refused", []).append(spec.name)
        first = spec.model_copy(update={sweep.vary: sweep.smallest}).name
        refusals[first] = f"its larger sizes are not measured, it is {sanity_status}"

    def is_sanity(spec: ProfileSpec) -> bool:
        return combination_key(sweep, spec) == spec.key

    pending = []
    for spec in points(sweep, sweep_stage):
        sanity_status = known.get(combination_key(sweep, spec))
        if not again and not is_sanity(spec) and sanity_status in ANSWERS and sanity_status != "ok":
            refuse(spec, sanity_status)
        elif not again and known.get(spec.key) in ANSWERS:
            outcomes.setdefault("known", []).append(spec.name)
        else:
            pending.append(spec)
    pending.sort(key=lambda spec: not is_sanity(spec))
    too_large = {
        combination_key(sweep, spec): getattr(spec, sweep.vary)
        for spec in points(sweep, sweep_stage)
        if sweep.till_first_fail and known.get(spec.key) in OUT_OF_MEMORY and not again
    }
    chooser = AdaptiveChooser(sweep, out) if sweep_stage == "full" and is_adaptive(sweep) else None
    clock = HoursBudget(sweep, sweep_stage, out)
    if told := clock.coverage(len(pending)):
        say(told)
    started_s, done, total = time.monotonic(), 0, len(pending)

    def tell(current: str | None) -> None:
        if on_progress:
            elapsed_s = time.monotonic() - started_s
            remaining_s = elapsed_s / done * (total - done) if done else None
            counts = {status: len(names) for status, names in outcomes.items()}
            on_progress(Progress(done, total, current, counts, elapsed_s, remaining_s))

    while pending:
        spec = chooser.choose(pending) if chooser else pending[0]
        if spec is None or clock.is_spent():
            outcomes.setdefault("budget", []).extend(spec.name for spec in pending)
            done = total
            break
        pending.remove(spec)
        tell(spec.name)
        size, combination = getattr(spec, sweep.vary), combination_key(sweep, spec)
        if size > too_large.get(combination, float("inf")):
            status = "skipped"
        else:
            status = run_point(spec, out, point_limit_s)
            if status in OUT_OF_MEMORY and sweep.till_first_fail:
                too_large[combination] = min(size, too_large.get(combination, size))
        outcomes.setdefault(status, []).append(spec.name)
        done += 1
        if is_sanity(spec) and status != "ok":
            larger = [other for other in pending if combination_key(sweep, other) == combination]
            pending = [other for other in pending if other not in larger]
            total -= len(larger)
            for other in larger:
                refuse(other, status)
    tell(None)
    return SweepReport({status: tuple(names) for status, names in outcomes.items()}, refusals)


def run_point(spec: ProfileSpec, out: str | Path, limit_s: float = 900.0) -> str:
    """Measure one point in a fresh process and return its status.

    ``incomplete``: the process was killed, by the limit or by others. ``busy``: the device was.
    """
    Path(out).mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(spec.to_json(), file)
        file.flush()
        child = subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-m",
                "perf_assets.measuring.profiling",
                "--spec",
                file.name,
                "--out",
                str(out),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            # A killed sweep must not leave a process behind that keeps the device.
            preexec_fn=die_with_parent,  # noqa: PLW1509
        )
        try:
            output, errors = child.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            return "incomplete"
    if child.returncode == 2:
        raise ValueError(errors.strip())
    if child.returncode == 3:
        return "busy"
    path = output.partition("\n")[0]
    return read_log(path)["status"] if path.endswith(".jsonl") else "incomplete"


def write_progress(path: str | Path, sweep: Sweep, sweep_stage: str) -> Callable[[Progress], None]:
    """An ``on_progress`` that keeps a JSON status file, replaced whole each time."""
    path = Path(path)

    def write(progress: Progress) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        facts = {"sweep": sweep.name, "stage": sweep_stage, "pid": os.getpid(), "updated_unix_s": time.time()}
        part = path.with_suffix(f".{os.getpid()}.tmp")
        part.write_text(json.dumps(facts | asdict(progress)))
        os.replace(part, path)

    return write
