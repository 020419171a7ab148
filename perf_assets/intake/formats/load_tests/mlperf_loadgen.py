"""MLPerf loadgen's ``mlperf_log_summary.txt``: result, statistics in ns, and the parameters of the test.

Of an invalid result the numbers are kept and the run is ``failed``: it was measured, and does not count.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from perf_assets.intake.parsing.cells import grouped_number, number
from perf_assets.intake.parsing.load_levels import (
    CONCURRENCY,
    REQUEST_RATE,
    SUMMARY_RULES,
    LoadTest,
    percentile_values,
)
from perf_assets.intake.parsing.records import Line, Records
from perf_assets.intake.parsing.source import Head, Source

VERSION = 2
SIGNS = (
    ("MLPerf Results Summary",),
    ("SUT name",),
)
RULES = SUMMARY_RULES | {
    "*_us": 0.001,
    "latency_ms": 1e-06,
    "level": "one request at a time in the scenario SingleStream",
}

LONGEST_LINE = 4000

_TITLE = re.compile(r"MLPerf Results Summary\Z")
_RULE = re.compile(r"={20,}\Z")
_SECTIONS = ("Additional Stats", "Test Parameters Used")
_PAIR = re.compile(r"(?P<name>[\w.][^:]{0,80}?)\s*:{1,2}\s*:?\s*(?P<value>.*)\Z", re.ASCII)
_UNIT = re.compile(r"(?P<name>.+?) \((?P<unit>ns|ms|s)\)\Z", re.ASCII)
_PERCENTILE = re.compile(r"(?P<share>\d{1,2}(?:\.\d+)?)(?:th)? percentile (?P<what>.+)\Z", re.ASCII)
_LATENCY = re.compile(r"(?P<statistic>Min|Max|Mean) latency\Z")
_SCENARIOS = frozenset(("offline", "server", "singlestream", "multistream", "interactive"))
US_PER_NS = 1e-3


def sniff(head: Head) -> bool:
    """Is there the title of loadgen's summary, and the system under test?"""
    lines = head.opening
    return any(map(_TITLE.match, lines)) and any(line.startswith("SUT name") for line in lines)


@dataclass
class _Summary:
    """One summary as it is read."""

    section: str = ""
    facts: dict[str, str] = field(default_factory=dict)
    statistics: dict[str, float] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def parse(source: Source, out: Records) -> None:
    """Read the source, fill the records."""
    summaries: list[_Summary] = []
    for line in out.lines(source, longest=LONGEST_LINE):
        text = line.text.strip()
        if not text or _RULE.match(text):
            line.ignore()
        elif _TITLE.match(text):
            summaries.append(_Summary())
            line.ignore()
        elif not summaries:
            continue
        elif text in _SECTIONS:
            summaries[-1].section = text
            line.ignore()
        else:
            _read(line, text, summaries[-1])
    for summary in summaries:
        _emit(summary, source, out)


def _read(line: Line, text: str, summary: _Summary) -> None:
    match = _PAIR.match(text)
    if match is None or text.startswith("*"):
        if len(summary.notes) < 20:
            summary.notes.append(text[:300])
        line.use()
        return
    name, cell = match["name"].strip(), match["value"].strip()
    if summary.section == _SECTIONS[1]:
        summary.parameters[name] = cell
    elif name in ("SUT name", "Scenario", "Mode", "Result is") or not cell or not cell[0].isdigit():
        summary.facts[name] = cell
    else:
        try:
            value = number(cell)
        except ValueError as error:
            line.reject("bad_number", str(error))
            return
        if value is not None:
            summary.statistics[name] = value
    line.use()


def _emit(summary: _Summary, source: Source, out: Records) -> None:
    if not summary.facts and not summary.statistics:
        return
    scenario, result = summary.facts.get("Scenario"), summary.facts.get("Result is")
    scenario = scenario and scenario.replace(" ", "")  # until 2020 'Single Stream'
    path_facts = _path_facts(source.path, scenario)
    level, test = _level(summary), LoadTest()
    mode, load = _load(scenario, summary.parameters)
    if level:
        test.add_level(mode, load, **level)
    if result == "INVALID":
        test.flags.add("result_invalid")
    for name, value in summary.statistics.items():
        match = _UNIT.match(name.rstrip(" :"))
        test.count("run", match["name"] if match else name, value, match["unit"] if match else "")
    seconds = summary.statistics.get("Test duration (s)")
    test.emit(
        out,
        {
            "scenario": scenario,
            "mode": summary.facts.get("Mode"),
            "result": result,
            "checks": {name: cell for name, cell in summary.facts.items() if name.endswith("satisfied")}
            or None,
            "parameters": summary.parameters or None,
            "notes": summary.notes or None,
            "from_path": sorted(path_facts) or None,
        },
        tool="mlperf",
        name=" ".join(part for part in (summary.facts.get("SUT name"), scenario) if part) or source.path.stem,
        status={"VALID": "ok", "INVALID": "failed"}.get(result or "", "unknown"),
        duration_s=seconds,
        **path_facts,
    )


def _level(summary: _Summary) -> dict[str, Any]:
    """Columns of ``cleaned_load_levels``."""
    values: dict[str, Any] = {}
    percentiles_us: dict[str, float] = {}
    for title, value in summary.statistics.items():
        unit = _UNIT.match(title.rstrip(" :"))
        name = unit["name"] if unit else title
        is_ns = unit is not None and unit["unit"] == "ns"
        if title in ("Samples per second", "Completed samples per second", "QPS w/ loadgen overhead"):
            values["throughput_per_s"] = value
        elif title in ("Tokens per second", "Completed tokens per second"):
            values["tokens_per_s"] = value
        elif is_ns and (match := _LATENCY.match(name)) and match["statistic"] == "Mean":
            values["avg_us"] = value * US_PER_NS
        elif is_ns and (match := _PERCENTILE.match(name)):
            share = f"{float(match['share']):g}"
            what = match["what"].lower()
            if what == "latency":
                percentiles_us[f"p{share}"] = value * US_PER_NS
            elif share in ("50", "99") and "first token" in what:
                values[f"ttft_p{share}_us"] = value * US_PER_NS
            elif share in ("50", "99") and "output token" in what:
                values[f"itl_p{share}_us"] = value * US_PER_NS
    return values | percentile_values(percentiles_us)


def _load(scenario: str | None, parameters: dict[str, str]) -> tuple[str | None, float | None]:
    if scenario == "Server":
        try:
            return REQUEST_RATE, grouped_number(parameters.get("target_qps", ""))
        except ValueError:
            return REQUEST_RATE, None
    return (CONCURRENCY, 1.0) if scenario == "SingleStream" else (None, None)


def _path_facts(path: PurePosixPath, scenario: str | None) -> dict[str, Any]:
    """Model and system of the folders that MLPerf asks for:
    ``<system>/<model>/<Scenario>/performance/run_1``."""
    parts = path.parts[:-1]
    for place in reversed(range(1, len(parts))):
        word = parts[place].lower()
        if word in _SCENARIOS and (scenario is None or word == scenario.lower()):
            facts = {"model": parts[place - 1]}
            return facts | ({"host": parts[place - 2]} if place > 1 else {})
    return {}
