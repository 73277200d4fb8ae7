"""Other network namespaces: where they are, and how to do something inside one. Blocks.

A thread of its own enters the namespace and ends there: no other thread ever leaves the namespace
that gred was started in. What is opened inside, a socket above all, stays of that namespace and is
used from outside.
"""

import ctypes
import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from gred.control.kernel.linux import (
    CLONE_NEWNET,
)

T = TypeVar("T")

NAMED = Path("/run/netns")  # where ip-netns(8) keeps the names


class NamespaceError(OSError):
    """What went wrong with *namespace*, which the text of the error does not tell."""

    def __init__(self, error: OSError, namespace: str) -> None:
        super().__init__(error.errno, error.strerror)
        self.namespace = namespace


def namespace_path(namespace: str) -> Path:
    """Return the file of a namespace: its own path, that of its name, or that of a process.

    A number is a name if there is a namespace of that name, as to ip-link(8).
    """
    named = NAMED / namespace  # an absolute path stays what it is
    if namespace.isdecimal() and not named.exists():
        return Path("/proc", namespace, "ns", "net")
    return named


def open_namespace(namespace: str) -> int:
    """Return a descriptor of a namespace, which the caller closes. Raises OSError."""
    return os.open(namespace_path(namespace), os.O_RDONLY | os.O_CLOEXEC)


def inside(namespace: str | None, work: Callable[[], T]) -> T:
    """Return what *work* returns inside *namespace*, or raise what it raises; None: right here.

    Raises OSError when there is no such namespace (ENOENT), when it is none of networks (EINVAL),
    without CAP_SYS_ADMIN (EPERM), or at a limit of threads (EAGAIN).
    """
    if namespace is None:
        return work()
    results: list[T] = []
    problems: list[BaseException] = []

    def enter() -> None:
        try:
            descriptor = open_namespace(namespace)
            try:
                _set_namespace(descriptor, namespace)
            finally:
                os.close(descriptor)
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            problems.append(error)

    thread = threading.Thread(target=enter, name=f"inside {namespace}")
    try:
        thread.start()
    except RuntimeError as error:  # the only word of a limit, RLIMIT_NPROC or TasksMax=
        raise OSError(errno.EAGAIN, str(error)) from error
    thread.join()
    if problems:
        raise problems[0]
    return results[0]


def _set_namespace(descriptor: int, namespace: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)  # os.setns came with Python 3.12
    if libc.setns(descriptor, CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), namespace)
