"""perf_analyzer's text report: what it prints on stdout while it sweeps the load.

A block a level (client, server, composing models, GPUs), then a summary with one line a level. Reports reach us
with bullets of Markdown pages, wrapped lines, summaries before their blocks, and several runs in one file.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from perf_assets.intake.parsing.cells import number
from perf_assets.intake.parsing.load_levels import (
    CONCURRENCY,
    REQUEST_RATE,
    LoadTest,
    config_of,
    path_facts,
    percentile_values,
)
from perf_assets.intake.parsing.records import Line, Records
from perf_assets.intake.parsing.source import Head, Source

VERSION = 2

LONGEST_LINE = 4000

_N = r"(-?[\d.]+(?:e[+-]?\d+)?)"

_BLOCK = re.compile(
    r"Request concurrency: (?P<concurrency>\d+)\Z|Request Rate: (?P<rate>[\d.e+]+) inference requests? per seconds?\Z",
    re.ASCII,
)
_SUMMARY = re.compile(
    r"(?P<mode>Concurrency|Request Rate): (?P<level>[\d.e+]+), (?:throughput: )?(?P<throughput>[\d.e+]+) infer/sec, "
    r"latency (?P<latency>[\d.]+) usec\Z",
    re.ASCII,
)
_SUMMARY_HEAD = re.compile(r"Inferences/Second vs\. Client (?P<what>.+?) Batch Latency\Z")
_COMPOSING = re.compile(r"(?P<model>[^,:()]{1,200}), version: ?(?P<version>\S*)\Z")
_UNSTABLE = re.compile(
    r"Failed to obtain stable measurement within \d+ measurement windows for (?P<mode>concurrency|request rate) "
    r"(?P<level>[\d.e+]+)\.",
    re.IGNORECASE | re.ASCII,
)
_GPU_READING = re.compile(rf"(?P<gpu>[\w\-]+) ?: ?{_N} ?(?:%|watts?|W|bytes|B)?\Z", re.ASCII)
_GPU_METRICS = {
    # The report prints utilization in per cent, the table holds a fraction.
    "Avg GPU Utilization:": ("utilization", 0.01),
    "Avg GPU Power Usage:": ("power_w", 1.0),
    "Max GPU Memory Usage:": ("memory_used_bytes", 1.0),
    "Total GPU Memory:": ("memory_total_bytes", 1.0),
}
_LEVEL_NUMBERS = (
    (re.compile(rf"Throughput: {_N} infer/sec\Z"), ("throughput_per_s",)),
    (re.compile(rf"Response Throughput: {_N} infer/sec\Z"), ("response_throughput_per_s",)),
    (re.compile(rf"Request count: {_N}\Z"), ("requests",)),
    (re.compile(rf"Avg send request rate: {_N} infer/sec\Z"), ("send_rate_per_s",)),
    (
        re.compile(rf"Avg latency: {_N} usec(?: \(standard deviation {_N} usec\))?\Z"),
        ("avg_us", "std_us"),
    ),
    (
        re.compile(
            rf"Avg \w+ time: {_N} usec \((?:\(un\)marshal request/response|send/recv) {_N} usec \+ response wait {_N} usec\)\Z"
        ),
        (None, "request_response_us", "response_wait_us"),
    ),
    (
        re.compile(
            rf"Avg \w+ time: {_N} usec \(send {_N} usec \+ response wait {_N} usec \+ receive {_N} usec\)\Z"
        ),
        (None, "client_send_us", "response_wait_us", "client_recv_us"),
    ),
    (re.compile(rf"Average Cache Hit Latency: {_N} usec\Z"), ("cache_hit_us",)),
    (re.compile(rf"Average Cache Miss Latency: {_N} usec(?: \(.*\))?\Z"), ("cache_miss_us",)),
)
_PERCENTILE = re.compile(rf"p(\d{{1,2}}(?:\.\d+)?) ?latency: {_N} usec\Z", re.ASCII)
_SERVER_LATENCY = re.compile(rf"Avg request latency: {_N} usec \((?P<parts>.+)\)\Z")
_SERVER_PARTS = {
    "queue": "queue_us",
    "compute": "compute_us",
    "compute input": "compute_input_us",
    "compute infer": "compute_infer_us",
    "compute output": "compute_output_us",
}
_PART = re.compile(rf"(?P<name>[a-z/ ]+?) {_N} usec\Z")
_DELAYED = re.compile(
    rf"\[WARNING\] Perf Analyzer was not able to keep up .*?{_N}% of the requests were delayed\."
)
_COUNTS = re.compile(
    r"(?P<name>Inference count|Execution count|Successful request count|Cache hit count|Cache miss count"
    r"|Delayed Request Count|Sequence count|Failed request count): (?P<value>\d+)(?: \(.*\))?\Z",
    re.ASCII,
)
_CLIENT_OVERHEAD = re.compile(rf"Avg client overhead: {_N}%\Z")
_PASS = re.compile(r"Pass \[\d+\] throughput: .+")
_SECTION = re.compile(r"(?:Client|Server|Composing models|Server Prometheus Metrics):\Z")
_SETTINGS = re.compile(r"\*{3} Measurement Settings \*{3}\Z|Successfully read data for .+\Z")
_SETTING = re.compile(
    r"(?P<name>Batch size|Service Kind|Measurement window|Latency limit|Concurrency limit|Request Rate limit"
    r"|Measurement request count|Sequence batch size|Stabilizing using|Using|Detected|Minimum number of samples"
    r"|Sending)(?::| )(?P<value>.+)\Z"
)
_BULLET = re.compile(r"\A\* +")

_START = re.compile(
    r"^[ \t*]*(?:Request concurrency: \d+|Request Rate: [\d.]+ inference requests? per seconds?"
    r"|Inferences/Second vs\. Client .+ Batch Latency)[ \t]*\r?$",
    re.MULTILINE,
)


def sniff(head: Head) -> bool:
    """Does a block or a summary begin in it?"""
    return bool(_START.search(head.text)) and "infer/sec" in head.text


def parse(source: Source, out: Records) -> None:
    """Read the source, fill the records."""
    report = _Report()
    wrapped = ""
    for line in out.lines(source, longest=LONGEST_LINE):
        text = _without_bullets(line.text)
        if wrapped:
            text, wrapped = f"{wrapped} {text}", ""
        if text.endswith("+") and len(text) < LONGEST_LINE:
            # A wrapped sum goes on on the next line; this one is part of it.
            line.use()
            wrapped = text
        elif not text:
            line.ignore()
        else:
            report.read(line, text)
    report.finish()
    for run in report.runs:
        run.emit(source, out)


def _without_bullets(text: str) -> str:
    """The text without Markdown bullets (wrapping may leave one in the middle of a sum) and outer white space."""
    return _BULLET.sub("", text.strip()).replace(" * usec", " usec") if "*" in text else text.strip()


class _Block:
    """One level as it is read."""

    def __init__(self, mode: str, level: float) -> None:
        self.mode = mode
        self.level = level
        self.values: dict[str, Any] = {}
        self.percentiles_us: dict[str, float] = {}
        self.counts: list[tuple[str, float, str]] = []
        self.gpus: dict[str, dict[str, float]] = {}
        self.composing: dict[tuple[str, str], _Block] = {}
        self.is_summary = False


class _Run:
    """The blocks of one sweep."""

    def __init__(self) -> None:
        self.blocks: dict[tuple[str, float], _Block] = {}
        self.config: dict[str, Any] = {}
        self.batch_size: int | None = None
        self.has_summary = False
        self.has_gpu_section = False

    def emit(self, source: Source, out: Records) -> None:
        """Write the run, and one more for each composing model."""
        if not self.blocks:
            return
        facts = path_facts(source.path)
        if self.batch_size is not None:
            facts["batch_size"] = self.batch_size
        columns = ("model", "batch_size", "device_raw")
        config = (
            config_of({name: facts[name] for name in facts if name != "batch_size"}, columns) | self.config
        )
        if self.batch_size is None and "batch_size" in facts:
            config["from_path"] = sorted([*config.get("from_path", []), "batch_size"])
        test = LoadTest()
        parts: dict[tuple[str, str], LoadTest] = {}
        for block in self.blocks.values():
            self._add_level(test, block)
            for key, part in block.composing.items():
                parts.setdefault(key, LoadTest(is_part=True))
                self._add_level(parts[key], part)
        if not test.gpus:
            test.flags.add("gpu_columns_missing")
        shared = {name: facts.get(name) for name in columns}
        run_id = test.emit(out, config, tool="perf_analyzer", name=source.path.stem, **shared)
        for (model, version), part in parts.items():
            part.emit(
                out,
                {"ensemble_part": True, "model_version": version or None},
                tool="perf_analyzer",
                name=f"{model} of {source.path.stem}",
                parent_run_id=run_id,
                **shared | {"model": model},
            )

    @staticmethod
    def _add_level(test: LoadTest, block: _Block) -> None:
        values = dict(block.values)
        # An ensemble's queue term is the sum over its steps; an inner ensemble's term repeats that of its own steps.
        queues_us = [
            part.values["queue_us"]
            for part in block.composing.values()
            if part.values.get("queue_us") is not None and "compute_us" not in part.values
        ]
        if queues_us:
            values["composing_queue_us"] = sum(queues_us)
        test.add_level(block.mode, block.level, **values, **percentile_values(block.percentiles_us))
        for gpu_uuid, readings in block.gpus.items():
            test.add_gpu(block.level, gpu_uuid, **readings)
        for name, value, unit in block.counts:
            test.count(f"{block.mode} {block.level:g}", name, value, unit)


class _Report:
    """Where the reading stands: the run, the block, and the section of it."""

    def __init__(self) -> None:
        self.runs = [_Run()]
        self.block: _Block | None = None
        self.part: _Block | None = None
        self.gpu_metric: tuple[str, float] | None = None
        self.summary_what = ""
        self.in_settings = False

    def read(self, line: Line, text: str) -> None:
        """Read one logical line; ``line`` is the last physical one of it."""
        for step in (self._starts, self._block_line, self._setting):
            try:
                if step(line, text):
                    return
            except ValueError as error:
                line.reject("bad_number", str(error))
                return

    def finish(self) -> None:
        """Put the last block into its run."""
        self._place_block()

    # What begins or ends something ---------------------------------------------------------------------

    def _starts(self, line: Line, text: str) -> bool:
        if match := _BLOCK.match(text):
            self._place_block()
            mode = CONCURRENCY if match["concurrency"] else REQUEST_RATE
            self.block = _Block(mode, _value(match["concurrency"] or match["rate"]))
            line.use()
        elif match := _SUMMARY.match(text):
            self._place_block()
            self._summary_line(match)
            line.use()
        elif match := _SUMMARY_HEAD.match(text):
            self._place_block()
            self.summary_what = match["what"]
            line.ignore()
        elif match := _UNSTABLE.search(text):
            self._unstable(
                CONCURRENCY if match["mode"].lower() == CONCURRENCY else REQUEST_RATE, _value(match["level"])
            )
            line.use()
        elif _SETTINGS.match(text):
            self._place_block()
            if self.runs[-1].blocks:
                self.runs.append(_Run())
            self.in_settings = True
            line.ignore()
        else:
            return False
        return True

    def _place_block(self) -> None:
        """Add the block that was read to its run: a level that is there already begins the next run."""
        block, self.block, self.part, self.gpu_metric = self.block, None, None, None
        self.in_settings = False
        if block is None:
            return
        run = self.runs[-1]
        known = run.blocks.get((block.mode, block.level))
        if known is not None and known.is_summary and _agree(known, block):
            block.percentiles_us = known.percentiles_us | block.percentiles_us
            block.values = known.values | block.values
        elif known is not None or (run.has_summary and run.blocks):
            run = _Run()
            self.runs.append(run)
        run.blocks[block.mode, block.level] = block

    def _summary_line(self, match: re.Match[str]) -> None:
        """A summary repeats what the blocks say; where there is no such block it is all that we know."""
        mode = CONCURRENCY if match["mode"] == "Concurrency" else REQUEST_RATE
        summary = _Block(mode, _value(match["level"]))
        summary.is_summary = True
        summary.values["throughput_per_s"] = _value(match["throughput"])
        latency_us = _value(match["latency"])
        if self.summary_what.startswith("p"):
            summary.percentiles_us[self.summary_what] = latency_us
        else:
            summary.values["avg_us"] = latency_us
        run = self.runs[-1]
        known = run.blocks.get((summary.mode, summary.level))
        if known is not None and not _agree(known, summary):
            run, known = _Run(), None
            self.runs.append(run)
        if known is None:
            run.blocks[summary.mode, summary.level] = summary
        run.has_summary = True

    def _unstable(self, mode: str, level: float) -> None:
        """Mark the level that ended the sweep, which may have no block of its own."""
        block = self.block
        if block is None or (block.mode, block.level) != (mode, level):
            self._place_block()
            stub = _Block(mode, level)
            stub.is_summary = True
            block = self.runs[-1].blocks.setdefault((mode, level), stub)
        block.values["stable"] = False

    # Lines inside a block ------------------------------------------------------------------------------

    def _block_line(self, line: Line, text: str) -> bool:
        block = self.block
        if block is None:
            return False
        if _SECTION.match(text) or _PASS.match(text):
            self._open_section(text)
            line.ignore()
        elif self.gpu_metric is not None and (match := _GPU_READING.match(text)):
            column, factor = self.gpu_metric
            block.gpus.setdefault(match["gpu"], {})[column] = _value(match[2]) * factor
            line.use()
        elif text in _GPU_METRICS:
            self.gpu_metric = _GPU_METRICS[text]
            line.ignore()
        elif match := _COMPOSING.match(text):
            key = (match["model"], match["version"])
            self.part = block.composing.setdefault(key, _Block(block.mode, block.level))
            line.use()
        else:
            return self._measure(line, text, self.part or block)
        return True

    def _open_section(self, text: str) -> None:
        self.gpu_metric = None
        if not text.startswith("Pass"):
            self.part = None

    def _measure(self, line: Line, text: str, block: _Block) -> bool:
        readers: tuple[Callable[[str, _Block], bool], ...] = (
            _level_number,
            _percentile,
            _server_latency,
            _count,
        )
        if any(reader(text, block) for reader in readers):
            line.use()
            return True
        return False

    # Settings before a run -----------------------------------------------------------------------------

    def _setting(self, line: Line, text: str) -> bool:
        match = _SETTING.match(text)
        if match is None or self.block is not None:
            return False
        run = self.runs[-1]
        name, value = match["name"].lower().replace(" ", "_"), match["value"].strip()
        if name == "batch_size":
            batch_size = _value(value)
            run.batch_size = int(batch_size) if batch_size < 2**31 else None
        elif name in ("using", "detected", "sending"):
            run.config.setdefault("settings", []).append(text)
        else:
            run.config[name] = value
        line.use()
        return True


def _level_number(text: str, block: _Block) -> bool:
    for pattern, columns in _LEVEL_NUMBERS:
        if match := pattern.match(text):
            values = {
                name: _value(cell)
                for name, cell in zip(columns, match.groups(), strict=True)
                if name is not None and cell is not None
            }
            if "requests" in values:
                values["requests"] = int(values["requests"])
            block.values |= values
            return True
    if match := _DELAYED.match(text):
        block.values["delayed_pct"] = _value(match[1])
        return True
    return False


def _percentile(text: str, block: _Block) -> bool:
    if match := _PERCENTILE.match(text):
        block.percentiles_us[f"p{match[1]}"] = _value(match[2])
        return True
    return False


def _server_latency(text: str, block: _Block) -> bool:
    match = _SERVER_LATENCY.match(text)
    if match is None:
        return False
    values: dict[str, float] = {}
    for term in match["parts"].split(" + "):
        part = _PART.match(term.strip())
        if part is None:
            raise ValueError(f"{term.strip()[:40]!r} is no part of a latency")
        if part["name"] in _SERVER_PARTS:
            values[_SERVER_PARTS[part["name"]]] = _value(part[2])
        else:
            block.counts.append((f"server {part['name']}", _value(part[2]), "us"))
    block.values |= values
    block.counts.append(("server request latency", _value(match[1]), "us"))
    return True


def _count(text: str, block: _Block) -> bool:
    if match := _COUNTS.match(text):
        block.counts.append((match["name"].lower(), _value(match["value"]), ""))
        return True
    if match := _CLIENT_OVERHEAD.match(text):
        block.counts.append(("client overhead", _value(match[1]), "%"))
        return True
    return False


def _agree(one: _Block, other: _Block) -> bool:
    """Do a block and a summary line tell of the same measurement? After a warning numbers have two decimals only."""
    mine, others = one.values.get("throughput_per_s"), other.values.get("throughput_per_s")
    if mine is None or others is None:
        return True
    return abs(mine - others) <= max(0.0051, 1e-5 * abs(mine))


def _value(cell: str) -> float:
    value = number(cell)
    if value is None or value < 0 or value > 2**62:
        raise ValueError(f"{cell[:40]!r} is no measurement")
    return value
