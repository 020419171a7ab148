"""Times as logs print them: slashed and ISO stamps, the date command's, epoch seconds, times of day without a
date.

Every reader of a time gives naive UTC and says how it knows: ``utc`` where the log tells zone or offset, else
the zone that a local time was read in. What a time means for sessions and energy does not belong here.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from pathlib import PurePosixPath
from typing import NamedTuple

from perf_assets.intake.parsing.records import to_utc

TOLD = "utc"
"""``time_source`` of a time whose zone stands in the log."""

UNTOLD = "none"
"""``time_source`` of a poll without any time."""


class Moment(NamedTuple):
    """A time as naive UTC, and where its zone is from."""

    at: datetime
    source: str


def local_source(timezone: str) -> str:
    """``time_source`` of a local time without a zone."""
    return f"local time, read as {timezone}"


# Hours east of UTC, of abbreviations that the tz database gives one meaning. CST and IST are left out: they
# are China's and America's, India's, Israel's and Ireland's.
_ZONES_BY_HOUR = {
    -10: "HST",
    -9: "AKST",
    -8: "PST AKDT",
    -7: "MST PDT",
    -6: "MDT",
    -5: "EST CDT",
    -4: "EDT",
    -3.5: "NST",
    -3: "ADT",
    -2.5: "NDT",
    0: "UTC GMT Z WET",
    1: "CET MET WEST BST WAT",
    2: "CEST MEST EET SAST CAT",
    3: "EEST IDT MSK EAT",
    5: "PKT",
    7: "WIB",
    8: "HKT AWST WITA SGT",
    9: "JST KST WIT",
    9.5: "ACST",
    10: "AEST",
    10.5: "ACDT",
    11: "AEDT",
    12: "NZST",
    13: "NZDT",
}
ZONE_HOURS = {name: hours for hours, names in _ZONES_BY_HOUR.items() for name in names.split()}

_ZONE = r"(?P<zone>[A-Z]{1,5}|[+-]\d\d(?::?\d\d)?)"
_STAMP = re.compile(
    r"(?P<date>\d{4}[/-]\d\d[/-]\d\d)[ T](?P<time>\d\d:\d\d:\d\d)(?:[.,](?P<fraction>\d{1,9}))? ?"
    + _ZONE
    + r"?\Z",
    re.ASCII,
)
_EPOCH = re.compile(r"(?P<seconds>1[0-9]{9})(?:(?P<milli>\d{3})|\.(?P<fraction>\d{1,9}))?\Z", re.ASCII)
_OF_DAY = re.compile(r"(\d\d:\d\d:\d\d)(?:[.,](\d{1,9}))?\Z", re.ASCII)
_CLOCK = r"(?P<time>\d{1,2}:\d\d:\d\d)(?: (?P<half>AM|PM))?"
# With the C locale the year stands last; with en_US and the like, before the time.
_DATE_COMMAND = (
    re.compile(
        rf"(?P<weekday>[A-Z][a-z]{{2}}) (?P<month>[A-Z][a-z]{{2}}) +(?P<day>\d{{1,2}}) {_CLOCK}(?: {_ZONE})? "
        r"(?P<year>\d{3,4})\Z",
        re.ASCII,
    ),
    re.compile(
        rf"(?P<weekday>[A-Z][a-z]{{2}}),? (?P<day>\d{{1,2}}) (?P<month>[A-Z][a-z]{{2}}) (?P<year>\d{{4}}) "
        rf"{_CLOCK}(?: {_ZONE})?\Z",
        re.ASCII,
    ),
)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")

YEAR_OF_SHORT_DATES = 2022
"""hl-smi of 2022 cut the year to three digits; of the years that fit the weekday, the nearest to this is
meant."""


def parse_time(cell: str, timezone: str) -> Moment:
    """Any time with a date that logs print: ISO, slashed, of the date command, epoch seconds or milliseconds.

    Raises:
        ValueError: it is none, its weekday does not fit, or it lies outside what can be stored.
    """
    try:
        if match := _STAMP.match(cell):
            moment = datetime.fromisoformat(f"{match['date'].replace('/', '-')} {match['time']}")
            return _placed(_with_fraction(moment, match["fraction"]), match["zone"], timezone)
        if match := _EPOCH.match(cell):
            moment = datetime.fromtimestamp(int(match["seconds"]), UTC).replace(tzinfo=None)
            return Moment(_with_fraction(moment, match["milli"] or match["fraction"]), TOLD)
        for pattern in _DATE_COMMAND:
            if match := pattern.match(cell):
                return _placed(_dated(match, cell), match["zone"], timezone)
    except OverflowError:
        raise ValueError(f"{cell[:40]!r} lies outside of all years") from None
    raise ValueError(f"{cell[:40]!r} is not a time like 2022/08/03 08:06:44.893 or 2022-08-03T08:06:44Z")


def is_date_command_time(cell: str) -> bool:
    """Is this a time as the date command prints it, ``Tue Aug  2 20:16:52 UTC 2022``?"""
    return any(pattern.match(cell.strip()) for pattern in _DATE_COMMAND)


_ENDS_IN_SECONDS = re.compile(r".*\d\d:\d\d:\d\d\Z", re.ASCII | re.DOTALL)


def is_fraction(cell: str, following: str) -> bool:
    """Does a time end in whole seconds, and the cell behind it hold their fraction (Python's logging:
    ``16,500``)?"""
    return bool(_ENDS_IN_SECONDS.match(cell[-40:])) and following.isdigit() and len(following) <= 9


def parse_month_first(cell: str, timezone: str) -> Moment:
    """``04/07/2025-23:59:40`` or ``04-07-2025 23:59:40``: tools that put the month first, always in local
    time.

    Raises:
        ValueError: it is not such a time.
    """
    try:
        moment = datetime.strptime(cell.replace("/", "-").replace(" ", "-"), "%m-%d-%Y-%H:%M:%S")
        return Moment(to_utc(moment, timezone), local_source(timezone))
    except OverflowError:
        raise ValueError(f"{cell[:40]!r} lies outside of all years") from None


def parse_time_of_day(cell: str) -> time | None:
    """``14:44:16.5`` as a time of day; None where it is none. What day it was, a ``DayClock`` tells."""
    match = _OF_DAY.match(cell)
    if match is None:
        return None
    try:
        of_day = time.fromisoformat(match[1])
    except ValueError:
        return None
    return of_day.replace(microsecond=int((match[2] or "0").ljust(6, "0")[:6]))


def _with_fraction(moment: datetime, fraction: str | None) -> datetime:
    return moment.replace(microsecond=int(fraction.ljust(6, "0")[:6])) if fraction else moment


def _placed(moment: datetime, zone: str | None, timezone: str) -> Moment:
    """A local time with what stands behind it: an offset, a zone's name, or nothing."""
    if zone in ZONE_HOURS:
        return Moment(moment - timedelta(hours=ZONE_HOURS[zone]), TOLD)
    if zone and zone[0] in "+-":
        digits = zone[1:].replace(":", "").ljust(4, "0")
        offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
        return Moment(moment - offset if zone[0] == "+" else moment + offset, TOLD)
    source = local_source(timezone)
    return Moment(to_utc(moment, timezone), f"{source}: zone {zone} may mean several" if zone else source)


def _dated(match: re.Match[str], cell: str) -> datetime:
    """The local time of a date command; a year cut to ``202`` follows from the weekday."""
    if match["weekday"] not in _DAYS or match["month"] not in _MONTHS:
        raise ValueError(f"{cell[:40]!r} names no weekday or no month")
    hour, minute, second = map(int, match["time"].split(":"))
    hour_of_day = hour % 12 + (12 if match["half"] == "PM" else 0) if match["half"] else hour
    years = [int(match["year"])]
    if len(match["year"]) == 3:
        decade = int(match["year"]) * 10
        years = sorted(range(decade, decade + 10), key=lambda each: abs(each - YEAR_OF_SHORT_DATES))
    month = _MONTHS.index(match["month"]) + 1
    for year in years:
        try:
            moment = datetime(year, month, int(match["day"]), hour_of_day, minute, second)
        except ValueError:
            if len(years) == 1:
                raise
            continue
        if _DAYS[moment.weekday()] == match["weekday"]:
            return moment
    raise ValueError(f"no year fits {cell[:40]!r}: its weekday is wrong")


FALL_BACK = timedelta(hours=2)
"""A time of day that lies so far before the one before it is of the next day."""


class DayClock:
    """Gives times of day their date: that of the path, and the next day whenever midnight was passed."""

    def __init__(self, path: PurePosixPath, timezone: str) -> None:
        self.day = date_of_path(path)
        self.timezone = timezone
        self._last: time | None = None

    def at(self, of_day: time) -> Moment | None:
        """The moment, or None where the path names no date.

        Raises:
            ValueError: it lies outside of all years.
        """
        if self.day is None:
            return None
        try:
            local = datetime.combine(self.day, of_day)
            if self._last is not None and datetime.combine(self.day, self._last) - local > FALL_BACK:
                self.day += timedelta(days=1)
                local += timedelta(days=1)
            self._last = of_day
            return Moment(to_utc(local, self.timezone), f"{self.timezone}, date from path")
        except OverflowError:
            raise ValueError("a time outside of all years") from None


_DATE = re.compile(r"(?<!\d)(20\d\d)[-_]?(0[1-9]|1[0-2])[-_]?(0[1-9]|[12]\d|3[01])(?!\d)", re.ASCII)


def date_of_path(path: PurePosixPath) -> date | None:
    """The date that a path names (``2024-04-18`` or ``20240418``); the last one wins."""
    for year, month, day in reversed(_DATE.findall(str(path))):
        try:
            return date(int(year), int(month), int(day))
        except ValueError:
            continue
    return None
