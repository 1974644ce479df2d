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
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import granian
from granian._futures import _future_watcher_wrapper, _new_cbscheduler
from granian._granian import ASGIWorker, SocketHolder, WorkerSignal, WSGIWorker
from granian.asgi import LifespanProtocol
from granian.asgi import _callback_wrapper as _asgi_wrapper
from granian.http import HTTP1Settings, HTTP2Settings
from granian.log import LogLevels, configure_logging
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
    """One application on one listening socket. `run` blocks until `stop` was called and the work is done."""

    def __init__(self, descriptor: int, tls: Tls | None) -> None:
        configure_logging(LogLevels.warning)
        logging.getLogger("_granian").handlers = [logging.StreamHandler()]
        self._signal = WorkerSignal()
        self._stopped = threading.Event()
        self._socket = SocketHolder(descriptor, False, BACKLOG)
        self._tls = tls

    def stop(self) -> None:
        """Stops accepting; may be called from a signal handler, more than once."""
        if not self._stopped.is_set():
            self._stopped.set()
            self._signal.set()

    def run_wsgi(self, application: Callable[..., Any], started: Callable[[], None]) -> None:
        """Serves a WSGI application on granian's threads. `started` is called once the PEM files have been read and
        connections are accepted."""
        drained = threading.Event()
        self._signal.add_cb(drained.set)
        worker = WSGIWorker(*self._common(WSGI_THREADS), None, *self._security(), (None, None))
        loop = asyncio.new_event_loop()
        scheduler = _new_cbscheduler(loop, _wsgi_wrapper(application, {}, None), impl_asyncio=True)
        worker.serve_mtr(scheduler, loop, self._signal)
        started()
        self._stopped.wait()
        drained.wait(DRAIN_SECONDS)

    def run_asgi(self, application: Callable[..., Any], started: Callable[[], None]) -> None:
        """Serves an ASGI application on an event loop in this thread, its lifespan around it."""
        asyncio.run(self._serve_asgi(application, started))

    async def _serve_asgi(self, application: Callable[..., Any], started: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        stopped, drained = asyncio.Event(), asyncio.Event()
        self._signal.add_cb(lambda: loop.call_soon_threadsafe(drained.set))
        lifespan = LifespanProtocol(application)
        await lifespan.startup()
        if lifespan.interrupt:
            raise ServeError("the application's lifespan refused to start") from lifespan.exc
        handler = _future_watcher_wrapper(_asgi_wrapper(application, {}, lifespan.state, None))
        worker = ASGIWorker(*self._common(1), True, None, *self._security(), (None, None))
        worker.serve_mtr(_new_cbscheduler(loop, handler, impl_asyncio=True), loop, self._signal)
        started()
        threading.Thread(target=self._watch, args=(loop, stopped), daemon=True, name="mse-stop").start()
        await stopped.wait()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(drained.wait(), DRAIN_SECONDS)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(lifespan.shutdown(), SHUTDOWN_SECONDS)

    def _watch(self, loop: asyncio.AbstractEventLoop, stopped: asyncio.Event) -> None:
        self._stopped.wait()
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(stopped.set)

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

    def _security(self) -> tuple[Any, ...]:
        if self._tls is None:
            return (False, None, None, None, "tls1.3", None, [], False)
        return (True, self._tls.certificate, self._tls.key, None, "tls1.2", None, [], False)
