#!/usr/bin/python3 -IS
"""Stands in for Gramine's loader without an enclave, so that tests see what a node would lack under Gramine.

`loader libpal init node`, in the directory of `node.manifest`. It goes by the manifest alone, as Gramine does: it starts
the entry point with the manifest's arguments and environment and nothing else, through the C library that the image
carries for Gramine, and answers system calls that Gramine does not implement as Gramine does (`system_calls` beside
libpal). What it cannot do without privileges the image was prepared for, by `seal.py`: files that the manifest does not
list cannot be read, and the directories of its tmpfs mounts lead into memory. It checks that first, and the listed
files against their hashes.

Not imitated: `/proc`, alias names of listed files, packages that travel in an archive, SGX.
"""

import ctypes
import errno
import hashlib
import os
import stat
import struct
import sys
import tomllib

MEMORY = "/dev/gramine"
# What Gramine has there without SGX.
ATTESTATION = "/dev/attestation/keys"

# The engine's mark, in each container.
ENGINES = ["/.dockerenv"]

ALLOW, ERRNO = 0x7FFF0000, 0x00050000
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
LOAD, JUMP_EQUAL, JUMP_SET, RETURN = 0x20, 0x15, 0x45, 0x06
NUMBER = 0


def argument(index: int) -> int:
    """Where the low half of a system call's argument lies in what a filter sees."""
    return 16 + 8 * index


def refuse(reason: str) -> None:
    sys.exit(f"gramine stand-in: {reason}")


def main() -> None:
    libpal, first, name = sys.argv[1:]
    if first != "init":
        refuse(f"expected `init`, found `{first}`")
    with open(f"{name}.manifest", "rb") as file:
        manifest = tomllib.load(file)
    listed = {trusted["uri"].removeprefix("file:"): trusted["sha256"] for trusted in manifest["sgx"]["trusted_files"]}
    entry = manifest["loader"]["entrypoint"]
    check_hash(entry["uri"].removeprefix("file:"), entry["sha256"])
    for path, sha256 in listed.items():
        check_hash(path, sha256)
    check_unlisted(listed)
    linker = mounts(manifest["fs"]["mounts"])
    os.makedirs(ATTESTATION, exist_ok=True)
    with open(os.path.join(os.path.dirname(libpal), "system_calls")) as file:
        implemented = [int(line.split()[0]) for line in file if not line.startswith("#")]
    program = filter_of(implemented)
    os.chdir(manifest["fs"]["start_dir"])
    arguments = [linker, "--argv0", manifest["loader"]["argv"][0], manifest["libos"]["entrypoint"]]
    arguments += manifest["loader"]["argv"][1:]
    install(program)
    os.execve(linker, arguments, manifest["loader"]["env"])


def check_hash(path: str, sha256: str) -> None:
    try:
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        refuse(f"{path} is listed: {error}")
    if found != sha256:
        refuse(f"{path}: expected SHA-256 {sha256}, found {found}")


def check_unlisted(listed: dict[str, str]) -> None:
    """The image has to be one that `seal.py` prepared, by this very list."""
    device = os.stat("/").st_dev
    known = {os.stat(path).st_ino for path in listed if os.stat(path).st_dev == device}
    for directory, inner, files in os.walk("/"):
        inner[:] = [name for name in inner if os.lstat(os.path.join(directory, name)).st_dev == device]
        for name in files:
            path = os.path.join(directory, name)
            status = os.lstat(path)
            ours = path in ENGINES or path.startswith(os.path.dirname(os.path.abspath(__file__)) + "/")
            if stat.S_ISREG(status.st_mode) and status.st_dev == device and status.st_ino not in known and not ours:
                if os.access(path, os.R_OK):
                    refuse(f"{path} is not listed, and can be read: the image was prepared by another list")


def mounts(entries: list[dict[str, str]]) -> str:
    """Makes the directories in memory; returns the dynamic linker that programs get."""
    linker = None
    for entry in entries:
        path = entry["path"]
        if entry.get("type") == "tmpfs" and not path.startswith("/dev/"):
            if not os.path.realpath(path).startswith(MEMORY):
                refuse(f"{path} does not lead into memory: the image was not prepared")
            os.makedirs(os.path.realpath(path), mode=0o777)
        elif path == "/lib64/ld-linux-x86-64.so.2":
            linker = entry["uri"].removeprefix("file:")
    if linker is None:
        refuse("the manifest mounts no dynamic linker")
    return linker


def filter_of(implemented: list[int]) -> bytes:
    """Classic BPF: one block for each system call that is answered by its arguments, then the list."""
    code: list[tuple[int, int, int, int]] = []

    def block(number: int, *rules: tuple[int, int, int, int]) -> None:
        code.extend([(LOAD, 0, 0, NUMBER), (JUMP_EQUAL, 0, len(rules), number), *rules])

    def among(number: int, index: int, values: list[int], error: int) -> None:
        count = len(values)
        tests = [(JUMP_EQUAL, count - place, 0, value) for place, value in enumerate(values)]
        block(number, (LOAD, 0, 0, argument(index)), *tests, (RETURN, 0, 0, ERRNO | error), (RETURN, 0, 0, ALLOW))

    clone, fork, vfork, openat, open_, socket, ioctl, fcntl = 56, 57, 58, 257, 2, 41, 16, 72
    # sys.disallow_subprocesses
    for number in fork, vfork:
        block(number, (RETURN, 0, 0, ERRNO | errno.EAGAIN))
    thread = 0x10000
    block(
        clone,
        (LOAD, 0, 0, argument(0)),
        (JUMP_SET, 1, 0, thread),
        (RETURN, 0, 0, ERRNO | errno.EAGAIN),
        (RETURN, 0, 0, ALLOW),
    )
    temporary = 0x400000
    for number, flags in (open_, 1), (openat, 2):
        block(
            number,
            (LOAD, 0, 0, argument(flags)),
            (JUMP_SET, 0, 1, temporary),
            (RETURN, 0, 0, ERRNO | errno.EINVAL),
            (RETURN, 0, 0, ALLOW),
        )
    # UNIX, IPv4, IPv6
    among(socket, 0, [1, 2, 10], errno.EAFNOSUPPORT)
    # FIONREAD, FIONBIO, FIONCLEX, FIOCLEX, FIOASYNC; no terminals
    among(ioctl, 1, [0x541B, 0x5421, 0x5450, 0x5451, 0x5452], errno.ENOTTY)
    # From F_DUPFD to F_SETOWN, and F_DUPFD_CLOEXEC
    among(fcntl, 1, [*range(9), 1030], errno.EINVAL)
    code.append((LOAD, 0, 0, NUMBER))
    for number in implemented:
        code.extend([(JUMP_EQUAL, 0, 1, number), (RETURN, 0, 0, ALLOW)])
    code.append((RETURN, 0, 0, ERRNO | errno.ENOSYS))
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code)


def install(program: bytes) -> None:
    """The filter of this process from now on. The container forbids new privileges already, as a filter demands."""
    buffer = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, described, 0, 0) != 0:
        refuse(f"no filter of system calls: {os.strerror(ctypes.get_errno())}")


main()
