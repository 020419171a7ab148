"""``gpustat`` as text (``gpustat -i 5 > log``): a line with host, local time and driver, then a line a GPU.

``[0] NVIDIA A100 | 30'C,  12 % |   500 / 81920 MB | ann(480M)``; fan, encoder and power stand in it where
they were asked for. Memory is MiB, power W.
"""

from __future__ import annotations

import re
from typing import Any

from perf_assets.intake.parsing.polls.sessions import Sessions
from perf_assets.intake.parsing.records import Records
from perf_assets.intake.parsing.source import Head, Source
from perf_assets.intake.parsing.times import UNTOLD, Moment, parse_time

VERSION = 1
SIGNS = (
    (
        "[0] ",
        "[1] ",
    ),
    ("C,",),
    (" MB",),
)

LONGEST_LINE = 4000

_HEADER = re.compile(
    r"(?P<host>[\w.\-]{1,100})\s+(?P<time>[A-Z][a-z]{2},? .{8,40}?)(?:\s{2,}(?P<driver>\d[\d.]*))?\Z",
    re.ASCII,
)
_ROW = re.compile(
    r"\[(?P<index>\d{1,4})\] (?P<name>\S[^|]{0,200}?)\s*\|(?P<state>[^|]*)\|\s*(?P<used>\d+|\?\?) / +"
    r"(?P<total>\d+|\?\?) MB"
    r"\s*(?:\|\s*(?P<processes>.*))?\Z",
    re.ASCII,
)
_TEMPERATURE = re.compile(r"\s*(\d+|\?\?) ?(?:['\u00b0]|\xc2\xb0)C")
_CODEC = re.compile(r"\(([^)]*)\)")
_PERCENT = re.compile(r"(\d+|\?\?) %")
_POWER = re.compile(r"(\d+|\?\?) / +(\d+|\?\?) W", re.ASCII)
_CODEC_LOAD = re.compile(r"([ED]): *(\d+) %", re.ASCII)


def sniff(head: Head) -> bool:
    """Is there a line of a GPU as only gpustat prints it?"""
    return any(
        (row := _ROW.match(line[:LONGEST_LINE])) and _TEMPERATURE.match(row["state"]) for line in head.opening
    )


def parse(source: Source, out: Records) -> None:
    """Read the source, fill the records."""
    sessions = Sessions()
    host: str | None = None
    driver: str | None = None
    moment: Moment | None = None
    for line in out.lines(source, longest=LONGEST_LINE):
        text = line.text.strip()
        if not text:
            line.ignore()
        elif row := _ROW.match(text):
            polled_at = moment.at if moment else None
            out.add(
                "cleaned_telemetry",
                line_number=line.number,
                device_id=row["index"],
                device_name=row["name"],
                host=host,
                session=sessions.of(row["index"], polled_at),
                polled_at=polled_at,
                time_source=moment.source if moment else UNTOLD,
                labels=[
                    (name, value)
                    for name, value in (("driver", driver), ("processes", row["processes"]))
                    if value
                ],
                **_values(row),
            )
            line.use()
        elif header := _HEADER.match(text):
            try:
                moment = parse_time(header["time"].strip(), source.timezone)
            except ValueError as error:
                moment = None  # the rows below are of a time that is not known
                line.reject("bad_time", str(error))
                continue
            host, driver = header["host"], header["driver"]
            line.use()


def _values(row: re.Match[str]) -> dict[str, Any]:
    """Columns of ``cleaned_telemetry``; ``??`` is what gpustat prints for no value."""
    state = row["state"]
    temperature, power = _TEMPERATURE.match(state), _POWER.search(state)
    # The fan stands before the utilization, the codecs' loads in brackets behind it.
    shares = [_known(cell) for cell in _PERCENT.findall(_CODEC.sub("", state))]
    metrics = [(f"codec {name} [%]", float(load)) for name, load in _CODEC_LOAD.findall(state)]
    if len(shares) > 1 and shares[0] is not None:
        metrics.append(("fan [%]", shares[0]))
    return {
        "temperature_c": _known(temperature[1]) if temperature else None,
        "utilization_pct": shares[-1] if shares else None,
        "power_w": _known(power[1]) if power else None,
        "power_limit_w": _known(power[2]) if power else None,
        "memory_used_mib": _known(row["used"]),
        "memory_total_mib": _known(row["total"]),
        "metrics": sorted(metrics),
    }


def _known(cell: str) -> float | None:
    return None if cell == "??" else float(cell)
