"""Descriptors are few (RLIMIT_NOFILE): the last ones are kept for talking to the kernel.

A daemon that spends all on tunnels can no more ask where its packets go, nor take a tunnel down.
"""

import contextlib
import errno
import os
import resource

RESERVE = 32  # netlink, files in /proc, namespaces that are entered, and some to spare
FOR_SOCKETS = 32  # of the underlay: devices, which are opened first, leave so many more


def refuse_the_last(descriptor: int, *, reserve: int = RESERVE) -> None:
    """Raise OSError (EMFILE) where *descriptor*, just opened, is one of the last *reserve*.

    The kernel gives the lowest number that is free: all below are taken. The caller closes it.
    """
    limit, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit != resource.RLIM_INFINITY and descriptor >= limit - reserve:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def raise_the_limit() -> None:
    """Let this process open as many as it may: a login's 1,024 are some 950 tunnels."""
    _limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # a sandbox may refuse it
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
