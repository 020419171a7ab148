"""Which size to measure next, when a budget allows only some of them: where the latency is least certain."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np

from perf_assets.measuring.profiling.spec import ProfileSpec, parse_spec
from perf_assets.measuring.recording.log import read_log
from perf_assets.measuring.sweeps.grid import Budget, Sweep, combination_key


def is_adaptive(sweep: Sweep) -> bool:
    """Does its budget ask for a choice of sizes?"""
    return sweep.budget is not None and (sweep.budget.points is not None or sweep.budget.target > 0)


class AdaptiveChooser:
    """Chooses the next size of each combination by a Gaussian process, until the budget or the target is met.

    The process has an RBF kernel on the logarithm of the size with white noise, fitted by scikit-learn to the
    logarithm of the latency; the next size is the one whose latency is least certain.
    """

    def __init__(self, sweep: Sweep, out: str | Path) -> None:
        self._sweep = sweep
        self._budget = sweep.budget or Budget()
        self._out = Path(out)
        self._read: dict[Path, tuple[str, int, float] | None] = {}

    def choose(self, pending: list[ProfileSpec]) -> ProfileSpec | None:
        """Next point, or None when every combination has had its budget or met the target."""
        self._read_new_logs()
        by_combination: dict[str, list[ProfileSpec]] = {}
        for spec in pending:
            by_combination.setdefault(combination_key(self._sweep, spec), []).append(spec)
        for combination, specs in by_combination.items():
            found = [(size, ms) for key, size, ms in filter(None, self._read.values()) if key == combination]
            if len(found) >= (self._budget.points or float("inf")):
                continue
            specs = sorted(specs, key=lambda spec: getattr(spec, self._sweep.vary))
            candidates = [getattr(spec, self._sweep.vary) for spec in specs]
            if len(found) < 3:  # the ends and the middle, before there is anything to be uncertain about
                return (specs[0], specs[-1], specs[len(specs) // 2])[len(found)]
            half_widths = half_widths_of_prediction(*zip(*found, strict=True), candidates)
            if half_widths.max() > self._budget.target:
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
                if log["header"]["key"] != spec.key:
                    continue  # an earlier version asked another question in the same words
                if log["status"] == "ok" and log["result"].get("latency_ms"):
                    size = getattr(spec, self._sweep.vary)
                    self._read[path] = (combination_key(self._sweep, spec), size, log["result"]["latency_ms"])


def half_widths_of_prediction(
    known_sizes: Collection[float], latencies_ms: Collection[float], candidates: Iterable[float]
) -> np.ndarray:
    """Half the 95 % interval of the latency at each candidate size, relative to it, by the Gaussian
    process."""
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
