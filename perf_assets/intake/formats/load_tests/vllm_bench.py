"""``vllm bench serve --save-result`` (``benchmark_serving.py``): one JSON object a run, or several when
appended.

SGLang's ``bench_serving`` writes the same keys, a line a run. Latencies are ms, rates per second.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from perf_assets.intake.parsing.documents import read_objects
from perf_assets.intake.parsing.load_levels import SUMMARY_RULES
from perf_assets.intake.parsing.records import Records, to_utc
from perf_assets.intake.parsing.serving_benchmark import emit_result, is_result
from perf_assets.intake.parsing.source import Head, Source, UnreadableSourceError

VERSION = 1
SIGNS = (
    ('"request_throughput"',),
    ('"completed"',),
    ('"duration"',),
    ('_ttft_ms"',),
)
RULES = SUMMARY_RULES | {"*_us": 1000.0}

CURE = "let the benchmark write its result again, and drop the whole file"
_START = re.compile(r"\s*\[?\s*\{")


def sniff(head: Head) -> bool:
    """Does it begin with an object that has the keys of a serving benchmark's result?"""
    text = head.text
    return bool(_START.match(text)) and all(
        key in text for key in ('"request_throughput"', '"completed"', '"duration"', '_ttft_ms"')
    )


def parse(source: Source, out: Records) -> None:
    """Read the source, fill the records.

    Raises:
        UnreadableSourceError: it holds no whole result.
    """
    results = read_objects(source.document(), out, CURE)
    for number, result in enumerate(results, start=1):
        try:
            if not is_result(result):
                raise ValueError("no result of a serving benchmark")
            emit_result(result, source.path.stem, _started_at(result, source.timezone), out)
        except (ValueError, OverflowError) as error:
            out.reject_line(1, str(result)[:500], "bad_result", f"object {number}: {error}")
    if not out.runs:
        raise UnreadableSourceError(f"none of its objects is a result of a serving benchmark; {CURE}")


def _started_at(result: dict[str, Any], timezone: str) -> datetime | None:
    """The ``date``, 20250530-203806, is local time."""
    cell = result.get("date")
    if not isinstance(cell, str):
        return None
    return to_utc(datetime.strptime(cell, "%Y%m%d-%H%M%S"), timezone)
