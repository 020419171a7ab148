"""The few settings that change what is read from a log, from the environment."""

from __future__ import annotations

import os
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

TIMEZONE_VARIABLE = "PERF_ASSETS_TIMEZONE"


class SettingError(ValueError):
    """A setting that cannot be used: the message names it and says what can."""


def local_timezone() -> str:
    """The zone of local times in logs that name none: ``PERF_ASSETS_TIMEZONE``, by default UTC.

    Raises:
        SettingError: there is no such zone.
    """
    name = os.environ.get(TIMEZONE_VARIABLE, "UTC")
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise SettingError(
            f"{TIMEZONE_VARIABLE}={name!r} is no time zone; use a name like Europe/Berlin"
        ) from error
    return name
