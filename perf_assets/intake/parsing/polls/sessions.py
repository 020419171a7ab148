"""Polling sessions: a device that was not polled for a while is in a new one. Times and devices are others'
business."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

SESSION_GAP_S = 60
"""A device that was not polled for longer than this is in a new session."""


@dataclass
class Sessions:
    """Numbers the sessions of each device by its own times: a hole (or jump back) over 60 s starts the
    next."""

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
