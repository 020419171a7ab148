"""Which device a row is of, where a poll log names none: GPUs of one poll are printed one behind the other.

Identity by index, uuid or bus id is the formats' own; this is for rows that have nothing but their order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

MOST_DEVICES = 64
"""More devices than this are in no host: longer groups of rows are not one poll."""

SMALL_SHARE = 0.2
"""The rows of one poll follow each other at least five times faster than the polls do."""

MOST_POLL_S = 0.5
"""A poll of all devices of a host takes less than this."""

ONE_POLL_S = 0.03
"""A log that ends so soon is one poll: no poller asks again so fast."""

REGULAR_SHARE = 0.8
"""So many of the polls have the usual number of rows; else the rows' order tells nothing."""


@dataclass(frozen=True)
class DeviceOrder:
    """How the rows of one poll are known: ``count`` devices; a gap over ``gap_s`` or a header starts the next
    poll.

    ``gap_s`` is None where times do not tell (there are none, or whole seconds only): then every ``count``
    rows are a poll.
    """

    count: int = 1
    gap_s: float | None = None


def device_order(
    times_s: Sequence[float | None], names: Sequence[str | None], group_sizes: Sequence[int]
) -> DeviceOrder:
    """How many devices a poll has, judged by the first rows of a log.

    ``times_s`` and ``names`` are those of the rows in order, ``group_sizes`` how many rows stand under each
    header.
    """
    if len(group_sizes) > 1 and (size := _usual(group_sizes[:-1])) > 1 and _are_polls(times_s, group_sizes):
        return DeviceOrder(size)
    known = [at for at in times_s if at is not None]
    if len(known) == len(times_s) and len(known) > 1:
        if max(known) - min(known) <= ONE_POLL_S:
            return DeviceOrder(len(known))
        return _by_time(known)
    return DeviceOrder(_period(names))


def _are_polls(times_s: Sequence[float | None], group_sizes: Sequence[int]) -> bool:
    """Do the rows under each header tell of one moment? Whole seconds may change within a poll."""
    begin = 0
    for size in group_sizes:
        known = [at for at in times_s[begin : begin + size] if at is not None]
        begin += size
        is_whole = all(at == int(at) for at in known)
        if known and max(known) - min(known) > (1 if is_whole else MOST_POLL_S):
            return False
    return True


def _by_time(times_s: Sequence[float]) -> DeviceOrder:
    """Rows that follow each other fast are one poll, where that splits the log into groups of one size."""
    gaps_s = [abs(later - earlier) for earlier, later in pairwise(times_s)]
    in_order = sorted(set(gaps_s))
    for smaller, larger in pairwise(in_order):
        if smaller > MOST_POLL_S:
            break
        if smaller >= SMALL_SHARE * larger:
            continue
        sizes, size = [], 1
        for gap_s in gaps_s:
            if gap_s >= larger:
                sizes.append(size)
                size = 0
            size += 1
        if (count := _usual(sizes)) > 1:
            is_whole = all(at == int(at) for at in times_s)
            return DeviceOrder(count, None if is_whole else (smaller + larger) / 2)
    return DeviceOrder()


def _usual(sizes: Sequence[int]) -> int:
    """The number of rows that nearly all polls have; 1 where there is none."""
    if not sizes:
        return 1
    (size, times), *_ = Counter(sizes).most_common(1)
    return size if size <= MOST_DEVICES and times >= REGULAR_SHARE * len(sizes) else 1


def _period(names: Sequence[str | None]) -> int:
    """After how many rows the names of unlike devices come again."""
    for count in range(2, min(MOST_DEVICES, len(names) // 2) + 1):
        if len(set(names[:count])) > 1 and all(
            name == names[place % count] for place, name in enumerate(names)
        ):
            return count
    return 1
