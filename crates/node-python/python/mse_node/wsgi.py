"""What PEP 3333 promises a WSGI application and the application server leaves out.

* `start_response` may be called as late as while the first chunk of the body is made (a generator does that);
* `start_response` returns `write`;
* with `exc_info`, `start_response` may replace a response that has not gone out yet;
* `wsgi.input` reads as a file does: any size, lines, lines with a limit.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any

Application = Callable[..., Iterable[bytes]]


def conforming(application: Application) -> Application:
    """Wraps `application`, for a server that reads status and headers as soon as the call returns."""

    def call(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        environ["wsgi.input"] = io.BufferedReader(_Input(environ["wsgi.input"]), 65536)
        response = _Response()
        body = application(environ, response.start)
        if isinstance(body, list) and response.started and not response.written:
            response.send(start_response)
            return body
        try:
            iterator = iter(body)
            first = [] if response.started else _until_started(iterator, response)
        except BaseException:
            _close(body)
            raise
        response.send(start_response)
        return _Body(response.written + first, iterator, body)

    return call


def _until_started(iterator: Iterator[bytes], response: _Response) -> list[bytes]:
    for chunk in iterator:
        if chunk or response.started:
            return [chunk]
    return []


def _close(body: Iterable[bytes]) -> None:
    close = getattr(body, "close", None)
    if close is not None:
        close()


class _Response:
    """What the application said with `start_response` and `write`, until it is sent."""

    def __init__(self) -> None:
        self.status: str | None = None
        self.headers: list[tuple[str, str]] = []
        self.written: list[bytes] = []
        self.sent = False

    @property
    def started(self) -> bool:
        return self.status is not None

    def start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
        if exc_info is not None:
            try:
                if self.sent:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self.started:
            raise RuntimeError("the application called start_response twice without exc_info")
        self.status = status
        self.headers = list(headers)
        return self.written.append

    def send(self, start_response: Callable[..., Any]) -> None:
        if not self.started:
            raise RuntimeError("the application returned without calling start_response")
        self.sent = True
        start_response(self.status, self.headers)


class _Body:
    """The whole body: what was written, what was read ahead, the rest; closes what the application returned."""

    def __init__(self, ready: list[bytes], rest: Iterator[bytes], owner: Iterable[bytes]) -> None:
        self._ready = iter(ready)
        self._rest = rest
        self._owner = owner

    def __iter__(self) -> _Body:
        return self

    def __next__(self) -> bytes:
        for chunk in self._ready:
            return chunk
        return next(self._rest)

    def close(self) -> None:
        _close(self._owner)


class _Input(io.RawIOBase):
    """The server's request body as a raw stream."""

    def __init__(self, source: Any) -> None:
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._source.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
