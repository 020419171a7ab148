"""A layer around Dagster's web server that lets only this machine's own pages in.

A page of another site can make a browser send requests to a server on the loopback address. They are told by
their Host, Origin and Sec-Fetch-Site headers (https://fetch.spec.whatwg.org/#origin-header), and by mutations
that come as a GET. Nothing of Dagster is changed here.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]

_LOOPBACK = frozenset(("127.0.0.1", "localhost", "[::1]"))


class LoopbackGuard:
    """An ASGI application that hands on what comes from this machine's own pages, and refuses the rest with
    403."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Look at one request or web socket before the application does."""
        problem = refusal(scope) if scope["type"] in ("http", "websocket") else None
        if problem is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 4403, "reason": problem})
        else:
            body = json.dumps({"error": problem}).encode()
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": body})


def refusal(scope: Scope) -> str | None:
    """Say why a request is refused; None where it may pass."""
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    host = headers.get("host", "")
    if _name_of(host) not in _LOOPBACK:
        return (
            f"host {host[:100]!r} is not this machine: open http://localhost with the port that was printed"
        )
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != host:
        return f"origin {origin[:100]!r} is another site"
    # A link on another page may be followed; what that page loads in the background may not.
    is_followed = headers.get("sec-fetch-mode") == "navigate" and not _asks_graphql(scope)
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not is_followed:
        return "the request comes from a page of another site"
    if scope["type"] == "http" and scope["method"] not in ("POST", "OPTIONS") and _asks_graphql(scope):
        return "GraphQL is asked by POST"
    return None


def _asks_graphql(scope: Scope) -> bool:
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
    return str(scope["path"]).rstrip("/").endswith("/graphql") and bool(
        query.keys() & {"query", "mutation", "id"}
    )


def _name_of(host: str) -> str:
    name, _, port = host.rpartition(":")
    return (name if name and port.isdigit() else host).lower()
