"""The real perf_analyzer as a load source: one call a level, with ``--request-count``, so that there is always a
row; whether a level is stable is judged by us, over repeats.

Its profile export has every request's times, from which the same numbers follow as from our own load (and, to
the digit, those of its CSV). Exit code 99 is wrong usage; 2 was no stable measurement, which a request count
leaves out.
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from perf_assets.measuring.devices.processes import die_with_parent
from perf_assets.measuring.load_tests.generator import Load
from perf_assets.measuring.load_tests.levels import REQUEST_RATE
from perf_assets.measuring.load_tests.requests import Finished, LoadError
from perf_assets.measuring.load_tests.study import Study

_SHOWN = 400


def measure(study: Study, address: str, mode: str, level: float, batch_size: int) -> Load:
    """One call of perf_analyzer.

    Raises:
        LoadError: it is not there, refuses its options, or wrote no export.
    """
    program = shutil.which(study.load.perf_analyzer)
    if program is None:
        raise LoadError(
            f"{study.load.perf_analyzer}: no such program: give perf_analyzer's path in load.perf_analyzer"
        )
    with tempfile.TemporaryDirectory(prefix="perf_analyzer-") as folder:
        export = Path(folder) / "export.json"
        command = arguments(study, address, mode, level, batch_size, export)
        try:
            done = subprocess.run(
                [program, *command],
                cwd=folder,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=study.load.limit_s,
                check=False,
                preexec_fn=die_with_parent,
            )
        except subprocess.TimeoutExpired:
            return Load(mode_stopped=f"the limit of {study.load.limit_s:g} s was reached")
        if not export.exists() or (done.returncode and done.returncode != 2):
            said = " ".join((done.stderr or done.stdout).split())[-_SHOWN:]
            raise LoadError(
                f"perf_analyzer ended with exit code {done.returncode} at {mode} {level:g}: {said}"
            )
        return read_export(export.read_bytes(), mode, time.perf_counter_ns() - time.time_ns())


def arguments(
    study: Study, address: str, mode: str, level: float, batch_size: int, export: Path
) -> list[str]:
    """Its options for one level."""
    load, model = study.load, study.model
    requests = load.requests
    found = ["-m", model.name, "-i", load.protocol, "-u", address.removeprefix("http://")]
    found += ["-b", str(batch_size), "--profile-export-file", str(export)]
    if mode == REQUEST_RATE:
        # It refuses fewer requests than a second brings.
        requests = max(requests, math.ceil(level))
        found += ["--request-rate-range", f"{level:g}", "--request-distribution", "poisson"]
    else:
        found += ["--concurrency-range", f"{level:g}", "--sync"]
    found += ["--request-count", str(requests)]
    for name, sizes in model.shapes.items():
        found += ["--shape", f"{name}:{','.join(map(str, sizes))}"]
    if model.input is not None:
        found += ["--input-data", str(Path(model.input).resolve())]
    return [*found, *load.perf_analyzer_arguments]


def read_export(document: bytes, mode: str, offset_ns: int = 0) -> Load:
    """The requests of an export with one level, in the window that it tells.

    ``offset_ns`` is added to its times, which are of the calendar clock.

    Raises:
        LoadError: it is no such export.
    """
    try:
        # Texts may hold the raw bytes of tensors.
        [experiment] = json.loads(document.decode("latin-1"), strict=False)["experiments"]
        boundaries = experiment["window_boundaries"]
        requests = [
            Finished(sent_ns := each["timestamp"] + offset_ns, sent_ns, max(answers) + offset_ns)
            for each in experiment["requests"]
            if (answers := each["response_timestamps"])
        ]
        unanswered = sum(not each["response_timestamps"] for each in experiment["requests"])
        start_ns, end_ns = int(boundaries[0]) + offset_ns, int(boundaries[-1]) + offset_ns
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise LoadError(f"perf_analyzer's export cannot be read: {error}") from None
    inside = sorted((each for each in requests if each.ended_ns <= end_ns), key=lambda each: each.ended_ns)
    late = len(requests) - len(inside) if mode == REQUEST_RATE else 0
    return Load(inside, start_ns, end_ns, unanswered + late)
