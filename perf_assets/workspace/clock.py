"""The time as the tables and the ledger hold it."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_now() -> datetime:
    """The time now in UTC, without a zone, as every TIMESTAMP column is."""
    return datetime.now(UTC).replace(tzinfo=None)
