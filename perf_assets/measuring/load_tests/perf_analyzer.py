"""The real perf_analyzer as a load source: one call a level, with ``--request-count``, so that there is always a
row; whether a level is stable is judged by us, over repeats.

Its profile export has every request's times, from which the same numbers follow as from our own load. Latencies
are, to the digit, those of its CSV. Throughput is not: with a request count perf_analyzer divides by a window that
ends at its next look, up to a second after the last answer; here it is between the answers that end the first and
the last round. Exit code 99 is wrong usage; 2 was no stable measurement, which a request count leaves out.
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
_ATTEMPTS = 2


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
    for attempt in range(_ATTEMPTS):
        with tempfile.TemporaryDirectory(prefix="perf_analyzer-") as folder:
            export = Path(folder) / "export.json"
            try:
                done = subprocess.run(
                    [program, *arguments(study, address, mode, level, batch_size, export)],
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
            # Some versions now and then abort in their last instant (an epoll error of its gRPC): what was exported
            # before stands; where nothing was, it is called once more.
            if export.exists() and (done.returncode in (0, 2) or done.returncode < 0):
                return read_export(export.read_bytes(), mode, level, time.perf_counter_ns() - time.time_ns())
            if done.returncode >= 0 or attempt + 1 == _ATTEMPTS:
                said = " ".join((done.stderr or done.stdout).split())[-_SHOWN:]
                raise LoadError(
                    f"perf_analyzer ended with exit code {done.returncode} at {mode} {level:g}: {said}"
                )
    raise AssertionError("the last attempt returns or raises")


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


def read_export(document: bytes, mode: str, level: float, offset_ns: int = 0) -> Load:
    """The requests of an export with one level, and the window that they fill.

    ``offset_ns`` is added to its times, which are of the calendar clock.

    Raises:
        LoadError: it is no such export.
    """
    try:
        # Texts may hold the raw bytes of tensors.
        [experiment] = json.loads(document.decode("latin-1"), strict=False)["experiments"]
        requests = [
            Finished(sent_ns := each["timestamp"] + offset_ns, sent_ns, max(answers) + offset_ns)
            for each in experiment["requests"]
            if (answers := each["response_timestamps"])
        ]
        unanswered = sum(not each["response_timestamps"] for each in experiment["requests"])
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise LoadError(f"perf_analyzer's export cannot be read: {error}") from None
    ordered = sorted(requests, key=lambda each: each.ended_ns)
    if mode == REQUEST_RATE:
        sent_ns = sorted(each.sent_ns for each in ordered)
        gap_ns = (sent_ns[-1] - sent_ns[0]) // max(1, len(sent_ns) - 1) if sent_ns else 0
        start_ns, end_ns = (sent_ns[0], sent_ns[-1] + gap_ns) if sent_ns else (0, 0)
        unanswered += sum(each.ended_ns > end_ns for each in ordered)
        return Load(ordered, start_ns, end_ns, unanswered, is_schedule_known=False)
    first = min(int(level), len(ordered) - 1)
    if first < 1:
        return Load(ordered, is_schedule_known=False)
    measured = ordered[first:]
    return Load(measured, ordered[first - 1].ended_ns, measured[-1].ended_ns, is_schedule_known=False)
