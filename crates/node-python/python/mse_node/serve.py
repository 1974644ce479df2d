"""Serves a WSGI or ASGI application with granian, on a socket that already listens.

The one module that uses granian's private interface, which is why the version is exact: its public server neither
takes a listening socket nor serves WSGI in the same process. Tested by `crates/node-python/tests`.

Connections that arrive while nothing accepts wait in the kernel's backlog, so the port is never lost. Access is not
logged: the log lies with the host.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import granian
from granian._futures import _future_watcher_wrapper, _new_cbscheduler
from granian._granian import ASGIWorker, SocketHolder, WorkerSignal, WSGIWorker
from granian.asgi import LifespanProtocol
from granian.asgi import _callback_wrapper as _asgi_wrapper
from granian.http import HTTP1Settings, HTTP2Settings
from granian.wsgi import _callback_wrapper as _wsgi_wrapper

GRANIAN = "2.8.7"

# An enclave has a fixed number of threads, so each pool has a limit.
RUNTIME_THREADS = 1
FILE_THREADS = 4
WSGI_THREADS = 16
IDLE_THREAD_SECONDS = 30

# granian counts every open connection, idle ones too, and stops accepting at this number.
CONNECTIONS = 4096
BACKLOG = 1024
HEADER_TIMEOUT_MS = 20_000
PING_INTERVAL_MS = 20_000

# How long a stop waits: for open requests, then for the application's own shutdown.
DRAIN_SECONDS = 4.0
SHUTDOWN_SECONDS = 3.0
GIVE_UP_SECONDS = DRAIN_SECONDS + SHUTDOWN_SECONDS + 1.0


class ServeError(Exception):
    """The application server cannot do its work; the message is for the log."""


@dataclass(frozen=True)
class Tls:
    """Paths of the PEM files that granian reads once, while it starts."""

    certificate: str
    key: str


def check_version() -> None:
    """Refuses any granian but the one whose private interface this module was written for."""
    if granian.__version__ != GRANIAN:
        raise ServeError(f"expected granian {GRANIAN}, found {granian.__version__}: the image was not built for this node")


class Server:
    """One application on one listening socket. `run_wsgi` and `run_asgi` return after `stop`, once the work is done or
    its time is over; should even that not end, `give_up` is called.

    `tls` provides the PEM files for as long as they are needed, or `None` for plain HTTP. `log` writes the server's
    own lines, which hold the tracebacks of requests that failed."""

    def __init__(
        self,
        descriptor: int,
        tls: AbstractContextManager[Tls | None],
        log: logging.Handler,
        give_up: Callable[[], None],
    ) -> None:
        self._socket = SocketHolder(descriptor, False, BACKLOG)
        self._tls = tls
        self._give_up = give_up
        self._signal = WorkerSignal()
        # The one kind of queue that a signal handler may use whatever it interrupts.
        self._requests: queue.SimpleQueue[None] = queue.SimpleQueue()
        logger = logging.getLogger("_granian")
        logger.setLevel(logging.WARNING)
        logger.propagate = False
        logger.addHandler(log)

    def stop(self) -> None:
        """Stops accepting, and lets open requests finish. A signal handler may call it, more than once."""
        self._requests.put(None)

    def run_wsgi(self, application: Callable[..., Any]) -> None:
        """Serves a WSGI application on granian's threads."""
        stopped, drained = threading.Event(), threading.Event()
        self._signal.add_cb(drained.set)
        self._watch(stopped.set)
        with self._tls as tls:
            worker = WSGIWorker(*self._common(WSGI_THREADS), None, *_security(tls), (None, None))
            loop = asyncio.new_event_loop()
            scheduler = _new_cbscheduler(loop, _wsgi_wrapper(application, {}, None), impl_asyncio=True)
            worker.serve_mtr(scheduler, loop, self._signal)
        stopped.wait()
        drained.wait(DRAIN_SECONDS)

    def run_asgi(self, application: Callable[..., Any]) -> None:
        """Serves an ASGI application on an event loop in this thread, its lifespan around it."""
        asyncio.run(self._serve_asgi(application))

    async def _serve_asgi(self, application: Callable[..., Any]) -> None:
        loop = asyncio.get_running_loop()
        stopped, drained = asyncio.Event(), asyncio.Event()
        self._signal.add_cb(lambda: loop.call_soon_threadsafe(drained.set))
        self._watch(lambda: loop.call_soon_threadsafe(stopped.set))
        lifespan = LifespanProtocol(application)
        await lifespan.startup()
        if lifespan.interrupt:
            raise ServeError("the application's lifespan refused to start") from lifespan.exc
        handler = _future_watcher_wrapper(_asgi_wrapper(application, {}, lifespan.state, None))
        with self._tls as tls:
            worker = ASGIWorker(*self._common(1), True, None, *_security(tls), (None, None))
            worker.serve_mtr(_new_cbscheduler(loop, handler, impl_asyncio=True), loop, self._signal)
        await stopped.wait()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(drained.wait(), DRAIN_SECONDS)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(lifespan.shutdown(), SHUTDOWN_SECONDS)

    def _watch(self, stopped: Callable[[], Any]) -> None:
        """Waits for `stop` on a thread of its own, and sees to it that the process ends."""

        def watch() -> None:
            self._requests.get()
            self._signal.set()
            with contextlib.suppress(RuntimeError):  # the event loop has ended already
                stopped()
            time.sleep(GIVE_UP_SECONDS)
            self._give_up()

        threading.Thread(target=watch, daemon=True, name="mse-stop").start()

    def _common(self, threads: int) -> tuple[Any, ...]:
        return (
            1,
            (None, self._socket),
            None,
            RUNTIME_THREADS,
            FILE_THREADS,
            threads,
            IDLE_THREAD_SECONDS,
            CONNECTIONS,
            "auto",
            HTTP1Settings(header_read_timeout=HEADER_TIMEOUT_MS),
            HTTP2Settings(keep_alive_interval=PING_INTERVAL_MS),
        )


def _security(tls: Tls | None) -> tuple[Any, ...]:
    if tls is None:
        return (False, None, None, None, "tls1.3", None, [], False)
    return (True, tls.certificate, tls.key, None, "tls1.2", None, [], False)
