"""One connection of a sender over HTTP: requests one after the other, and what a failure means."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Generator, Mapping
from contextlib import contextmanager

from perf_assets.measuring.load_tests.requests import RequestError, ServerGoneError


class Connection:
    """It is opened by the first request and again after each error."""

    def __init__(self, host: str, port: int, timeout_s: float) -> None:
        self._host, self._port, self._timeout_s = host, port, timeout_s
        self._connection = _PromptConnection(host, port, timeout=timeout_s)

    @contextmanager
    def posted(
        self, path: str, body: bytes, headers: Mapping[str, str]
    ) -> Generator[http.client.HTTPResponse]:
        """The answer to a request; whoever asks reads all of it.

        Raises:
            RequestError: it did not come in time, or the connection broke.
            ServerGoneError: nobody listens any more.
        """
        try:
            self._connection.request("POST", path, body, dict(headers))
            yield self._connection.getresponse()
        except TimeoutError:
            self._connection.close()
            raise RequestError(f"no answer within {self._timeout_s:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise self._gone_or_failed(error) from None

    def close(self) -> None:
        """Let it go."""
        self._connection.close()

    def _gone_or_failed(self, error: Exception) -> Exception:
        try:
            socket.create_connection((self._host, self._port), timeout=1).close()
        except OSError:
            return ServerGoneError(f"{self._host}:{self._port}: {error}")
        return RequestError(f"connection broken: {error}")


class _PromptConnection(http.client.HTTPConnection):
    """A connection whose small messages do not wait to be gathered."""

    def connect(self) -> None:
        super().connect()
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
