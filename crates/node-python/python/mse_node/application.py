"""Finds the application that `module:variable` names, and tells WSGI from ASGI.

Nothing here is trusted or distrusted: the code is the application's own, and what goes wrong while it is imported is
reported as the application's failure, without a line of the node's.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import traceback
from collections.abc import Callable
from typing import Any

WSGI = "wsgi"
ASGI = "asgi"


class ApplicationError(Exception):
    """The application cannot be served; the message is for the log."""


def load(name: str, show_source: bool = True) -> Callable[..., Any]:
    """Imports `module:variable` (the variable may be dotted) and returns the application.

    With `show_source` off, a traceback names files and lines but quotes none: confidential code stays out of the log,
    which the host reads.
    """
    module_name, separator, variable = name.partition(":")
    if not (module_name and separator and variable):
        raise ApplicationError(f"expected an application `module:variable`, found `{name}`")
    try:
        found: Any = importlib.import_module(module_name)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        report = describe(error, show_source)
        raise ApplicationError(f"the application's module `{module_name}` failed to import\n{report}") from None
    for part in variable.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise ApplicationError(f"the application's module `{module_name}` has no `{variable}`") from None
    if not callable(found):
        kind = type(found).__name__
        raise ApplicationError(f"expected `{name}` to be a WSGI or ASGI application, found a value of type `{kind}`")
    return found


def interface(application: Callable[..., Any]) -> str:
    """`ASGI` for what is awaited with (scope, receive, send); `WSGI` for what is called with (environ, start_response)."""
    inner = application
    while isinstance(inner, functools.partial):
        inner = inner.func
    if inspect.iscoroutinefunction(inner):
        return ASGI
    if not inspect.isclass(inner) and inspect.iscoroutinefunction(getattr(inner, "__call__", None)):
        return ASGI
    try:
        signature = inspect.signature(application)
    except (TypeError, ValueError):
        return WSGI
    return ASGI if _takes(signature, 3) and not _takes(signature, 2) else WSGI


def _takes(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def describe(error: BaseException, show_source: bool) -> str:
    """The traceback of an application's failure, without the frames of the node and of the import machinery."""
    report = traceback.TracebackException.from_exception(error)
    links = [report]
    while links:
        link = links.pop()
        link.stack[:] = [frame for frame in link.stack if not _is_machinery(frame.filename)]
        links += [other for other in (link.__cause__, link.__context__) if other is not None]
    text = "".join(report.format()).rstrip()
    return text if show_source else without_source(text)


def without_source(text: str) -> str:
    """A text without the lines of source that tracebacks in it quote: those below `  File "..."`, indented deeper."""
    kept: list[str] = []
    quoting = False
    for line in text.split("\n"):
        quoting = quoting and line.startswith("    ")
        if not quoting:
            kept.append(line)
            quoting = line.startswith('  File "')
    return "\n".join(kept)


def _is_machinery(filename: str) -> bool:
    node = os.path.dirname(__file__)
    return filename.startswith("<frozen ") or filename == importlib.__file__ or os.path.dirname(filename) == node
