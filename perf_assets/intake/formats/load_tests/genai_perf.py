"""GenAI-Perf's and AIPerf's CSV: tables with a blank line between, units in the names, thousands separators.

* ``profile``: ``Metric,avg,min,max,p99,...`` and ``Metric,Value`` become one run with one level;
* ``analyze``: ``Config Name,Concurrency,...`` and ``Config Name,GPU,...`` become a run a configuration.

Request latency goes to the load level in µs; every metric, also those of tokens, to ``cleaned_counters`` with its
unit. The load stands in the folder's name only (``...-concurrency10``), and is marked so.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

from perf_assets.intake.parsing.cells import grouped_number
from perf_assets.intake.parsing.delimited import by_name, header_names, split_cells
from perf_assets.intake.parsing.load_levels import CONCURRENCY, REQUEST_RATE, LoadTest, percentile_values
from perf_assets.intake.parsing.records import Records
from perf_assets.intake.parsing.source import Head, Source

VERSION = 2

US_PER = {"us": 1.0, "ms": 1e3, "s": 1e6, "sec": 1e6, "ns": 1e-3}
BYTES_PER = {"gb": 1e9, "mb": 1e6, "gib": 2**30, "mib": 2**20, "b": 1.0}

_NAME = re.compile(
    r"(?:(?P<statistic>p\d{1,2}|avg|min|max|std)\.? )?(?P<metric>.+?)(?: \((?P<unit>[^()]*)\))?\Z",
    re.IGNORECASE | re.ASCII,
)
_STATISTICS = re.compile(r"(?:avg|min|max|std|p\d{1,2}(?:\.\d+)?)\Z", re.ASCII)
_PATH_LOAD = re.compile(
    r"(?:^|[\-_])(?P<mode>concurrency|request_rate)(?P<level>\d+(?:\.\d+)?)(?=$|[\-_.])", re.ASCII
)
_PATH_MODEL = re.compile(r"(?P<model>.+?)-(?:triton|openai|tensorrtllm_engine|dynamic_grpc)(?:-|\Z)")
_ANALYZE_MODES = {"Concurrency": CONCURRENCY, "Request Rate": REQUEST_RATE}
_GPU_COLUMNS = {
    "GPU Power Usage": "power_w",
    "GPU Utilization": "utilization",
    "GPU Memory Used": "memory_used_bytes",
    "Total GPU Memory": "memory_total_bytes",
    "GPU Total Memory": "memory_total_bytes",
}


def sniff(head: Head) -> bool:
    """Is the first line the header of a table of metrics, or of configurations with their metrics?"""
    names = head.first_line.split(",")
    if names[0] == "Metric":
        return names[1:] == ["Value"] or (len(names) > 2 and all(map(_STATISTICS.match, names[1:])))
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
            if cells[0] in ("Metric", "Config Name"):
                names = header_names(text)
                line.ignore()
                if names[0] == "Metric" and len(names) > 2 and profile.rows:
                    profile.emit(source, out)
                    profile = _Profile()
                continue
            if not names:
                line.reject("no_header", "a row before any header")
                continue
            row = by_name(names, cells)
            if names[0] == "Metric":
                profile.read(row)
            else:
                analysis.read(row)
        except ValueError as error:
            line.reject("bad_row", str(error))
            continue
        line.use()
    if profile.rows:
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
    return {}


class _Profile:
    """The two tables of one ``profile``."""

    def __init__(self) -> None:
        self.rows: dict[str, tuple[str, dict[str, float]]] = {}

    def read(self, row: dict[str, str]) -> None:
        """Read one metric."""
        _, metric, unit = _split_name(row["Metric"])
        if not metric or len(metric) > 200 or metric in self.rows:
            raise ValueError("no metric, or one that is there already")
        values = {
            name.lower(): value
            for name, cell in row.items()
            if name != "Metric" and (value := grouped_number(cell)) is not None
        }
        self.rows[metric] = unit, values

    def emit(self, source: Source, out: Records) -> None:
        """Write the run."""
        facts = _path_facts(source.path)
        test = LoadTest(flags={"gpu_columns_missing"})
        level: dict[str, Any] = {}
        for metric, (unit, values) in self.rows.items():
            level |= _level_values(metric, unit, values)
            _count(test, "run", metric, unit, values)
        if level:
            test.add_level(facts.get("mode"), facts.get("level"), **level)
        test.emit(
            out,
            {"from_path": sorted(facts) or None},
            tool="genai_perf",
            name=source.path.stem,
            status="ok",
            model=facts.get("model"),
        )


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
        readings: dict[str, float] = {}
        for column, cell in row.items():
            _, metric, unit = _split_name(column)
            value = grouped_number(cell) if unit else None
            if value is None:
                continue
            _count(test, row["GPU"][:200], metric, unit, {(_split_name(column)[0] or "value"): value})
            if metric in _GPU_COLUMNS:
                factor = 0.01 if unit == "%" else BYTES_PER.get(unit.lower(), 1.0)
                readings[_GPU_COLUMNS[metric]] = value * factor
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
