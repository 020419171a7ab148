"""``dcgmi dmon -e ...``: one row an entity (GPU, part of a GPU) and poll, under short names of DCGM's fields.

There is no time in it. Shares of DCGM's profiling fields (``SMACT``, ``TENSO``) are fractions 0-1 and stay
so, in metrics.
"""

from __future__ import annotations

import re

from perf_assets.intake.parsing.cells import number
from perf_assets.intake.parsing.polls.sessions import Sessions
from perf_assets.intake.parsing.records import Records
from perf_assets.intake.parsing.source import Head, Source
from perf_assets.intake.parsing.times import UNTOLD

VERSION = 1
SIGNS = (
    (
        "#Entity",
        "# Entity",
    ),
)

LONGEST_LINE = 4000

_COLUMNS = {
    "GPUTL": "utilization_pct",
    "MCUTL": "memory_utilization_pct",
    "POWER": "power_w",
    "PMLMT": "power_limit_w",
    "TMPTR": "temperature_c",
    "SMCLK": "sm_clock_mhz",
    "MMCLK": "memory_clock_mhz",
    "FBUSD": "memory_used_mib",
    "FBTTL": "memory_total_mib",
}
_HEADER = re.compile(r"# ?Entity\s+(?P<names>[A-Z0-9]{2,8}(?:\s+[A-Z0-9]{2,8})*)\Z", re.ASCII)
_ID = re.compile(r"I[Dd]\s*(?:\S.*)?\Z")
_ROW = re.compile(
    r"(?P<kind>GPU|GPU-I|GPU-CI|CI|CPU|Switch|Link) (?P<number>\d{1,4})\s+(?P<cells>\S.*)\Z", re.ASCII
)


def sniff(head: Head) -> bool:
    """Is there dcgmi's header of entities among the first lines?"""
    return any(map(_HEADER.match, head.opening))


def parse(source: Source, out: Records) -> None:
    """Read the source, fill the records."""
    sessions = Sessions()
    names: list[str] = []
    for line in out.lines(source, longest=LONGEST_LINE):
        text = line.text.strip()
        if not text:
            line.ignore()
        elif header := _HEADER.match(text):
            names = header["names"].split()
            line.ignore()
        elif _ID.match(text):
            line.ignore()
        elif row := _ROW.match(text):
            if not names:
                line.reject("no_header", "a row before any header")
                continue
            cells = row["cells"].split()
            try:
                if len(cells) != len(names):
                    raise ValueError(f"{len(cells)} cells for {len(names)} columns")
                values = {name: number(cell) for name, cell in zip(names, cells, strict=True)}
            except ValueError as error:
                line.reject("bad_row", str(error))
                continue
            line.use()
            device_id = row["number"] if row["kind"] == "GPU" else f"{row['kind']} {row['number']}"
            out.add(
                "cleaned_telemetry",
                line_number=line.number,
                device_id=device_id,
                session=sessions.of(device_id, None),
                time_source=UNTOLD,
                metrics=[
                    (name, value)
                    for name, value in values.items()
                    if name not in _COLUMNS and value is not None
                ],
                **{_COLUMNS[name]: value for name, value in values.items() if name in _COLUMNS},
            )
