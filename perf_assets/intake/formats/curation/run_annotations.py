"""What people said of runs: one JSON object a line, appended by ``perf-assets tag``, ``note`` and ``exclude``."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from perf_assets.intake.parsing.records import Records
from perf_assets.intake.parsing.source import Head, Source

VERSION = 1
SIGNS = (('"format": "perf_assets_annotation"',),)

_FORMAT = "perf_assets_annotation"
ACTIONS = ("tag", "untag", "note", "exclude", "include")


def sniff(head: Head) -> bool:
    """A first line that is such an object."""
    return head.first_line.startswith("{") and f'"format": "{_FORMAT}"' in head.first_line


def parse(source: Source, out: Records) -> None:
    """One row of ``run_annotations`` a line."""
    for line in out.lines(source):
        if not line.text.strip():
            line.ignore()
            continue
        try:
            values = _values(json.loads(line.text))
        except (ValueError, RecursionError, OverflowError) as error:
            line.reject("bad_annotation", str(error)[:200])
            continue
        out.add("run_annotations", line_number=line.number, **values)
        line.use()


def written(action: str, value: str | None, said_by: str, said_at: datetime, run: dict[str, Any]) -> str:
    """A line as :func:`parse` reads it, with its end.

    Args:
        action: one of :data:`ACTIONS`.
        value: the tag or note, or a reason.
        said_by: user name.
        said_at: UTC.
        run: ``path``, ``about_file_id``, ``run_index``, and ``started_at`` or None.
    """
    started_at = run["started_at"]
    row = {
        "format": _FORMAT,
        "action": action,
        "value": value,
        "said_at": said_at.isoformat(),
        "said_by": said_by,
        **run,
        "started_at": None if started_at is None else started_at.isoformat(),
    }
    return json.dumps(row) + "\n"


def _values(row: Any) -> dict[str, Any]:
    if not isinstance(row, dict) or row.get("format") != _FORMAT:
        raise ValueError("not an annotation")
    if row.get("action") not in ACTIONS:
        raise ValueError(f"action is {str(row.get('action'))[:40]!r}: use one of {', '.join(ACTIONS)}")
    index = row.get("run_index")
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < 2**63:
        raise ValueError("run_index is no position")
    texts = {name: row.get(name) for name in ("action", "value", "path", "about_file_id", "said_by")}
    for name, text in texts.items():
        if text is not None and not isinstance(text, str):
            raise ValueError(f"{name} is no text")
    if not texts["path"] and not texts["about_file_id"]:
        raise ValueError("neither path nor about_file_id: which file?")
    if texts["action"] in ("tag", "untag", "note") and not texts["value"]:
        raise ValueError(f"{texts['action']} without a value")
    moments = {name: _moment(row.get(name), name) for name in ("started_at", "said_at")}
    return {**texts, "run_index": index, **moments}


def _moment(text: Any, name: str) -> datetime | None:
    if text is None:
        return None
    if not isinstance(text, str):
        raise ValueError(f"{name} is no time")  # noqa: TRY004
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)
