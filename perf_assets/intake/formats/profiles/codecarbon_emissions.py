"""CodeCarbon's ``emissions.csv``: one row a tracked run (or task); seconds, kWh, W.

A row that comes again under the same run's id is the tracker's later reading of it: the last one counts.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

from perf_assets.intake.parsing.cells import integer, number
from perf_assets.intake.parsing.delimited import has_header, named_rows
from perf_assets.intake.parsing.records import Records
from perf_assets.intake.parsing.source import Head, Source
from perf_assets.intake.parsing.times import parse_time

VERSION = 1
SIGNS = (
    ("duration",),
    ("emissions",),
    ("energy_consumed",),
    ("country_name",),
)
RULES = {"energy_j": 3.6e6, "mean_power_w": "energy by duration"}

J_PER_KWH = 3.6e6

_KEY = frozenset(("duration", "emissions", "energy_consumed", "country_name"))
# Columns that are measures of a part of the machine, and their units.
_COUNTERS = {
    "emissions": "kg",
    "emissions_rate": "kg/s",
    "cpu_power": "W",
    "gpu_power": "W",
    "ram_power": "W",
    "cpu_energy": "kWh",
    "gpu_energy": "kWh",
    "ram_energy": "kWh",
    "water_consumed": "L",
}
_OWN_COLUMNS = frozenset(
    (
        "timestamp",
        "project_name",
        "duration",
        "energy_consumed",
        "gpu_count",
        "gpu_model",
        "cpu_model",
        *_COUNTERS,
    )
)
_SEVERAL = re.compile(r"\d{1,4} x (?P<model>.+)\Z", re.ASCII)


def sniff(head: Head) -> bool:
    """A header with energy, emissions, duration and the country whose grid counts."""
    return has_header(head, lambda cells: set(cells) >= _KEY)


def parse(source: Source, out: Records) -> None:
    """Read the source, fill the records."""
    runs: list[tuple[str, dict[str, Any], list[tuple[str, float]]]] = []
    for line, row in named_rows(source, out, lambda cells: set(cells) >= _KEY):
        try:
            run, counters = _run(row, source.timezone)
        except (ValueError, OverflowError) as error:
            line.reject("bad_row", str(error))
            continue
        line.use()
        runs.append((f"{row.get('run_id', '')}/{row.get('task_name', '')}", run, counters))
    last = {key: place for place, (key, _, _) in enumerate(runs) if key != "/"}
    for place, (key, run, counters) in enumerate(runs):
        status = "ok" if last.get(key, place) == place else "superseded"
        run_id = out.run(tool="codecarbon", status=status, **run)
        for name, value in counters:
            out.add(
                "cleaned_counters",
                run_id=run_id,
                source="codecarbon",
                scope="machine",
                counter=name,
                value=value,
                unit=_COUNTERS[name],
            )


def _run(row: dict[str, str], timezone: str) -> tuple[dict[str, Any], list[tuple[str, float]]]:
    """One row as columns of ``cleaned_runs``, and its counters."""
    duration_s, energy_kwh = number(row["duration"]), number(row["energy_consumed"])
    if duration_s is None or duration_s < 0:
        raise ValueError("no duration")
    gpus = integer(row.get("gpu_count", ""))
    has_gpu = bool(gpus)
    counters = [
        (name, value)
        for name in _COUNTERS
        # Without a GPU its power and energy are printed as 0.
        if (has_gpu or not name.startswith("gpu_")) and (value := number(row.get(name, ""))) is not None
    ]
    energy_j = None if energy_kwh is None else energy_kwh * J_PER_KWH
    device = (row.get("gpu_model") if has_gpu else row.get("cpu_model")) or None
    if device and (several := _SEVERAL.match(device)):
        device = several["model"]
    started_at: datetime | None = None
    if row.get("timestamp"):
        started_at = parse_time(row["timestamp"], timezone).at - timedelta(seconds=duration_s)
    return {
        "name": row.get("task_name") or row.get("project_name") or None,
        "device_raw": device,
        "device_count": gpus if has_gpu else None,
        "started_at": started_at,
        "duration_s": duration_s,
        "energy_j": energy_j,
        "energy_basis": "run" if energy_j is not None else None,
        "mean_power_w": energy_j / duration_s if energy_j is not None and duration_s else None,
        "config": {name: cell for name, cell in row.items() if cell and name and name not in _OWN_COLUMNS}
        | {"cpu_model": row.get("cpu_model") or None},
    }, counters
