"""Units that tools print, and what their numbers are multiplied by to stand in the units of our columns."""

from __future__ import annotations

UNIT_FACTORS: dict[str, dict[str, float]] = {
    "%": {"%": 1.0},
    "W": {"W": 1.0, "mW": 1e-3, "kW": 1e3},
    "MiB": {"MiB": 1.0, "GiB": 1024.0, "KiB": 1 / 1024, "MB": 1e6 / 2**20, "B": 1 / 2**20},
    "degC": {"C": 1.0, "c": 1.0, "degC": 1.0},
    "MHz": {"MHz": 1.0, "GHz": 1e3},
}
"""Columns of telemetry: the unit stored, and the factors of the units that pollers print."""

US_PER = {"us": 1.0, "ms": 1e3, "s": 1e6, "sec": 1e6, "ns": 1e-3}
"""Microseconds in a unit of time."""

BYTES_PER = {"gb": 1e9, "mb": 1e6, "gib": float(2**30), "mib": float(2**20), "b": 1.0}
"""Bytes in a unit of memory, by its name in lower case."""
