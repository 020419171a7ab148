"""Model Analyzer's result tables: inference, GPU and server-only CSV; **ms, MB (10^6 bytes) and per cent**.

The inference table becomes runs (one a model, configuration and batch size) with their load levels in µs; a
GPU table becomes runs that hold GPU readings alone (bytes, fraction 0-1), which linking files joins to the
former.
"""

from __future__ import annotations

import re
from typing import Any

from perf_assets.intake.parsing.cells import grouped_number
from perf_assets.intake.parsing.delimited import by_name, header_names, split_cells
from perf_assets.intake.parsing.load_levels import (
    CONCURRENCY,
    REQUEST_RATE,
    SUMMARY_RULES,
    LoadTest,
    percentile_values,
)
from perf_assets.intake.parsing.records import Line, Records
from perf_assets.intake.parsing.source import Head, Source

VERSION = 3
SIGNS = (
    (
        "Model,",
        "model,",
    ),
    (
        "Model Config Path",
        "model config path",
        "GPU UUID",
        "GPU ID",
        "gpu uuid",
        "gpu id",
    ),
    (
        "Throughput (infer/sec)",
        "throughput (infer/sec)",
        "GPU Utilization (%)",
        "GPU Power Usage (W)",
        "GPU Memory Usage (MB)",
        "gpu utilization (%)",
    ),
)
RULES = SUMMARY_RULES | {"*_us": 1000.0, "utilization": 0.01, "memory_*_bytes": 1000000.0}

BYTES_PER_MB = 1e6

_MODES = {"concurrency": CONCURRENCY, "request rate": REQUEST_RATE}

# Headers in lower case: the tool changed the case of some between versions.
_LEVEL_COLUMNS = {
    "throughput (infer/sec)": ("throughput_per_s", 1.0),
    "avg latency (ms)": ("avg_us", 1000.0),
    "client send (ms)": ("client_send_us", 1000.0),
    "client recv (ms)": ("client_recv_us", 1000.0),
    "client response wait (ms)": ("response_wait_us", 1000.0),
    "response wait time (ms)": ("response_wait_us", 1000.0),
    "request/response (ms)": ("request_response_us", 1000.0),
    "network+server send/recv (ms)": ("network_us", 1000.0),
    "server queue (ms)": ("queue_us", 1000.0),
    "server compute input (ms)": ("compute_input_us", 1000.0),
    "server compute infer (ms)": ("compute_infer_us", 1000.0),
    "server compute output (ms)": ("compute_output_us", 1000.0),
    # The titles that the tool's own reports have had since 2021.
    "client send/recv (ms)": ("request_response_us", 1000.0),
    "server queue time (ms)": ("queue_us", 1000.0),
    "server compute input time (ms)": ("compute_input_us", 1000.0),
    "server compute infer time (ms)": ("compute_infer_us", 1000.0),
    "server compute output time (ms)": ("compute_output_us", 1000.0),
}
_PERCENTILES = {f"p{share} latency (ms)": f"p{share}" for share in (50, 75, 90, 95, 99)}
_GPU_COLUMNS = {
    "gpu utilization (%)": ("utilization", 0.01),
    "average gpu utilization (%)": ("utilization", 0.01),
    "gpu power usage (w)": ("power_w", 1.0),
    "average gpu power usage (w)": ("power_w", 1.0),
    "gpu memory usage (mb)": ("memory_used_bytes", BYTES_PER_MB),
    "max gpu memory usage (mb)": ("memory_used_bytes", BYTES_PER_MB),
    "gpu memory available (mb)": (None, BYTES_PER_MB),
}
# Until 2021 GPUs went by their index.
_GPU_NAMES = ("gpu uuid", "gpu id")
_KEY_COLUMNS = ("model", "model config path", "batch", *_GPU_NAMES, *_MODES)
_WITH_UNIT = re.compile(r"(?P<name>.+?) \((?P<unit>[^()]{1,20})\)\Z")


def sniff(head: Head) -> bool:
    """Does one of the first lines name a model and a measure with its unit, as these tables do?"""
    return any(map(_is_header, head.opening))


def _is_header(text: str) -> bool:
    names = [name.strip(' "') for name in text.lower().split(",")]
    if "model" not in names[:2] or names[0] not in ("model", ""):
        return False
    known = set(names)
    is_inference = "model config path" in known and "throughput (infer/sec)" in known
    return is_inference or (not known.isdisjoint(_GPU_NAMES) and not known.isdisjoint(_GPU_COLUMNS))


def parse(source: Source, out: Records) -> None:
    """Read the source, fill the records."""
    names: list[str] = []
    titles: list[str] = []
    runs: dict[tuple[Any, ...], _Run] = {}
    for line in out.lines(source):
        text = line.text.strip()
        if not text:
            line.ignore()
        elif _is_header(text):
            _emit(runs, out)
            runs = {}
            titles = _header(line, text) or titles
            names = [title.lower() for title in titles]
        elif not names:
            if text.endswith(":") and "," not in text:
                line.ignore()  # "Models (Inference):", where the terminal's tables were saved
            else:
                line.reject("no_header", "a row before any header")
        else:
            try:
                _read_row(by_name(names, split_cells(text)), dict(zip(names, titles, strict=True)), runs)
            except ValueError as error:
                line.reject("bad_row", str(error))
                continue
            line.use()
    _emit(runs, out)


def _header(line: Line, text: str) -> list[str] | None:
    try:
        names = header_names(text)
        if len({name.lower() for name in names}) != len(names):
            raise ValueError("the header names a column twice")
    except ValueError as error:
        line.reject("bad_header", str(error))
        return None
    line.ignore()
    return names


class _Run:
    """The rows of one model, configuration and batch size."""

    def __init__(self, model: str, config_path: str | None, batch_size: int | None) -> None:
        self.model = model
        self.config_path = config_path
        self.batch_size = batch_size
        self.test = LoadTest()
        self.config: dict[str, Any] = {}
        self.facts: dict[str, dict[str, str]] = {}

    def add_facts(self, level: float | None, facts: dict[str, str]) -> None:
        """Note what a row says beside its measures."""
        for name, cell in facts.items():
            self.facts.setdefault(name, {})[f"{level:g}" if level is not None else ""] = cell

    def facts_of_run(self) -> dict[str, Any]:
        """What all rows say alike is a fact of the run; what they do not, stays a fact of each level."""
        return {
            name: next(iter(cells.values())) if len(set(cells.values())) == 1 else cells
            for name, cells in self.facts.items()
        }


def _read_row(row: dict[str, str], titles: dict[str, str], runs: dict[tuple[Any, ...], _Run]) -> None:
    model = row["model"]
    if not model:
        raise ValueError("no model")
    mode_name = next((name for name in _MODES if row.get(name)), None)
    mode = _MODES[mode_name] if mode_name else None
    level = _positive(row, mode_name) if mode_name else None
    batch = _positive(row, "batch")
    if batch is not None and (batch != int(batch) or batch > 2**31):
        raise ValueError("a batch size that is not a whole number")
    batch_size = int(batch) if batch is not None else None
    config_path = row.get("model config path") or None
    gpu_uuid = next((row[name] for name in _GPU_NAMES if row.get(name)), None)
    values, percentiles_us, gpu, facts = _measures(row, titles)
    repeat = 0
    while True:
        run = runs.setdefault((model, config_path, batch_size, repeat), _Run(model, config_path, batch_size))
        taken = (level, gpu_uuid) in run.test.gpus if gpu_uuid else run.test.has(mode, level)
        if not taken:
            break
        repeat += 1
    run.add_facts(level, facts)
    for title, value, unit in _other_measures(row, titles):
        run.test.count(f"{mode} {level:g}" if level is not None else "run", title, value, unit)
    if gpu_uuid:
        run.config["measures"] = "gpus"
        run.config["mode"] = mode
        run.test.add_gpu(level, gpu_uuid, **gpu)
    else:
        if values.get("throughput_per_s") is None:
            raise ValueError("no throughput")
        run.test.add_level(mode, level, **values, **percentile_values(percentiles_us))
        if gpu:
            # The inference table may carry the mean over all GPUs; which they are, it does not say.
            run.test.add_gpu(level, "all", **gpu)


def _measures(
    row: dict[str, str], titles: dict[str, str]
) -> tuple[dict[str, float], dict[str, float], dict[str, float], dict[str, str]]:
    """Level columns, percentiles, GPU columns, and the texts that go to config."""
    values: dict[str, float] = {}
    percentiles_us: dict[str, float] = {}
    gpu: dict[str, float] = {}
    facts: dict[str, str] = {}
    for name, cell in row.items():
        if name in _LEVEL_COLUMNS:
            column, factor = _LEVEL_COLUMNS[name]
            if (value := _positive(row, name)) is not None:
                values[column] = value * factor
        elif name in _PERCENTILES:
            if (value := _positive(row, name)) is not None:
                percentiles_us[_PERCENTILES[name]] = value * 1000
        elif name in _GPU_COLUMNS:
            column, factor = _GPU_COLUMNS[name]
            if column is not None and (value := _positive(row, name)) is not None:
                gpu[column] = value * factor
        elif name and name not in _KEY_COLUMNS and cell and not _WITH_UNIT.match(name):
            facts[titles[name].lower().replace(" ", "_")] = cell
    return values, percentiles_us, gpu, facts


def _other_measures(row: dict[str, str], titles: dict[str, str]) -> list[tuple[str, float, str]]:
    """Numbers with a unit that no table has a column for: title, value, unit."""
    found = []
    for name, cell in row.items():
        match = _WITH_UNIT.match(titles[name])
        known = name in _LEVEL_COLUMNS or name in _PERCENTILES or _GPU_COLUMNS.get(name, ("", 0.0))[0]
        if match and not known and (value := grouped_number(cell)) is not None:
            found.append((match["name"], value, match["unit"]))
    return found


def _positive(row: dict[str, str], name: str) -> float | None:
    value = grouped_number(row.get(name, ""))
    if value is not None and value < 0:
        raise ValueError(f"{name} is negative")
    return value


def _emit(runs: dict[tuple[Any, ...], _Run], out: Records) -> None:
    for run in runs.values():
        if not run.test.levels and not run.test.gpus:
            continue
        is_gpu_table = run.config.get("measures") == "gpus"
        if not run.test.gpus:
            run.test.flags.add("gpu_columns_missing")
        run.test.emit(
            out,
            run.config | run.facts_of_run() | {"model_config_path": run.config_path},
            tool="model_analyzer",
            name=run.config_path or run.model,
            model=run.model,
            batch_size=run.batch_size,
            **{"status": "ok"} if is_gpu_table else {},
        )
