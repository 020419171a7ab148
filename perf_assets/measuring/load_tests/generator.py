"""The load itself: closed loop and open loop, every request's times kept.

Closed loop: ``concurrency`` threads, each sends its next request as soon as its last one was answered. What is
counted begins with the completion that ends the warm-up and ends with a completion, so that all threads were
busy all the time.

Open loop: a Poisson process of the given rate (the times of n arrivals in n / rate seconds, given their number,
are uniform and sorted). A request's latency is counted from the moment it was due, not from when it could be
sent: a server that stalls delays the requests behind it, and that delay is theirs (no coordinated omission: G.
Tene, "How NOT to measure latency"). More than ``most_in_flight`` requests are never under way; what that delays
is told as the delayed share.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from perf_assets.measuring.load_tests.requests import (
    Finished,
    MakeSender,
    RequestError,
    Sender,
    Tokens,
)

_START_NS = 50_000_000
_MOST_ERRORS_IN_A_ROW = 50


@dataclass
class Load:
    """What one run of the generator saw: the measured requests, by their end, and the window they fill."""

    requests: list[Finished] = field(default_factory=list)
    start_ns: int = 0
    end_ns: int = 0
    unanswered: int = 0
    """Open loop: requests that were due in the window and not answered at its end."""
    quickest_us: float | None = None
    """Open loop: the shortest time from sending to answer, requests of the warm-up too; None where all failed."""
    mode_stopped: str | None = None
    """Why it ended early; None where it did not."""
    is_schedule_known: bool = True
    """False where another tool sent the requests: when they were due is not told."""

    @property
    def answered(self) -> list[Finished]:
        """Those that were answered without an error."""
        return [each for each in self.requests if each.error is None]

    @property
    def window_s(self) -> float:
        """Length of the window."""
        return (self.end_ns - self.start_ns) / 1e9


@dataclass(frozen=True)
class Bounds:
    """How much is measured, and what ends a run in any case."""

    requests: int
    warmup: int
    limit_s: float
    most_in_flight: int = 64


def closed_loop(make_sender: MakeSender, concurrency: int, bounds: Bounds) -> Load:
    """Keep ``concurrency`` requests under way until enough were answered.

    Raises:
        ServerGoneError: the server is gone.
    """
    warmup = _multiple(max(bounds.warmup, concurrency), concurrency)
    wanted = warmup + _multiple(bounds.requests, concurrency)
    run = _Run(wanted)
    threads = [
        threading.Thread(target=run.closed, args=(make_sender,), daemon=True) for _ in range(concurrency)
    ]
    stopped = _run_all(threads, run, bounds.limit_s)
    finished = sorted(run.finished, key=_ended_ns)[:wanted]
    if len(finished) <= warmup:
        return Load(finished, *_ends(finished), mode_stopped=stopped)
    measured = finished[warmup:]
    return Load(measured, finished[warmup - 1].ended_ns, measured[-1].ended_ns, mode_stopped=stopped)


def open_loop(make_sender: MakeSender, rate_per_s: float, bounds: Bounds, seed: str) -> Load:
    """Send requests at the times of a Poisson process, whatever becomes of the earlier ones.

    Raises:
        ServerGoneError: the server is gone.
    """
    total = bounds.warmup + bounds.requests
    begin_ns = time.perf_counter_ns() + _START_NS
    start_ns = begin_ns + round(bounds.warmup / rate_per_s * 1e9)
    end_ns = begin_ns + round(total / rate_per_s * 1e9)
    due_ns = [begin_ns + offset for offset in schedule_ns(bounds.warmup, rate_per_s, f"{seed} warmup")]
    due_ns += [start_ns + offset for offset in schedule_ns(bounds.requests, rate_per_s, seed)]
    run = _Run(total, due_ns)
    threads = [
        threading.Thread(target=run.scheduled, args=(make_sender,), daemon=True)
        for _ in range(min(bounds.most_in_flight, total))
    ]
    stopped = _run_all(threads, run, bounds.limit_s)
    measured = sorted((each for each in run.finished if each.due_ns >= start_ns), key=_ended_ns)
    in_time = sum(each.ended_ns <= end_ns for each in measured)
    times_us = [(each.ended_ns - each.sent_ns) / 1e3 for each in run.finished if each.error is None]
    quickest_us = min(times_us, default=None)
    return Load(measured, start_ns, end_ns, bounds.requests - in_time, quickest_us, mode_stopped=stopped)


def schedule_ns(requests: int, rate_per_s: float, seed: str) -> list[int]:
    """When each of so many requests is due, in nanoseconds from the start."""
    draw = random.Random(seed)
    length_ns = requests / rate_per_s * 1e9
    return sorted(round(draw.random() * length_ns) for _ in range(requests))


class _Run:
    """What the threads of one run share."""

    def __init__(self, wanted: int, due_ns: list[int] | None = None) -> None:
        self.wanted = wanted
        self.due_ns = due_ns or []
        self.finished: list[Finished] = []
        self.stop = threading.Event()
        self.problem: Exception | None = None
        self.too_many_errors: str | None = None
        self._numbers = itertools.count()

    def closed(self, make_sender: MakeSender) -> None:
        """One thread of a closed loop."""

        def work(sender: Sender) -> None:
            errors = 0
            while not self.stop.is_set():
                errors = self._send(sender, next(self._numbers), None, errors)
                if len(self.finished) >= self.wanted:
                    self.stop.set()

        self._guarded(make_sender, work)

    def scheduled(self, make_sender: MakeSender) -> None:
        """One thread of an open loop: it takes the next arrival, waits for it, sends it."""

        def work(sender: Sender) -> None:
            while not self.stop.is_set() and (number := next(self._numbers)) < self.wanted:
                due_ns = self.due_ns[number]
                if (wait_s := (due_ns - time.perf_counter_ns()) / 1e9) > 0:
                    time.sleep(wait_s)
                self._send(sender, number, due_ns, 0)

        self._guarded(make_sender, work)

    def _send(self, sender: Sender, number: int, due_ns: int | None, errors: int) -> int:
        """Send one request and note it; returns how many errors came one after the other."""
        error: str | None = None
        tokens: Tokens | None = None
        sent_ns = time.perf_counter_ns()
        try:
            tokens = sender.send(number)
        except RequestError as problem:
            error = str(problem)
        ended_ns = time.perf_counter_ns()
        self.finished.append(
            Finished(sent_ns if due_ns is None else due_ns, sent_ns, ended_ns, error, tokens)
        )
        if error is None:
            return 0
        if errors + 1 >= _MOST_ERRORS_IN_A_ROW:
            self.too_many_errors = error
            self.stop.set()
        return errors + 1

    def _guarded(self, make_sender: MakeSender, work: Callable[[Sender], None]) -> None:
        try:
            sender = make_sender()
            try:
                work(sender)
            finally:
                sender.close()
        except Exception as error:  # noqa: BLE001 - it is raised where the run was started
            # Once the run is over, connections may be closed under a request.
            if not self.stop.is_set():
                self.problem = error
                self.stop.set()


def _run_all(threads: list[threading.Thread], run: _Run, limit_s: float) -> str | None:
    """Start the threads and wait for them, no longer than the limit; returns why it ended early."""
    deadline_s = time.monotonic() + limit_s
    stopped = None
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            while thread.is_alive():
                left_s = deadline_s - time.monotonic()
                if left_s <= 0 and stopped is None:
                    stopped = f"the limit of {limit_s:g} s was reached"
                    run.stop.set()
                thread.join(max(left_s, 0.05) if stopped is None else 0.05)
    finally:
        run.stop.set()  # an interrupt ends the threads as well
    if run.problem is not None:
        raise run.problem
    if run.too_many_errors is not None:
        return f"{_MOST_ERRORS_IN_A_ROW} errors one after the other: {run.too_many_errors}"
    return stopped


def _ended_ns(request: Finished) -> int:
    return request.ended_ns


def _multiple(number: int, of: int) -> int:
    return -(-number // of) * of


def _ends(finished: list[Finished]) -> tuple[int, int]:
    return (min(each.sent_ns for each in finished), finished[-1].ended_ns) if finished else (0, 0)
