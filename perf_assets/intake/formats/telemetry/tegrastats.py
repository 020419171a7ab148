"""``tegrastats`` of Jetson boards: one line a poll; MB (which are MiB), %, MHz, °C, mW.

``RAM 2448/7859MB (lfb 1x4MB) CPU [12%@2035,off] EMC_FREQ 0% GR3D_FREQ 99%@1300 GPU@36C VDD_IN 2744/2744``
CPU and GPU share the memory, so used memory is that of the system. Power is that of the whole module where a rail
for it is there (``power_rail`` in labels); each rail stands in metrics.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from perf_assets.intake.parsing.cells import number
from perf_assets.intake.parsing.sessions import Sessions
from perf_assets.intake.parsing.records import Records, to_utc
from perf_assets.intake.parsing.source import Head, Source

VERSION = 1

LONGEST_LINE = 4000

# The rail that feeds the whole module, by generation of the board.
INPUT_RAILS = ("VDD_IN", "POM_5V_IN", "VIN_SYS_5V0", "VDD_TOTAL")

_N = r"(\d+(?:\.\d+)?)"
_LINE = re.compile(
    r"(?:(?P<time>\d{2}-\d{2}-\d{4} \d{2}:\d{2}:\d{2}) )?RAM (?P<rest>\d+/\d+MB .*)\Z", re.ASCII
)
_RAM = re.compile(r"(\d+)/(\d+)MB", re.ASCII)
_SWAP = re.compile(r"SWAP (\d+)/(\d+)MB", re.ASCII)
_CPU = re.compile(r"CPU \[([^\]]{0,2000})\]")
_CORE = re.compile(r"(\d+)%(?:@(\d+))?\Z", re.ASCII)
_FREQUENCY = re.compile(r"(?<!\S)(EMC|GR3D)(?:_FREQ)? (\d+)%(?:@\[?(\d+)[\d,]*\]?)?", re.ASCII)
_TEMPERATURE = re.compile(r"(?<!\S)(\w+)@(-?\d+(?:\.\d+)?)C(?!\S)", re.ASCII)
_RAIL = re.compile(rf"(?<!\S)([A-Z][A-Z0-9_]*) {_N}(?:mW)?/{_N}(?:mW)?(?!\S)", re.ASCII)
_START = re.compile(r"(?:\d{2}-\d{2}-\d{4} \d{2}:\d{2}:\d{2} )?RAM \d+/\d+MB \(lfb ", re.ASCII)


def sniff(head: Head) -> bool:
    """Does the first line begin as tegrastats' lines do?"""
    return bool(_START.match(head.first_line)) and "CPU [" in head.first_line


def parse(source: Source, out: Records) -> None:
    """Read the source, fill the records."""
    sessions = Sessions()
    for line in out.lines(source, longest=LONGEST_LINE):
        text = line.text.strip()
        if not text:
            line.ignore()
            continue
        match = _LINE.match(text)
        if match is None:
            continue
        try:
            polled_at = _time(match["time"], source.timezone)
            values = _values(match["rest"])
        except ValueError as error:
            line.reject("bad_row", str(error))
            continue
        line.use()
        out.add(
            "cleaned_telemetry",
            line_number=line.number,
            device_id="0",
            session=sessions.of("0", polled_at),
            polled_at=polled_at,
            time_source=source.timezone if polled_at else "none",
            **values,
        )


def _time(text: str | None, timezone: str) -> datetime | None:
    """Local time, month first; older versions print none."""
    if text is None:
        return None
    return to_utc(datetime.strptime(text, "%m-%d-%Y %H:%M:%S"), timezone)


def _values(text: str) -> dict[str, Any]:
    """Columns of ``cleaned_telemetry`` from one line."""
    ram = _RAM.match(text)
    if ram is None or " CPU [" not in text:
        raise ValueError("no RAM or no CPU in it: the line is cut off")
    metrics: dict[str, float] = {}
    if swap := _SWAP.search(text):
        metrics["SWAP used [MB]"], metrics["SWAP total [MB]"] = float(swap[1]), float(swap[2])
    _read_cores(text, metrics)
    loads = {name: (_known(load), _known(clock)) for name, load, clock in _FREQUENCY.findall(text)}
    if "EMC" in loads:
        metrics["EMC_FREQ [%]"] = loads["EMC"][0] or 0.0
    # A sensor of a part that is switched off reads -256.
    temperatures = {name: float(cell) for name, cell in _TEMPERATURE.findall(text) if float(cell) > -200}
    rails_mw = {
        name: _known(now) for name, now, _ in _RAIL.findall(text) if name not in ("RAM", "SWAP", "IRAM")
    }
    metrics |= {f"{name} [C]": value for name, value in temperatures.items()}
    metrics |= {f"{name} [mW]": value for name, value in rails_mw.items() if value is not None}
    rail = next((name for name in INPUT_RAILS if rails_mw.get(name) is not None), None)
    gpu_load_pct, gpu_clock_mhz = loads.get("GR3D", (None, None))
    gpu_temperature = temperatures.get("GPU", temperatures.get("gpu"))
    return {
        "utilization_pct": gpu_load_pct,
        "power_w": (rails_mw[rail] or 0.0) / 1000 if rail else None,
        "memory_used_mib": float(ram[1]),
        "memory_total_mib": float(ram[2]),
        "temperature_c": gpu_temperature,
        "sm_clock_mhz": gpu_clock_mhz,
        "metrics": sorted(metrics.items()),
        "labels": [("power_rail", rail)] if rail else [],
    }


def _read_cores(text: str, metrics: dict[str, float]) -> None:
    cores = _CPU.search(text)
    for index, cell in enumerate(cores[1].split(",") if cores else ()):
        if core := _CORE.match(cell.strip()):
            metrics[f"CPU{index} [%]"] = float(core[1])
            if core[2]:
                metrics[f"CPU{index} [MHz]"] = float(core[2])


def _known(cell: str) -> float | None:
    return number(cell) if cell else None
