"""Console logs of TensorRT's ``trtexec``, 8 to 10: what was run, then a summary of latencies in ms.

``RUNNING``, the command at a shell's prompt, or a second throughput begins a run, ``PASSED`` or ``FAILED`` ends it. Of
the latencies the host's ('Latency': with the transfers) is the run's; each of them is a counter with its range. What the
tool's sections do not tell, its arguments do. What else the tool tells in between is passed over.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from perf_assets.intake.parsing.arguments import read_arguments
from perf_assets.intake.parsing.cells import integer, number
from perf_assets.intake.parsing.records import Line, Records
from perf_assets.intake.parsing.source import Head, Source
from perf_assets.intake.parsing.times import parse_month_first

VERSION = 2
SIGNS = (
    (
        "TensorRT.trtexec",
        "=== Performance summary ===",
        "[I] GPU Compute Time: min = ",
    ),
)

LONGEST_LINE = 16_000
MOST_MESSAGES = 20

_BANNER = re.compile(
    r"&&&& (?P<fate>RUNNING|PASSED|FAILED) TensorRT\.trtexec (?:\[TensorRT v(?P<version>\d[\d.]*)\]"
    r" )?(?:\[b\d+\] )?# (?P<command>.+)\Z"
)
_PREFIX = re.compile(
    r"(?:\[(?P<time>\d\d/\d\d/\d{4}-\d\d:\d\d:\d\d)\] )?\[(?P<level>[VIWEF])\](?: (?:\[TRT\] )?"
    r"(?P<text>.*))?\Z",
    re.ASCII,
)
# At a prompt, with the folder of the program and variables before it.
_SHELL = re.compile(r"[^\[&]{0,200}?(?P<command>\btrtexec(?:\.exe)? -.{1,4000})\Z")
_TITLE = re.compile(r"=== (?P<title>.+?) ===\Z")
_OPTION = re.compile(r"(?P<name>[A-Za-z][\w /()\-]{0,60}): (?P<value>.{1,500})\Z", re.ASCII)
_THROUGHPUT = re.compile(r"Throughput: (\S+) qps\Z")
_LATENCY = re.compile(r"(?P<name>[A-Z][\w \-]{1,40}): (?P<parts>min = .+)\Z", re.ASCII)
_PART = re.compile(
    r"(?P<name>min|max|mean|median|percentile\((?P<share>\d{1,2}(?:\.\d+)?)%\)) = (?P<value>\S+) ms\Z",
    re.ASCII,
)
_TOTAL = re.compile(r"(?P<name>Total (?:Host Walltime|GPU Compute Time)): (?P<value>\S+) s\Z")
_SHAPE = re.compile(r"(?:.*[=:])?(?P<batch>\d{1,9})x\d", re.ASCII)

SUMMARY = "Performance summary"

_MODEL_ARGUMENTS = ("onnx", "loadEngine", "uff", "model", "deploy")
_PRECISIONS = ("fp16", "bf16", "int8", "fp8", "int4")


def sniff(head: Head) -> bool:
    """Is there trtexec's banner, or the times of its summary?"""
    lines = head.lines
    return any(map(_BANNER.match, lines)) or any("[I] GPU Compute Time: min = " in line for line in lines)


@dataclass
class _Run:
    """What was read of one run."""

    command: str | None = None
    version: str | None = None
    fate: str | None = None
    started: str | None = None
    section: str | None = None
    options: dict[str, dict[str, str]] = field(default_factory=dict)
    throughput_per_s: float | None = None
    latencies: dict[str, dict[str, float]] = field(default_factory=dict)
    totals_s: dict[str, float] = field(default_factory=dict)
    messages: dict[str, list[str]] = field(default_factory=dict)

    @property
    def is_announced(self) -> bool:
        """Was nothing read of it but the command that starts it?"""
        return not (self.version or self.fate or self.started)

    @property
    def is_measured(self) -> bool:
        """Are there figures of it?"""
        return self.throughput_per_s is not None or bool(self.latencies)

    def option(self, section: str, name: str) -> str | None:
        """An option of a section, None where it is not told."""
        return self.options.get(section, {}).get(name)


def parse(source: Source, out: Records) -> None:
    """Read the source, fill the records."""
    runs: list[_Run] = []
    for line in out.lines(source, longest=LONGEST_LINE):
        text = line.text.strip()
        if not text:
            line.ignore()
        elif match := _BANNER.match(text):
            if match["fate"] == "RUNNING" and runs and runs[-1].is_announced:
                runs[-1].command, runs[-1].version = match["command"], match["version"]
            elif match["fate"] == "RUNNING" or not runs or runs[-1].fate:
                runs.append(_Run(match["command"], match["version"]))
            if match["fate"] != "RUNNING":
                runs[-1].fate = match["fate"]
            line.use()
        elif match := _PREFIX.match(text):
            is_second = _THROUGHPUT.match(match["text"] or "") and runs and runs[-1].is_measured
            if not runs or runs[-1].fate or is_second:
                runs.append(_Run())
            runs[-1].started = runs[-1].started or match["time"]
            try:
                _read(line, match["level"], (match["text"] or "").strip(), runs[-1])
            except ValueError as error:
                line.reject("bad_number", str(error))
        elif match := _SHELL.match(text):
            runs.append(_Run(match["command"]))
            line.use()
        elif runs and runs[-1].section == SUMMARY:
            # Some keep the summary without the prefix of its lines.
            try:
                if _read_summary(text, runs[-1]):
                    line.use()
            except ValueError as error:
                line.reject("bad_number", str(error))
    for run in runs:
        _emit(run, source, out)


def _read(line: Line, level: str, text: str, run: _Run) -> None:
    """One line behind its prefix."""
    if level in "WEF":
        messages = run.messages.setdefault("warnings" if level == "W" else "errors", [])
        if len(messages) < MOST_MESSAGES:
            messages.append(text[:500])
        line.use()
    elif title := _TITLE.match(text):
        run.section = title["title"]
        line.ignore()
    elif _read_summary(text, run):
        line.use()
    elif (
        run.section is not None
        and (run.section.endswith("Options") or run.section == "Device Information")
        and (match := _OPTION.match(text))
    ):
        run.options.setdefault(run.section, {})[match["name"]] = match["value"]
        line.use()
    else:
        line.ignore()


def _read_summary(text: str, run: _Run) -> bool:
    if match := _THROUGHPUT.match(text):
        run.throughput_per_s = number(match[1])
    elif match := _TOTAL.match(text):
        value = number(match["value"])
        if value is not None:
            run.totals_s[match["name"]] = value
    elif match := _LATENCY.match(text):
        values: dict[str, float] = {}
        for cell in match["parts"].split(", "):
            part = _PART.match(cell.strip())
            value = number(part["value"]) if part else None
            if part is None or value is None:
                raise ValueError(f"{cell[:40]!r} is no part of a summary: cut off?")
            values[f"p{part['share']}" if part["share"] else part["name"]] = value
        run.latencies[match["name"]] = values
    else:
        return False
    return True


def _emit(run: _Run, source: Source, out: Records) -> None:
    latency = run.latencies.get("Latency", {})
    statistic = "mean" if "mean" in latency else "median" if "median" in latency else None
    status = {"PASSED": "ok", "FAILED": "failed"}.get(
        run.fate or "", "ok" if run.is_measured and latency else "incomplete"
    )
    if not (run.command or run.is_measured or run.options):
        return
    arguments = read_arguments(run.command.split() if run.command else [])
    model = (
        run.option("Model Options", "Model")
        or run.option("Model Options", "Model file")
        or next(
            (str(arguments[name]) for name in _MODEL_ARGUMENTS if isinstance(arguments.get(name), str)), None
        )
    )
    model_name = PurePosixPath(model.replace("\\", "/")).name if model else None
    run_id = out.run(
        tool="trtexec",
        workload="inference",
        stage="inference",
        name=model_name or source.path.stem,
        model=model_name.rpartition(".")[0] or model_name if model_name else None,
        status=status,
        device_raw=run.option("Device Information", "Selected Device"),
        batch_size=_batch_size(run, arguments),
        precision=(run.option("Build Options", "Precision") or "").split(" (")[0].lower()
        or _precision(arguments),
        framework="tensorrt",
        framework_version=_version(run),
        started_at=parse_month_first(run.started, source.timezone).at if run.started else None,
        duration_s=run.totals_s.get("Total Host Walltime"),
        throughput_per_s=run.throughput_per_s,
        latency_ms=latency[statistic] if statistic else None,
        latency_statistic=statistic,
        command=run.command,
        config=run.messages | {"options": run.options or None},
    )
    for name, values in run.latencies.items():
        _count(out, run_id, name, "ms", values.get("mean"), values.get("min"), values.get("max"))
        for part, value in values.items():
            if part not in ("mean", "min", "max"):
                _count(out, run_id, f"{name} {part}", "ms", value)
    for name, value in run.totals_s.items():
        _count(out, run_id, name, "s", value)


def _count(
    out: Records,
    run_id: str,
    counter: str,
    unit: str,
    value: float | None,
    smallest: float | None = None,
    largest: float | None = None,
) -> None:
    out.add(
        "cleaned_counters",
        run_id=run_id,
        source="trtexec",
        scope="run",
        counter=counter,
        value=value,
        value_min=smallest,
        value_max=largest,
        unit=unit,
    )


def _precision(arguments: dict[str, Any]) -> str | None:
    """Number formats that the arguments allow, in the tool's own way of telling them; None without arguments that say."""
    allowed = [name for name in _PRECISIONS if arguments.get(name) is True]
    return "+".join(["fp32", *allowed]) if allowed else None


def _batch_size(run: _Run, arguments: dict[str, Any]) -> int | None:
    """Of implicit batches what the option says, else the first side of the first input's shape."""
    for told in (run.option("Inference Options", "Batch"), arguments.get("batch")):
        try:
            if size := integer(str(told or "")):
                return size
        except ValueError:
            continue  # 'Explicit'
    options = run.options.get("Inference Options", {})
    shape = next((value for name, value in options.items() if name.startswith("Input inference shape")), "")
    shape = shape or str(arguments.get("shapes", arguments.get("optShapes", "")))
    match = _SHAPE.match(shape)
    return int(match["batch"]) if match and int(match["batch"]) else None


def _version(run: _Run) -> str | None:
    told = run.option("Device Information", "TensorRT version") or run.option(
        "Build Options", "TensorRT version"
    )
    if told or not run.version:
        return told
    if "." in run.version:
        return run.version
    # v8601 is 8.6.1, v100900 is 10.9.0.
    wide = len(run.version) >= 6
    major, minor, patch = (
        (run.version[:-4], run.version[-4:-2], run.version[-2:])
        if wide
        else (run.version[:-3], run.version[-3:-2], run.version[-2:])
    )
    return ".".join(str(int(part)) for part in (major, minor, patch)) if major and minor else None
