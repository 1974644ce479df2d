"""`python3 -m mse_node`: waits for the configuration, then serves the application in this process.

`--dev` serves an application over plain HTTP for local tests: no enclave, no TLS, no Rust extension.
Exit codes: 0 after SIGTERM or SIGINT, 1 for any failure, 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import importlib.util
import json
import logging
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from mse_node import application, evidence, serve, simulated, wsgi


def main() -> int:
    """Runs the node or the development server; returns the exit code."""
    arguments = _parse()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    # Until the application runs there is nothing to finish: every write of the node is atomic.
    _on_stop(lambda: _leave(0))
    try:
        serve.check_version()
        if arguments.dev:
            _develop(arguments.application, arguments.host, arguments.port)
        else:
            _run()
    except (application.ApplicationError, serve.ServeError) as error:
        _say(f"error: {error}")
        return 1
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="mse_node", description="Runs the application of an MSE package.")
    parser.add_argument("--dev", action="store_true", help="serve an application over plain HTTP, for local tests")
    parser.add_argument("--application", metavar="MODULE:VARIABLE", help="with --dev: what to serve")
    parser.add_argument("--host", default="127.0.0.1", help="with --dev: the address to listen on")
    parser.add_argument("--port", type=int, default=5000, help="with --dev: the port to listen on")
    arguments = parser.parse_args()
    if arguments.dev and not arguments.application:
        parser.error("--dev needs --application MODULE:VARIABLE")
    return arguments


def _develop(name: str, host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        raise serve.ServeError(f"cannot listen on {host} port {port}: {error.strerror}") from None
    listener.listen(serve.BACKLOG)
    module_path = os.environ.setdefault("MODULE_PATH", os.getcwd())
    simulated.refuse_as_an_enclave(simulated.MAX_THREADS)
    app = _load(name, module_path, confidential=False)
    server = _server(listener.detach(), contextlib.nullcontext(), confidential=False)
    if application.interface(app) == application.ASGI:
        server.run_asgi(app)
    else:
        server.run_wsgi(wsgi.conforming(app))


def _run() -> None:
    from mse_node import _node

    try:
        node = _node.start(module_installed=True) if _is_installed() else _node.start()
        _wait(node)
        places = node.prepare()
    except _node.NodeError as error:
        raise serve.ServeError(str(error)) from None
    os.environ.update(places.environment)
    for name in ("MSE_ROOT", "MSE_MEMORY"):
        os.environ.pop(name, None)
    os.chdir(places.module_path)
    threads = getattr(node, "simulated_threads", None)
    if threads is not None:
        simulated.refuse_as_an_enclave(threads)
    app = _load(places.application, places.module_path, places.confidential)
    server = _server(node.detach_listener(), _tls_files(node), places.confidential)
    kind = application.interface(app)
    _say(f"serving the application ({kind})")
    if kind == application.ASGI:
        server.run_asgi(evidence.asgi(app, node.answer_evidence))
    else:
        server.run_wsgi(evidence.wsgi(wsgi.conforming(app), node.answer_evidence))


def _is_installed() -> bool:
    """Whether the packages of the image hold the application's top module, so that the code need not."""
    try:
        name = json.loads(os.environ["MSE_NODE_CONFIG"])["application"]
        top = name.partition(":")[0].partition(".")[0]
        return top not in sys.stdlib_module_names and importlib.util.find_spec(top) is not None
    except (ImportError, KeyError, TypeError, AttributeError, ValueError):
        return False  # the node names what is wrong


@contextlib.contextmanager
def _tls_files(node: Any) -> Iterator[serve.Tls]:
    """The certificate and key to serve, for the moment in which the application server reads them."""
    try:
        yield serve.Tls(*node.write_tls_files())
    finally:
        node.forget_tls_files()


def _wait(node: Any) -> None:
    """Waits for the configuration on a thread, so that the main thread hears signals meanwhile."""
    done = threading.Event()
    failures: list[BaseException] = []

    def wait() -> None:
        try:
            node.wait()
        except BaseException as error:
            failures.append(error)
        done.set()

    threading.Thread(target=wait, daemon=True, name="mse-configuration").start()
    done.wait()
    if failures:
        raise failures[0]


def _load(name: str, module_path: str, confidential: bool) -> Callable[..., Any]:
    sys.argv = ["mse_node"]
    if sys.flags.isolated or getattr(sys.flags, "safe_path", False):
        sys.path.insert(0, module_path)
    else:
        sys.path[0] = module_path  # what `-m` put there is the directory of the start
    return application.load(name, show_source=not confidential)


def _server(
    descriptor: int, tls: contextlib.AbstractContextManager[serve.Tls | None], confidential: bool
) -> serve.Server:
    log = logging.StreamHandler()
    if confidential:
        log.setFormatter(_WithoutSource())
    server = serve.Server(descriptor, tls, log, give_up=lambda: _leave(0))
    _on_stop(server.stop)
    return server


class _WithoutSource(logging.Formatter):
    """Keeps confidential code out of the tracebacks of requests that failed."""

    def format(self, record: logging.LogRecord) -> str:
        return application.without_source(super().format(record))


def _on_stop(action: Callable[[], None]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: action())


def _leave(code: int) -> None:
    """Ends the process without the interpreter's own shutdown, which the application server's threads can abort."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        print(f"mse: {text}", file=sys.stderr)


def _run_to_the_end() -> None:
    code = 1
    try:
        code = main()
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException:
        traceback.print_exc()
    with contextlib.suppress(Exception):
        atexit._run_exitfuncs()
    _leave(code)


if __name__ == "__main__":
    _run_to_the_end()
