"""Metrics of language models under load: whatever a tool calls them, the columns of ``cleaned_load_levels``
they fill.

Latencies of requests are like those of any server and are not told here.
"""

from __future__ import annotations

from collections.abc import Mapping

from perf_assets.intake.parsing.units import US_PER

_PREFIXES = {
    "timetofirsttoken": "ttft",
    "ttft": "ttft",
    "intertokenlatency": "itl",
    "itl": "itl",
}
_RATES = frozenset(("outputtokenthroughput", "outputthroughput"))


def token_columns(metric: str, unit: str, values: Mapping[str, float]) -> dict[str, float]:
    """Columns of ``cleaned_load_levels`` that a metric fills: its median and 99th percentile in µs, or
    tokens/s.

    ``values`` holds statistics by name: ``p50``, ``p99``, ``avg`` or ``value``.
    """
    name = "".join(letter for letter in metric.lower() if letter.isalnum())
    if name in _RATES:
        rate = values.get("avg", values.get("value"))
        return {} if rate is None else {"tokens_per_s": rate}
    prefix, factor = _PREFIXES.get(name), US_PER.get(unit)
    if prefix is None or factor is None:
        return {}
    return {
        f"{prefix}_{statistic}_us": values[statistic] * factor
        for statistic in ("p50", "p99")
        if statistic in values
    }
