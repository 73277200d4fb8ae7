"""A network namespace without a name, for sockets that must not touch the machine's own network.

A thread enters a new namespace, opens what is wanted and ends; the namespace lives as long as the
sockets, so nothing is left behind.
"""

import ctypes
import fcntl
import os
import socket
import struct
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
CLONE_NEWNET = 0x40000000  # linux/sched.h
SIOCSIFFLAGS = 0x8914  # linux/sockios.h
IFF_UP = 1


def _unshare() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def in_new_namespace(open_sockets: Callable[[], T]) -> T:
    """Return what *open_sockets* returns in a new namespace whose loopback is up. Needs root."""
    results = list[T]()
    failures = list[BaseException]()

    def run() -> None:
        try:
            _unshare()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
                request = struct.pack("16sh14x", b"lo", IFF_UP)
                fcntl.ioctl(control, SIOCSIFFLAGS, request)
            results.append(open_sockets())
        except BaseException as error:  # noqa: BLE001 - it is raised in the caller's thread
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]
