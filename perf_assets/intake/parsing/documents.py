"""Formats that are one JSON document rather than lines."""

from __future__ import annotations

import json
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
