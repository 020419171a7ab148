"""What ``vllm bench serve`` prints: a framed block of ``name: value`` under ``Serving Benchmark Result``.

Model and load stand before the block, in the arguments, in lines of their own, or in the command where that was kept.
SGLang prints the same block.
"""

from __future__ import annotations

import re
from typing import Any

from perf_assets.intake.parsing.arguments import read_arguments
from perf_assets.intake.parsing.cells import grouped_number
from perf_assets.intake.parsing.load_levels import SUMMARY_RULES
from perf_assets.intake.parsing.records import Line, Records
from perf_assets.intake.parsing.serving_benchmark import emit_result
from perf_assets.intake.parsing.source import Head, Source

VERSION = 2
SIGNS = (
    ("Serving Benchmark Result",),
    ("Request throughput (req/s):",),
)
RULES = SUMMARY_RULES | {"*_us": 1000.0}

LONGEST_LINE = 16_000

_BEGIN = re.compile(r"=+ Serving Benchmark Result =+\Z")
_END = re.compile(r"={20,}\Z")
_SECTION = re.compile(r"-+[A-Z(][^:]*-+\Z")
_VALUE = re.compile(r"(?P<name>[A-Z][^:]{1,80}):\s+(?P<value>\S+)\Z")
_STATISTIC = re.compile(
    r"(?P<statistic>Mean|Median|Std|Min|Max|P\d{1,2}(?:\.\d+)?) (?P<metric>[A-Z0-9 a-z]+) \(ms\)\Z", re.ASCII
)
_NAMES = {
    "Successful requests": "completed",
    "Failed requests": "failed",
    "Benchmark duration (s)": "duration",
    "Total input tokens": "total_input_tokens",
    "Total generated tokens": "total_output_tokens",
    "Request throughput (req/s)": "request_throughput",
    "Output token throughput (tok/s)": "output_throughput",
    "Total Token throughput (tok/s)": "total_token_throughput",
    "Total token throughput (tok/s)": "total_token_throughput",
    "Request rate configured (RPS)": "request_rate",
    "Traffic request rate": "request_rate",
    "Maximum request concurrency": "max_concurrency",
    "Max request concurrency": "max_concurrency",
    "Backend": "backend",
}
_METRICS = {"E2EL": "e2el", "E2E Latency": "e2e_latency"}
# Lines before the block that tell of the load, and the arguments that Python prints as Namespace(...).
_BEFORE = re.compile(
    r"(?P<name>Traffic request rate|Maximum request concurrency|Burstiness factor): (?P<value>[\w.]+)"
    r"(?: .*)?\Z"
)
_ARGUMENTS = re.compile(r"Namespace\(.+\)\Z")
_COMMAND = re.compile(
    r".{0,400}?\b(?:vllm bench serve|benchmark_serving|bench_serving)(?:\.py)?(?P<arguments>\s.*)?\Z"
)
_TOLD = (
    "model",
    "backend",
    "endpoint_type",
    "num_prompts",
    "request_rate",
    "max_concurrency",
    "burstiness",
    "dataset_name",
)
_ARGUMENT = re.compile(
    rf"\b(?P<name>{'|'.join(_TOLD)})="
    r"(?:'(?P<text>[^']{0,300})'|(?P<number>[\w.]+))"
)


def sniff(head: Head) -> bool:
    """Is there the title of the block, and a value under it?"""
    lines = [line.strip() for line in head.lines]
    return any(map(_BEGIN.match, lines)) and any(
        line.startswith("Request throughput (req/s):") for line in lines
    )


def parse(source: Source, out: Records) -> None:
    """Read the source, fill the records."""
    before: dict[str, Any] = {}
    command: list[str] = []
    result: dict[str, Any] | None = None
    for line in out.lines(source, longest=LONGEST_LINE):
        text = line.text.strip()
        if not text:
            line.ignore()
        elif _BEGIN.match(text):
            _emit(before, result, source, out)
            result = {}
            line.ignore()
        elif result is not None and _END.match(text):
            _emit(before, result, source, out)
            before, result = {}, None
            line.ignore()
        elif result is not None:
            _read(line, text, result)
        elif command or _COMMAND.match(text):
            command.append(text.rstrip("\\"))
            line.use()
            if not text.endswith("\\"):
                before |= _arguments_of(" ".join(command))
                command = []
        elif _ARGUMENTS.match(text):
            before |= {match["name"]: _argument(match) for match in _ARGUMENT.finditer(text)}
            line.use()
        elif match := _BEFORE.match(text):
            name = _NAMES.get(match["name"], "burstiness")
            before[name] = _value(match["value"].rstrip("."))
            line.use()
    _emit(before, result, source, out)


def _arguments_of(command: str) -> dict[str, Any]:
    """What a command says of model and load."""
    match = _COMMAND.match(command)
    arguments = read_arguments(["", *match["arguments"].split()]) if match and match["arguments"] else {}
    told = {name: arguments[name] for name in _TOLD if isinstance(arguments.get(name), str | int | float)}
    return told | {
        name: _value(str(told[name])) for name in ("request_rate", "max_concurrency") if name in told
    }


def _argument(match: re.Match[str]) -> Any:
    return match["text"] if match["text"] is not None else _value(match["number"])


def _value(cell: str) -> Any:
    """A number, or None where it is none (``inf``, ``None``)."""
    try:
        return grouped_number(cell)
    except ValueError:
        return None


def _read(line: Line, text: str, result: dict[str, Any]) -> None:
    """One line inside the block."""
    if _SECTION.match(text):
        line.ignore()
        return
    match = _VALUE.match(text)
    if match is None:
        return
    statistic = _STATISTIC.match(match["name"])
    if statistic:
        metric = _METRICS.get(statistic["metric"], statistic["metric"].lower().replace(" ", "_"))
        key = f"{statistic['statistic'].lower()}_{metric}_ms"
    else:
        key = _NAMES.get(match["name"], match["name"].lower())
    if key in result:
        line.reject("repeated", f"{match['name']} stands in this block already")
    elif key == "backend":
        result[key] = match["value"]
        line.use()
    else:
        try:
            result[key] = grouped_number(match["value"])
        except ValueError as error:
            line.reject("bad_number", str(error))
            return
        line.use()


def _emit(before: dict[str, Any], result: dict[str, Any] | None, source: Source, out: Records) -> None:
    if not result or result.get("request_throughput") is None:
        return
    told = {name: value for name, value in result.items() if value is not None}
    emit_result(before | told, source.path.stem, None, out)
