"""Tables of a network's layers with their shapes (``net,level,idx,layer,type,...``): no measurement in
them."""

from __future__ import annotations

from typing import Any

from perf_assets.intake.parsing.cells import integer, number
from perf_assets.intake.parsing.delimited import has_header, named_rows
from perf_assets.intake.parsing.records import Records
from perf_assets.intake.parsing.source import Head, Source

VERSION = 2
SIGNS = (
    ("net",),
    ("layer",),
)
RULES = {"macs": "of the shapes of the layer"}

_KEY = {"net", "level", "idx", "layer", "type", "in_channels", "out_channels", "in_hw", "out_hw", "params"}

_KINDS = {
    "conv2d": "conv",
    "batchnorm2d": "batchnorm",
    "relu": "relu",
    "relu6": "relu",
    "maxpool2d": "maxpool",
    "avgpool2d": "avgpool",
    "adaptiveavgpool2d": "avgpool",
    "linear": "linear",
    "add": "add",
    "concat": "concat",
    "cat": "concat",
}
_INTEGERS = {
    "layer_index": "idx",
    "in_channels": "in_channels",
    "out_channels": "out_channels",
    "kernel_size": "kernel",
    "stride": "stride",
    "padding": "padding",
    "groups": "groups",
    "in_hw": "in_hw",
    "out_hw": "out_hw",
    "params": "params",
}


def sniff(head: Head) -> bool:
    """Does the header name a network, a level and the shapes of layers?"""
    return has_header(head, lambda cells: set(cells) >= _KEY)


def parse(source: Source, out: Records) -> None:
    """Read the source, fill the records."""
    for line, row in named_rows(source, out, lambda cells: {"net", "layer"} <= set(cells)):
        try:
            values = _layer(row)
        except ValueError as error:
            line.reject("bad_row", str(error))
            continue
        line.use()
        out.add("cleaned_layer_tables", **values)


def _layer(row: dict[str, str]) -> dict[str, Any]:
    if not row["net"] or not row["layer"]:
        raise ValueError("no network or no layer")
    values: dict[str, Any] = {
        column: integer(row[name]) if name in row else None for column, name in _INTEGERS.items()
    }
    if any(value is not None and not 0 <= value < 2**40 for value in values.values()):
        raise ValueError("a size that no layer has")
    kind = _KINDS.get(row["type"].lower(), "other")
    return {
        "network": row["net"],
        "pruning_level_pct": number(row["level"]),
        "layer": row["layer"],
        "kind": kind,
        "macs": macs(kind, values),
        **values,
    }


def macs(kind: str, shape: dict[str, int | None]) -> int | None:
    """Multiply-accumulates of one layer for one image.

    A convolution has out x (in / groups) x kernel^2 for each output pixel, a linear layer in x out, others
    none. None where the shape is not known, or beyond 64 bits.
    """
    if kind not in ("conv", "linear"):
        return 0
    ins, outs = shape["in_channels"], shape["out_channels"]
    if ins is None or outs is None:
        return None
    if kind == "linear":
        count = ins * outs
    else:
        kernel, out_hw, groups = shape["kernel_size"], shape["out_hw"], shape["groups"] or 1
        if kernel is None or out_hw is None:
            return None
        count = outs * (ins // groups) * kernel**2 * out_hw**2
    return count if count < 2**63 else None
