"""Zeus's traces of training under power limits: one row a configuration and limit; s an epoch, W.

The device stands in the file's name alone: ``summary_power_a40.csv``.
"""

from __future__ import annotations

import re
from typing import Any

from perf_assets.intake.parsing.cells import integer, is_absent, number
from perf_assets.intake.parsing.delimited import has_header, named_rows
from perf_assets.intake.parsing.records import Records
from perf_assets.intake.parsing.source import Head, Source

VERSION = 1
SIGNS = (("power_limit",), ("time_per_epoch",), ("average_power",), ("network",))
RULES = {"energy_j": "time of an epoch times its average power"}

_KEY = {"dataset", "network", "batch_size", "power_limit", "time_per_epoch", "average_power"}
_DEVICE = re.compile(r"summary_power_(?P<device>[\w.\-]{1,80})\.csv", re.ASCII | re.IGNORECASE)


def sniff(head: Head) -> bool:
    """Does the header name a power limit, an epoch's time and its power?"""
    return has_header(head, _is_header)


def _is_header(cells: list[str]) -> bool:
    return set(cells) >= _KEY


def parse(source: Source, out: Records) -> None:
    """Read the source, fill the records."""
    match = _DEVICE.match(source.path.name.removesuffix(".gz"))
    device = match["device"] if match else None
    for line, row in named_rows(source, out, _is_header):
        try:
            run = _run(row)
        except ValueError as error:
            line.reject("bad_row", str(error))
            continue
        line.use()
        out.run(**run, device_raw=device)


def _run(row: dict[str, str]) -> dict[str, Any]:
    network = row["network"]
    if is_absent(network) or len(network) > 200:
        raise ValueError("no network")
    epoch_s, power_w, limit_w = (
        number(row[name]) for name in ("time_per_epoch", "average_power", "power_limit")
    )
    if epoch_s is None or power_w is None or limit_w is None or min(epoch_s, power_w, limit_w) <= 0:
        raise ValueError("no time, power or limit")
    optimizer = row.get("optimizer", "")
    return {
        "tool": "zeus",
        "workload": "training",
        "stage": "training",
        "name": network,
        "model": network,
        "dataset": row["dataset"] or None,
        "status": "ok",
        "batch_size": integer(row["batch_size"]),
        "power_limit_w": limit_w,
        "mean_power_w": power_w,
        "duration_s": epoch_s,
        "energy_j": epoch_s * power_w,
        "energy_basis": "epoch",
        "config": {} if is_absent(optimizer) else {"optimizer": optimizer},
    }
