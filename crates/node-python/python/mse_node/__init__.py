"""The node's Python side: starts the application that the Rust side has unpacked.

`python3 -m mse_node` is the one entry point. The Rust extension `_node` waits for the configuration and prepares the
application's places; this package then serves the application in the same process, on the same listening socket.

What may be imported is settled here, before any other package is loaded:

* An image with many Python packages carries them in one measured archive (`MSE_PACKAGES`). It is unpacked in memory, and
  takes the place of the directories that it was made from.
* Gramine shows files that nobody measured, and refuses to open them. A module in such a file counts as missing, as it
  would where it was never installed, instead of failing with `PermissionError`.
"""

from __future__ import annotations

import errno
import importlib
import os
import site
import sys
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any

# Each directory of packages is unpacked below here, at the path that it had in the image.
PACKAGES = "/opt/mse/packages"

# There under Gramine, with SGX or without.
GRAMINE = "/dev/attestation"


class Measured(PathFinder):
    """Finds the modules whose files may be read."""

    @classmethod
    def find_spec(cls, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        spec = super().find_spec(fullname, path, target)
        if spec is not None and spec.has_location and spec.origin is not None and not _is_readable(spec.origin):
            return None
        return spec


def _is_readable(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        # EACCES: nobody measured it. Whatever else is wrong with it, its importer shall say.
        return error.errno != errno.EACCES
    return True


def use_measured_modules() -> None:
    """Puts `Measured` where the interpreter's own finder was."""
    sys.meta_path[:] = [Measured if finder is PathFinder else finder for finder in sys.meta_path]


def use_packages(directory: str) -> None:
    """Lets each directory of packages that is there below `directory` take the place of the original."""
    known = {entry for entry in sys.path if os.path.isdir(directory + entry)}
    sys.path[:] = [directory + entry if entry in known else entry for entry in sys.path]
    importlib.invalidate_caches()
    for original in site.getsitepackages():
        if original in known:
            # Their `.pth` files were not to be read when the interpreter started.
            site.addsitedir(directory + original, set(sys.path))


def _unpack(archive: str) -> None:
    from mse_node import _node

    try:
        _node.unpack_packages(archive, PACKAGES)
    except _node.NodeError as error:
        print(f"mse: error: the Python packages of the image cannot be unpacked: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    use_packages(PACKAGES)


if os.path.isdir(GRAMINE):
    use_measured_modules()
if "MSE_PACKAGES" in os.environ:
    _unpack(os.environ.pop("MSE_PACKAGES"))
