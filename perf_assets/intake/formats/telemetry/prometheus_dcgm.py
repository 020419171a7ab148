"""Prometheus' answer to ``query_range`` (or ``query``) of dcgm-exporter's metrics: how a cluster keeps its
telemetry.

A series is a metric of one GPU; samples of the same GPU and second become one row. W, °C, %, MHz, MiB, as the
exporter gives them; times are seconds since 1970.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

from perf_assets.intake.parsing.cells import number
from perf_assets.intake.parsing.documents import count_document, read_json
from perf_assets.intake.parsing.polls.dcgm import PREFIX, add_sample, device_id, new_poll
from perf_assets.intake.parsing.polls.sessions import Sessions
from perf_assets.intake.parsing.records import Records
from perf_assets.intake.parsing.source import Head, Source, UnreadableSourceError
from perf_assets.intake.parsing.times import TOLD

VERSION = 1
SIGNS = (
    ('"resultType"',),
    ('"DCGM_FI_',),
)

_START = re.compile(r'\s*\{\s*"(?:status|data|resultType|result)"\s*:')

CURE = "ask Prometheus for it again, with /api/v1/query_range, and drop the whole answer"


def sniff(head: Head) -> bool:
    """Does it begin as an answer of Prometheus, with metrics of DCGM?"""
    text = head.text
    return bool(_START.match(text)) and '"resultType"' in text and '"DCGM_FI_' in text


def parse(source: Source, out: Records) -> None:
    """Read the source, fill the records.

    Raises:
        UnreadableSourceError: it is no whole document, or holds no series that can be used.
    """
    data = source.document()
    document = read_json(data.decode("utf-8", "replace"), CURE)
    answer = document.get("data", document) if isinstance(document, dict) else None
    series = answer.get("result") if isinstance(answer, dict) else None
    if not isinstance(series, list):
        raise UnreadableSourceError(f"an answer of Prometheus without a list of results; {CURE}")
    polls: dict[tuple[str, datetime], dict[str, Any]] = {}
    for place, each in enumerate(series):
        try:
            _read_series(each, polls)
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError, OSError) as error:
            out.reject_line(
                1, json.dumps(each, default=str)[:500], "bad_series", f"result {place}: {str(error)[:200]}"
            )
    if not polls:
        raise UnreadableSourceError(f"no sample of a GPU in it; {CURE}")
    sessions = Sessions()
    for (device, at), values in sorted(polls.items(), key=lambda item: item[0]):
        metrics = values.pop("metrics")
        out.add(
            "cleaned_telemetry",
            line_number=1,
            device_id=device,
            polled_at=at,
            time_source=TOLD,
            session=sessions.of(device, at),
            metrics=sorted(metrics.items()),
            **values,
        )
    count_document(data, out)


def _read_series(series: dict[str, Any], polls: dict[tuple[str, datetime], dict[str, Any]]) -> None:
    labels = {str(name): str(value) for name, value in series["metric"].items()}
    metric = labels.get("__name__", "")
    if not metric.startswith(PREFIX):
        raise ValueError(f"{metric[:60]!r} is no metric of DCGM")
    device = device_id(labels)
    for at_s, cell in series["values"] if "values" in series else [series["value"]]:
        value = number(str(cell))
        at = datetime.fromtimestamp(float(at_s), UTC).replace(tzinfo=None)
        poll = polls.setdefault((device, at), new_poll(labels))
        if value is not None:
            add_sample(poll, metric, value)
