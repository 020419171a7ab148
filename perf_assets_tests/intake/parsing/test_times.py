from datetime import datetime, time
from pathlib import PurePosixPath

import pytest

from perf_assets.intake.parsing.times import (
    DayClock,
    date_of_path,
    is_fraction,
    parse_month_first,
    parse_time,
    parse_time_of_day,
)

TEN = datetime(2024, 1, 1, 10)


@pytest.mark.parametrize(
    ("cell", "at"),
    [
        ("2024-01-01T10:00:00Z", TEN),
        ("2024-01-01 10:00:00.5Z", TEN.replace(microsecond=500_000)),
        ("2024-01-01T18:00:00+08:00", TEN),
        ("2024-01-01T04:30:00-0530", TEN),
        ("2024-01-01T12:00:00+02", TEN),
        ("2024/01/01 02:00:00 PST", TEN),
        ("Mon Jan  1 11:00:00 CET 2024", TEN),
        ("Mon Jan  1 12:00:00 IST 2024", None),
        ("Mon 01 Jan 2024 02:00:00 AM PST", TEN),
        ("1704103200", TEN),
        ("1704103200.25", TEN.replace(microsecond=250_000)),
        ("1704103200250", TEN.replace(microsecond=250_000)),
    ],
)
def test_what_the_log_tells_counts_whatever_zone_is_set(cell, at):
    for zone in ("UTC", "America/Chicago"):
        moment = parse_time(cell, zone)
        if at is None:
            assert moment.source != "utc", "an abbreviation of several meanings"
        else:
            assert moment == (at, "utc")


@pytest.mark.parametrize(
    "cell", ["2024-01-01 10:00:00", "2024/01/01 10:00:00,000", "Mon Jan  1 10:00:00 2024"]
)
def test_a_local_time_is_read_in_the_zone_that_is_set(cell):
    assert parse_time(cell, "UTC") == (TEN, "local time, read as UTC")
    assert parse_time(cell, "America/Chicago").at == datetime(2024, 1, 1, 16)


@pytest.mark.parametrize(
    "cell",
    [
        "",
        "10:00",
        "2024-13-01 10:00:00",
        "Tue Jan  1 10:00:00 UTC 2024",
        "01/02/2024 10:00:00",
        "17",
        "x" * 9999,
    ],
)
def test_what_is_no_time_is_none(cell):
    with pytest.raises(ValueError, match=r".+"):
        parse_time(cell, "UTC")


def test_times_outside_of_all_years():
    for cell, zone in (("0001-01-01 00:00:00", "Asia/Tokyo"), ("9999-12-31 23:59:59", "America/Chicago")):
        with pytest.raises(ValueError, match="years"):
            parse_time(cell, zone)


def test_month_first():
    assert parse_month_first("04/07/2025-23:59:40", "UTC").at == datetime(2025, 4, 7, 23, 59, 40)
    assert parse_month_first("04-07-2025 23:59:40", "UTC").at == datetime(2025, 4, 7, 23, 59, 40)


def test_time_of_day():
    assert parse_time_of_day("14:44:16,5") == time(14, 44, 16, 500_000)
    assert parse_time_of_day("25:00:00") is None
    assert parse_time_of_day("2024-01-01 14:44:16") is None


class TestDayClock:
    def days(self, *times: str) -> list[int]:
        clock = DayClock(PurePosixPath("logs/2024-06-11/dmon.log"), "UTC")
        return [clock.at(time.fromisoformat(each)).at.day for each in times]

    def test_midnight_is_passed(self):
        assert self.days("23:59:59", "00:00:00", "12:00:00", "23:00:00", "00:30:00") == [11, 12, 12, 12, 13]

    def test_rows_out_of_order_are_of_the_same_day(self):
        assert self.days("10:00:05", "10:00:04", "09:10:00") == [11, 11, 11]

    def test_without_a_date_there_is_no_moment(self):
        assert DayClock(PurePosixPath("dmon.log"), "UTC").at(time(10)) is None


@pytest.mark.parametrize(
    ("path", "day"),
    [("a/20240611/b.log", 11), ("a/2024-06-11_run.log", 11), ("2024-06-10/x_2024-06-12.csv", 12)],
)
def test_dates_in_paths(path, day):
    assert date_of_path(PurePosixPath(path)).day == day


def test_no_date_in_the_path():
    assert date_of_path(PurePosixPath("run-20249999/a.log")) is None


def test_a_fraction_behind_a_comma():
    assert is_fraction("2024-01-01 10:00:00", "123")
    assert not is_fraction("2024-01-01 10:00:00.5", "123")
    assert not is_fraction("2024-01-01 10:00:00", " 0")
