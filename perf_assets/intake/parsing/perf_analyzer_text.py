"""Lines of perf_analyzer's text report: what each says of the level it stands under, by the section it is in.

Client and server print some titles alike; only the client's tell of the requests that were measured. Finding
levels and runs in a report is the format's.
"""

from __future__ import annotations

import re
from typing import Any

from perf_assets.intake.parsing.cells import number
from perf_assets.schema.vocabularies import THROUGHPUT_TOLERANCE_PER_S, THROUGHPUT_TOLERANCE_SHARE

_N = r"(-?[\d.]+(?:e[+-]?\d+)?)"

CLIENT, SERVER, GPUS = "client", "server", "gpus"
SECTIONS = {
    "Client:": CLIENT,
    "Server:": SERVER,
    "Composing models:": SERVER,
    "Server Prometheus Metrics:": GPUS,
}

_GPU_READING = re.compile(rf"(?P<gpu>[\w\-]+) ?: ?{_N} ?(?:%|watts?|W|bytes|B)?\Z", re.ASCII)
_GPU_METRICS = {
    # The report prints utilization in per cent, the table holds a fraction.
    "Avg GPU Utilization:": ("utilization", 0.01),
    "Avg GPU Power Usage:": ("power_w", 1.0),
    "Max GPU Memory Usage:": ("memory_used_bytes", 1.0),
    "Total GPU Memory:": ("memory_total_bytes", 1.0),
}
_CLIENT_NUMBERS = (
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
            rf"Avg \w+ time: {_N} usec \((?:\(un\)marshal request/response|send/recv) {_N} usec \+"
            rf" response wait {_N} usec\)\Z"
        ),
        (None, "request_response_us", "response_wait_us"),
    ),
    (
        re.compile(
            rf"Avg \w+ time: {_N} usec \(marshal {_N} usec \+ response wait {_N} usec \+ unmarshal "
            rf"{_N} usec\)\Z"
        ),
        (None, "client_send_us", "response_wait_us", "client_recv_us"),
    ),
    (
        re.compile(
            rf"Avg \w+ time: {_N} usec \(send {_N} usec \+ response wait {_N} usec \+ receive {_N} usec\)\Z"
        ),
        (None, "client_send_us", "response_wait_us", "client_recv_us"),
    ),
)
_PERCENTILE = re.compile(rf"p(\d{{1,2}}(?:\.\d+)?) ?latency: {_N} usec\Z", re.ASCII)
_SERVER_LATENCY = re.compile(rf"Avg request latency: {_N} usec \((?P<parts>.+)\)\Z")
_CACHE_HIT = re.compile(rf"Average Cache Hit Latency: {_N} usec\Z")
# Looking up and inserting is the miss itself; what the model then computes stands beside it.
_CACHE_MISS = re.compile(rf"Average Cache Miss Latency: {_N} usec(?: \((?P<parts>.+)\))?\Z")
_SERVER_PARTS = {
    "queue": "queue_us",
    "cache lookup/insertion": "cache_miss_us",
    "compute": "compute_us",
    "compute input": "compute_input_us",
    "compute infer": "compute_infer_us",
    "compute output": "compute_output_us",
}
_PART = re.compile(rf"(?P<name>[a-z/ ]+?) {_N} usec\Z")
_DELAYED = re.compile(
    rf"\[WARNING\] Perf Analyzer was not able to keep up .*?{_N}% of the requests were delayed\."
)
_COMPOSING = re.compile(r"(?P<model>[^,:()]{1,200}), version: ?(?P<version>\S*)\Z")
_COUNTS = re.compile(
    r"(?P<name>Inference count|Request count|Execution count|Successful request count|Cache hit count"
    r"|Cache miss count"
    r"|Delayed Request Count|Sequence count|Failed request count): (?P<value>\d+)(?: \(.*\))?\Z",
    re.ASCII,
)
_CLIENT_OVERHEAD = re.compile(rf"Avg client overhead: {_N}%\Z")


class Block:
    """One level as it is read."""

    def __init__(self, mode: str, level: float) -> None:
        self.mode = mode
        self.level = level
        self.values: dict[str, Any] = {}
        self.percentiles_us: dict[str, float] = {}
        self.counts: list[tuple[str, float, str]] = []
        self.gpus: dict[str, dict[str, float]] = {}
        self.composing: dict[tuple[str, str], Block] = {}
        self.is_summary = False

    def agrees_with(self, other: Block) -> bool:
        """Do both tell of the same measurement? After a warning numbers have two decimals only."""
        mine, others = self.values.get("throughput_per_s"), other.values.get("throughput_per_s")
        if mine is None or others is None:
            return True
        return abs(mine - others) <= max(THROUGHPUT_TOLERANCE_PER_S, THROUGHPUT_TOLERANCE_SHARE * abs(mine))


class BlockReader:
    """Reads the lines under a level into its block: where it stands is a section, and a composing model in
    it."""

    def __init__(self, block: Block) -> None:
        self.block = block
        self._section = CLIENT
        self._part: Block | None = None
        self._gpu_metric: tuple[str, float] | None = None

    def read(self, text: str) -> str | None:
        """What became of a line: ``record``, ``ignored``, or None where it is none of a block.

        Raises:
            ValueError: a number in it is none.
        """
        if text in SECTIONS:
            self._section, self._part, self._gpu_metric = SECTIONS[text], None, None
            return "ignored"
        if text in _GPU_METRICS:
            self._gpu_metric = _GPU_METRICS[text]
            return "ignored"
        if self._gpu_metric is not None and (match := _GPU_READING.match(text)):
            column, factor = self._gpu_metric
            self.block.gpus.setdefault(match["gpu"], {})[column] = measurement(match[2]) * factor
            return "record"
        if match := _COMPOSING.match(text):
            key = (match["model"], match["version"])
            self._part = self.block.composing.setdefault(key, Block(self.block.mode, self.block.level))
            return "record"
        block = self._part or self.block
        is_client = self._section == CLIENT and self._part is None
        if (is_client and _read_client(text, block)) or _read_server(text, block) or _read_count(text, block):
            return "record"
        return None


def _read_client(text: str, block: Block) -> bool:
    for pattern, columns in _CLIENT_NUMBERS:
        if match := pattern.match(text):
            values = {
                name: measurement(cell)
                for name, cell in zip(columns, match.groups(), strict=True)
                if name is not None and cell is not None
            }
            if "requests" in values:
                values["requests"] = int(values["requests"])
            block.values |= values
            return True
    if match := _DELAYED.match(text):
        block.values["delayed_pct"] = measurement(match[1])
    elif match := _PERCENTILE.match(text):
        block.percentiles_us[f"p{match[1]}"] = measurement(match[2])
    else:
        return False
    return True


def _read_server(text: str, block: Block) -> bool:
    if match := _SERVER_LATENCY.match(text):
        block.counts.append(("server request latency", measurement(match[1]), "us"))
        _read_parts(match["parts"], block)
    elif match := _CACHE_HIT.match(text):
        block.values["cache_hit_us"] = measurement(match[1])
    elif match := _CACHE_MISS.match(text):
        latency_us = measurement(match[1])
        if match["parts"]:
            block.counts.append(("server cache miss latency", latency_us, "us"))
            _read_parts(match["parts"], block)
        else:
            block.values["cache_miss_us"] = latency_us
    else:
        return False
    return True


def _read_parts(parts: str, block: Block) -> None:
    """The parts of a sum of latencies."""
    for term in parts.split(" + "):
        part = _PART.match(term.strip())
        if part is None:
            raise ValueError(f"{term.strip()[:40]!r} is no part of a latency")
        if part["name"] in _SERVER_PARTS:
            block.values[_SERVER_PARTS[part["name"]]] = measurement(part[2])
        else:
            block.counts.append((f"server {part['name']}", measurement(part[2]), "us"))


def _read_count(text: str, block: Block) -> bool:
    if match := _COUNTS.match(text):
        name = match["name"].lower()
        # Until 2020 the server counted requests under the client's title.
        block.counts.append(
            (f"server {name}" if name == "request count" else name, measurement(match["value"]), "")
        )
    elif match := _CLIENT_OVERHEAD.match(text):
        block.counts.append(("client overhead", measurement(match[1]), "%"))
    else:
        return False
    return True


def measurement(cell: str) -> float:
    """A number that can be one.

    Raises:
        ValueError: it is negative, beyond all measure, or no number.
    """
    value = number(cell)
    if value is None or value < 0 or value > 2**62:
        raise ValueError(f"{cell[:40]!r} is no measurement")
    return value
