"""What a load source is: one request at a time by one sender a thread, and what became of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from perf_assets.workspace.errors import PerfAssetsError


class LoadError(PerfAssetsError):
    """A study cannot go on: the message says why and what helps, in one line."""


class RequestError(Exception):
    """One request was answered with an error, or with what is no answer; the load goes on."""


class ServerGoneError(Exception):
    """Nobody listens at the server's address any more."""


@dataclass(frozen=True)
class Tokens:
    """Of one streamed answer: when each token came, on the clock of ``time.perf_counter_ns``."""

    arrived_ns: tuple[int, ...]


class Sender(Protocol):
    """Sends requests one after the other; each thread has its own."""

    def send(self, index: int) -> Tokens | None:
        """Send the request with this number and wait for its whole answer.

        Raises:
            RequestError: it was answered with an error, or not in time.
            ServerGoneError: the server is gone.
        """
        ...

    def close(self) -> None:
        """Let the connection go."""
        ...


MakeSender = Callable[[], Sender]


class Finished(NamedTuple):
    """One request that was sent; times by ``time.perf_counter_ns``.

    ``due_ns`` is when it was to be sent: in an open loop by the schedule, in a closed loop when it was.
    """

    due_ns: int
    sent_ns: int
    ended_ns: int
    error: str | None = None
    tokens: Tokens | None = None

    @property
    def latency_ns(self) -> int:
        """From when it was due, so that waiting to be sent counts."""
        return self.ended_ns - self.due_ns


class Endpoint(Protocol):
    """A server under load, by one protocol: what a study asks of it beside requests."""

    def is_ready(self) -> bool:
        """Does it take requests for the model?"""
        ...

    def sender(self) -> Sender:
        """A connection of its own."""
        ...

    def statistics(self) -> dict[str, float] | None:
        """Requests served and nanoseconds spent, by component, since the server's start; None where it does
        not tell."""
        ...

    def configuration(self) -> dict[str, Any] | None:
        """The model's effective configuration; None where it does not tell."""
        ...
