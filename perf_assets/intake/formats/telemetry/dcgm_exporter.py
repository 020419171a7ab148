"""What dcgm-exporter serves at ``/metrics``, kept as text, once or in a loop: a line a metric and GPU.

``DCGM_FI_DEV_POWER_USAGE{gpu="0",modelName="NVIDIA L4"} 71.3 [milliseconds since 1970]``. A metric that comes again
begins the GPU's next poll. Without its own time a poll has that of the last line that is a time (``date; curl …``), or
none.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from perf_assets.intake.parsing.cells import number
from perf_assets.intake.parsing.polls.dcgm import PREFIX, add_sample, device_id, new_poll
from perf_assets.intake.parsing.polls.sessions import Sessions
from perf_assets.intake.parsing.records import Records
from perf_assets.intake.parsing.source import Head, Source
from perf_assets.intake.parsing.times import TOLD, UNTOLD, Moment, parse_time

VERSION = 1
SIGNS = (("DCGM_FI_",), ('{gpu="', 'UUID="'))

LONGEST_LINE = 4000

_SAMPLE = re.compile(
    r"(?P<metric>DCGM_FI_\w{1,120})\{(?P<labels>[^{}]{0,3000})\} (?P<value>\S{1,40})(?: (?P<at_ms>\d{12,14}))?\Z",
    re.ASCII,
)
_LABEL = re.compile(r'(?P<name>\w{1,80})="(?P<value>(?:[^"\\]|\\.){0,500})"(?:,|\Z)', re.ASCII)
_OTHER = re.compile(
    r"#|[a-zA-Z_:][\w:]{0,200}(?:\{[^{}]{0,3000}\})? [-+.\w]{1,40}(?: \d{12,14})?\Z", re.ASCII
)
_ESCAPED = {"\\n": "\n", '\\"': '"', "\\\\": "\\"}


def sniff(head: Head) -> bool:
    """Is there a sample of DCGM in the text that Prometheus scrapes?"""
    return any(_SAMPLE.match(line.strip()) for line in head.lines if line.startswith(PREFIX))


def parse(source: Source, out: Records) -> None:
    """Read the source, fill the records."""
    polls: dict[str, dict[str, Any]] = {}
    sessions = Sessions()
    said: Moment | None = None
    for line in out.lines(source, longest=LONGEST_LINE):
        text = line.text.strip()
        if not (match := _SAMPLE.match(text)):
            if not text or (not text.startswith(PREFIX) and _OTHER.match(text)):
                line.ignore()
            elif moment := _moment(text, source.timezone):
                said = moment
                line.use()
            continue
        try:
            labels = _labels(match["labels"])
            device, value = device_id(labels), number(match["value"])
            moment = _told(match["at_ms"]) if match["at_ms"] else said
        except (ValueError, OverflowError) as error:
            line.reject("bad_sample", str(error))
            continue
        line.use()
        poll = polls.get(device)
        if poll is None or poll["polled_at"] != (moment.at if moment else None):
            if poll is not None:
                _emit(device, poll, sessions, out)
            poll = polls[device] = _begun(labels, line.number, moment)
        if value is None or add_sample(poll, match["metric"], value) or match["at_ms"]:
            continue  # of one moment a GPU that several pods share is told several times
        _emit(device, poll, sessions, out)
        polls[device] = _begun(labels, line.number, moment)
        add_sample(polls[device], match["metric"], value)
    for device, poll in polls.items():
        _emit(device, poll, sessions, out)


def _begun(labels: dict[str, str], line_number: int, moment: Moment | None) -> dict[str, Any]:
    return new_poll(labels) | {
        "line_number": line_number,
        "polled_at": moment.at if moment else None,
        "time_source": moment.source if moment else UNTOLD,
    }


def _emit(device: str, poll: dict[str, Any], sessions: Sessions, out: Records) -> None:
    metrics = sorted(poll["metrics"].items())
    session = sessions.of(device, poll["polled_at"])
    out.add("cleaned_telemetry", **poll | {"device_id": device, "session": session, "metrics": metrics})


def _labels(text: str) -> dict[str, str]:
    labels = {}
    end = 0
    for match in _LABEL.finditer(text):
        if match.start() != end:
            break
        labels[match["name"]] = re.sub(r"\\.", lambda found: _ESCAPED.get(found[0], found[0]), match["value"])
        end = match.end()
    if end != len(text):
        raise ValueError(f"{text[end : end + 40]!r} is no label")
    return labels


def _told(at_ms: str) -> Moment:
    return Moment(datetime.fromtimestamp(int(at_ms) / 1000, UTC).replace(tzinfo=None), TOLD)


def _moment(text: str, timezone: str) -> Moment | None:
    try:
        return parse_time(text.strip("#-= "), timezone)
    except ValueError:
        return None
