"""Processor time that one file may cost: what takes longer is rejected, so that no file holds up the
others."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager

FREE_S = 10.0
SECONDS_PER_MIB = 4.0
"""The slowest parser reads about 2 MiB a second; a budget is eight times that, so a slow machine passes
too."""


class OverBudgetError(Exception):
    """A file took more processor time than any log of its size."""


@contextmanager
def cpu_budget(size_bytes: int) -> Generator[None]:
    """Let a block use so much processor time as a file of this size may cost, and interrupt it beyond.

    The interruption is a signal of the process's own timer (setitimer(2)), which Python and its regular
    expressions look at while they run. Only the main thread can take it; elsewhere nothing is limited.

    Raises:
        OverBudgetError: the time is over.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    limit_s = FREE_S + SECONDS_PER_MIB * size_bytes / 2**20

    def stop(_number: int, _frame: object) -> None:
        raise OverBudgetError(
            f"it took more than {limit_s:.0f} s of processor time to read, more than any log of its size;"
            " please report it with this file"
        )

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
