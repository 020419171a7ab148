"""Experiment tables of the first pruning study: one row a pruning ratio, in one CSV a network."""

from __future__ import annotations

import re

from perf_assets.intake.parsing.cells import number
from perf_assets.intake.parsing.delimited import has_header, named_rows
from perf_assets.intake.parsing.records import Line, Records
from perf_assets.intake.parsing.source import Head, Source

VERSION = 2
SIGNS = (
    ("acc",),
    ("prune_config",),
    ("prune_ratio",),
)
RULES = {"pruning_ratio": "rounded to 10 digits"}

_NEEDED = frozenset({"acc", "prune_config", "prune_ratio"})
_RATIO_SUFFIX = re.compile(r"-ratio-[\d.]+\Z")
_UNITS = {
    "vm_percent": "%",
    "swap_percent": "%",
    "cpuloadavg_1min": "%",
    "cpuloadavg_5min": "%",
    "cpuloadavg_15min": "%",
    "memory_consumption": "B",
    "flops": "FLOP",
}


def sniff(head: Head) -> bool:
    """A header with accuracy and pruning; the constant cost columns may be there or not."""
    return has_header(head, lambda cells: set(cells) >= _NEEDED)


def parse(source: Source, out: Records) -> None:
    """One run a row; what has no column of its own becomes a counter of that run."""
    for line, row in named_rows(source, out, lambda cells: set(cells) >= _NEEDED):
        _read_row(line, row, source.path.stem, out)


def _read_row(line: Line, row: dict[str, str], stem: str, out: Records) -> None:
    config = row["prune_config"]
    try:
        accuracy = number(row["acc"])
        ratio = number(row["prune_ratio"])
        counters = {
            name: number(cell)
            for name, cell in row.items()
            if name not in _NEEDED and name not in ("", "ratio")
        }
    except ValueError as error:
        line.reject("bad_cell", str(error))
        return
    run_id = out.run(
        tool="legacy_experiment",
        workload="inference",
        name=f"{stem} {config} {row['prune_ratio']}",
        status="ok" if accuracy is not None else "missing",
        model=stem.split("-")[0],
        stage="inference",
        pruning_method=_RATIO_SUFFIX.sub("", config),
        pruning_ratio=None if ratio is None else round(ratio, 10),
        accuracy_pct=accuracy,
        config={"prune_config": config, "from_path": ["model"]},
    )
    for name, value in counters.items():
        out.add(
            "cleaned_counters",
            run_id=run_id,
            source="legacy_experiment",
            scope="process",
            counter=name,
            value=value,
            unit=_UNITS.get(name),
        )
    line.use()
