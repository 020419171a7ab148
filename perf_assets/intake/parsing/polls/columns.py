"""Columns of poll logs as Arrow arrays: times, maps of metrics, sessions, and devices by their order in a
poll."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from perf_assets.intake.parsing.cells import ABSENT
from perf_assets.intake.parsing.polls.devices import DeviceOrder
from perf_assets.intake.parsing.polls.sessions import SESSION_GAP_S

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


def fast_slashed_times(column: pa.Array, timezone: str) -> pa.Array:
    """Times like ``2022/08/03 08:06:44.893`` of an Arrow column as naive UTC.

    Raises:
        ValueError, pyarrow.ArrowInvalid: some cell is not such a time (it may be another that ``parse_time``
            reads).
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


def without_absent(column: pa.Array) -> pa.Array:
    """Texts, NULL where they say that there is no value."""
    import pyarrow as pa
    import pyarrow.compute as pc

    absent = pc.is_in(pc.utf8_lower(column), pa.array(sorted(ABSENT)))
    return pc.if_else(absent, pa.scalar(None, pa.string()), column)


def numbers_and_texts(values: Iterable[Any]) -> pa.StructArray:
    """Cells of a field without a column of its own: numbers and texts apart."""
    import pyarrow as pa

    values = list(values)
    numbers = pa.array([value if isinstance(value, float) else None for value in values], pa.float64())
    texts = pa.array([value if isinstance(value, str) else None for value in values], pa.string())
    return pa.StructArray.from_arrays([numbers, texts], ["number", "text"])


def map_array(columns: dict[str, pa.Array], value_type: pa.DataType) -> pa.MapArray:
    """Columns side by side as one map a row; absent values are left out."""
    import numpy as np
    import pyarrow as pa

    count = len(next(iter(columns.values())))
    keys = pa.array(list(columns) * count)
    values = pa.concat_arrays([column.cast(value_type) for column in columns.values()])
    order = np.arange(count * len(columns)).reshape(len(columns), count).T.ravel()
    values = values.take(pa.array(order))
    present = values.is_valid()
    kept = present.to_numpy(zero_copy_only=False).reshape(count, len(columns)).sum(axis=1)
    offsets = pa.array(np.concatenate([[0], np.cumsum(kept)]), pa.int32())
    return pa.MapArray.from_arrays(offsets, keys.filter(present), values.filter(present))


class SessionNumbers:
    """Session numbers by each device's own times: a hole (or a jump back) over the gap starts the next."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, int]] = {}

    def of(self, device: pa.Array, polled_at: pa.Array) -> pa.Array:
        """The session of every row. Rows without a time are in the session before them."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        encoded = device.dictionary_encode()
        codes = encoded.indices.to_numpy(zero_copy_only=False)
        is_known = pc.is_valid(polled_at).to_numpy(zero_copy_only=False)
        times = pc.fill_null(polled_at.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
        sessions = np.zeros(len(codes), np.int64)
        for code, name in enumerate(encoded.dictionary.to_pylist()):
            of_device = codes == code
            where = np.flatnonzero(of_device & is_known)
            if not len(where):
                sessions[of_device] = self._last.get(name, (0, 0))[1]
                continue
            own = times[where]
            last, session = self._last.get(name, (own[0], 0))
            holes = np.abs(np.diff(own, prepend=last)) > SESSION_GAP_S * 1_000_000
            numbers = session + np.cumsum(holes)
            every = np.flatnonzero(of_device)
            places = np.searchsorted(where, every, side="right") - 1
            sessions[every] = np.where(places < 0, session, numbers[np.maximum(places, 0)])
            self._last[name] = (own[-1], int(numbers[-1]))
        return pa.array(sessions)


class DevicePlaces:
    """The place of every row in its poll, carried on from one block of rows to the next."""

    def __init__(self, order: DeviceOrder) -> None:
        self.order = order
        self._place = -1
        self._last_us: int | None = None

    def begin_poll(self) -> None:
        """A header was printed: the next row is the first of a poll."""
        self._place = -1

    def of(self, polled_at: pa.Array, starts: np.ndarray | None = None) -> pa.Array:
        """``0``, ``1``, ... of every row, as texts. ``starts`` marks rows right behind a header."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        count = len(polled_at)
        if self.order.count == 1 or not count:
            return pa.array(["0"]).take(pa.array(np.zeros(count, np.int64)))
        is_first = np.zeros(count, bool) if starts is None else starts.copy()
        if self.order.gap_s is not None:
            times = pc.fill_null(polled_at.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
            last = times[0] if self._last_us is None else self._last_us
            is_first |= np.abs(np.diff(times, prepend=last)) >= self.order.gap_s * 1_000_000
            self._last_us = int(times[-1])
        index = np.arange(count)
        # A poll that goes on from the block before began so many rows ahead of this one.
        begin = np.maximum.accumulate(np.where(is_first, index, -self._place - 1))
        places = (index - begin) % self.order.count
        self._place = int(index[-1] - begin[-1])
        return pa.array([str(place) for place in range(self.order.count)]).take(pa.array(places))
