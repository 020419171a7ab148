"""Sweeps: a declared grid of configurations, each measured in a fresh process, in random order, resumable.

A sweep is a TOML file::

    name = "nightly"
    networks = ["vgg16", "resnet50"]
    stages = ["inference", "training"]
    algorithms = ["guess", "gemm"]
    devices = ["cpu"]
    vary = "batch_size"          # or "input_size"
    smallest = 1
    largest = 64
    seed = 1

    [[pruning]]
    method = "structured_magnitude"
    ratio = 0.5

    [options]                    # any further field of a profile spec
    passes = ["latency", "memory"]

    [budget]                     # optional, for the full stage
    points = 20                  # of the 100 sizes of each combination
    target = 0.05                # stop once every size is known to ±5 %

Its stages are ``sanity`` (the smallest size of every combination), ``quick`` (10 sizes) and ``full`` (100). A
combination is everything but the size; its full stage refuses to start until its sanity point is ``ok``.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from perf_assets.measuring.profiling.spec import ProfileSpec, parse_spec
from perf_assets.measuring.recording.log import read_log

SWEEP_STAGES = {"sanity": 1, "quick": 10, "full": 100}
"""Stages of a sweep, and sizes of each combination in them."""

_SETTLED = ("ok", "oom", "predicted_oom", "unsupported")
"""Statuses that are an answer; failed and incomplete points are measured again."""


@dataclass(frozen=True)
class Sweep:
    """A declared grid; fields as in the module's example."""

    name: str
    networks: tuple[str, ...]
    vary: str
    smallest: int
    largest: int
    stages: tuple[str, ...] = ("inference",)
    algorithms: tuple[str, ...] = ("guess",)
    devices: tuple[str, ...] = ("cpu",)
    precisions: tuple[str, ...] = ("float32",)
    pruning: tuple[Mapping[str, Any], ...] = ()
    unpruned: bool = True
    pruned_models: str = "pruned_models"
    """Folder of pruned models, each under :func:`pruned_model_name`."""
    seed: int = 0
    till_first_fail: bool = True
    """Skip the sizes of a combination above one that ran out of memory."""
    options: Mapping[str, Any] = field(default_factory=dict)
    budget: Mapping[str, float] = field(default_factory=dict)


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
    """What became of every point: its name by status, skipped and refused ones included."""

    points: Mapping[str, tuple[str, ...]]


def read_sweep(path: str | Path) -> Sweep:
    """Sweep from a TOML file.

    Raises:
        ValueError: not TOML, unknown or missing fields, or a grid that cannot be.
    """
    try:
        fields = tomllib.loads(Path(path).read_text())
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: not TOML: {error}") from None
    return parse_sweep(fields)


def parse_sweep(fields: Mapping[str, Any]) -> Sweep:
    """Sweep from a mapping; errors as :func:`read_sweep`."""
    known = {f.name: f for f in dataclasses.fields(Sweep)}
    unknown = sorted(set(fields) - set(known))
    missing = [n for n in ("name", "networks", "vary", "smallest", "largest") if n not in fields]
    if unknown or missing:
        raise ValueError(f"sweep: unknown {unknown}, missing {missing}: use {', '.join(known)}")
    sweep = Sweep(
        **{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    )
    if sweep.vary not in ("batch_size", "input_size"):
        raise ValueError(f"sweep: vary is batch_size or input_size, not {sweep.vary!r}")
    if not 1 <= sweep.smallest <= sweep.largest:
        raise ValueError(f"sweep: sizes from {sweep.smallest} to {sweep.largest} are none")
    if unknown := sorted(set(sweep.budget) - {"points", "target"}):
        raise ValueError(f"sweep: unknown budget {unknown}: use points and target")
    points(sweep, "sanity")  # every field of every spec is checked now, not hours later
    return sweep


def sizes(sweep: Sweep, sweep_stage: str) -> list[int]:
    """Sizes of a stage, ascending: batch sizes by equal factors, input sizes by equal steps."""
    if sweep_stage not in SWEEP_STAGES:
        raise ValueError(f"unknown stage {sweep_stage!r}: use one of {', '.join(SWEEP_STAGES)}")
    count = SWEEP_STAGES[sweep_stage]
    if count == 1:
        return [sweep.smallest]
    spaced = np.geomspace if sweep.vary == "batch_size" else np.linspace
    return sorted({round(float(size)) for size in spaced(sweep.smallest, sweep.largest, count)})


def points(sweep: Sweep, sweep_stage: str) -> list[ProfileSpec]:
    """All points of a stage in random order, the same order for the same seed."""
    grid = itertools.product(
        sweep.networks,
        ([{}] if sweep.unpruned else []) + [dict(pruning) for pruning in sweep.pruning],
        sweep.stages,
        sweep.algorithms,
        sweep.precisions,
        sweep.devices,
        sizes(sweep, sweep_stage),
    )
    found = []
    for network, pruning, stage, algorithm, precision, device, size in grid:
        pruned = {}
        if pruning:
            folder = Path(sweep.pruned_models) / pruned_model_name(network, **pruning)
            pruned = {"pruned_model": str(folder), "pruning_method": pruning["method"],
                      "pruning_ratio": pruning["ratio"]}  # fmt: skip
        found.append(
            parse_spec(
                {**sweep.options, **pruned, "network": network, "stage": stage, "algorithm": algorithm,
                 "precision": precision, "device": device, sweep.vary: size, "sweep": sweep.name,
                 "sweep_stage": sweep_stage}
            )
        )  # fmt: skip
    random.Random(sweep.seed).shuffle(found)
    return found


def pruned_model_name(base: str, method: str, ratio: float, seed: int = 0) -> str:
    """Name of a pruned model's directory."""
    return f"{base}-{method}-{ratio:.2f}-seed{seed}"


def measured(folder: str | Path) -> dict[str, str]:
    """Status by key of all points whose logs lie in a folder; of several, the last one that is an answer."""
    found: dict[str, str] = {}
    for path in sorted(Path(folder).glob("*.jsonl"), key=lambda path: path.stat().st_mtime):
        try:
            log = read_log(path)
        except ValueError:
            continue
        if log["status"] in _SETTLED or log["header"]["key"] not in found:
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
) -> SweepReport:
    """Measure what a stage asks for and nobody has measured yet.

    Args:
        sweep: the grid.
        sweep_stage: ``sanity``, ``quick`` or ``full``.
        out: folder for the logs; what lies there already is not measured again.
        known: status by key of further points that were measured before (from SQL).
        again: measure everything, whatever is known.
        point_limit_s: wall time after which a point's process is killed; its log stays ``incomplete``.
        on_progress: told before each point and at the end.

    Returns:
        Names of points by status: those of the logs, ``known``, ``skipped`` (above a size that ran out of memory),
        ``refused`` (no ``ok`` sanity point), ``budget`` (the budget decided that they need not be measured).
    """
    known = {**(known or {}), **measured(out)}
    outcomes: dict[str, list[str]] = {}
    pending = []
    for spec in points(sweep, sweep_stage):
        if sweep_stage == "full" and known.get(_combination(sweep, spec)) != "ok":
            outcomes.setdefault("refused", []).append(spec.name)
        elif not again and known.get(spec.key) in _SETTLED:
            outcomes.setdefault("known", []).append(spec.name)
        else:
            pending.append(spec)
    too_large = {_combination(sweep, spec): getattr(spec, sweep.vary) for spec in points(sweep, sweep_stage)
                 if sweep.till_first_fail and known.get(spec.key) == "oom"}  # fmt: skip
    chooser = _AdaptiveChooser(sweep, out) if sweep_stage == "full" and sweep.budget else None
    started_s, done, total = time.monotonic(), 0, len(pending)

    def tell(current: str | None) -> None:
        if on_progress:
            elapsed_s = time.monotonic() - started_s
            remaining_s = elapsed_s / done * (total - done) if done else None
            counts = {status: len(names) for status, names in outcomes.items()}
            on_progress(Progress(done, total, current, counts, elapsed_s, remaining_s))

    while pending:
        spec = chooser.choose(pending) if chooser else pending[0]
        if spec is None:
            outcomes.setdefault("budget", []).extend(spec.name for spec in pending)
            done = total
            break
        pending.remove(spec)
        tell(spec.name)
        size, combination = getattr(spec, sweep.vary), _combination(sweep, spec)
        if size > too_large.get(combination, float("inf")):
            status = "skipped"
        else:
            status = run_point(spec, out, point_limit_s)
            if status == "oom" and sweep.till_first_fail:
                too_large[combination] = min(size, too_large.get(combination, size))
        outcomes.setdefault(status, []).append(spec.name)
        done += 1
    tell(None)
    return SweepReport({status: tuple(names) for status, names in outcomes.items()})


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
            preexec_fn=_die_with_parent,  # noqa: PLW1509
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
        part.write_text(json.dumps(facts | dataclasses.asdict(progress)))
        os.replace(part, path)

    return write


class _AdaptiveChooser:
    """Chooses the next size of each combination by a Gaussian process, until the budget or the target is met.

    The process has an RBF kernel on the logarithm of the size with white noise, fitted by scikit-learn to the
    logarithm of the latency; the next size is the one whose latency is least certain.
    """

    def __init__(self, sweep: Sweep, out: str | Path) -> None:
        self._sweep = sweep
        self._out = Path(out)
        self._read: dict[Path, tuple[str, int, float] | None] = {}

    def choose(self, pending: list[ProfileSpec]) -> ProfileSpec | None:
        """Next point, or None when every combination has had its budget or met the target."""
        self._read_new_logs()
        by_combination: dict[str, list[ProfileSpec]] = {}
        for spec in pending:
            by_combination.setdefault(_combination(self._sweep, spec), []).append(spec)
        for combination, specs in by_combination.items():
            found = [(size, ms) for key, size, ms in filter(None, self._read.values()) if key == combination]
            if len(found) >= self._sweep.budget.get("points", float("inf")):
                continue
            specs = sorted(specs, key=lambda spec: getattr(spec, self._sweep.vary))
            candidates = [getattr(spec, self._sweep.vary) for spec in specs]
            if len(found) < 3:  # the ends and the middle, before there is anything to be uncertain about
                return (specs[0], specs[-1], specs[len(specs) // 2])[len(found)]
            half_widths = half_widths_of_prediction(*zip(*found, strict=True), candidates)
            if half_widths.max() > self._sweep.budget.get("target", 0.0):
                return specs[int(half_widths.argmax())]
        return None

    def _read_new_logs(self) -> None:
        for path in self._out.glob("*.jsonl"):
            if path in self._read:
                continue
            self._read[path] = None
            with contextlib.suppress(ValueError):
                log = read_log(path)
                spec = parse_spec(log["header"]["spec"])
                if log["status"] == "ok" and log["result"].get("latency_ms"):
                    size = getattr(spec, self._sweep.vary)
                    self._read[path] = (_combination(self._sweep, spec), size, log["result"]["latency_ms"])


def half_widths_of_prediction(
    known_sizes: Collection[float], latencies_ms: Collection[float], candidates: Iterable[float]
) -> np.ndarray:
    """Half the 95 % interval of the latency at each candidate size, relative to it, by the Gaussian process."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    x = np.log(np.asarray(known_sizes, dtype=float))[:, None]
    y = np.log(np.asarray(latencies_ms, dtype=float))
    kernel = ConstantKernel(1.0) * RBF(1.0, (0.1, 20.0)) + WhiteKernel(1e-4, (1e-6, 1e-1))
    model = GaussianProcessRegressor(kernel, normalize_y=True, n_restarts_optimizer=2, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a parameter at its bound is no failure
        model.fit(x, y)
    _, deviation = model.predict(np.log(np.asarray(list(candidates), dtype=float))[:, None], return_std=True)
    return np.expm1(1.96 * deviation)


def _combination(sweep: Sweep, spec: ProfileSpec) -> str:
    """What points that differ only in size share: the key of the smallest of them, which is the sanity point."""
    return dataclasses.replace(spec, **{sweep.vary: sweep.smallest}).key


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG; Linux only, like the device lock
