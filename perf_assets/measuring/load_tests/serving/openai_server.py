"""A small OpenAI-compatible server that streams tokens at known times: the twin of the embedded KServe server.

    python -m perf_assets.measuring.load_tests.serving.openai_server --instances 2 --tokens 16

As many answers are streamed at once as there are instances; the others wait, first come, first served. The first
token comes ``--first-token-ms`` after a free instance took the request, each further one ``--token-ms`` later.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections import deque
from http.server import BaseHTTPRequestHandler
from typing import Any

from perf_assets.measuring.load_tests.serving.kserve_server import (
    PortTakenError,
    behaviour_arguments,
    behaviour_of,
    serve_http,
    tell_and_wait,
)
from perf_assets.measuring.load_tests.serving.served_model import Behaviour

MODEL = "timed"


class Slots:
    """So many places, given out first come, first served."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: deque[threading.Event] = deque()
        self._lock = threading.Lock()

    def take(self) -> None:
        """Wait for a place."""
        turn = threading.Event()
        with self._lock:
            if self._free > 0:
                self._free -= 1
                return
            self._waiting.append(turn)
        turn.wait()

    def give_back(self) -> None:
        """Hand the place to who waits longest."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._free += 1


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    behaviour: Behaviour
    slots: Slots
    tokens: int
    first_token_s: float
    token_s: float
    received = 0

    def do_GET(self) -> None:
        if self.path == "/v1/models":
            self._answer(200, {"object": "list", "data": [{"id": MODEL, "object": "model"}]})
        else:
            self._answer(404, {"error": {"message": f"no {self.path} here"}})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        is_chat = self.path == "/v1/chat/completions"
        if not is_chat and self.path != "/v1/completions":
            self._answer(404, {"error": {"message": f"no {self.path} here"}})
            return
        try:
            asked = json.loads(body)
            tokens = min(int(asked.get("max_tokens", self.tokens)), self.tokens)
        except (ValueError, AttributeError):
            self._answer(400, {"error": {"message": "not a request: a JSON object with model and messages"}})
            return
        type(self).received += 1
        if self.behaviour.fail_every and self.received % self.behaviour.fail_every == 0:
            self._answer(500, {"error": {"message": f"request {self.received} fails as asked for"}})
            return
        self.slots.take()
        try:
            self._stream(tokens, is_chat=is_chat)
        finally:
            self.slots.give_back()

    def _stream(self, tokens: int, *, is_chat: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        due_s = time.monotonic() + self.first_token_s
        for number in range(tokens):
            time.sleep(max(0.0, due_s - time.monotonic()))
            text = f"token{number} "
            choice = {"index": 0, **({"delta": {"content": text}} if is_chat else {"text": text})}
            self._event(json.dumps({"object": "chunk", "choices": [choice]}))
            due_s += self.token_s
        self._event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def _event(self, data: str) -> None:
        event = f"data: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not worth a line each."""


def main(arguments: list[str] | None = None) -> int:
    """Run the server; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m perf_assets.measuring.load_tests.serving.openai_server")
    parser.add_argument("--http-port", type=int, default=0)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--first-token-ms", type=float, default=30.0)
    parser.add_argument("--token-ms", type=float, default=5.0)
    behaviour_arguments(parser)
    options = parser.parse_args(arguments)
    behaviour = behaviour_of(options)
    facts = {
        "behaviour": behaviour,
        "slots": Slots(behaviour.instances),
        "tokens": options.tokens,
        "first_token_s": options.first_token_ms / 1e3,
        "token_s": options.token_ms / 1e3,
    }
    try:
        http = serve_http(type("Handler", (_Handler,), facts), options.http_port)
    except PortTakenError as error:
        print(error, file=sys.stderr)
        return 4
    tell_and_wait({"http_port": http.server_address[1]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
