"""The few settings from the environment that change what is taken in and how it is read."""

from __future__ import annotations

import os
import re
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from perf_assets.workspace.errors import PerfAssetsError

TIMEZONE_VARIABLE = "PERF_ASSETS_TIMEZONE"
MAX_FILE_VARIABLE = "PERF_ASSETS_MAX_FILE"
KEEP_VARIABLE = "PERF_ASSETS_KEEP_REPLACED_DAYS"
SETTLE_VARIABLE = "PERF_ASSETS_SETTLE_S"
DEFAULT_SETTLE_S = 1.0
DEFAULT_MAX_FILE_BYTES = 4 * 1024**3
DEFAULT_KEEP_DAYS = 30.0
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class SettingError(PerfAssetsError, ValueError):
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


def max_file_bytes() -> int:
    """The largest file that is copied from drops, in bytes: ``PERF_ASSETS_MAX_FILE``, by default 4 GiB.

    Raises:
        SettingError: it is no size.
    """
    text = os.environ.get(MAX_FILE_VARIABLE)
    if text is None:
        return DEFAULT_MAX_FILE_BYTES
    found = re.fullmatch(r"(\d{1,15})([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if found is None:
        raise SettingError(f"{MAX_FILE_VARIABLE}={text!r} is no size; use bytes, or a number like 500M or 8G")
    return int(found[1]) * _UNITS[found[2].upper()]


def keep_replaced_s() -> float:
    """For how long a replaced version stays in raw, in seconds: ``PERF_ASSETS_KEEP_REPLACED_DAYS``, by
    default 30.

    Raises:
        SettingError: it is no number of days.
    """
    return 86400 * _amount(KEEP_VARIABLE, DEFAULT_KEEP_DAYS, "days")


def settle_s() -> float:
    """For how long a file must have stood still to be taken in, in seconds: ``PERF_ASSETS_SETTLE_S``, by
    default 1.

    Raises:
        SettingError: it is no number of seconds.
    """
    return _amount(SETTLE_VARIABLE, DEFAULT_SETTLE_S, "seconds")


def _amount(variable: str, default: float, unit: str) -> float:
    text = os.environ.get(variable, str(default))
    try:
        amount = float(text)
    except ValueError:
        amount = -1.0
    if not 0 <= amount < 1e6:
        raise SettingError(f"{variable}={text!r} is no number of {unit}; use one like {default:g}")
    return amount
