"""NeuSight's tables of single convolutions: one row a convolution of one shape on one device, ms.

A row is a run of its own: each has its batch size. Square images and filters, 32-bit floats.
"""

from __future__ import annotations

from typing import Any

from perf_assets.intake.parsing.cells import integer, is_absent, number
from perf_assets.intake.parsing.delimited import has_header, named_rows
from perf_assets.intake.parsing.records import Records
from perf_assets.intake.parsing.source import Head, Source

VERSION = 1
SIGNS = (("OPName",), ("Latency",), ("Input_Channel",), ("Output_Channel",), ("Kernel_Szie", "Kernel_Size"))

_KEY = {
    "OPName",
    "Latency",
    "Device",
    "B",
    "Input_Channel",
    "Output_Channel",
    "Input_Size",
    "Stride",
    "Padding",
}
_SIZES = {
    "in_hw": "Input_Size",
    "in_channels": "Input_Channel",
    "out_channels": "Output_Channel",
    "stride": "Stride",
    "padding": "Padding",
}


def sniff(head: Head) -> bool:
    """Does the header name a convolution's shape and its latency?"""
    return has_header(head, _is_header)


def _is_header(cells: list[str]) -> bool:
    return set(cells) >= _KEY


def parse(source: Source, out: Records) -> None:
    """Read the source, fill the records."""
    for line, row in named_rows(source, out, _is_header):
        try:
            run, layer = _run_and_layer(row)
        except ValueError as error:
            line.reject("bad_row", str(error))
            continue
        line.use()
        run_id = out.run(**run)
        out.add("cleaned_layers", run_id=run_id, layer_index=0, **layer)


def _run_and_layer(row: dict[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    if row["OPName"] != "conv":
        raise ValueError(f"operation {row['OPName'][:80]!r}: only conv is read")
    latency_ms, device = number(row["Latency"]), row["Device"]
    if latency_ms is None or latency_ms <= 0:
        raise ValueError("no latency")
    if is_absent(device) or len(device) > 200:
        raise ValueError("no device")
    sizes = {name: integer(row[column]) for name, column in _SIZES.items()}
    sizes["kernel_size"] = integer(row.get("Kernel_Szie", row.get("Kernel_Size", "")))
    batch_size = integer(row["B"])
    if batch_size is None or any(size is None for size in sizes.values()):
        raise ValueError("a size is missing")
    if batch_size < 1 or any(size < 1 for name, size in sizes.items() if name != "padding"):  # ty: ignore[unsupported-operator]
        raise ValueError("a size below 1")
    config = {
        name: row[column]
        for name, column in {"cudnn": "CUDNN Version", "kernels": "Kernels"}.items()
        if not is_absent(row.get(column, ""))
    }
    torch, cuda = row.get("Torch Version", ""), row.get("CUDA Version", "")
    run = {
        "tool": "neusight",
        "workload": "inference",
        "stage": "inference",
        "name": "conv",
        "model": "conv",
        "status": "ok",
        "device_raw": device,
        "batch_size": batch_size,
        "latency_ms": latency_ms,
        "precision": "fp32",
        "framework": "torch",
        "framework_version": torch.removeprefix("p") or None,
        "runtime_version": f"CUDA {cuda[2:-1]}.{cuda[-1]}"
        if cuda.startswith("cu") and len(cuda) > 3
        else None,
        "config": {"measures": "layers", **config},
    }
    return run, {"layer": "conv", "kind": "conv", "mean_ms": latency_ms, **sizes}
