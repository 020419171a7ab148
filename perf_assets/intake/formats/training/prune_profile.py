"""Run directories of the pruning profiler: 2 or 4 CSV files that together are one run.

``full_system_stats.csv`` holds a host sample a row; ``system_stats.csv`` their means as key,value lines with
the outcome and the arguments (in the oldest layout the samples once more); ``perf_data.csv`` and
``nvprof_data.csv`` hold counters. What is nowhere inside stands in the directory's name,
``<model>-<method>-<ratio>[-<batch>-<workers>]``, and its parents' names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from perf_assets.intake.parsing.cells import csv_cells, integer, is_absent, number, numbers
from perf_assets.intake.parsing.delimited import named_rows
from perf_assets.intake.parsing.records import Line, Records, to_utc
from perf_assets.intake.parsing.source import Head, Source

VERSION = 2
SIGNS = (
    (
        ",0",
        ",time,",
        ",vm_percent,",
        ",Device,Kernel,",
        ",counter-value,",
    ),
)
RULES = {
    "duration_s": "from the first sample to the last",
    "running_s": 1e-09,
    "value*": "percent, levels and bytes a second (decimal) of nvprof's cells",
    "memory_used_mib": "largest sample",
    "pruning_ratio": "rounded to 10 digits",
}

MEANS = "system_stats.csv"
SAMPLES = "full_system_stats.csv"
PERF = "perf_data.csv"
NVPROF = "nvprof_data.csv"
MEMBERS = (MEANS, SAMPLES, PERF, NVPROF)
KEY_MEMBERS = (MEANS, SAMPLES)

# An early sampler added to its readings instead of replacing them. A core never runs at 6 GHz, and a run that
# perf saw for longer than this has more than one sample, which are 2 s apart.
IMPLAUSIBLE_MHZ = 6000.0
SINGLE_SAMPLE_S = 10.0
SAMPLING_GAP_S = 10.0

_NAME = re.compile(
    r"(?P<model>.+?)-(?P<method>[a-z0-9]+_(?:un)?structured)-(?P<ratio>\d+\.?\d*)(?:-"
    r"(?P<batch>\d{1,9})-(?P<workers>\d{1,9}))?\Z"
)
_CORE = re.compile(r"cpu_\d+\Z")
_DATED_FOLDER = re.compile(r"\d{4}-\d\d-\d\d_")
_NOT_A_PLATFORM = frozenset({"final", "backup"})
_COUNTS = {"prune_ratio": number, "batchsz_arg": integer, "num_workers_arg": integer}
_LEVEL = re.compile(r"(?:Idle|Low|Mid|High|Max) \((\d+)\)\Z")
_QUANTITY = re.compile(r"([+-]?[\d.]+(?:[eE][+-]?\d+)?)(%|[KMGT]?B/s)?\Z", re.ASCII)
_BYTE_RATES = {"B/s": 1.0, "KB/s": 1e3, "MB/s": 1e6, "GB/s": 1e9, "TB/s": 1e12}


def sniff(head: Head) -> bool:
    """A first file that begins like one of the four."""
    return head.first_line == ",0" or head.first_line.startswith(
        (",time,", ",vm_percent,", ",Device,Kernel,", ",counter-value,")
    )


@dataclass
class _Run:
    """What the files of one directory say together."""

    facts: dict[str, str] = field(default_factory=dict)
    means: dict[str, float] = field(default_factory=dict)
    times: list[datetime] = field(default_factory=list)
    samples: list[dict[str, float]] = field(default_factory=list)
    counters: list[dict[str, Any]] = field(default_factory=list)
    device: str | None = None

    def column(self, name: str) -> list[float]:
        return [sample[name] for sample in self.samples if name in sample]

    @property
    def perf_runtime_s(self) -> float:
        return max((row["running_s"] or 0.0 for row in self.counters if row["source"] == "perf"), default=0.0)

    # Asked for only once everything is read, so once is enough.
    @cached_property
    def core_clocks_mhz(self) -> list[list[float]]:
        """The readings of each core; where there are no samples, its mean."""
        readings = self.samples or [self.means]
        cores = [name for name in readings[0] if _CORE.match(name)]
        return [[reading[core] for reading in readings if core in reading] for core in cores]

    @cached_property
    def has_running_sums(self) -> bool:
        highest_mhz = max(map(max, self.core_clocks_mhz), default=0.0)
        collapsed = len(self.samples) == 1 and self.perf_runtime_s > SINGLE_SAMPLE_S
        return highest_mhz > IMPLAUSIBLE_MHZ or (collapsed and bool(self.core_clocks_mhz))

    @property
    def mean_cpu_mhz(self) -> float | None:
        """Mean clock over cores and samples; of running sums that repeat on every row, the sum over the
        rows."""
        columns = self.core_clocks_mhz if self.samples else []
        if not columns:
            return None
        mean = sum(sum(column) / len(column) for column in columns) / len(columns)
        if not self.has_running_sums:
            return mean
        if len(self.samples) == 1 or any(min(column) != max(column) for column in columns):
            return None
        return mean / len(self.samples)


def parse(source: Source, out: Records) -> None:
    """One run with its host samples and counters."""
    run = _Run()
    # The samples come first: the oldest layout repeats them in the means' file.
    readers = {SAMPLES: _read_samples, MEANS: _read_means, PERF: _read_perf, NVPROF: _read_nvprof}
    for member, reader in readers.items():
        if member in source.members:
            reader(source, member, out, run)
    _write(source, run, out)


def _rows(source: Source, member: str, out: Records) -> Iterator[tuple[Line, dict[str, str]]]:
    """Rows of a table that pandas wrote: its header begins with the nameless column of row numbers."""
    return named_rows(source, out, lambda cells: cells[0] == "" and len(cells) > 1, member=member)


def _read_samples(source: Source, member: str, out: Records, run: _Run) -> None:
    for line, row in _rows(source, member, out):
        try:
            time = to_utc(datetime.fromisoformat(row.pop("time", "")), source.timezone)
        except ValueError:
            line.reject("bad_time", "no time like 2024-04-18 21:21:46.642172 in the column time")
            continue
        try:
            values = numbers(list(row.values()))
        except ValueError as error:
            line.reject("bad_cell", str(error))
            continue
        run.times.append(time)
        run.samples.append(
            {name: value for name, value in zip(row, values, strict=True) if value is not None}
        )
        line.use()


def _read_means(source: Source, member: str, out: Records, run: _Run) -> None:
    if source.member_head(member).lstrip().startswith(",0"):
        _read_key_values(source, member, out, run)
        return
    # The oldest layout: some columns of the samples once more, without times. They are only worth rows of
    # their own where the samples are missing.
    for line, row in _rows(source, member, out):
        try:
            values = numbers(list(row.values()))
        except ValueError as error:
            line.reject("bad_cell", str(error))
            continue
        if len(run.times) < len(run.samples) or not run.times:
            run.samples.append(
                {name: value for name, value in zip(row, values, strict=True) if value is not None}
            )
        line.use()


def _read_key_values(source: Source, member: str, out: Records, run: _Run) -> None:
    for line in out.lines(source, member):
        text = line.text.strip()
        if not text or text == ",0":
            line.ignore()
            continue
        try:
            cells = csv_cells(text)
        except ValueError as error:
            line.reject("bad_cell", str(error))
            continue
        if len(cells) != 2 or not cells[0]:
            line.reject("wrong_columns", "not key,value")
            continue
        key, cell = cells
        is_mean = key.startswith(("cpu_", "vm_", "swap_", "cpuload")) or key.endswith("_psi_total")
        try:
            value = number(cell) if is_mean else _COUNTS[key](cell) if key in _COUNTS else None
        except ValueError as error:
            line.reject("bad_cell", f"{key}: {error}")
            continue
        if not is_mean:
            run.facts[key] = cell
        elif value is not None:
            run.means[key] = value
        line.use()


def _read_perf(source: Source, member: str, out: Records, run: _Run) -> None:
    for line, row in _rows(source, member, out):
        try:
            running_ns = _counted(row["event-runtime"])
            counter = {
                "source": "perf",
                "scope": "process",
                "counter": row["event"],
                "value": _counted(row["counter-value"]),
                "unit": row["unit"] or None,
                "running_pct": _counted(row["pcnt-running"]),
                "running_s": None if running_ns is None else running_ns / 1e9,
            }
            derived = _counted(row["metric-value"])
        except KeyError as error:
            line.reject("wrong_columns", f"no column {error}")
            continue
        except ValueError as error:
            line.reject("bad_cell", str(error))
            continue
        run.counters.append(counter)
        if derived is not None:
            unit = row.get("metric-unit") or None
            run.counters.append(counter | {"source": "perf_metric", "value": derived, "unit": unit})
        line.use()


def _counted(cell: str) -> float | None:
    return None if cell.startswith("<not ") else number(cell)


def _read_nvprof(source: Source, member: str, out: Records, run: _Run) -> None:
    for line, row in _rows(source, member, out):
        try:
            lowest, unit = _quantity(row["Min"])
            highest, _ = _quantity(row["Max"])
            mean, unit_of_mean = _quantity(row["Avg"])
            run.counters.append(
                {
                    "source": "nvprof",
                    "scope": row["Kernel"],
                    "counter": row["Metric Name"],
                    "value": mean,
                    "value_min": lowest,
                    "value_max": highest,
                    "invocations": integer(row["Invocations"]),
                    "unit": unit_of_mean or unit,
                }
            )
            run.device = run.device or row["Device"]
        except KeyError as error:
            line.reject("wrong_columns", f"no column {error}")
            continue
        except ValueError as error:
            line.reject("bad_cell", str(error))
            continue
        line.use()


def _quantity(cell: str) -> tuple[float | None, str | None]:
    """``23.75%``, ``108.2MB/s`` (decimal, to B/s), ``Low (1)`` (to its level) or a plain number."""
    if match := _LEVEL.match(cell):
        return float(match.group(1)), "level"
    if match := _QUANTITY.match(cell):
        value, unit = number(match.group(1)), match.group(2)
        if unit in _BYTE_RATES:
            return None if value is None else value * _BYTE_RATES[unit], "B/s"
        return value, unit
    if is_absent(cell):
        return None, None
    raise ValueError(f"{cell[:40]!r} is neither a number, a rate nor a level")


def _write(source: Source, run: _Run, out: Records) -> None:
    facts = dict(run.facts)
    from_path: list[str] = []
    name = _NAME.match(source.path.name)

    def fact(key: str, group: str) -> str | None:
        """What a file says, or else what the directory's name says."""
        if facts.get(key):
            return facts.pop(key)
        if name and name.group(group):
            from_path.append(group)
            return name.group(group)
        return None

    outcome = facts.pop("acc", None)
    status, accuracy = _status(outcome)
    model = fact("model_name", "model")
    method = fact("prune_config", "method")
    ratio = number(fact("prune_ratio", "ratio") or "")
    batch_size = integer(fact("batchsz_arg", "batch") or "")
    num_workers = integer(fact("num_workers_arg", "workers") or "")
    platform = _platform(source.path, model)
    if platform:
        from_path.append("host")
    gpu_memory_mib = run.column("gpu_GPU_Memory_Used_1")
    system_memory_bytes = [] if gpu_memory_mib else run.column("vm_used")
    peak_mib = max(gpu_memory_mib, default=None)
    if peak_mib is None and system_memory_bytes:
        peak_mib = max(system_memory_bytes) / 2**20
    run_id = out.run(
        tool="pruning_profiler",
        workload="inference",
        name=source.path.name,
        status=status,
        model=model,
        host=platform,
        device_raw=run.device or (None if gpu_memory_mib else facts.get("chipset_name") or None),
        stage="inference",
        batch_size=batch_size,
        num_workers=num_workers,
        pruning_method=method,
        pruning_ratio=None if ratio is None else round(ratio, 10),
        accuracy_pct=accuracy,
        started_at=run.times[0] if run.times else None,
        duration_s=(run.times[-1] - run.times[0]).total_seconds() if run.times else None,
        memory_used_mib=peak_mib,
        quality=_flags(run, status),
        config={
            **facts,
            "outcome": outcome if accuracy is None else None,
            "mean_cpu_mhz": run.mean_cpu_mhz,
            "means": run.means or None,
            "memory_kind": "device" if gpu_memory_mib else "system" if system_memory_bytes else None,
            "from_path": from_path or None,
        },
    )
    for time, sample in zip(run.times or [None] * len(run.samples), run.samples, strict=True):
        out.add("cleaned_samples", run_id=run_id, sampled_at=time, metrics=list(sample.items()))
    for counter in run.counters:
        out.add("cleaned_counters", run_id=run_id, **counter)


def _status(outcome: str | None) -> tuple[str, float | None]:
    """Status and accuracy in percent. The profiler writes ``NDF-OOM`` (sic) and ``DNF`` in place of a
    number."""
    if outcome is None:
        return "unknown", None
    if not outcome.strip():
        return "missing", None
    if outcome == "NDF-OOM":
        return "oom", None
    try:
        accuracy = number(outcome)
    except ValueError:
        return "failed", None
    return ("missing", None) if accuracy is None else ("ok", accuracy)


def _platform(path: PurePosixPath, model: str | None) -> str | None:
    """``<date>_<owner>/.../<platform>/<run>``: the folder above the run, unless it names the model."""
    folders = path.parts[:-1]
    dated = next((i for i, folder in enumerate(folders) if _DATED_FOLDER.match(folder)), None)
    if dated is None or dated == len(folders) - 1:
        return None
    platform = folders[-1]
    return None if platform == model or platform in _NOT_A_PLATFORM else platform


def _flags(run: _Run, status: str) -> list[str]:
    flags = []
    if run.has_running_sums:
        flags.append("running_sums")
    gaps_s = [(b - a).total_seconds() for a, b in zip(run.times, run.times[1:], strict=False)]
    if max(gaps_s, default=0.0) > SAMPLING_GAP_S:
        flags.append("sampling_gap")
    total_mib = run.column("gpu_GPU_Total_Memory_1")
    if (
        status == "oom"
        and total_mib
        and max(run.column("gpu_GPU_Memory_Used_1"), default=0) < total_mib[0] / 2
    ):
        flags.append("oom_not_seen_in_memory")
    return flags
