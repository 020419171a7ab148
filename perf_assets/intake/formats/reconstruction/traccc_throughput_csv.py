"""traccc's ``throughput_mt --log-file`` CSV: no header, one line a run, times in ns.

``"directory",threads,input events,cold runs,processed events,[target cells per partition,]warm-up ns,event
ns``
"""

from __future__ import annotations

import re

from perf_assets.intake.parsing.load_levels import config_of, path_facts
from perf_assets.intake.parsing.records import Records
from perf_assets.intake.parsing.source import Head, Source

VERSION = 2
SIGNS = (('",',),)
RULES = {
    "total_ms": 1e-06,
    "duration_s": 1e-09,
    "per_event_ms": "total by the number of events",
    "latency_ms": "total by the number of events",
    "events_per_s": "number of events by the total",
    "throughput_per_s": "number of events by the total",
}

LONGEST_LINE = 4000

# The directory has a folder in it and the times are above 10 µs: a table of something else hardly has both.
_ROW = re.compile(
    r'"(?P<directory>[^"]{0,1000}[/\\_][^"]{0,1000})",(?P<threads>\d{1,4}),(?P<input_events>\d{1,9}),'
    r"(?P<cold_runs>\d{1,9}),"
    r"(?P<processed_events>\d{1,12})(?:,(?P<target_cells>\d{1,9}))?,(?P<warmup_ns>\d{1,18}),"
    r"(?P<event_ns>\d{5,18})\s*\Z",
    re.ASCII,
)


def sniff(head: Head) -> bool:
    """Is the first line such a row?"""
    return bool(_ROW.match(head.first_line))


def parse(source: Source, out: Records) -> None:
    """Read the source, fill the records."""
    facts = path_facts(source.path)
    for line in out.lines(source, longest=LONGEST_LINE):
        if not line.text.strip():
            line.ignore()
            continue
        row = _ROW.match(line.text.strip())
        if row is None:
            continue
        events, event_ms = int(row["processed_events"]), int(row["event_ns"]) / 1e6
        cold, warmup_ms = int(row["cold_runs"]), int(row["warmup_ns"]) / 1e6
        if not events or not event_ms:
            line.reject("no_events", "no event was processed")
            continue
        line.use()
        run_id = out.run(
            tool="traccc",
            workload="reconstruction",
            name=source.path.stem,
            status="ok",
            dataset=row["directory"].strip(),
            device_raw=facts.get("device_raw"),
            num_workers=int(row["threads"]),
            duration_s=event_ms / 1000,
            latency_ms=event_ms / events,
            latency_statistic="mean",
            throughput_per_s=events / (event_ms / 1000),
            config=config_of(facts, ("device_raw",))
            | {
                "input_events": int(row["input_events"]),
                "cold_runs": cold,
                "processed_events": events,
                "target_cells_per_partition": int(row["target_cells"]) if row["target_cells"] else None,
            },
        )
        for stage, count, total_ms in (
            ("Warm-up processing", cold, warmup_ms),
            ("Event processing", events, event_ms),
        ):
            rates = (
                {"per_event_ms": total_ms / count, "events_per_s": count / (total_ms / 1000)}
                if count and total_ms
                else {}
            )
            out.add("cleaned_stages", run_id=run_id, stage=stage, total_ms=total_ms, **rates)
