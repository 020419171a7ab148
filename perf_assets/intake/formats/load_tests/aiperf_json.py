"""``profile_export_aiperf.json`` and ``profile_export_genai_perf.json``: one object a run, beside the CSV of
the same.

It holds what the CSV lacks: model, load, start, command. Units stand with each metric; GPUs under
``telemetry_data``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from perf_assets.intake.parsing.documents import count_document, read_json
from perf_assets.intake.parsing.load_levels import (
    CONCURRENCY,
    REQUEST_RATE,
    SUMMARY_RULES,
    LoadTest,
    percentile_values,
)
from perf_assets.intake.parsing.records import Records
from perf_assets.intake.parsing.source import Head, Source, UnreadableSourceError
from perf_assets.intake.parsing.times import parse_time
from perf_assets.intake.parsing.token_metrics import token_columns
from perf_assets.intake.parsing.units import BYTES_PER, US_PER

VERSION = 1
SIGNS = (
    ('"request_throughput"',),
    ('"request_latency"',),
    (
        '"aiperf_version"',
        '"input_config"',
    ),
)
RULES = SUMMARY_RULES | {"*_us": 1000.0, "utilization": 0.01, "memory_*_bytes": 1000000000.0}

CURE = "let the tool write its export again, and drop the whole file"
_START = re.compile(r"\s*\{")
_STATISTIC = re.compile(r"avg|min|max|std|sum|count|p\d{1,2}(?:\.\d+)?", re.ASCII)
# What a GPU's metric fills, and by which statistic: mean power and utilization, largest memory.
_GPU_COLUMNS = {
    "gpu_power_usage": ("power_w", "avg"),
    "gpu_utilization": ("utilization", "avg"),
    "gpu_memory_used": ("memory_used_bytes", "max"),
    "gpu_memory_total": ("memory_total_bytes", "max"),
    "total_gpu_memory": ("memory_total_bytes", "max"),
}
_MOST_METRICS = 500


def sniff(head: Head) -> bool:
    """Does it begin as an object with the metrics and the input that these tools export?"""
    text = head.text
    return (
        bool(_START.match(text))
        and '"request_throughput"' in text
        and '"request_latency"' in text
        and ('"aiperf_version"' in text or '"input_config"' in text)
    )


def parse(source: Source, out: Records) -> None:
    """Read the source, fill the records.

    Raises:
        UnreadableSourceError: it is no whole object, or holds no metric.
    """
    data = source.document()
    document = read_json(data.decode("utf-8", "replace"), CURE)
    records = document.get("records") if isinstance(document, dict) else None
    metrics = dict(_metrics(records if isinstance(records, dict) else document))
    if not metrics:
        raise UnreadableSourceError(f"an export without metrics; {CURE}")
    level: dict[str, Any] = {}
    test = LoadTest()
    for name, (unit, values) in metrics.items():
        level |= _level_values(name, unit, values)
        _count(test, "run", name, unit, values)
    facts = _facts(document, source.timezone)
    mode, load = _load(document)
    test.add_level(mode, load, **level)
    names = _add_gpus(test, document, load)
    if not test.gpus:
        test.flags.add("gpu_columns_missing")
    test.emit(
        out,
        facts.pop("config"),
        tool="aiperf" if "aiperf_version" in document or isinstance(records, dict) else "genai_perf",
        name=source.path.stem,
        device_raw=names.pop() if len(names) == 1 else None,
        duration_s=_duration_s(metrics),
        **facts,
    )
    count_document(data, out)


def _metrics(holder: Any) -> Iterator[tuple[str, tuple[str, dict[str, float]]]]:
    """Metrics of an object: those of its members that have a unit and statistics."""
    if not isinstance(holder, dict):
        return
    for name, metric in list(holder.items())[:_MOST_METRICS]:
        if isinstance(metric, dict) and isinstance(metric.get("unit"), str) and len(name) <= 200:
            values = {
                statistic: float(value)
                for statistic, value in metric.items()
                if _STATISTIC.fullmatch(statistic)
                and isinstance(value, (int, float))
                and not isinstance(value, bool)
                and abs(value) < 1e300
            }
            if values:
                yield name, (metric["unit"], values)


def _level_values(name: str, unit: str, values: dict[str, float]) -> dict[str, Any]:
    """What a metric says of the load level."""
    mean = values.get("avg")
    if name == "request_latency" and unit in US_PER:
        factor = US_PER[unit]
        found = percentile_values({key: value * factor for key, value in values.items() if key[0] == "p"})
        found |= {"avg_us": mean * factor} if mean is not None else {}
        return found | ({"std_us": values["std"] * factor} if "std" in values else {})
    if name == "request_throughput" and mean is not None:
        return {"throughput_per_s": mean}
    if name == "request_count" and mean is not None and mean == int(mean) and 0 <= mean < 2**53:
        return {"requests": int(mean)}
    return token_columns(name, unit, values)


def _count(test: LoadTest, scope: str, name: str, unit: str, values: dict[str, float]) -> None:
    """A metric as rows of counters: the average with its range, then one row a percentile."""
    if not values.keys().isdisjoint(("avg", "min", "max")):
        test.count(
            scope, name, values.get("avg"), unit, value_min=values.get("min"), value_max=values.get("max")
        )
    for statistic, value in values.items():
        if statistic not in ("avg", "min", "max"):
            test.count(scope, f"{name} {statistic}", value, "" if statistic == "count" else unit)


def _add_gpus(test: LoadTest, document: dict[str, Any], load: float | None) -> set[str]:
    """Readings of the GPUs; returns their product names."""
    names: set[str] = set()
    for gpu in _gpus(document):
        uuid = gpu.get("gpu_uuid") or gpu.get("gpu_index")
        if uuid is None or isinstance(uuid, (dict, list)):
            continue
        readings: dict[str, float] = {}
        for name, (unit, values) in _metrics(gpu.get("metrics")):
            _count(test, str(uuid)[:200], name, unit, values)
            column, statistic = _GPU_COLUMNS.get(name, (None, ""))
            value = values.get(statistic, values.get("avg"))
            if column is not None and value is not None:
                readings[column] = value * (0.01 if unit == "%" else BYTES_PER.get(unit.lower(), 1.0))
        test.add_gpu(load, str(uuid)[:200], **readings)
        if isinstance(gpu.get("gpu_name"), str):
            names.add(gpu["gpu_name"])
    return names


def _gpus(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    telemetry = document.get("telemetry_data")
    endpoints = telemetry.get("endpoints") if isinstance(telemetry, dict) else None
    for endpoint in endpoints.values() if isinstance(endpoints, dict) else ():
        gpus = endpoint.get("gpus") if isinstance(endpoint, dict) else None
        for gpu in gpus.values() if isinstance(gpus, dict) else ():
            if isinstance(gpu, dict):
                yield gpu


def _load(document: dict[str, Any]) -> tuple[str | None, float | None]:
    """The load of the profiling phase, as either tool writes it; a warm-up has one of its own."""
    config = document.get("input_config")
    if not isinstance(config, dict):
        return None, None
    places: list[Any] = [
        phase
        for phase in _list(config.get("phases"))
        if isinstance(phase, dict) and phase.get("name") != "warmup" and not phase.get("exclude_from_results")
    ]
    analyzer = config.get("perf_analyzer")
    if isinstance(analyzer, dict):
        places.append(analyzer.get("stimulus"))
    places += [config.get("loadgen"), config]
    for place in places:
        if not isinstance(place, dict):
            continue
        for mode, key in (
            (REQUEST_RATE, "request_rate"),
            (REQUEST_RATE, "rate"),
            (CONCURRENCY, "concurrency"),
        ):
            value = place.get(key)
            if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1e12:
                return mode, float(value)
    return None, None


def _facts(document: dict[str, Any], timezone: str) -> dict[str, Any]:
    """Columns of ``cleaned_runs``, and ``config``."""
    config = document.get("input_config")
    config = config if isinstance(config, dict) else {}
    run_info = document.get("run_info")
    command = run_info.get("cli_command") if isinstance(run_info, dict) else None
    command = command or config.get("cli_command")
    endpoint = config.get("endpoint")
    endpoint = endpoint if isinstance(endpoint, dict) else {}
    errors = document.get("error_summary")
    return {
        "model": _model(config, endpoint),
        "command": command if isinstance(command, str) else None,
        "status": "failed" if document.get("was_cancelled") else "ok",
        "started_at": _time(document.get("start_time"), timezone),
        "config": {
            "version": document.get("aiperf_version"),
            "endpoint_type": endpoint.get("type"),
            "streaming": endpoint.get("streaming"),
            "errors": errors[:20] if isinstance(errors, list) and errors else None,
        },
    }


def _model(config: dict[str, Any], endpoint: dict[str, Any]) -> str | None:
    models = config.get("models")
    items = models.get("items") if isinstance(models, dict) else models
    for candidate in (*_list(items), *_list(endpoint.get("model_names")), *_list(config.get("model"))):
        name = candidate.get("name") if isinstance(candidate, dict) else candidate
        if isinstance(name, str) and name:
            return name[:300]
    return None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _time(cell: Any, timezone: str) -> datetime | None:
    try:
        return parse_time(cell, timezone).at if isinstance(cell, str) else None
    except ValueError:
        return None


def _duration_s(metrics: dict[str, tuple[str, dict[str, float]]]) -> float | None:
    unit, values = metrics.get("benchmark_duration", ("", {}))
    return values["avg"] * US_PER[unit] / 1e6 if "avg" in values and unit in US_PER else None
