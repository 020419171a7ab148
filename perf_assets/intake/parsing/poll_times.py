"""Times as poll logs print them: nvidia-smi's local stamps, and hl-smi's in the manner of the date command."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING

from perf_assets.intake.parsing.records import to_utc

if TYPE_CHECKING:
    import pyarrow as pa


def parse_slashed_time(cell: str, timezone: str) -> datetime:
    """``2022/08/03 08:06:44.893`` as naive UTC.

    Raises:
        ValueError: it is not such a time.
    """
    if not re.fullmatch(r"\d{4}[/-]\d\d[/-]\d\d[ T]\d\d:\d\d:\d\d(\.\d{1,6})?", cell, re.ASCII):
        raise ValueError(f"{cell[:40]!r} is not a time like 2022/08/03 08:06:44.893")
    return to_utc(datetime.fromisoformat(cell.replace("/", "-")), timezone)


def fast_slashed_times(column: pa.Array, timezone: str) -> pa.Array:
    """The same for an Arrow column.

    Raises:
        ValueError, pyarrow.ArrowInvalid: some cell is not such a time.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    lengths = pc.min_max(pc.binary_length(column)).as_py()
    if lengths["min"] < 19 or lengths["max"] > 26:
        raise ValueError("a time of another length")
    times = pc.cast(pc.replace_substring(column, "/", "-"), pa.timestamp("us"))
    if timezone != "UTC":
        zoned = pc.assume_timezone(times, timezone, ambiguous="earliest", nonexistent="latest")
        times = zoned.cast(pa.timestamp("us", "UTC")).cast(pa.timestamp("us"))
    return times


YEAR_OF_SHORT_DATES = 2022
"""hl-smi of 2022 cut the year to three digits; of the years that fit the weekday, the nearest to this is meant."""

_MONTHS = {
    name: number
    for number, name in enumerate(
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"], start=1
    )
}
_DAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]


def parse_date_command_time(cell: str, timezone: str) -> datetime:
    """``Tue Aug  2 20:16:52 UTC 2022`` as naive UTC; a year cut to ``202`` follows from the weekday.

    Raises:
        ValueError: it is not such a time, or its weekday does not fit.
    """
    match = re.fullmatch(
        r"(\w{3}) (\w{3}) +(\d{1,2}) (\d\d):(\d\d):(\d\d) (?:(AM|PM) )?(\w{1,5}) (\d{3,4})", cell, re.ASCII
    )
    if not match or match.group(1) not in _DAYS or match.group(2) not in _MONTHS:
        raise ValueError(f"{cell[:40]!r} is not a time like Tue Aug  2 20:16:52 UTC 2022")
    weekday, month, day, hour, minute, second, half, zone, year = match.groups()
    hour_of_day = int(hour) % 12 + (12 if half == "PM" else 0) if half else int(hour)
    years = [int(year)]
    if len(year) == 3:
        decade = int(year) * 10
        years = sorted(range(decade, decade + 10), key=lambda each: abs(each - YEAR_OF_SHORT_DATES))
    for candidate in years:
        try:
            moment = datetime(candidate, _MONTHS[month], int(day), hour_of_day, int(minute), int(second))
        except ValueError:
            if len(years) == 1:
                raise
            continue
        if _DAYS[moment.weekday()] == weekday:
            return moment if zone in ("UTC", "GMT") else to_utc(moment, timezone)
    raise ValueError(f"no year fits {cell[:40]!r}: its weekday is wrong")
