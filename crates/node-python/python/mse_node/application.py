"""Finds the application that `module:variable` names, and tells WSGI from ASGI.

Nothing here is trusted or distrusted: the code is the application's own, and what goes wrong while it is imported is
reported as the application's failure, without a line of the node's.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import traceback
from collections.abc import Callable
from types import TracebackType
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
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return "\n".join(_describe_one(each, show_source) for each in reversed(chain))


def _describe_one(error: BaseException, show_source: bool) -> str:
    lines = ["Traceback (most recent call last):"]
    frames = traceback.extract_tb(_own_frames(error.__traceback__))
    for frame in frames:
        lines.append(f'  File "{frame.filename}", line {frame.lineno}, in {frame.name}')
        if show_source and frame.line:
            lines.append(f"    {frame.line}")
    if isinstance(error, SyntaxError) and not show_source:
        lines.append(f"{type(error).__name__}: {error.msg} ({error.filename}, line {error.lineno})")
    else:
        lines += "".join(traceback.format_exception_only(type(error), error)).rstrip().split("\n")
    return "\n".join(lines)


def _own_frames(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None and _is_machinery(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    return trace


def _is_machinery(filename: str) -> bool:
    return filename == __file__ or filename.startswith("<frozen importlib") or filename == importlib.__file__
