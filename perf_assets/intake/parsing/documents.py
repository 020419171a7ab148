"""Formats that are one JSON document rather than lines."""

from __future__ import annotations

import json
import re
from typing import Any

from perf_assets.intake.parsing.records import Records
from perf_assets.intake.parsing.source import UnreadableSourceError


def read_json(text: str, cure: str) -> Any:
    """The document.

    Raises:
        UnreadableSourceError: it is not JSON, or nested beyond reason; the message ends with ``cure``.
    """
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError) as error:
        raise UnreadableSourceError(f"not a whole JSON document ({str(error)[:200]}); {cure}") from error


def count_document(data: bytes, out: Records) -> None:
    """Count every line of a document that became rows as a record, so that lines add up as in line logs."""
    lines = data.count(b"\n") + (not data.endswith(b"\n") if data else 0)
    out.count_block(records=lines, ignored=0)


def read_objects(data: bytes, out: Records, cure: str) -> list[dict[str, Any]]:
    """The objects of a document that holds one, or several behind each other (JSON lines, appended results).

    Every line is counted: those of objects as records, blank ones as ignored, what is no object as rejected.

    Raises:
        UnreadableSourceError: there is no whole object in it; the message ends with ``cure``.
    """
    text = data.decode("utf-8", "replace")
    decoder = json.JSONDecoder(strict=False)
    found: list[dict[str, Any]] = []
    starts: list[int] = []
    ends: list[int] = []
    at, problem, broken = 0, "", 0
    match = _FIRST.match(text)
    while broken < MOST_BROKEN:
        match = match or _MARGIN.search(text, at)
        if match is None:
            break
        try:
            value, at = decoder.raw_decode(text, match.end())
        except (ValueError, RecursionError) as error:
            broken += 1
            problem = problem or f"not a whole JSON object ({str(error)[:200]})"
            at = text.find("\n", match.end()) + 1 or len(text)
            match = None
        else:
            found.append(value)
            starts.append(match.end())
            ends.append(at)
            match = _NEXT.match(text, at)
    if not found:
        raise UnreadableSourceError(f"{problem or 'no JSON object in it'}; {cure}")
    _count_lines(text, starts, ends, out, problem or "no part of an object")
    return found


# The first object may stand in a list; the next follows it. Behind a broken one, the next begins at the left
# margin: what is indented is inside of one.
_FIRST = re.compile(r"\s*\[?\s*(?=\{)")
_NEXT = re.compile(r"\s*,?\s*(?=\{)")
_MARGIN = re.compile(r"^[\[,]{0,2}(?=\{)", re.MULTILINE)
MOST_BROKEN = 1000
"""After so many broken objects the rest of a document is not tried any more."""


def _count_lines(text: str, starts: list[int], ends: list[int], out: Records, problem: str) -> None:
    place, offset, records, ignored = 0, 0, 0, 0
    for number, line in enumerate(text.split("\n"), start=1):
        end = offset + len(line)
        while place < len(ends) and ends[place] < offset:
            place += 1
        if place < len(starts) and starts[place] <= end:
            records += 1
        elif not line.strip(" \t\r,[]"):
            ignored += end < len(text) or bool(line)
        else:
            out.reject_counted(number, line, "not_json", problem)
        offset = end + 1
    out.count_block(records=records, ignored=ignored)
