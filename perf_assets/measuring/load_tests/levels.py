"""What one load level says: numbers of each repeat, all repeats together, and a verdict.

Percentiles are perf_analyzer's: of n sorted latencies the one at ``int(p / 100 * (n - 1) + 0.5)``
(``InferenceProfiler::SummarizeLatency``). Throughput is answers (times the batch) over the window.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from perf_assets.measuring.load_tests.generator import Load
from perf_assets.measuring.load_tests.requests import Finished

CONCURRENCY = "concurrency"
REQUEST_RATE = "request_rate"

PERCENTILES = (50, 75, 90, 95, 99)
MOST_ERRORS = 0.01
"""A larger share of failed requests makes a level ``failed``."""
MOST_UNANSWERED = 0.05
"""Open loop: a larger share of the window's requests unanswered at its end means that the queue grew."""
MOST_DELAYED = 0.10
"""Open loop: a larger share sent late means that the asked-for load was not there."""
LATE_NS = 10_000_000
"""Sent later than this, or a quarter of the median latency, counts as delayed."""
_FEWEST_LATE = 3
FEWEST_REQUESTS = 20
_PARTS = 5
"""Of a single repeat, for its spread."""
_NS_PER_US = 1e3


@dataclass(frozen=True)
class Judged:
    """What is thought of a level, and why."""

    verdict: str
    reason: str


def repeat_numbers(load: Load, mode: str, level: float, batch_size: int) -> dict[str, Any]:
    """Numbers of one repeat, by the columns of ``cleaned_load_levels``."""
    answered = load.answered
    values: dict[str, Any] = {
        "requests": len(answered),
        "failed_requests": len(load.requests) - len(answered),
        "window_s": load.window_s,
    }
    if load.mode_stopped is not None:
        values["stopped"] = load.mode_stopped
    if mode == REQUEST_RATE:
        values |= _open_loop_numbers(load, level)
        in_window = [each for each in answered if each.ended_ns <= load.end_ns]
    else:
        in_window = answered
    if in_window and load.window_s > 0:
        values["throughput_per_s"] = len(in_window) * batch_size / load.window_s
    values |= latency_numbers(answered)
    if mode == CONCURRENCY and values.get("avg_us") is not None and "throughput_per_s" in values:
        values["mean_in_flight"] = values["throughput_per_s"] / batch_size * values["avg_us"] / 1e6
    return values | token_numbers(answered, load.window_s)


def latency_numbers(answered: Sequence[Finished]) -> dict[str, float]:
    """Mean, deviation and percentiles of latencies, in microseconds."""
    if not answered:
        return {}
    latencies_us = np.sort([each.latency_ns / _NS_PER_US for each in answered])
    values = {
        "avg_us": float(latencies_us.mean()),
        "std_us": float(latencies_us.std()),
        "min_us": float(latencies_us[0]),
        "max_us": float(latencies_us[-1]),
    }
    return values | {f"p{p}_us": percentile(latencies_us, p) for p in PERCENTILES}


def percentile(ordered: Sequence[float] | np.ndarray, percent: float) -> float:
    """The percentile of sorted values, as perf_analyzer takes it."""
    return float(ordered[int(percent / 100 * (len(ordered) - 1) + 0.5)])


def token_numbers(answered: Sequence[Finished], window_s: float) -> dict[str, float]:
    """Time to first token, gaps between tokens and token rate of streamed answers; empty where there are none.

    The gap between two tokens that came in one piece is 0 and counts.
    """
    streamed = [(each, each.tokens.arrived_ns) for each in answered if each.tokens and each.tokens.arrived_ns]
    if not streamed:
        return {}
    first_us = np.sort([(arrived[0] - each.due_ns) / _NS_PER_US for each, arrived in streamed])
    gaps_us = np.sort(np.concatenate([np.diff(arrived) / _NS_PER_US for _, arrived in streamed]))
    tokens = sum(len(arrived) for _, arrived in streamed)
    values = {
        "tokens": tokens,
        "tokens_per_s": tokens / window_s if window_s > 0 else math.nan,
        "ttft_p50_us": percentile(first_us, 50),
        "ttft_p99_us": percentile(first_us, 99),
    }
    if len(gaps_us):
        values |= {"itl_p50_us": percentile(gaps_us, 50), "itl_p99_us": percentile(gaps_us, 99)}
    return values


def _open_loop_numbers(load: Load, rate_per_s: float) -> dict[str, float]:
    sent = load.requests
    if not sent:
        return {"unanswered_pct": 100.0, "delayed_pct": 100.0, "send_rate_per_s": 0.0}
    if not load.is_schedule_known:
        return {
            "unanswered_pct": 100 * load.unanswered / len(sent),
            "send_rate_per_s": len(sent) / load.window_s if load.window_s > 0 else 0.0,
        }
    latencies = sorted(each.ended_ns - each.sent_ns for each in sent)
    tolerance_ns = max(LATE_NS, latencies[len(latencies) // 2] / 4)
    late = sum(each.sent_ns - each.due_ns > tolerance_ns for each in sent)
    asked = load.window_s * rate_per_s
    never_sent = max(0, round(asked) - len(sent))
    in_window = sum(each.sent_ns <= load.end_ns for each in sent)
    return {
        "unanswered_pct": 100 * load.unanswered / max(asked, 1),
        "delayed_pct": 100 * (late + never_sent) / max(len(sent) + never_sent, 1),
        "send_rate_per_s": in_window / load.window_s if load.window_s > 0 else 0.0,
    }


def summarise(repeats: Sequence[dict[str, Any]], loads: Sequence[Load], mode: str) -> dict[str, Any]:
    """All repeats of a level together: latencies pooled, throughput of all answers over all windows, and the
    95 % interval of the throughput over the repeats."""
    answered = [each for load in loads for each in load.answered]
    window_s = sum(each["window_s"] for each in repeats)
    values: dict[str, Any] = {
        "repeats": len(repeats),
        "requests": len(answered),
        "failed_requests": sum(each["failed_requests"] for each in repeats),
        "window_s": window_s,
        **latency_numbers(answered),
        **token_numbers(answered, window_s),
    }
    throughputs = [each["throughput_per_s"] for each in repeats if each.get("throughput_per_s") is not None]
    if throughputs and window_s > 0:
        served = sum(
            each["throughput_per_s"] * each["window_s"] for each in repeats if "throughput_per_s" in each
        )
        values["throughput_per_s"] = served / window_s
    if len(throughputs) >= 2:
        low, high = interval(throughputs)
        values |= {"throughput_lower_per_s": low, "throughput_upper_per_s": high}
    for name in ("unanswered_pct", "delayed_pct", "send_rate_per_s", "mean_in_flight"):
        told = [each[name] for each in repeats if each.get(name) is not None]
        if told:
            values[name] = sum(told) / len(told)
    share = spread(repeats, loads, mode)
    values["spread_pct"] = 100 * share if math.isfinite(share) else None
    return values


def interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Interval of the mean of a few repeats, by Student's t."""
    from scipy.special import stdtrit

    n = len(values)
    mean = sum(values) / n
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1))
    half = float(stdtrit(n - 1, 0.5 + confidence / 2)) * deviation / math.sqrt(n)
    return mean - half, mean + half


def spread(repeats: Sequence[dict[str, Any]], loads: Sequence[Load], mode: str) -> float:
    """Half the width of the interval as a share of the mean: of the throughput in a closed loop, and of the
    median latency in an open one, whose throughput is given. A single repeat is cut into parts for it.

    Returns:
        Infinity where there is too little to tell.
    """
    values = (
        _values(repeats, mode)
        if len(repeats) > 1
        else [each for load in loads for each in _parts(load, mode)]
    )
    if len(values) < 2:
        return math.inf
    low, high = interval(values)
    mean = (low + high) / 2
    return (high - low) / 2 / mean if mean > 0 else math.inf


def _values(repeats: Sequence[dict[str, Any]], mode: str) -> list[float]:
    name = "throughput_per_s" if mode == CONCURRENCY else "p50_us"
    return [each[name] for each in repeats if each.get(name) is not None]


def _parts(load: Load, mode: str) -> list[float]:
    """The same of each part of one repeat."""
    answered = load.answered
    size = len(answered) // _PARTS
    if size < 2:
        return []
    ends_ns = [load.start_ns, *(answered[(i + 1) * size - 1].ended_ns for i in range(_PARTS))]
    if mode == CONCURRENCY:
        return [size / (after - before) for before, after in itertools.pairwise(ends_ns) if after > before]
    parts = [answered[i * size : (i + 1) * size] for i in range(_PARTS)]
    return [percentile(sorted(each.latency_ns for each in part), 50) for part in parts]


def judge(
    summary: dict[str, Any], loads: Sequence[Load], mode: str, level: float, tolerance: float
) -> Judged:
    """A verdict on a level's summary and loads: ``failed``, ``overloaded``, ``too_short``, ``unstable``, ``stable``."""
    requests, failed = summary["requests"], summary["failed_requests"]
    if requests == 0 or failed > MOST_ERRORS * (requests + failed):
        return Judged("failed", f"{failed} of {requests + failed} requests failed")
    if mode == REQUEST_RATE:
        quickest_us = [load.quickest_us for load in loads if load.quickest_us is not None]
        unanswered, delayed = summary["unanswered_pct"] / 100, summary.get("delayed_pct", 0.0) / 100
        # Some are under way at the end of any healthy window: Little's law with the quickest latency, with room for
        # chance. In the window itself the quickest may have queued since the warm-up.
        under_way = 3 * level * min([summary["min_us"], *quickest_us]) / 1e6 + 5
        per_window = requests / summary["repeats"]
        # Arrivals at random miss the rate by chance, 1 / sqrt(n) of it; no more than three times that is chance.
        if "delayed_pct" not in summary and summary["send_rate_per_s"] < level * (
            1 - max(0.1, 3 / requests**0.5)
        ):
            return Judged("overloaded", f"{summary['send_rate_per_s']:.4g} requests/s were sent")
        if delayed > MOST_DELAYED and delayed * requests >= _FEWEST_LATE:
            return Judged("overloaded", f"{100 * delayed:.0f} % of the requests were sent late")
        if unanswered > MOST_UNANSWERED and unanswered * per_window > under_way:
            return Judged(
                "overloaded", f"{100 * unanswered:.0f} % of the requests were unanswered at the end"
            )
    if requests < FEWEST_REQUESTS:
        return Judged("too_short", f"{requests} requests, fewer than {FEWEST_REQUESTS}")
    spread_pct = summary.get("spread_pct")
    if spread_pct is None:
        return Judged("too_short", "too few requests to tell a spread")
    if spread_pct > 100 * tolerance:
        return Judged(
            "unstable",
            f"the interval is ±{min(spread_pct, 999):.1f} %, wider than ±{100 * tolerance:g} %",
        )
    over = f"{summary['repeats']} repeats" if summary["repeats"] > 1 else f"the {_PARTS} parts of one repeat"
    return Judged("stable", f"±{spread_pct:.1f} % over {over}")
