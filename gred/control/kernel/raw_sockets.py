"""Who listens to GRE in this network namespace: raw sockets for protocol 47, the kernel's own GRE.

Read from /proc and asked over netlink. Blocks: for threads only. Nothing here decides whose they
are or what to do about them.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gred.control.kernel.dumps import GreLink, read_gre_links
from gred.control.kernel.messages import links_query
from gred.control.kernel.rtnetlink import Rtnetlink

_NETWORK = Path("/proc/thread-self/net")
_RAW = {4: _NETWORK / "raw", 6: _NETWORK / "raw6"}
_MODULES = (Path("/sys/module/ip_gre"), Path("/sys/module/ip6_gre"))
_DESCRIPTORS = Path("/proc/self/fd")
_GRE = 47
LOOPBACK = "0100007F"  # 127.0.0.1 as /proc/net/raw has it: from there no peer sends


@dataclass(frozen=True, slots=True)
class RawSocket:
    """A raw socket for protocol 47."""

    family: int
    local: str
    uid: int
    inode: int


def read_raw(text: str, family: int) -> Iterator[RawSocket]:
    """Yield the sockets for protocol 47 in what /proc/net/raw or raw6 says."""
    for line in text.splitlines()[1:]:
        words = line.split()
        with contextlib.suppress(ValueError, IndexError):
            local, _, protocol = words[1].rpartition(":")
            if int(protocol, 16) == _GRE:
                yield RawSocket(family, local, uid=int(words[7]), inode=int(words[9]))


def gre_links() -> list[GreLink]:
    """Return the interfaces of the kernel's own GRE that are up; none where it has no GRE."""
    if not any(module.exists() for module in _MODULES):
        return []
    try:
        with Rtnetlink() as kernel:
            return read_gre_links(kernel.dump(links_query()))
    except OSError:
        return []


def raw_sockets() -> Iterator[RawSocket]:
    """Yield all sockets for protocol 47. What cannot be read is as if it were not there."""
    for version, path in _RAW.items():
        with contextlib.suppress(OSError):
            yield from read_raw(path.read_text(), version)


def own_sockets() -> Iterator[int]:
    """Yield the inodes of this process's sockets."""
    for descriptor in _DESCRIPTORS.iterdir():
        with contextlib.suppress(OSError, ValueError):
            kind, _, inode = str(descriptor.readlink()).partition(":")
            if kind == "socket":
                yield int(inode.strip("[]"))
