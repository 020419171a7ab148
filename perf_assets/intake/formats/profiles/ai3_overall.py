"""ai3's ``*_overall.csv``: one row a model, algorithm and input size; ms, W and J.

Columns come and go with the version: ``mean`` or ``mean_ms``; power and energy only where NVML was there; the
device in a column, in the file's name or in the folder's.
"""

from __future__ import annotations

from typing import Any

from perf_assets.intake.parsing.ai3_columns import profile_of, without_unmeasured
from perf_assets.intake.parsing.cells import integer, number
from perf_assets.intake.parsing.delimited import has_header, named_rows
from perf_assets.intake.parsing.records import Records
from perf_assets.intake.parsing.source import Head, Source

VERSION = 3
SIGNS = (
    ("model",),
    ("algorithm",),
    ("input_size",),
    ("mean",),
    ("std",),
)
RULES = {"throughput_per_s": "batch size by latency"}

_KEY = {"model", "algorithm", "batch_size", "input_size"}
_FACTS = (
    "min",
    "max",
    "median",
    "power_std_w",
    "power_min_w",
    "power_max_w",
    "energy_total_j",
    "energy_std_j",
    "power_samples",
)


def sniff(head: Head) -> bool:
    """Does the header name model, algorithm, sizes and a mean time, and no layer?"""
    return has_header(head, _is_header)


def _is_header(cells: list[str]) -> bool:
    names = set(cells)
    return (
        names >= _KEY
        and bool({"mean", "mean_ms"} & names)
        and bool({"std", "std_ms"} & names)
        and "layer" not in names
    )


def parse(source: Source, out: Records) -> None:
    """Read the source, fill the records: every row is a run."""
    for line, row in named_rows(source, out, lambda cells: {"algorithm", "input_size"} <= set(cells)):
        try:
            run = _run(row, source)
        except ValueError as error:
            line.reject("bad_row", str(error))
            continue
        line.use()
        out.run(**run)


def _run(row: dict[str, str], source: Source) -> dict[str, Any]:
    """One row as columns of ``cleaned_runs``."""
    # The first version spelt its times mean_ms, the later ones mean; all of them are ms.
    row = {name.removesuffix("_ms"): cell for name, cell in without_unmeasured(row).items()}
    run = profile_of(row, source.path)
    input_size, mean_ms = integer(row.get("input_size", "")), number(row.get("mean", ""))
    if input_size is None or input_size < 1:
        raise ValueError("no input size")
    if mean_ms is None or mean_ms <= 0:
        raise ValueError("no mean time")
    energy_cell = row.get("energy_per_inference_j") or row.get("energy_mean_j") or ""
    config = run.pop("config") | {
        (name if name.endswith(("_w", "_j", "samples")) else f"{name}_ms"): number(row[name])
        for name in _FACTS
        if name in row
    }
    energy_j = number(energy_cell)
    return run | {
        "status": "ok",
        "input_size": input_size,
        "latency_ms": mean_ms,
        "latency_statistic": "mean",
        "latency_std_ms": number(row.get("std", "")),
        "throughput_per_s": (run["batch_size"] or 1) * 1000 / mean_ms,
        "mean_power_w": number(row.get("power_mean_w", "")),
        "energy_j": energy_j,
        "energy_basis": "inference" if energy_j is not None else None,
        "config": config,
    }
