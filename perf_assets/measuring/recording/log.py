"""The profiler's log: one JSON-lines file per run, each line written and flushed as soon as it is known.

The file has its final name from the first line on. A run that dies leaves a log without a ``result`` line,
which reads as ``incomplete``; at most the line being written is lost. Every line is a JSON object with
``line``, its kind, and ``at_s``, seconds since the header. Numbers carry their unit in their key; what the
machine cannot measure is null, with a ``*_reason`` beside it.

Kinds, in the order in which they appear (all but ``header`` and ``result`` may be absent or repeated):

``header``
    First line: ``format`` (``perf_assets_profile``), ``version``, ``run`` (unique id), ``started_at`` (UTC,
    ISO 8601), ``spec`` (what was asked for), ``key`` (same for the same question), ``environment`` (versions,
    driver, git revision), ``host`` (processors, memory, load).
``model``
    ``architecture_key``, ``params``, ``macs``, ``weight_mib``, pruning facts, ``estimated_peak_mib``.
``algorithm``
    How convolutions were computed: ``algorithm``, ``provider``, ``layers_forced``, ``layers``,
    ``largest_error`` (of a layer's output against the framework's, relative to its largest value),
    ``tolerance``, and ``incompatible`` (layer → why).
``warmup``
    ``blocks``, ``steady``, ``duration_s``, ``block_size`` (steps in a block).
``sample``
    One timed block: ``cache`` (``hot`` or ``cold``), ``block``, ``steps``, ``latency_ms`` (of one step),
    ``cpu_ms`` (CPU time of the process, per step), ``involuntary_switches``, ``other_cpu_share`` (of the
    machine, used by others), ``sm_clock_share`` (of the highest clock), ``throttled`` (null where unknown).
``latency``
    Of one ``cache``: ``latency_ms`` (median), ``latency_low_ms``, ``latency_high_ms`` (95 % interval of the
    median), ``latency_mean_ms``, ``latency_std_ms``, ``latency_min_ms``, ``latency_max_ms``, ``blocks``,
    ``blocks_discarded`` (throttled), ``autocorrelation``, ``verdict``, ``verdict_reason``, ``stop_reason``.
``phase``
    Of a training step: ``phase`` (``forward``, ``backward``, ``optimizer``) and ``latency_ms`` (median).
``layer``
    ``layer_index``, ``layer``, ``kind``, ``mean_ms``, ``std_ms``, ``min_ms``, ``max_ms``, ``median_ms``,
    ``share_pct`` (of the median step, measured without hooks), ``calls`` (in one pass), and the layer's
    sizes.
``layers``
    ``explained_share``: sum of the layers' median times over the median step (in training over its forward
    phase, the only part that is timed by layer).
``memory``
    Peaks in a pass of their own: ``memory_allocated_mib``, ``memory_reserved_mib``, ``memory_used_mib``,
    ``process_rss_mib``, ``process_rss_before_mib``.
``power``
    One poll: ``power_w``, ``energy_counter_j``, ``sm_clock_mhz``, ``temperature_c``, ``throttle_reasons``.
``energy``
    ``energy_j`` (of one step, gross), ``net_energy_j`` (idle subtracted), ``mean_power_w``, ``idle_power_w``,
    ``counter_energy_j`` and ``trapezoid_energy_j`` (of the window), ``window_s``, ``steps``,
    ``energy_source``, ``quality`` (flags), ``energy_reason``.
``counter``
    ``source`` (``perf`` or ``getrusage``), ``scope``, ``counter``, ``value``, ``unit``, ``running_pct``,
    ``steps``.
``result``
    Last line: ``status`` (``ok``, ``oom``, ``predicted_oom``, ``unsupported``, ``failed``), ``reason``,
    ``duration_s`` and the main numbers again, so that this line alone answers most questions: ``latency_ms``,
    ``latency_low_ms``, ``latency_high_ms``, ``latency_mean_ms``, ``latency_std_ms``, ``blocks``, ``verdict``,
    ``verdict_reason``, ``throughput_per_s`` (images), ``cold_latency_ms``, ``layers_explained_share``, the
    peaks of ``memory``, ``energy_j``, ``net_energy_j``, ``mean_power_w``, ``idle_power_w``,
    ``energy_source``, ``energy_reason``, ``architecture_key``, ``params``, ``macs``, ``estimated_peak_mib``;
    of a failure also ``traceback``.
"""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from typing import Any, Self

FORMAT = "perf_assets_profile"
VERSION = 1


class LogWriter:
    """Writes a run's lines, each one whole and flushed; use as a context manager.

    Args:
        path: the log; it must not exist.
        header: fields of the header line.
        format_name: what kind of log it is.
        version: of that kind.
    """

    def __init__(
        self, path: Path, header: dict[str, Any], format_name: str = FORMAT, version: int = VERSION
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        self._started_s = time.monotonic()
        self.write("header", format=format_name, version=version, **header)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def write(self, line: str, **fields: Any) -> None:
        """Append one line; numbers that are not finite become null."""
        row = {"line": line, "at_s": round(time.monotonic() - self._started_s, 6), **fields}
        # One system call per line: a kill between two calls cannot leave half a line behind.
        os.write(self._file, encoded_line(row))


def read_log(path: str | Path, format_name: str = FORMAT) -> dict[str, Any]:
    """Read a log back, whole or cut off.

    Returns:
        ``status`` (of the result line, or ``incomplete``), ``header``, ``result`` (or None), ``lines`` (all
        lines by kind) and ``rejected`` (number, text of lines that are not JSON objects).

    Raises:
        ValueError: the first line is not a header of this format.
    """
    lines: dict[str, list[dict[str, Any]]] = {}
    rejected = []
    for number, text in enumerate(Path(path).read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        try:
            row = json.loads(text)
            lines.setdefault(row["line"], []).append(row)
        except (ValueError, TypeError, KeyError):
            rejected.append((number, text))
    header = lines.get("header", [{}])[0]
    if header.get("format") != format_name:
        raise ValueError(f"{path}: not a {format_name} log: its first line must be the header")
    result = lines.get("result", [None])[-1]
    status = result["status"] if result else "incomplete"
    return {"status": status, "header": header, "result": result, "lines": lines, "rejected": rejected}


def encoded_line(row: dict[str, Any]) -> bytes:
    """A line of a log with its end; numbers that are not finite become null."""
    return (json.dumps(_finite(row), allow_nan=False) + "\n").encode()


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
