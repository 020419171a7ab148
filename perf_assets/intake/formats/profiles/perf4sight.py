"""perf4sight's profiles of training (or inference) steps on a device: ``|``-separated, one measurement a row.

The plain file holds the parameters as a Python dict in its last column; its ``-gt`` twin holds the same rows
with that dict spread over columns (some rows deleted by hand). Linking files makes the two count once.
``passed`` False is a run out of memory: whatever its other cells say is garbage. Latency is ms of one step of
the whole batch, memory is MiB. The pruning level stands in the file's name alone.
"""

from __future__ import annotations

import ast
import re
import warnings
from pathlib import PurePosixPath
from statistics import median
from typing import Any

from perf_assets.intake.parsing.cells import integer, number
from perf_assets.intake.parsing.delimited import has_header, named_rows
from perf_assets.intake.parsing.records import Records
from perf_assets.intake.parsing.source import Head, Source

VERSION = 3
SIGNS = (
    ("passed|",),
    (
        "latency",
        "mem_alloc",
    ),
)
RULES = {"throughput_per_s": "batch size by latency", "pruning_ratio": 0.01}

LATENCY_COLUMNS = {"latency": "latency_ms"}
MEMORY_COLUMNS = {
    "mem_alloc": "memory_allocated_mib",
    "mem_reserved": "memory_reserved_mib",
    "mem_used": "memory_used_mib",
}
MEMORY_FACTS = ("mem_avail", "free", "capacity")
PARAMETERS = ("test_var", "bs", "dataset", "net_name", "exec_stage", "model")

# The last batch that still fits may run with the system swapping: many times too slow, yet "passed". Against
# the rows that perf4sight's authors removed by hand, this rule finds all of them, three that they missed, no
# others.
SWAP_MIN_BATCH = 16
SWAP_FACTOR = 1.5

MAX_PARAMETERS = 4096
_FILE_NAME = re.compile(r"(?P<network>.+)_(?P<level>\d{1,3}(?:\.\d+)?)(?P<twin>-gt)?\Z", re.ASCII)
_DEVICE_FOLDER = re.compile(
    r"(?:tx[12]|jetson[\w\-]*|xavier|orin|nano|(?:rtx|gtx)?\d{4}ti|(?:rtx|gtx)\d{4}|[a-z]\d{2,3}s?)\Z",
    re.IGNORECASE | re.ASCII,
)


def sniff(head: Head) -> bool:
    """Is one of the four headers there?"""
    return has_header(head, _is_header, "|")


def _is_header(names: list[str]) -> bool:
    if names[0] != "passed" or len(names) < 3:
        return False
    measures = "latency" in names or "mem_alloc" in names
    return measures and (names[-1] == "params" or {"test_var", "bs", "net_name"} <= set(names))


def parse(source: Source, out: Records) -> None:
    """Read the source, fill the records: every row is a run."""
    runs: list[dict[str, Any]] = []
    facts = _path_facts(source.path)
    for line, row in named_rows(source, out, lambda cells: cells[0] == "passed", "|"):
        try:
            run = _row(row, facts)
        except ValueError as error:
            line.reject("bad_row", str(error))
            continue
        line.use()
        runs.append(run)
    _flag_swap_thrashing(runs)
    for run in runs:
        out.run(**run)


def _path_facts(path: PurePosixPath) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    if match := _FILE_NAME.match(path.name.removesuffix(".gz").removesuffix(".csv")):
        level_pct = float(match["level"])
        if level_pct <= 100:
            facts |= {"network": match["network"], "pruning_level_pct": level_pct}
    for folder in reversed(path.parts[:-1]):
        if _DEVICE_FOLDER.match(folder):
            facts["device"] = folder.lower()
            break
    return facts


def _row(row: dict[str, str], facts: dict[str, Any]) -> dict[str, Any]:
    """One row as columns of ``cleaned_runs``."""
    parameters = _parameters(row)
    batch_size = integer(str(parameters.get("bs", "")))
    if batch_size is None or batch_size < 1:
        raise ValueError("no batch size")
    passed = {"true": True, "false": False}.get(row["passed"].lower())
    if passed is None:
        raise ValueError(f"passed is {row['passed'][:40]!r}, neither True nor False")
    network = str(parameters.get("net_name") or facts.get("network") or "")[:200] or None
    stage = str(parameters.get("exec_stage") or "training")[:40]
    model_path = PurePosixPath(str(parameters.get("model") or "")[:1000])
    config: dict[str, Any] = {
        "test_var": parameters.get("test_var"),
        "model_file": model_path.name or None,
        "layout": "dict" if "params" in row else "columns",
        "from_path": sorted({"device", "pruning_level_pct"} & set(facts)) or None,
    }
    if facts.get("network") and network != facts["network"]:
        config["network_in_path"] = facts["network"]
    level_pct = facts.get("pruning_level_pct")
    run: dict[str, Any] = {
        "tool": "perf4sight",
        "workload": "inference" if stage == "inference" else "training",
        "name": model_path.stem or network,
        "status": "ok" if passed else "oom",
        "model": network,
        "dataset": str(parameters["dataset"])[:200] if parameters.get("dataset") else None,
        "device_raw": facts.get("device"),
        "batch_size": batch_size,
        "stage": stage,
        "pruning_method": _pruning_method(model_path),
        "pruning_ratio": level_pct / 100 if level_pct is not None else None,
        "quality": set(),
    }
    if passed:
        columns = LATENCY_COLUMNS | MEMORY_COLUMNS
        measured = {name: number(row[name]) for name in (*columns, *MEMORY_FACTS) if name in row}
        run |= {column: measured.get(name) for name, column in columns.items()}
        config |= {f"{name}_mib": measured.get(name) for name in MEMORY_FACTS}
        if all(run[column] is None for column in columns.values()):
            raise ValueError("passed, but without any measurement")
        if run["latency_ms"] is not None:
            if run["latency_ms"] <= 0:
                raise ValueError("a latency that is not above 0")
            run["latency_statistic"] = "mean"
            run["throughput_per_s"] = batch_size * 1000 / run["latency_ms"]
    return run | {"config": config}


def _parameters(row: dict[str, str]) -> dict[str, Any]:
    """The parameters, from the dict of a plain file or the columns of a ``-gt`` file."""
    if "params" not in row:
        return {name: row[name] for name in PARAMETERS if row.get(name)}
    text = row["params"]
    if len(text) > MAX_PARAMETERS:
        raise ValueError(f"params is longer than {MAX_PARAMETERS} characters")
    try:
        with warnings.catch_warnings(action="ignore"):  # of odd escapes and numbers in a broken line
            parameters = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError) as error:
        raise ValueError(f"params is not a Python dict: {type(error).__name__}") from error
    if not isinstance(parameters, dict):
        raise ValueError("params is not a Python dict")  # noqa: TRY004 - a broken cell like any other
    return {
        name: parameters[name]
        for name in PARAMETERS
        if isinstance(parameters.get(name), (str, int)) and not isinstance(parameters[name], bool)
    }


def _pruning_method(model_path: PurePosixPath) -> str | None:
    """The folder of the pruned model names the method: ``.../random_pruning/imagenet/resnet50_15.py``."""
    for part in model_path.parts:
        if part.endswith("_pruning"):
            return part.removesuffix("_pruning")
    return None


def _flag_swap_thrashing(runs: list[dict[str, Any]]) -> None:
    """Flag passed runs whose time per image is far above the median of their network in this file (one
    level)."""
    per_image_ms: dict[str | None, list[float]] = {}
    timed = [run for run in runs if run.get("latency_ms") is not None]
    for run in timed:
        per_image_ms.setdefault(run["model"], []).append(run["latency_ms"] / run["batch_size"])
    medians_ms = {model: median(values) for model, values in per_image_ms.items()}
    for run in timed:
        if (
            run["batch_size"] >= SWAP_MIN_BATCH
            and run["latency_ms"] / run["batch_size"] > SWAP_FACTOR * medians_ms[run["model"]]
        ):
            run["quality"].add("swap_thrashing")
