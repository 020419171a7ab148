"""Console logs of TensorRT's ``trtexec``, 8 to 10: what was run, then a summary of latencies in ms.

``RUNNING`` begins a run and ``PASSED`` or ``FAILED`` ends it. Of the latencies the host's ('Latency': with
the transfers) is the run's; each of them is a counter with its range. What else the tool tells in between is
passed over.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from perf_assets.intake.parsing.cells import integer, number
from perf_assets.intake.parsing.records import Line, Records
from perf_assets.intake.parsing.source import Head, Source
from perf_assets.intake.parsing.times import parse_month_first

VERSION = 1
SIGNS = (
    (
        "TensorRT.trtexec",
        "=== Performance summary ===",
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


def sniff(head: Head) -> bool:
    """Is there trtexec's banner, or its summary?"""
    lines = head.lines
    return any(map(_BANNER.match, lines)) or (
        any(line.endswith(f"[I] === {SUMMARY} ===") for line in lines)
        and any("[I] GPU Compute Time: min = " in line for line in lines)
    )


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
            if match["fate"] == "RUNNING" or not runs or runs[-1].fate:
                runs.append(_Run(match["command"], match["version"]))
            if match["fate"] != "RUNNING":
                runs[-1].fate = match["fate"]
            line.use()
        elif match := _PREFIX.match(text):
            if not runs or runs[-1].fate:
                runs.append(_Run())
            runs[-1].started = runs[-1].started or match["time"]
            try:
                _read(line, match["level"], (match["text"] or "").strip(), runs[-1])
            except ValueError as error:
                line.reject("bad_number", str(error))
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
    elif run.section == SUMMARY and _read_summary(text, run):
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
    measured = run.throughput_per_s is not None or bool(run.latencies)
    status = {"PASSED": "ok", "FAILED": "failed"}.get(
        run.fate or "", "ok" if measured and latency else "incomplete"
    )
    if not (run.command or measured or run.options):
        return
    model = run.option("Model Options", "Model") or run.option("Model Options", "Model file")
    model_name = PurePosixPath(model.replace("\\", "/")).name if model else None
    run_id = out.run(
        tool="trtexec",
        workload="inference",
        stage="inference",
        name=model_name or source.path.stem,
        model=model_name.rpartition(".")[0] or model_name if model_name else None,
        status=status,
        device_raw=run.option("Device Information", "Selected Device"),
        batch_size=_batch_size(run),
        precision=(run.option("Build Options", "Precision") or "").split(" (")[0].lower() or None,
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


def _batch_size(run: _Run) -> int | None:
    """Of implicit batches what the option says, else the first side of the first input's shape."""
    try:
        told = integer(run.option("Inference Options", "Batch") or "")
    except ValueError:
        told = None  # 'Explicit'
    if told:
        return told
    options = run.options.get("Inference Options", {})
    shape = next((value for name, value in options.items() if name.startswith("Input inference shape")), "")
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
