"""Tables of timm's ``benchmark.py``: one row a model, for inference or training; ms a batch, M parameters,
GMACs.

Precision, memory layout, versions and device stand in the file's name alone:
``benchmark-infer-amp-nhwc-pt240-cu124-rtx4090.csv``.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

from perf_assets.intake.parsing.cells import integer, is_absent, number
from perf_assets.intake.parsing.delimited import has_header, named_rows
from perf_assets.intake.parsing.records import Records
from perf_assets.intake.parsing.source import Head, Source

VERSION = 1
SIGNS = (
    ("model",),
    (
        "infer_samples_per_sec",
        "train_samples_per_sec",
    ),
    (
        "infer_step_time",
        "train_step_time",
    ),
    (
        "infer_batch_size",
        "train_batch_size",
    ),
)

_STAGES = {"infer": "inference", "train": "training"}
_COUNTERS = {"param_count": "M", "infer_gmacs": "GMAC", "infer_macts": "M", "gmacs": "GMAC", "macts": "M"}
_PATH = re.compile(
    r"benchmark-(?:infer|train)-(?P<precision>[a-z0-9]+)-(?P<layout>nchw|nhwc)-pt(?P<torch>\d{3})"
    r"(?:-cu(?P<cuda>\d{2,3}))?-(?P<device>[\w.\-]+?)(?P<compiler>-dynamo|-inductor)?\Z",
    re.ASCII | re.IGNORECASE,
)


def sniff(head: Head) -> bool:
    """A header with a model and timm's names of its throughput and step time."""
    return has_header(head, _is_header)


def _is_header(cells: list[str]) -> bool:
    return "model" in cells[:2] and any(
        {f"{stage}_samples_per_sec", f"{stage}_step_time", f"{stage}_batch_size"} <= set(cells)
        for stage in _STAGES
    )


def parse(source: Source, out: Records) -> None:
    """Read the source, fill the records: every row is a run of each stage that it has."""
    facts, config = _path_facts(source.path)
    for line, row in named_rows(source, out, _is_header):
        try:
            runs = [
                _run(row, prefix, stage)
                for prefix, stage in _STAGES.items()
                if f"{prefix}_samples_per_sec" in row
            ]
            counters = {name: number(row[name]) for name in _COUNTERS if name in row}
        except ValueError as error:
            line.reject("bad_row", str(error))
            continue
        line.use()
        for run in runs:
            config_of_run = config | run.pop("config")
            run_id = out.run(**facts, **run, config=config_of_run)
            for name, value in counters.items():
                if value is not None:
                    out.add(
                        "cleaned_counters",
                        run_id=run_id,
                        source="timm",
                        scope="model",
                        counter=name.removeprefix("infer_"),
                        value=value,
                        unit=_COUNTERS[name],
                    )


def _run(row: dict[str, str], prefix: str, stage: str) -> dict[str, Any]:
    model = row["model"]
    if is_absent(model) or len(model) > 200:
        raise ValueError("no model")
    throughput, step_ms = number(row[f"{prefix}_samples_per_sec"]), number(row[f"{prefix}_step_time"])
    batch_size, input_size = integer(row[f"{prefix}_batch_size"]), integer(row.get(f"{prefix}_img_size", ""))
    if throughput is not None and throughput <= 0:
        throughput = step_ms = None  # a model that could not be run has zeros
    known = {"model", *_COUNTERS} | {
        f"{prefix}_{name}" for name in ("samples_per_sec", "step_time", "batch_size", "img_size")
    }
    return {
        "tool": "timm",
        "workload": stage,
        "stage": stage,
        "name": model,
        "model": model,
        "status": "ok" if throughput is not None else "failed",
        "batch_size": batch_size,
        "input_size": input_size,
        "throughput_per_s": throughput,
        "latency_ms": step_ms,
        "latency_statistic": "mean" if step_ms is not None else None,
        "config": {
            name: cell
            for name, cell in row.items()
            if name and cell and name not in known and name.startswith(("error", prefix))
        },
    }


def _path_facts(path: PurePosixPath) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the file's name says: columns of ``cleaned_runs``, and the rest for config."""
    match = _PATH.match(path.name.removesuffix(".gz").removesuffix(".csv"))
    if match is None:
        return {"framework": "torch"}, {}
    torch, cuda = match["torch"], match["cuda"]
    version = f"1.{torch[1:]}" if torch[0] == "1" else ".".join(torch)
    facts = {
        "framework": "torch",
        "framework_version": version,
        "runtime_version": f"CUDA {cuda[:-1]}.{cuda[-1]}" if cuda else None,
        "precision": match["precision"].lower(),
        "device_raw": match["device"].removeprefix("cpu-").replace("_", "-"),
    }
    config = {"layout": match["layout"].lower(), "compiler": match["compiler"] and match["compiler"][1:]}
    from_path = [*(name for name, value in facts.items() if value and name != "framework"), "layout"]
    return facts, config | {"from_path": sorted(name.removesuffix("_raw") for name in from_path)}
