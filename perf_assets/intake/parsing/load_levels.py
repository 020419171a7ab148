"""Load tests: how their levels become rows, whatever tool printed them.

A parser gathers one ``LoadTest`` a run (levels, GPUs, counts) and calls ``emit``; the flags, the summary of
the run and the order of the rows are settled here. What a path says of a run is read here too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from perf_assets.intake.parsing.records import Records

CONCURRENCY = "concurrency"
REQUEST_RATE = "request_rate"

COMPONENTS = (
    "client_send_us",
    "network_us",
    "queue_us",
    "compute_us",
    "compute_input_us",
    "compute_infer_us",
    "compute_output_us",
    "cache_hit_us",
    "cache_miss_us",
    "client_recv_us",
)
"""The parts that together make the mean latency (``compute_us`` stands for the three parts of compute)."""

SUMMARY_RULES: dict[str, float | str] = {
    "latency_ms": 1e-3,
    "latency_std_ms": 1e-3,
    "mean_power_w": "power of the busy GPUs at the level of highest throughput, added up",
    "memory_used_mib": "memory of the busy GPUs at the level of highest throughput, added up, in MiB",
}
"""How the run's own numbers follow from its levels, for the formats' RULES."""

PLAIN_PERCENTILES = ("p50", "p75", "p90", "p95", "p99")

# The parts are whole microseconds cut off, the mean is too: sub-millisecond latencies differ by a few of
# them.
COMPONENT_TOLERANCE = 0.01
COMPONENT_ROUNDING_US = 10.0
# Without a mean in the log, the client library's own request time stands in; it is up to 4 % below the mean.
REQUEST_TIME_TOLERANCE = 0.05
# Poisson arrivals over a short window miss the asked-for rate by several per cent without any trouble.
RATE_SHORTFALL = 0.10


def percentile_values(percentiles_us: dict[str, float]) -> dict[str, Any]:
    """Columns of ``cleaned_load_levels`` for percentiles by name (``p99`` → µs): the plain ones, and all as a
    map."""
    values: dict[str, Any] = {
        f"{name}_us": percentiles_us[name] for name in PLAIN_PERCENTILES if name in percentiles_us
    }
    if percentiles_us:
        values["percentiles_us"] = list(percentiles_us.items())
    return values


def level_flags(level: dict[str, Any], batch_size: int | None = None) -> set[str]:
    """Quality flags of one level.

    ``components_do_not_add_up``: the parts differ from the mean latency by more than 1 %, or the network part
    was cut at 0 because the server's parts alone exceed the latency (statistics of another replica, a
    streaming model). ``rate_not_reached``: less than 90 % of the requests asked for per second.
    ``delayed_rate``: the tool says so.
    """
    flags = set()
    parts = [level[name] for name in COMPONENTS if level.get(name) is not None]
    has_server_parts = level.get("network_us") is not None and level.get("queue_us") is not None
    if has_server_parts:
        mean_us, tolerance = level.get("avg_us"), COMPONENT_TOLERANCE
        if mean_us is None and level.get("response_wait_us") is not None:
            mean_us = level["response_wait_us"] + (level.get("request_response_us") or 0)
            tolerance = REQUEST_TIME_TOLERANCE
        off_us = abs(sum(parts) - mean_us) if mean_us is not None else 0.0
        if level["network_us"] == 0 or (
            mean_us is not None and off_us > max(tolerance * mean_us, COMPONENT_ROUNDING_US)
        ):
            flags.add("components_do_not_add_up")
    if level.get("delayed_pct"):
        flags.add("delayed_rate")
    if level.get("stable") is False:
        flags.add("unstable_level")
    throughput_per_s = level.get("throughput_per_s")
    if level.get("mode") == REQUEST_RATE and level.get("level") and throughput_per_s is not None:
        asked_per_s = level["level"] * (batch_size or 1)
        if throughput_per_s < (1 - RATE_SHORTFALL) * asked_per_s:
            flags.add("rate_not_reached")
    return flags


@dataclass
class LoadTest:
    """One run of a load test, level by level."""

    levels: dict[tuple[str | None, float | None], dict[str, Any]] = field(default_factory=dict)
    gpus: dict[tuple[float | None, str], dict[str, Any]] = field(default_factory=dict)
    counters: list[dict[str, Any]] = field(default_factory=list)
    flags: set[str] = field(default_factory=set)
    is_part: bool = False
    """A composing model of an ensemble: its client parts are 0 and there is no latency of its own to add up
    to."""

    def has(self, mode: str | None, level: float | None) -> bool:
        """Is this level there already?"""
        return (mode, level) in self.levels

    def add_level(self, mode: str | None, level: float | None, **values: Any) -> None:
        """Add one level by the column names of ``cleaned_load_levels``."""
        self.levels[mode, level] = {"mode": mode, "level": level, **values}

    def add_gpu(self, level: float | None, gpu_uuid: str, **values: Any) -> None:
        """Add readings of one GPU at one level, by the column names of ``cleaned_load_gpus``."""
        self.gpus.setdefault((level, gpu_uuid), {"level": level, "gpu_uuid": gpu_uuid}).update(values)

    def count(self, scope: str, counter: str, value: float | None, unit: str, **values: Any) -> None:
        """Add one number that no other table has a column for."""
        self.counters.append({"scope": scope, "counter": counter, "value": value, "unit": unit, **values})

    def emit(self, out: Records, config: dict[str, Any] | None = None, **run: Any) -> str:
        """Write the run and all its rows; return the ``run_id``. ``run`` holds columns of
        ``cleaned_runs``."""
        config = dict(config or {})
        flags = set(self.flags)
        for level in self.levels.values():
            level["quality"] = set() if self.is_part else level_flags(level, run.get("batch_size"))
            flags |= level["quality"]
        summary = self._summary(config)
        run_id = out.run(
            **{"workload": "load_test", "status": "ok" if self._is_measured() else "failed"} | summary | run,
            quality=flags,
            config=config,
        )
        shared = {name: config.get(name) for name in ("model_instances", "gpu_count")}
        for level in sorted(self.levels.values(), key=lambda row: (row["mode"] or "", row["level"] or 0.0)):
            values = {name: value for name, value in shared.items() if value is not None}
            if run.get("batch_size") is not None:
                values["batch_size"] = run["batch_size"]
            out.add(
                "cleaned_load_levels", run_id=run_id, **values | level | {"quality": sorted(level["quality"])}
            )
        for gpu in self.gpus.values():
            out.add("cleaned_load_gpus", run_id=run_id, **gpu)
        for counter in self.counters:
            out.add("cleaned_counters", run_id=run_id, source=run.get("tool"), **counter)
        return run_id

    def _is_measured(self) -> bool:
        """Is there a level that was measured, or the readings of GPUs alone? Unstable ones have no
        throughput."""
        if not self.levels:
            return bool(self.gpus)
        return self.is_part or any(
            level.get("throughput_per_s") is not None for level in self.levels.values()
        )

    def _summary(self, config: dict[str, Any]) -> dict[str, Any]:
        """The run's own numbers are those of its level of highest throughput, named in config."""
        measured = [level for level in self.levels.values() if level.get("throughput_per_s") is not None]
        if not measured or self.is_part:
            return {}
        best = max(measured, key=lambda level: (level["throughput_per_s"], -(level["level"] or 0.0)))
        config["summary_level"] = best["level"]
        values: dict[str, Any] = {"throughput_per_s": best["throughput_per_s"]}
        latency_us, values["latency_statistic"] = best.get("avg_us"), "mean"
        if latency_us is None and best.get("p50_us") is not None:
            latency_us, values["latency_statistic"] = best["p50_us"], "median"
        if latency_us is not None:
            values["latency_ms"] = latency_us / 1000
        else:
            del values["latency_statistic"]
        if best.get("std_us") is not None:
            values["latency_std_ms"] = best["std_us"] / 1000
        # A server lists every GPU of its host; those that did nothing are not part of the run.
        busy = [gpu for gpu in self.gpus.values() if gpu["level"] == best["level"] and gpu.get("utilization")]
        if busy:
            config["busy_gpus"] = len(busy)
            values["mean_power_w"] = _sum(gpu.get("power_w") for gpu in busy)
            used_bytes = _sum(gpu.get("memory_used_bytes") for gpu in busy)
            values["memory_used_mib"] = used_bytes / 2**20 if used_bytes is not None else None
        return values


def _sum(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


_EDGE = r"(?:^|[/_\-. ])"
_END = r"(?=$|[/_\-. ])"
_PATH_NUMBERS = {
    "batch_size": re.compile(_EDGE + r"(?:batch|bs)[_\-]?(\d{1,7})" + _END, re.IGNORECASE | re.ASCII),
    "model_instances": re.compile(_EDGE + r"(\d{1,5})inst(?:s|ances?)?" + _END, re.IGNORECASE | re.ASCII),
    "gpu_count": re.compile(_EDGE + r"(\d{1,5})gpus?" + _END, re.IGNORECASE | re.ASCII),
    "mu": re.compile(_EDGE + r"mu[_\-]?(\d{1,5})" + _END, re.IGNORECASE | re.ASCII),
}
_PATH_DEVICE = re.compile(_EDGE + r"(cpu|gpu)" + _END, re.IGNORECASE)
_PATH_CLIENT = re.compile(_EDGE + r"(async|sync)" + _END, re.IGNORECASE)
_PATH_MODEL = re.compile(r"(?P<model>.+?)[_\-]batch[_\-]?\d+\Z", re.IGNORECASE | re.ASCII)


def path_facts(path: PurePosixPath) -> dict[str, Any]:
    """What people write into names of load test files: ``4insts_2gpus/gpu_4instance_sync.csv``,
    ``net_batch16.csv``.

    The last mention wins, so a file's name overrules its folders. Keys: batch_size, model_instances,
    gpu_count, mu (pile-up of the events), device_raw (``cpu`` or ``gpu``), client (``sync`` or ``async``),
    model.
    """
    text = str(path.with_suffix(""))
    facts: dict[str, Any] = {}
    for name, pattern in _PATH_NUMBERS.items():
        if found := pattern.findall(text):
            facts[name] = int(found[-1])
    for name, pattern in (("device_raw", _PATH_DEVICE), ("client", _PATH_CLIENT)):
        if found := pattern.findall(text):
            facts[name] = found[-1].lower()
    if match := _PATH_MODEL.match(path.stem):
        facts["model"] = match["model"]
    return facts


def config_of(facts: dict[str, Any], run_columns: tuple[str, ...]) -> dict[str, Any]:
    """Path facts for ``config``: those without a column of their own, and the names of all, as
    ``from_path``."""
    config: dict[str, Any] = {name: value for name, value in facts.items() if name not in run_columns}
    if facts:
        config["from_path"] = sorted(name.removesuffix("_raw") for name in facts)
    return config
