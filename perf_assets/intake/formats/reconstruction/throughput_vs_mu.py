"""Tables of throughput against pile-up, as comparison notebooks write them: ``mu,<series>_events_per_s,...``.

``mu`` is the mean number of interactions of an event; each cell is one run of its series (``aas``, ``cpu``,
...).
"""

from __future__ import annotations

import re

from perf_assets.intake.parsing.cells import number
from perf_assets.intake.parsing.delimited import has_header, named_rows
from perf_assets.intake.parsing.records import Records
from perf_assets.intake.parsing.source import Head, Source

VERSION = 3
SIGNS = (("mu,",),)
RULES = {"latency_ms": "1000 by the events per second", "per_event_ms": "1000 by the events per second"}

_SERIES = re.compile(r"(?P<name>[\w\-]{1,80})_events_per_s\Z", re.ASCII)


def sniff(head: Head) -> bool:
    """Is there a header of ``mu`` and nothing but such series?"""
    return has_header(head, _is_header)


def _is_header(cells: list[str]) -> bool:
    first, *series = [name.strip() for name in cells]
    return first == "mu" and bool(series) and all(map(_SERIES.match, series))


def parse(source: Source, out: Records) -> None:
    """Read the source, fill the records."""
    for line, cells in named_rows(source, out, _is_header):
        try:
            row = {name: number(cell) for name, cell in cells.items()}
            mu = row.pop("mu")
            if mu is None or any(value is not None and value <= 0 for value in row.values()):
                raise ValueError("no mu, or a throughput that is not above 0")
        except ValueError as error:
            line.reject("bad_row", str(error))
            continue
        line.use()
        for name, events_per_s in row.items():
            if events_per_s is None:
                continue
            series = name.removesuffix("_events_per_s")
            run_id = out.run(
                tool="traccc",
                workload="reconstruction",
                name=f"{series} mu {mu:g}",
                status="ok",
                device_raw=series if series in ("cpu", "cuda", "sycl", "alpaka") else None,
                throughput_per_s=events_per_s,
                latency_ms=1000 / events_per_s,
                latency_statistic="from_throughput",
                config={"mu": mu, "series": series},
            )
            out.add(
                "cleaned_stages",
                run_id=run_id,
                stage="Event processing",
                per_event_ms=1000 / events_per_s,
                events_per_s=events_per_s,
            )
