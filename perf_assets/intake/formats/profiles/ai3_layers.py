"""ai3's ``*_layers.csv``: one row a convolution of a profiled network at one input size; ms, W and J.

A run is the rows of one model, algorithm, device and input size that follow each other; linking files makes
it a part of the run that the overall CSV tells of. Version 1 wrote the layer's own input size where the later
ones write the network's: there a run ends where a layer comes again.
"""

from __future__ import annotations

import re
from typing import Any

from perf_assets.intake.parsing.ai3_columns import profile_of, without_unmeasured
from perf_assets.intake.parsing.cells import integer, number
from perf_assets.intake.parsing.delimited import has_header, named_rows
from perf_assets.intake.parsing.records import Records
from perf_assets.intake.parsing.source import Head, Source

VERSION = 3
SIGNS = (
    ("model",),
    ("layer",),
    ("algorithm",),
    ("in_channels",),
    ("out_channels",),
    ("kernel_size",),
    ("mean_ms",),
    ("std_ms",),
)

_KEY = {
    "model",
    "layer",
    "algorithm",
    "input_size",
    "in_channels",
    "out_channels",
    "kernel_size",
    "mean_ms",
    "std_ms",
}
_KERNEL = re.compile(r"\((\d{1,6}),\s*(\d{1,6})\)\Z", re.ASCII)


def sniff(head: Head) -> bool:
    """Does the header name a layer, its shape and its time?"""
    return has_header(head, lambda cells: set(cells) >= _KEY)


def parse(source: Source, out: Records) -> None:
    """Read the source, fill the records."""
    key: tuple[Any, ...] = ()
    run_id, seen = "", set[str]()
    for line, row in named_rows(source, out, lambda cells: {"layer", "mean_ms"} <= set(cells)):
        try:
            run = profile_of(row, source.path)
            layer = _layer(without_unmeasured(row))
        except ValueError as error:
            line.reject("bad_row", str(error))
            continue
        line.use()
        if _has_layer_sizes(list(row)):
            layer["in_hw"], layer["input_size"] = layer["input_size"], None
        this_key = (run["model"], run["algorithm"], run["device_raw"], run["batch_size"], layer["input_size"])
        if this_key != key or layer["layer"] in seen:
            key, seen = this_key, set()
            run["config"]["measures"] = "layers"
            run_id = out.run(status="ok", input_size=layer["input_size"], **run)
        out.add("cleaned_layers", run_id=run_id, layer_index=len(seen), **layer)
        seen.add(layer["layer"])


def _has_layer_sizes(names: list[str]) -> bool:
    """Version 1: the layer stands before the algorithm, and its own input size behind the batch size."""
    return "batch_size" in names and "layer" in names and names.index("layer") < names.index("algorithm")


def _layer(row: dict[str, str]) -> dict[str, Any]:
    """One row as columns of ``cleaned_layers``."""
    if not row["layer"] or len(row["layer"]) > 500:
        raise ValueError("no layer")
    mean_ms = number(row["mean_ms"])
    if mean_ms is None or mean_ms < 0:
        raise ValueError("no mean time")
    values: dict[str, Any] = {
        "layer": row["layer"],
        "kind": "conv",
        "kernel_size": _kernel_size(row["kernel_size"]),
        "mean_ms": mean_ms,
    }
    for name in ("input_size", "in_channels", "out_channels", "stride", "padding"):
        values[name] = _square(row[name]) if name in row else None
    for column, names in {
        "std_ms": ("std_ms",),
        "min_ms": ("min_ms",),
        "max_ms": ("max_ms",),
        "median_ms": ("median_ms",),
        "share_pct": ("percentage",),
        "mean_power_w": ("power_mean_w",),
        "energy_j": ("energy_per_layer_j", "energy_mean_j"),
    }.items():
        values[column] = next((number(row[name]) for name in names if name in row), None)
    return values


def _kernel_size(cell: str) -> int | None:
    size = _square(cell)
    if size is not None and size < 1:
        raise ValueError("a kernel of no size")
    return size


def _square(cell: str) -> int | None:
    """A size as ``3`` or ``(3, 3)``; of sides that differ there is no one size."""
    if match := _KERNEL.match(cell):
        return int(match[1]) if match[1] == match[2] else None
    return integer(cell)
