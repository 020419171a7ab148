"""A model that only takes time: so many instances, a first-in-first-out queue, and Triton's statistics.

What the embedded servers serve. Its truth is known, so generators, searches and checks can be held against it:
one instance is an M/D/1 (or with exponential service an M/M/1) queue under Poisson load.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from dataclasses import dataclass, field, fields


@dataclass(frozen=True)
class Behaviour:
    """How the model behaves; times in milliseconds. The last five are faults, for tests."""

    instances: int = 1
    service_ms: float = 20.0
    per_sample_ms: float = 0.0
    """Added for each sample of a request beyond the first."""
    exponential: bool = False
    """Service times drawn from an exponential distribution of the same mean."""
    seed: int = 0
    stall_at_request: int = 0
    """From this request on (counted from 1) every instance stands still for ``stall_ms``, once."""
    stall_ms: float = 0.0
    fail_every: int = 0
    wrong_shape: bool = False
    die_at_request: int = 0


class RequestFailedError(Exception):
    """A fault that was asked for."""


@dataclass
class Statistics:
    """What Triton counts: requests and nanoseconds since the start."""

    success_count: int = 0
    fail_count: int = 0
    inference_count: int = 0
    execution_count: int = 0
    success_ns: int = 0
    queue_ns: int = 0
    infer_ns: int = 0

    def copy(self) -> Statistics:
        """The numbers as they are now."""
        return Statistics(**{each.name: getattr(self, each.name) for each in fields(self)})


@dataclass
class _Request:
    samples: int
    number: int
    queued_ns: int
    done: threading.Event = field(default_factory=threading.Event)
    error: str | None = None


class ServedModel:
    """Serves requests one after the other on each instance, in the order in which they came."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self._queue: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._random = random.Random(behaviour.seed)
        self._lock = threading.Lock()
        self._received = 0
        self._statistics = Statistics()
        self._stalled_until_ns = 0
        for _ in range(behaviour.instances):
            threading.Thread(target=self._serve, daemon=True).start()

    def infer(self, samples: int = 1) -> None:
        """Serve one request; returns when it is done.

        Raises:
            RequestFailedError: it is one of those that are to fail.
        """
        with self._lock:
            self._received += 1
            number = self._received
        request = _Request(samples, number, time.monotonic_ns())
        self._queue.put(request)
        request.done.wait()
        if request.error is not None:
            raise RequestFailedError(request.error)

    def statistics(self) -> Statistics:
        """Counts until now."""
        with self._lock:
            return self._statistics.copy()

    def _serve(self) -> None:
        while (request := self._queue.get()) is not None:
            started_ns = time.monotonic_ns()
            self._work(request)
            ended_ns = time.monotonic_ns()
            with self._lock:
                counts = self._statistics
                if request.error is None:
                    counts.success_count += 1
                    counts.success_ns += ended_ns - request.queued_ns
                    counts.queue_ns += started_ns - request.queued_ns
                    counts.infer_ns += ended_ns - started_ns
                    counts.inference_count += request.samples
                    counts.execution_count += 1
                else:
                    counts.fail_count += 1
            request.done.set()

    def _work(self, request: _Request) -> None:
        behaviour = self.behaviour
        if behaviour.die_at_request and request.number >= behaviour.die_at_request:
            import os

            os._exit(3)
        if behaviour.stall_at_request and request.number == behaviour.stall_at_request:
            self._stalled_until_ns = time.monotonic_ns() + round(behaviour.stall_ms * 1e6)
        service_s = (behaviour.service_ms + behaviour.per_sample_ms * (request.samples - 1)) / 1e3
        if behaviour.exponential:
            with self._lock:
                service_s = self._random.expovariate(1 / service_s)
        stall_s = (self._stalled_until_ns - time.monotonic_ns()) / 1e9
        time.sleep(service_s + max(0.0, stall_s))
        if behaviour.fail_every and request.number % behaviour.fail_every == 0:
            request.error = f"request {request.number} fails as asked for"
