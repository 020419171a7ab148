"""OpenAI-compatible endpoints (vLLM, TGI, llama.cpp's server): streamed completions, each token's time kept.

The protocol: ``POST /v1/chat/completions`` or ``/v1/completions`` with ``"stream": true`` answers with
server-sent events, ``data: {...}`` a line, ``data: [DONE]`` last. A chunk whose text is empty (the role at the
beginning, the reason to finish at the end) is no token. Servers may put several tokens into one chunk; each
chunk counts as one, unless the last one tells ``usage``.
"""

from __future__ import annotations

import http.client
import json
import time
from typing import Any
from urllib.parse import urlsplit

from perf_assets.measuring.load_tests.http_post import Connection
from perf_assets.measuring.load_tests.requests import LoadError, RequestError, Sender, Tokens

_ASK_S = 10.0
_LONGEST_LINE = 1 << 20


class OpenAiEndpoint:
    """One model of an OpenAI-compatible server."""

    def __init__(
        self, address: str, model: str, timeout_s: float, prompt: str, max_tokens: int, *, chat: bool
    ) -> None:
        split = urlsplit(address if "//" in address else f"http://{address}")
        if split.scheme != "http" or not split.hostname:
            raise LoadError(f"server.url {address!r}: write it as http://HOST:PORT")
        self.address = address
        self.model = model
        self.host, self.port = split.hostname, split.port or 80
        self.prefix = split.path.rstrip("/").removesuffix("/v1")
        self.timeout_s = timeout_s
        self.path = f"{self.prefix}/v1/{'chat/' if chat else ''}completions"
        content: dict[str, Any] = (
            {"messages": [{"role": "user", "content": prompt}]} if chat else {"prompt": prompt}
        )
        self.body = json.dumps(
            {"model": model, "max_tokens": max_tokens, "stream": True, "temperature": 0.0, **content}
        ).encode()

    def is_ready(self) -> bool:
        """Does it list models?"""
        return self.models() is not None

    def models(self) -> list[str] | None:
        """Names of its models; None where it does not answer."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=_ASK_S)
        try:
            connection.request("GET", f"{self.prefix}/v1/models")
            answer = connection.getresponse()
            found = json.loads(answer.read())
            return [str(each["id"]) for each in found["data"]] if answer.status == 200 else None
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
            return None
        finally:
            connection.close()

    def check_model(self) -> None:
        """See that the server has the model.

        Raises:
            LoadError: it has others.
        """
        models = self.models() or []
        if models and self.model not in models:
            raise LoadError(
                f"{self.address}: no model {self.model!r}; it has {', '.join(models)}: check model.name"
            )

    def statistics(self) -> None:
        """It has none."""

    def configuration(self) -> None:
        """It tells none."""

    def sender(self) -> Sender:
        """A connection of its own."""
        return _OpenAiSender(self)

    def close(self) -> None:
        """Connections are the senders'."""


class _OpenAiSender:
    def __init__(self, endpoint: OpenAiEndpoint) -> None:
        self._endpoint = endpoint
        self._connection = Connection(endpoint.host, endpoint.port, endpoint.timeout_s)

    def send(self, index: int) -> Tokens:
        endpoint = self._endpoint
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        with self._connection.posted(endpoint.path, endpoint.body, headers) as answer:
            if answer.status != 200:
                problem = answer.read(2000).decode("utf-8", "replace")
                raise RequestError(f"HTTP {answer.status}: {' '.join(problem.split())[:200]}")
            arrived_ns = self._read(answer)
        if not arrived_ns:
            raise RequestError("an answer without a token")
        return Tokens(tuple(arrived_ns))

    def _read(self, answer: http.client.HTTPResponse) -> list[int]:
        arrived_ns: list[int] = []
        is_done = False
        while line := answer.readline(_LONGEST_LINE):
            now_ns = time.perf_counter_ns()
            text = line.strip()
            if not text.startswith(b"data:"):
                continue
            data = text[5:].strip()
            if data == b"[DONE]":
                is_done = True
                continue  # what follows must be read before the connection serves again
            if has_text(data):
                arrived_ns.append(now_ns)
        if not is_done:
            raise RequestError("the stream ended without [DONE]")
        return arrived_ns

    def close(self) -> None:
        self._connection.close()


def has_text(data: bytes) -> bool:
    """Does a chunk hold text?

    Raises:
        RequestError: it tells an error, or is no chunk.
    """
    try:
        chunk = json.loads(data)
        if "error" in chunk:
            raise RequestError(f"the stream says: {str(chunk['error'])[:200]}")
        return any(
            (choice.get("delta") or {}).get("content") or choice.get("text")
            for choice in chunk.get("choices", ())
        )
    except (ValueError, TypeError, AttributeError):
        raise RequestError("the stream holds what is no chunk of an answer") from None
