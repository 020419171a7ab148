"""GenAI-Perf's and AIPerf's CSV: tables with a blank line between, units in the names, thousands separators.

* ``profile``: ``Metric,avg,min,max,p99,...`` and ``Metric,Value`` become one run with one level, and
  ``Metric,GPU,...`` (GenAI-Perf) or ``Endpoint,GPU_Index,GPU_Name,GPU_UUID,Metric,...`` (AIPerf) its GPUs;
* ``analyze``: ``Config Name,Concurrency,...`` and ``Config Name,GPU,...`` become a run a configuration.

Request latency goes to the load level in µs; every metric, also those of tokens, to ``cleaned_counters`` with
its unit. The load stands in the folder's name only (``...-concurrency10``), and is marked so.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

from perf_assets.intake.parsing.cells import grouped_number
from perf_assets.intake.parsing.delimited import by_name, has_header, header_names, split_cells
from perf_assets.intake.parsing.load_levels import (
    CONCURRENCY,
    REQUEST_RATE,
    SUMMARY_RULES,
    LoadTest,
    percentile_values,
)
from perf_assets.intake.parsing.records import Records
from perf_assets.intake.parsing.source import Head, Source
from perf_assets.intake.parsing.token_metrics import token_columns
from perf_assets.intake.parsing.units import BYTES_PER, US_PER

VERSION = 3
SIGNS = (
    (
        "Metric,",
        "Config Name,",
        "Endpoint,GPU_Index",
    ),
    (
        "avg",
        "Value",
        "Latency (",
        "Throughput (",
    ),
)
RULES = SUMMARY_RULES | {"*_us": 1000.0, "utilization": 0.01, "memory_*_bytes": 1000000000.0}


_NAME = re.compile(
    r"(?:(?P<statistic>p\d{1,2}|avg|min|max|std|sum)\.? )?(?P<metric>.+?)(?: \((?P<unit>[^()]*)\))?\Z",
    re.IGNORECASE | re.ASCII,
)
_STATISTICS = re.compile(r"(?:avg|min|max|sum|std|count|p\d{1,2}(?:\.\d+)?)\Z", re.ASCII)
_OWN_METRIC = re.compile(
    r"Request (?:Latency|Throughput|Count)|Time [Tt]o First Token|Inter Token Latency|Output Token Throughput"
    r"|GPU Power Usage|GPU Utilization"
)
_AIPERF_GPU = ("Endpoint", "GPU_Index", "GPU_Name", "GPU_UUID", "Metric")
_PATH_LOAD = re.compile(
    r"(?:^|[\-_])(?P<mode>concurrency|request_rate)(?P<level>\d+(?:\.\d+)?)(?=$|[\-_.])", re.ASCII
)
_PATH_MODEL = re.compile(r"(?P<model>.+?)-(?:triton|openai|tensorrtllm_engine|dynamic_grpc)(?:-|\Z)")
_ANALYZE_MODES = {"Concurrency": CONCURRENCY, "Request Rate": REQUEST_RATE}
# What a GPU's metric fills, and by which statistic: mean power and utilization, largest memory.
_GPU_COLUMNS = {
    "GPU Power Usage": ("power_w", "avg"),
    "GPU Utilization": ("utilization", "avg"),
    "GPU Memory Used": ("memory_used_bytes", "max"),
    "Total GPU Memory": ("memory_total_bytes", "max"),
    "GPU Total Memory": ("memory_total_bytes", "max"),
}


def sniff(head: Head) -> bool:
    """Is there the header of a table of metrics, or of configurations, and a metric that these tools have?"""
    return has_header(head, _is_header) and bool(_OWN_METRIC.search(head.text))


def _is_header(names: list[str]) -> bool:
    if names[0] == "Metric":
        if names[1:] == ["Value"] or names[1:] == ["GPU", "Value"]:
            return True
        statistics = names[2:] if names[1:2] == ["GPU"] else names[1:]
        return len(statistics) > 1 and all(map(_STATISTICS.match, statistics))
    if tuple(names[: len(_AIPERF_GPU)]) == _AIPERF_GPU:
        return True
    return names[0] == "Config Name" and any("Latency (" in name or "Throughput (" in name for name in names)


def parse(source: Source, out: Records) -> None:
    """Read the source, fill the records."""
    profile = _Profile()
    analysis = _Analysis()
    names: list[str] = []
    for line in out.lines(source):
        text = line.text.strip()
        if not text:
            line.ignore()
            continue
        try:
            cells = split_cells(text)
            if cells[0] in ("Metric", "Config Name", "Endpoint"):
                names = header_names(text)
                line.ignore()
                if names[:2] == ["Metric", "avg"] and profile.rows:
                    profile.emit(source, out)
                    profile = _Profile()
                continue
            if not names:
                line.reject("no_header", "a row before any header")
                continue
            row = by_name(names, cells)
            if names[0] == "Config Name":
                analysis.read(row)
            elif "GPU" in row or "GPU_UUID" in row:
                profile.read_gpu(row)
            else:
                profile.read(row)
        except ValueError as error:
            line.reject("bad_row", str(error))
            continue
        line.use()
    if profile.rows or profile.gpus:
        profile.emit(source, out)
    analysis.emit(out)


def _split_name(name: str) -> tuple[str | None, str, str]:
    """``p99 Request Latency (ms)`` → p99, Request Latency, ms."""
    match = _NAME.match(name)
    if match is None:
        return None, name, ""
    statistic = match["statistic"].lower() if match["statistic"] else None
    return statistic, match["metric"], match["unit"] or ""


def _count(test: LoadTest, scope: str, metric: str, unit: str, values: dict[str, float]) -> None:
    """A metric as rows of counters: the average with its range, then one row a percentile."""
    mean = values.get("avg", values.get("value"))
    if mean is not None or "min" in values or "max" in values:
        test.count(scope, metric, mean, unit, value_min=values.get("min"), value_max=values.get("max"))
    for name, value in values.items():
        if name not in ("avg", "value", "min", "max"):
            test.count(scope, f"{metric} {name}", value, unit)


def _level_values(metric: str, unit: str, values: dict[str, float]) -> dict[str, Any]:
    """What a metric says of the load level."""
    mean = values.get("avg", values.get("value"))
    if metric == "Request Latency" and unit in US_PER:
        factor = US_PER[unit]
        found = percentile_values({name: value * factor for name, value in values.items() if name[0] == "p"})
        found |= {"avg_us": mean * factor} if mean is not None else {}
        return found | ({"std_us": values["std"] * factor} if "std" in values else {})
    if metric == "Request Throughput" and mean is not None:
        return {"throughput_per_s": mean}
    if metric == "Request Count" and mean is not None and mean == int(mean) and abs(mean) < 2**53:
        return {"requests": int(mean)}
    return token_columns(metric, unit, values)


def _gpu_reading(metric: str, unit: str, values: dict[str, float]) -> dict[str, float]:
    """The column of ``cleaned_load_gpus`` that a metric of a GPU fills: W, fraction or bytes."""
    if metric not in _GPU_COLUMNS:
        return {}
    column, statistic = _GPU_COLUMNS[metric]
    value = values.get(statistic, values.get("value", next(iter(values.values()), None)))
    factor = 0.01 if unit == "%" else BYTES_PER.get(unit.lower(), 1.0)
    return {} if value is None else {column: value * factor}


class _Profile:
    """The two tables of one ``profile``."""

    def __init__(self) -> None:
        self.rows: dict[str, tuple[str, dict[str, float]]] = {}
        self.gpus: dict[str, dict[str, tuple[str, dict[str, float]]]] = {}
        self.gpu_names: set[str] = set()
        self.is_aiperf = False

    def read(self, row: dict[str, str]) -> None:
        """Read one metric."""
        _, metric, unit = _split_name(row["Metric"])
        if not metric or len(metric) > 200 or metric in self.rows:
            raise ValueError("no metric, or one that is there already")
        self.rows[metric] = unit, _statistics(row)
        # GenAI-Perf begins with the highest percentile, AIPerf with the lowest.
        order = [name for name in row if name in ("p1", "p99")]
        self.is_aiperf = self.is_aiperf or order == ["p1", "p99"]

    def read_gpu(self, row: dict[str, str]) -> None:
        """Read one metric of one GPU."""
        _, metric, unit = _split_name(row["Metric"])
        gpu = row.get("GPU_UUID") or row.get("GPU") or row.get("GPU_Index") or ""
        metrics = self.gpus.setdefault(gpu, {})
        if not metric or not gpu or len(metric) > 200 or len(gpu) > 200 or metric in metrics:
            raise ValueError("no metric or no GPU, or one that is there already")
        metrics[metric] = unit, _statistics(row)
        if row.get("GPU_Name"):
            self.gpu_names.add(row["GPU_Name"])
        self.is_aiperf = self.is_aiperf or "GPU_UUID" in row

    def emit(self, source: Source, out: Records) -> None:
        """Write the run."""
        facts = _path_facts(source.path)
        test = LoadTest(flags=set() if self.gpus else {"gpu_columns_missing"})
        level: dict[str, Any] = {}
        for metric, (unit, values) in self.rows.items():
            level |= _level_values(metric, unit, values)
            _count(test, "run", metric, unit, values)
        if level:
            test.add_level(facts.get("mode"), facts.get("level"), **level)
        for gpu, metrics in self.gpus.items():
            readings: dict[str, float] = {}
            for metric, (unit, values) in metrics.items():
                readings |= _gpu_reading(metric, unit, values)
                _count(test, gpu, metric, unit, values)
            test.add_gpu(facts.get("level"), gpu, **readings)
        test.emit(
            out,
            {"from_path": sorted(facts) or None},
            tool="aiperf" if self.is_aiperf else "genai_perf",
            name=source.path.stem,
            status="ok",
            model=facts.get("model"),
            device_raw=self.gpu_names.pop() if len(self.gpu_names) == 1 else None,
            duration_s=self._duration_s(),
        )

    def _duration_s(self) -> float | None:
        unit, values = self.rows.get("Benchmark Duration", ("", {}))
        seconds = values.get("value", values.get("avg"))
        return seconds * US_PER[unit] / 1e6 if seconds is not None and unit in US_PER else None


def _statistics(row: dict[str, str]) -> dict[str, float]:
    """The numbers of a row by the names of their statistics."""
    return {
        name.lower(): value
        for name, cell in row.items()
        if (name == "Value" or _STATISTICS.match(name)) and (value := grouped_number(cell)) is not None
    }


class _Analysis:
    """The two tables of one ``analyze``: configurations, and their GPUs."""

    def __init__(self) -> None:
        self.tests: dict[str, LoadTest] = {}
        self.levels: dict[str, tuple[str | None, float | None]] = {}
        self.configs: dict[str, dict[str, Any]] = {}

    def read(self, row: dict[str, str]) -> None:
        """Read a row of either table."""
        name = row["Config Name"]
        if not name or len(name) > 200:
            raise ValueError("no configuration")
        if "GPU" in row:
            self._read_gpu(name, row)
        else:
            self._read_performance(name, row)

    def _read_performance(self, name: str, row: dict[str, str]) -> None:
        if name in self.levels:
            raise ValueError("a configuration that is there already")
        mode_name = next((each for each in _ANALYZE_MODES if row.get(each)), None)
        mode = _ANALYZE_MODES[mode_name] if mode_name else None
        load = grouped_number(row[mode_name]) if mode_name else None
        test = self.tests.get(name) or LoadTest()
        metrics: dict[tuple[str, str], dict[str, float]] = {}
        config: dict[str, Any] = {}
        for column, cell in row.items():
            if column == "Config Name" or column == mode_name:
                continue
            statistic, metric, unit = _split_name(column)
            if not unit:
                config[column.lower().replace(" ", "_")] = cell
            elif (value := grouped_number(cell)) is not None:
                metrics.setdefault((metric, unit), {})[statistic or "value"] = value
        level: dict[str, Any] = {}
        for (metric, unit), values in metrics.items():
            level |= _level_values(metric, unit, values)
            _count(test, "run", metric, unit, values)
        test.add_level(mode, load, **level)
        self.tests[name], self.levels[name], self.configs[name] = test, (mode, load), config

    def _read_gpu(self, name: str, row: dict[str, str]) -> None:
        test = self.tests.setdefault(name, LoadTest())
        _, load = self.levels.get(name, (None, None))
        metrics: dict[tuple[str, str], dict[str, float]] = {}
        for column, cell in row.items():
            statistic, metric, unit = _split_name(column)
            if unit and (value := grouped_number(cell)) is not None:
                metrics.setdefault((metric, unit), {})[statistic or "value"] = value
        readings: dict[str, float] = {}
        for (metric, unit), values in metrics.items():
            readings |= _gpu_reading(metric, unit, values)
            _count(test, row["GPU"][:200], metric, unit, values)
        test.add_gpu(load, row["GPU"][:200] or "unknown", **readings)

    def emit(self, out: Records) -> None:
        """Write the runs."""
        for name, test in self.tests.items():
            if not test.gpus:
                test.flags.add("gpu_columns_missing")
            test.emit(out, self.configs.get(name, {}), tool="genai_perf", name=name, status="ok")


def _path_facts(path: PurePosixPath) -> dict[str, Any]:
    """Load and model of an artifact folder: ``gpt2-triton-vllm-concurrency10``."""
    facts: dict[str, Any] = {}
    for part in path.parts:
        if match := _PATH_LOAD.search(part):
            facts |= {"mode": match["mode"], "level": float(match["level"])}
        if match := _PATH_MODEL.match(part):
            facts["model"] = match["model"]
    return facts
