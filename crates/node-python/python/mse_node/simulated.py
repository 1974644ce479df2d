"""Refuses in simulation what an enclave refuses, so that an application that needs it fails before it is deployed.

An enclave of a package is one process (`sys.disallow_subprocesses`) with a fixed number of threads (`sgx.max_threads`).
Gramine answers EAGAIN to a new process, and so does this. Importing `subprocess` or `multiprocessing` works in both; starting a process or one thread too many fails in both. This
is a likeness for developers, not a boundary: it is the application's own interpreter that enforces it.
"""

from __future__ import annotations

import _thread
import contextlib
import errno
import functools
import os
import platform
import struct
import sys
import threading
from typing import Any

# What an image's manifest has; `mse_package::enclave::MAX_THREADS`.
MAX_THREADS = 64

PROCESSES = frozenset({
    "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "pty.spawn", "subprocess.Popen",
})  # fmt: skip
# Not every version of Python raises an audit event for these.
THREADS = ("start_new_thread", "start_new", "start_joinable_thread")

REASON = "an enclave is one process, and refuses to start another one (simulated); use threads, or another service"


def refuse_as_an_enclave(max_threads: int) -> None:
    """From now on no process is started, and no thread above `max_threads`; neither can be undone."""

    def audit(event: str, _arguments: Any) -> None:
        if event in PROCESSES:
            raise OSError(errno.EAGAIN, f"{REASON} [{event}]")

    sys.addaudithook(audit)
    _limit_threads(max_threads)
    _refuse_fork_exec()
    with contextlib.suppress(ImportError, OSError, AttributeError):
        _filter_system_calls()


def _limit_threads(most: int) -> None:
    def limited(start: Any) -> Any:
        @functools.wraps(start)
        def start_within_limit(*arguments: Any, **named: Any) -> Any:
            if _threads() >= most:
                raise RuntimeError(f"can't start new thread: an enclave of this package has {most} (sgx.max_threads)")
            return start(*arguments, **named)

        return start_within_limit

    for name in THREADS:
        start = getattr(_thread, name, None)
        if start is not None:
            limit = limited(start)
            setattr(_thread, name, limit)
            if hasattr(threading, f"_{name}"):
                setattr(threading, f"_{name}", limit)


def _threads() -> int:
    """All threads of the process, those of native code included."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 0


def _refuse_fork_exec() -> None:
    """`multiprocessing` starts processes by this function, which raises no audit event."""
    import _posixsubprocess

    def fork_exec(*_arguments: Any) -> int:
        raise OSError(errno.EAGAIN, REASON)

    _posixsubprocess.fork_exec = fork_exec


def _filter_system_calls() -> None:
    """Refuses the same to native code, by a seccomp filter for all threads. Only x86-64, where enclaves are."""
    if platform.machine() != "x86_64" or sys.maxsize < 2**32:
        return
    import ctypes

    load, equal, above, any_bit, answer = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, refuse, missing = 0x7FFF0000, 0x00050000 | errno.EAGAIN, 0x00050000 | errno.ENOSYS
    # `struct seccomp_data`: the number at 0, the architecture at 4, the low half of the first argument at 16.
    program = [
        (load, 0, 0, 4), (equal, 0, 10, 0xC000003E),
        (load, 0, 0, 0), (above, 9, 0, 0x40000000),
        (equal, 8, 0, 57), (equal, 7, 0, 58), (equal, 6, 0, 59), (equal, 5, 0, 322),  # fork, vfork, execve, execveat
        (equal, 5, 0, 435),  # clone3: the C library falls back to clone, whose flags can be looked at
        (equal, 0, 2, 56), (load, 0, 0, 16), (any_bit, 0, 1, 0x10000),  # clone: CLONE_THREAD
        (answer, 0, 0, allow), (answer, 0, 0, refuse), (answer, 0, 0, missing),
    ]  # fmt: skip
    instructions = b"".join(struct.pack("<HBBI", *instruction) for instruction in program)
    code = ctypes.create_string_buffer(instructions, len(instructions))
    filters = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", len(program), ctypes.addressof(code)), 16)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS, which a filter without privileges needs
    libc.syscall(317, 1, 1, filters)  # seccomp(SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC)
