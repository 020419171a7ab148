"""What the small telemetry formats share: numbering polling sessions, and dates that stand in a path alone."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import PurePosixPath

from perf_assets.intake.parsing.poll_log import SESSION_GAP_S


@dataclass
class Sessions:
    """Numbers the sessions of each device by its own times: a hole (or jump back) over 60 s starts the next."""

    _last: dict[str, tuple[datetime | None, int]] = field(default_factory=dict)

    def of(self, device_id: str, polled_at: datetime | None) -> int:
        """The session that this poll is in. Polls without a time are all in the session before them."""
        last_at, session = self._last.get(device_id, (None, 0))
        if polled_at is not None:
            if last_at is not None and abs((polled_at - last_at).total_seconds()) > SESSION_GAP_S:
                session += 1
            last_at = polled_at
        self._last[device_id] = (last_at, session)
        return session


_DATE = re.compile(r"(?<!\d)(20\d\d)-?(0[1-9]|1[0-2])-?(0[1-9]|[12]\d|3[01])(?!\d)", re.ASCII)


def date_of_path(path: PurePosixPath) -> date | None:
    """The date that a path names (``2024-04-18`` or ``20240418``); the last one wins."""
    for year, month, day in reversed(_DATE.findall(str(path))):
        try:
            return date(int(year), int(month), int(day))
        except ValueError:
            continue
    return None
