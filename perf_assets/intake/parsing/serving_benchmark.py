"""Serving benchmarks of language models (vLLM's and those made after it): one result as a run with one load
level.

The keys are those of vLLM's JSON; its text block comes to the same keys first. How a file is read is the
formats' own.
"""

from __future__ import annotations

import math
import re
from datetime import datetime
from typing import Any

from perf_assets.intake.parsing.load_levels import CONCURRENCY, REQUEST_RATE, LoadTest, percentile_values
from perf_assets.intake.parsing.records import Records
from perf_assets.intake.parsing.token_metrics import token_columns

_STATISTIC = re.compile(
    r"(?P<statistic>mean|median|std|min|max|p\d{1,2}(?:\.\d+)?)_(?P<metric>[a-z0-9_]+)_ms\Z", re.ASCII
)
# End-to-end latency, by the names that vLLM and SGLang give it.
_END_TO_END = ("e2el", "e2e_latency")
_UNITS = (
    ("_ms", "ms"),
    ("request_throughput", "1/s"),
    ("request_goodput", "1/s"),
    ("_throughput", "tokens/s"),
    ("tokens_per_s", "tokens/s"),
)
# What has a column of its own, or describes the load: not a counter.
_NO_COUNTER = frozenset(
    ("request_rate", "max_concurrency", "duration", "num_prompts", "burstiness", "completed", "concurrency")
)
_CONFIG = (
    *(
        "endpoint_type",
        "tokenizer_id",
        "num_prompts",
        "burstiness",
        "request_rate",
        "max_concurrency",
        "label",
    ),
    *("dataset_name", "random_input_len", "random_output_len", "failed"),
)


def is_result(result: dict[str, Any]) -> bool:
    """Does this object hold what every result of a serving benchmark does?"""
    return {"request_throughput", "completed", "duration"} <= result.keys() and any(
        name.endswith("_ttft_ms") for name in result
    )


def emit_result(result: dict[str, Any], name: str, started_at: datetime | None, out: Records) -> str:
    """Write the run of one result; return its ``run_id``.

    Raises:
        ValueError: a number in it is none.
    """
    completed = _count(result.get("completed"))
    rate, concurrency = _number(result.get("request_rate")), _number(result.get("max_concurrency"))
    mode, load = (REQUEST_RATE, rate) if rate is not None else (CONCURRENCY, concurrency)
    if load is None and "request_rate" in result:
        mode = REQUEST_RATE  # all requests at once: inf
    test = LoadTest()
    # Of no request that ended, the tool prints zeros.
    statistics = _statistics(result) if completed else {}
    if completed:
        test.add_level(mode, load, requests=completed, **_level(result, statistics))
    elif completed is not None:
        test.add_level(mode, load, requests=completed)
    asked = _count(result.get("num_prompts"))
    if completed is not None and asked is not None and completed < asked:
        test.flags.add("requests_failed")
    for key, value in result.items():
        if completed and key not in _NO_COUNTER and (number := _number(value)) is not None:
            test.count(
                "run", key[:200], number, next((unit for end, unit in _UNITS if key.endswith(end)), "")
            )
    backend = result.get("backend")
    model = result.get("model_id") or result.get("model")
    return test.emit(
        out,
        {key: result[key] for key in _CONFIG if _is_plain(result.get(key))},
        tool="sglang" if isinstance(backend, str) and backend.startswith("sglang") else "vllm",
        name=name,
        model=model if isinstance(model, str) else None,
        framework=backend if isinstance(backend, str) else None,
        started_at=started_at,
        duration_s=_number(result.get("duration")),
    )


def _statistics(result: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Metric → statistic → ms."""
    found: dict[str, dict[str, float]] = {}
    for key, value in result.items():
        if (match := _STATISTIC.match(key)) and (number := _number(value)) is not None:
            found.setdefault(match["metric"], {})[match["statistic"]] = number
    # Other percentiles may stand in a list: [[99, 4810.1], ...].
    for key, value in result.items():
        if key.startswith("percentiles_") and key.endswith("_ms") and isinstance(value, list):
            for pair in value:
                if isinstance(pair, list) and len(pair) == 2 and (number := _number(pair[1])) is not None:
                    found.setdefault(key[12:-3], {})[
                        f"p{pair[0]:g}" if _number(pair[0]) else str(pair[0])[:8]
                    ] = number
    return found


def _level(result: dict[str, Any], statistics: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Columns of ``cleaned_load_levels``."""
    values: dict[str, Any] = {
        "throughput_per_s": _number(result.get("request_throughput")),
        "tokens_per_s": _number(result.get("output_throughput")),
    }
    for metric, found in statistics.items():
        named = {("p50" if name == "median" else name): value for name, value in found.items()}
        if metric in _END_TO_END:
            values |= percentile_values({key: value * 1000 for key, value in named.items() if key[0] == "p"})
            values["avg_us"] = named["mean"] * 1000 if "mean" in named else None
            values["std_us"] = named["std"] * 1000 if "std" in named else None
        else:
            values |= token_columns(metric, "ms", named)
    return values


def _is_plain(value: Any) -> bool:
    return isinstance(value, (str, int, float)) and not (isinstance(value, str) and len(value) > 500)


def _number(value: Any) -> float | None:
    """A finite number; what is a text (``inf``), a list or nothing is none.

    Raises:
        ValueError: it is beyond all measure.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if isinstance(value, int) and abs(value) > 2**62:
        raise ValueError("a number beyond all measure")
    return float(value) if math.isfinite(value) else None


def _count(value: Any) -> int | None:
    number = _number(value)
    return int(number) if number is not None and number == int(number) and number >= 0 else None
