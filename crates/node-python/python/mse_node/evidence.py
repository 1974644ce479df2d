"""Answers `GET /.well-known/mse/evidence?nonce=HEX` in front of the application; all else goes to it untouched.

The evidence is made by the Rust side (one quote at a time, a short queue, 429 beyond), which also writes the refusals.
The lifespan, web sockets and streams of an ASGI application pass through as they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any

PATH = "/.well-known/mse/evidence"

# (method, query string) -> (status, headers, body)
Answer = Callable[[str, str], tuple[int, list[tuple[str, str]], bytes]]


def wsgi(application: Callable[..., Iterable[bytes]], answer: Answer) -> Callable[..., Iterable[bytes]]:
    """Puts the evidence in front of a WSGI application."""

    def call(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("PATH_INFO") != PATH:
            return application(environ, start_response)
        status, headers, body = answer(environ["REQUEST_METHOD"], environ.get("QUERY_STRING", ""))
        start_response(f"{status} {HTTPStatus(status).phrase}", headers)
        return [body]

    return call


def asgi(application: Callable[..., Awaitable[None]], answer: Answer) -> Callable[..., Awaitable[None]]:
    """Puts the evidence in front of an ASGI application. Quotes are made on a few threads of their own, so that
    neither the event loop nor the application's threads wait for them."""
    threads = ThreadPoolExecutor(max_workers=QUEUE, thread_name_prefix="mse-evidence")

    async def call(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] != PATH:
            await application(scope, receive, send)
            return
        query = scope.get("query_string", b"").decode("latin-1")
        loop = asyncio.get_running_loop()
        status, headers, body = await loop.run_in_executor(threads, answer, scope["method"], query)
        fields = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": body})

    return call


# One more than the Rust side lets wait and work at a time, so that its refusals are never queued behind the quotes.
QUEUE = 6
