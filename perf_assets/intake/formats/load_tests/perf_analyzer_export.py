"""perf_analyzer's ``--profile-export-file`` JSON: every request with its time stamps, in nanoseconds.

Throughput, mean and percentiles are computed here from the raw requests exactly as the tool computes its CSV,
so the two can be compared digit by digit. The file does not say the batch size: throughput counts requests.
"""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime
from typing import Any

from perf_assets.intake.parsing.documents import count_document, read_json
from perf_assets.intake.parsing.load_levels import (
    CONCURRENCY,
    REQUEST_RATE,
    SUMMARY_RULES,
    LoadTest,
    config_of,
    path_facts,
    percentile_values,
)
from perf_assets.intake.parsing.records import Records
from perf_assets.intake.parsing.source import Head, Source, UnreadableSourceError

VERSION = 2
SIGNS = (('"experiments"',),)
RULES = SUMMARY_RULES | {
    "*_us": "from a request to its last response, over the requests of the window",
    "requests": "counted",
    "*throughput_per_s": "requests (responses) by the length of the window",
    "latency_*": "of the level of highest throughput",
    "duration_s": "from the first window's begin to the last one's end",
}

PERCENTILES = (50, 75, 90, 95, 99)
# Other documents have experiments, too: theirs do not begin with a load or with requests.
_START = re.compile(r'\s*\{\s*"experiments"\s*:\s*\[\s*+(?!\{\s*"(?!experiment"|requests"))')
_MODES = (CONCURRENCY, REQUEST_RATE)


def sniff(head: Head) -> bool:
    """Does the document begin with its list of experiments, the first with its load or requests?"""
    return bool(_START.match(head.text))


def parse(source: Source, out: Records) -> None:
    """Read the source, fill the records.

    Raises:
        UnreadableSourceError: it is no whole JSON document, or holds no experiment that can be used.
    """
    data = source.document()
    # Raw tensor bytes stand in its strings: any byte must decode, and control characters are let through.
    document = read_json(data.decode("latin-1"), "perf_analyzer was stopped while writing: run it again")
    experiments = document.get("experiments") if isinstance(document, dict) else None
    if not isinstance(experiments, list):
        raise UnreadableSourceError("no list of experiments; drop the file as perf_analyzer wrote it")
    tests = [LoadTest()]
    started_ns: list[list[int]] = [[]]
    ended_ns: list[list[int]] = [[]]
    for position, experiment in enumerate(experiments, start=1):
        try:
            level = _level(experiment)
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            out.reject_line(
                position, json.dumps(experiment, default=str)[:200], "bad_experiment", _words(error)
            )
            continue
        if tests[-1].has(level["mode"], level["level"]):
            tests.append(LoadTest())
            started_ns.append([])
            ended_ns.append([])
        boundaries = level.pop("boundaries_ns")
        started_ns[-1].append(boundaries[0])
        ended_ns[-1].append(boundaries[-1])
        tests[-1].add_level(level.pop("mode"), level.pop("level"), **level)
    if not tests[0].levels:
        raise UnreadableSourceError(
            "no experiment in it can be used; drop the file as perf_analyzer wrote it"
        )
    facts = path_facts(source.path)
    columns = ("model", "batch_size", "device_raw")
    config = config_of(facts, columns) | {
        name: document[name] for name in ("version", "service_kind", "endpoint") if document.get(name)
    }
    for test, starts, ends in zip(tests, started_ns, ended_ns, strict=True):
        test.flags.add("gpu_columns_missing")
        test.emit(
            out,
            config,
            tool="perf_analyzer",
            name=source.path.stem,
            started_at=_moment(min(starts)),
            duration_s=(max(ends) - min(starts)) / 1e9,
            **{name: facts.get(name) for name in columns},
        )
    count_document(data, out)


def _level(experiment: Any) -> dict[str, Any]:
    """One experiment as columns of ``cleaned_load_levels``; raises what broken structure raises."""
    mode, value = experiment["experiment"]["mode"], float(experiment["experiment"]["value"])
    if mode not in _MODES:
        raise ValueError(f"unknown mode {str(mode)[:40]!r}")
    if not 0 <= value < math.inf:
        raise ValueError("the load level is not a number")
    boundaries_ns = sorted(_nanoseconds(moment) for moment in experiment["window_boundaries"])
    window_ns = boundaries_ns[-1] - boundaries_ns[0]
    if window_ns <= 0:
        raise ValueError("the measurement window has no length")
    latencies_ns: list[int] = []
    responses = 0
    streams = False
    for request in experiment["requests"]:
        moments = [_nanoseconds(moment) for moment in request["response_timestamps"]]
        streams = streams or len(moments) > 1
        answers = _without_final_empty(moments, request.get("response_outputs"))
        if not answers:
            continue
        latency_ns = answers[-1] - _nanoseconds(request["timestamp"])
        if latency_ns < 0:
            raise ValueError("a request was answered before it was sent")
        responses += len(answers)
        latencies_ns.append(latency_ns)
    if not latencies_ns:
        raise ValueError("no request was answered")
    latencies_ns.sort()
    count = len(latencies_ns)
    mean_ns = sum(latencies_ns) // count
    spread_ns = (
        math.sqrt(sum((value - mean_ns) ** 2 for value in latencies_ns) / (count - 1)) if count > 1 else 0.0
    )
    return {
        "mode": mode,
        "level": value,
        "boundaries_ns": boundaries_ns,
        "throughput_per_s": count / (window_ns / 1e9),
        "response_throughput_per_s": responses / (window_ns / 1e9) if streams else None,
        "requests": count,
        "avg_us": mean_ns // 1000,
        "std_us": spread_ns / 1000,
        **percentile_values(
            {f"p{share}": _percentile_ns(latencies_ns, share) // 1000 for share in PERCENTILES}
        ),
    }


def _percentile_ns(ordered_ns: list[int], share: int) -> int:
    """The tool's own percentile: the nearest rank, ``sorted[int(p / 100 * (n - 1) + 0.5)]``."""
    return ordered_ns[int(share / 100 * (len(ordered_ns) - 1) + 0.5)]


def _without_final_empty(moments_ns: list[int], outputs: Any) -> list[int]:
    """Response times without the empty one that ends a stream (it carries no result)."""
    if len(moments_ns) > 1 and isinstance(outputs, list) and len(outputs) == len(moments_ns):
        last = outputs[-1]
        if not last or (isinstance(last, dict) and not any(last.values())):
            return moments_ns[:-1]
    return moments_ns


def _nanoseconds(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise ValueError(f"{str(value)[:40]!r} is not a time stamp in nanoseconds")
    return value


def _moment(nanoseconds: int) -> datetime | None:
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC).replace(tzinfo=None)


def _words(error: Exception) -> str:
    return f"no {error.args[0]!r} in it" if isinstance(error, KeyError) else str(error)
