"""Finds the application that `module:variable` names, or makes it by `module:factory()`, and tells WSGI from ASGI.

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

    `module:factory()` calls the factory, once and without arguments, and returns what it makes.

    With `show_source` off, a traceback names files and lines but quotes none: confidential code stays out of the log,
    which the host reads.
    """
    module_name, separator, variable = name.partition(":")
    factory = variable.removesuffix("()")
    is_factory, variable = factory != variable, factory
    if not (module_name and separator and variable):
        raise ApplicationError(f"expected an application `module:variable` or `module:factory()`, found `{name}`")
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
    if is_factory:
        found = _make(name, found, show_source)
    if not callable(found):
        kind = type(found).__name__
        made = "to make" if is_factory else "to be"
        raise ApplicationError(f"expected `{name}` {made} a WSGI or ASGI application, found a value of type `{kind}`")
    _refuse_factory(name, found)
    return found


def _make(name: str, factory: Any, show_source: bool) -> Any:
    if not callable(factory):
        kind = type(factory).__name__
        raise ApplicationError(
            f"expected `{name}` to name a factory, a function that makes the application; found a value of type "
            f"`{kind}`: write it without `()` if that is the application"
        )
    signature = _signature(factory)
    if signature is not None and not _takes(signature, 0):
        raise ApplicationError(
            f"expected the factory `{name}` to take no arguments, found `{signature}`: write it without `()` if it is "
            f"the application, or give every parameter a default"
        )
    try:
        made = factory()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        raise ApplicationError(f"the factory `{name}` failed\n{describe(error, show_source)}") from None
    if inspect.iscoroutine(made):
        made.close()
        raise ApplicationError(f"expected the factory `{name}` to be a plain function, found an `async` one")
    return made


def _refuse_factory(name: str, found: Any) -> None:
    """Refuses what cannot be called as an application is: otherwise every request would fail."""
    bare = name.removesuffix("()")
    again = " again" if bare != name else ""
    if inspect.isclass(found):
        # Instances of a class may be the response (WSGI: iterable, ASGI: awaitable); else they are the application.
        if hasattr(found, "__iter__") or hasattr(found, "__await__") or "__call__" not in _own_names(found):
            return
        what = "a class whose instances are applications"
    else:
        signature = _signature(found)
        # A decorator's own signature is what a server calls; the one of what it wraps is what `inspect` tells first.
        outer = _signature(found, follow_wrapped=False)
        if signature is None or outer is None:
            return
        if any(_may_be_called(found, either) for either in (signature, outer)):
            return
        what = f"a function that takes `{signature}`"
    advice = "make it return the application" if again else f"write `{bare}()` if it is a factory"
    raise ApplicationError(
        f"expected `{name}` to be a WSGI or ASGI application, called with (environ, start_response) or (scope, receive, "
        f"send); found {what}{again}: {advice}, or name the application itself"
    )


def _own_names(found: type) -> set[str]:
    return {name for base in found.__mro__ for name in vars(base)}


def _may_be_called(found: Any, signature: inspect.Signature) -> bool:
    takes = _takes(signature, 2) or _takes(signature, 3)
    return takes and not (inspect.isfunction(found) and _all_optional(signature))


def _signature(found: Any, follow_wrapped: bool = True) -> inspect.Signature | None:
    try:
        return inspect.signature(found, follow_wrapped=follow_wrapped)
    except Exception:  # a proxy's attributes may raise anything
        return None


def _all_optional(signature: inspect.Signature) -> bool:
    """Whether it is called without arguments; `*args` may stand for an application's own."""
    variadic = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in signature.parameters.values())
    return not variadic and _takes(signature, 0)


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
