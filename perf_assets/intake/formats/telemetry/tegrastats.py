"""``tegrastats`` of Jetson boards, TK1 to Thor: one line a poll; MB (which are MiB), %, MHz, °C, mW.

``RAM 2448/7859MB (lfb 1x4MB) CPU [12%@2035,off] EMC_FREQ 0% GR3D_FREQ 99%@1300 GPU@36C VDD_IN 2744/2744`` CPU
and GPU share the memory, so used memory is that of the system. Power is that of the whole module, by the
rails of its board (``power_rail`` in labels); every rail, engine, clock and sensor stands in metrics.
"""

from __future__ import annotations

import re
from typing import Any

from perf_assets.intake.parsing.cells import number
from perf_assets.intake.parsing.polls.sessions import Sessions
from perf_assets.intake.parsing.records import Records
from perf_assets.intake.parsing.source import Head, Source
from perf_assets.intake.parsing.times import UNTOLD, Moment, parse_month_first, parse_time

VERSION = 3
SIGNS = (
    ("RAM ",),
    ("(lfb ",),
    (
        "CPU [",
        "cpu [",
    ),
)
RULES = {"power_w": "the module's rails in mW, added up, by 1000"}

LONGEST_LINE = 4000

MODULE_POWER = (
    # Rails that together feed the module, and whose they are. The first line that a poll has all rails of
    # counts.
    ("VDD_IN",),  # TX2, Xavier NX, Orin NX, Orin Nano: the module's input (Jetson Linux Developer Guide)
    ("POM_5V_IN",),  # TX1, Nano: the same, of the 5 V input (jetson_stats issue 51)
    ("VIN",),  # Thor: the input behind the INA238 (jetson_stats pull request 900)
    ("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"),  # Thor without that sensor: the INA3221's rails
    # AGX Orin: VIN_SYS_5V0 is the I/O's and the memory's alone (jetson_stats issue 344); VDDQ_VDD2_1V8AO is
    # part of it
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),
    # AGX Xavier has no rail for the whole: its six add up (Jetson Linux Developer Guide, jetson_stats issue
    # 51)
    ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),
)

_N = r"(\d+(?:\.\d+)?)"
# The tool's own time, or what people put in front of its lines: ts, date, a logger's stamp.
_TIME = r"(?:\[?(?P<time>\w[\w:/.,+\- ]{0,40}?)\]?[ \t:,;|\-]{1,3})?"
_LINE = re.compile(_TIME + r"RAM (?P<rest>\d+/\d+MB .*)\Z", re.ASCII)
_START = re.compile(_TIME + r"RAM \d+/\d+MB \(lfb [^)]*\).* (?:CPU|cpu) \[", re.ASCII)
_RAM = re.compile(r"(\d+)/(\d+)MB(?: \(lfb (\d+)x(\d+)([kM])B\))?", re.ASCII)
_SWAP = re.compile(r"(SWAP|IRAM) (\d+)/(\d+)([kM])B(?: ?\((cached|lfb) (\d+)([kM])B\))?", re.ASCII)
# Until 2016 the clock of all cores stood behind the bracket.
_CPU = re.compile(r"(?:CPU|cpu) \[([^\]]{0,2000})\](?:@(\d+))?", re.ASCII)
_CORE = re.compile(r"(\d+)%(?:@(\d+))?\Z", re.ASCII)
# Load and clock, the clock alone behind an @, or a bare clock.
_ENGINE = re.compile(
    rf"(?<!\S)([A-Z][A-Z0-9_]*) (?:{_N}%(?:@(\d+|\[[\d,]+\]))?|@?(\d+|\[[\d,]+\]))(?!\S)", re.ASCII
)
_TEMPERATURE = re.compile(r"(?<!\S)(\w+)@(-?\d+(?:\.\d+)?)C(?!\S)", re.ASCII)
_RAIL = re.compile(rf"(?<!\S)([A-Z][A-Z0-9_]*) {_N}(?:mW)?/{_N}(?:mW)?(?!\S)", re.ASCII)


def sniff(head: Head) -> bool:
    """Does one of the first lines look as tegrastats' do: memory with its largest free block, then the
    cores?"""
    return any(_START.match(line[:LONGEST_LINE]) for line in head.opening)


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
            moment = _moment(match["time"], source.timezone) if match["time"] else None
            values = _values(match["rest"])
        except ValueError as error:
            line.reject("bad_row", str(error))
            continue
        line.use()
        if match["time"] and moment is None:
            values["labels"] = sorted([*values["labels"], ("in_front", match["time"])])
        polled_at = moment.at if moment else None
        out.add(
            "cleaned_telemetry",
            line_number=line.number,
            device_id="0",
            session=sessions.of("0", polled_at),
            polled_at=polled_at,
            time_source=moment.source if moment else UNTOLD,
            **values,
        )


def _moment(text: str, timezone: str) -> Moment | None:
    """The time in front of a line; None where another word stands there.

    Raises:
        ValueError: it has the look of a time and is none.
    """
    for read in (parse_month_first, parse_time):
        try:
            return read(text, timezone)
        except ValueError:
            continue
    if text[0].isdigit():
        raise ValueError(f"{text!r} is no time")
    return None


def _values(text: str) -> dict[str, Any]:
    """Columns of ``cleaned_telemetry`` from one line."""
    ram, cores = _RAM.match(text), _CPU.search(text)
    if ram is None or cores is None:
        raise ValueError("no RAM or no CPU in it: the line is cut off")
    metrics = _memory(ram, text) | _cores(cores)
    loads, clocks = _engines(text)
    rails_mw = {
        name: float(now) for name, now, _ in _RAIL.findall(text) if name not in ("RAM", "SWAP", "IRAM")
    }
    # A sensor of a part that is switched off reads -256.
    temperatures = {name: float(cell) for name, cell in _TEMPERATURE.findall(text) if float(cell) > -200}
    power_w, rail = _module_power(rails_mw)
    for suffix, found in (("%", loads), ("MHz", clocks), ("mW", rails_mw), ("C", temperatures)):
        metrics |= {f"{name} [{suffix}]": value for name, value in found.items()}
    return {
        "utilization_pct": _first(loads, "GR3D_FREQ", "GR3D"),
        "sm_clock_mhz": _first(clocks, "GR3D_FREQ", "GR3D"),
        "memory_utilization_pct": _first(loads, "EMC_FREQ", "EMC"),
        "memory_clock_mhz": _first(clocks, "EMC_FREQ", "EMC"),
        "temperature_c": _first(temperatures, "GPU", "gpu"),
        "power_w": power_w,
        "memory_used_mib": float(ram[1]),
        "memory_total_mib": float(ram[2]),
        "metrics": sorted(metrics.items()),
        "labels": [("power_rail", rail)] if rail else [],
    }


def _first(values: dict[str, float], *names: str) -> float | None:
    return next((values[name] for name in names if name in values), None)


def _memory(ram: re.Match[str], text: str) -> dict[str, float]:
    """Largest free blocks, swap, and the chip's own memory."""
    metrics: dict[str, float] = {}
    if ram[3]:
        metrics |= {"RAM lfb": float(ram[3]), f"RAM lfb block [{ram[5]}B]": float(ram[4])}
    for name, used, total, unit, what, size, size_unit in _SWAP.findall(text):
        metrics |= {f"{name} used [{unit}B]": float(used), f"{name} total [{unit}B]": float(total)}
        if what:
            metrics[f"{name} {what} [{size_unit}B]"] = float(size)
    return metrics


def _cores(cores: re.Match[str]) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for index, cell in enumerate(cores[1].split(",")):
        if core := _CORE.match(cell.strip()):
            metrics[f"CPU{index} [%]"] = float(core[1])
            if clock := core[2] or cores[2]:
                metrics[f"CPU{index} [MHz]"] = float(clock)
    return metrics


def _engines(text: str) -> tuple[dict[str, float], dict[str, float]]:
    """Load in per cent and clock in MHz of GPU, memory controller, video engines and the like.

    A GPU of several clusters prints a clock for each: the first goes by the GPU's name, the others by number.
    """
    loads: dict[str, float] = {}
    clocks: dict[str, float] = {}
    for name, load, clock, lone_clock in _ENGINE.findall(text):
        if load:
            loads.setdefault(name, float(load))
        for index, cell in enumerate((clock or lone_clock).strip("[]").split(",")):
            value = number(cell) if cell else None
            if value is not None:
                clocks.setdefault(f"{name} {index}" if index else name, value)
    return loads, clocks


def _module_power(rails_mw: dict[str, float]) -> tuple[float | None, str]:
    """Power of the module in W, and the rails it is the sum of; none where the board's rails are not all
    there."""
    for rails in MODULE_POWER:
        if all(rail in rails_mw for rail in rails):
            power_mw = sum(rails_mw[rail] for rail in rails)
            if power_mw or len(rails) > 1:
                return power_mw / 1000, "+".join(rails)
    return None, ""
