"""Descriptors are few (RLIMIT_NOFILE): the last ones are kept for talking to the kernel.

A daemon that spends all on tunnels can no more ask where its packets go, nor take a tunnel down.
"""

import contextlib
import errno
import os
import resource
from pathlib import Path

RESERVE = 32  # netlink, files in /proc, namespaces that are entered, and some to spare
_OWN_NAMESPACE = Path("/proc/thread-self/ns/net")
FOR_SOCKETS = 32  # of the underlay: devices, which are opened first, leave so many more


def refuse_the_last(descriptor: int, *, reserve: int = RESERVE) -> None:
    """Raise OSError (EMFILE) where *descriptor*, just opened, is one of the last *reserve*.

    The kernel gives the lowest number that is free: all below are taken. The caller closes it.
    """
    limit, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit != resource.RLIM_INFINITY and descriptor >= limit - reserve:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def refuse_elsewhere(namespace: int, wanted: Path = _OWN_NAMESPACE) -> None:
    """Close *namespace*, of some socket or device; raise OSError unless it is *wanted*."""
    try:
        there = os.fstat(namespace)
    finally:
        os.close(namespace)
    here = wanted.stat()
    if (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino):
        raise OSError(errno.EXDEV, "it is in another network namespace")


def raise_the_limit() -> None:
    """Let this process open as many as it may: a login's 1,024 are some 950 tunnels."""
    _limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # a sandbox may refuse it
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
