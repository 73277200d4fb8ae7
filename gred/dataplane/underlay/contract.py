"""What an underlay is to the rest of the data plane, whatever it sends and receives through.

    Underlay   one transport over one IP version: opens, joins groups, tells of itself, closes
    Receiver   one of its descriptors, and a batch received from there into memory of its own
    Sender     what one tunnel sends a batch through, and how much it puts before GRE

Nothing here touches a socket.
"""

import errno
import mmap
import os
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Literal, Protocol

from gred.dataplane.batch import Arrivals, EgressBatch
from gred.dataplane.layout import Transport

Family = Literal[4, 6]


@dataclass(frozen=True, slots=True)
class SendOptions:
    """What outer packets have from the socket they are sent through.

    *mark*: for routing rules and netfilter; 0: none. The others are IPv6's. *encapsulation_limit*:
    sent in a destination option of 8 bytes, RFC 2473 section 4.1.1; None: not sent.
    *auto_flow_label*: let the kernel label what must do without a label of its own. *interface*:
    index of the device to leave through; beside a source address IPv6 takes that of a datagram for
    a wish, that of a socket for an order; 0: as routed. Of UDP: *port*: where it is received;
    *source_port*: where it comes from, 0: one of many, by flow; *checksum*: whether it has one.
    *protection*: templates of IPsec, without which nothing leaves; empty: nothing leaves; None: it
    leaves as the host's policies say.
    """

    mark: int = 0
    encapsulation_limit: int | None = None
    auto_flow_label: bool = True
    interface: int = 0
    port: int = 0
    source_port: int = 0
    checksum: bool = True
    protection: bytes | None = None


PLAIN = SendOptions()


@dataclass(frozen=True, slots=True)
class Membership:
    """A group to receive from. *local*: the address whose device joins; *interface*: its index."""

    group: bytes
    local: bytes
    interface: int


@dataclass(frozen=True, slots=True)
class Guard:
    """A remote (packed) of which nothing is taken but what came in ESP of *mode* (linux/xfrm.h)."""

    remote: bytes
    mode: int


class GroupError(OSError):
    """The kernel lets nobody join *group*; the rest is as the kernel said it."""

    def __init__(self, error: OSError, membership: Membership) -> None:
        super().__init__(error.errno, error.strerror)
        octets = membership.group
        self.group = IPv4Address(octets) if len(octets) == 4 else IPv6Address(octets)


class PortTakenError(OSError):
    """Another program receives from UDP *port*."""

    def __init__(self, port: int) -> None:
        super().__init__(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        self.port = port


class Receiver(Protocol):
    """A descriptor that becomes readable when outer packets have arrived."""

    @property
    def arrivals(self) -> Arrivals:
        """The underlay's memory: what the last batch is in, lent until the next is received."""

    def fileno(self) -> int:
        """Return the descriptor."""

    def receive(self, *, busy_poll: bool) -> tuple[int, int]:
        """Receive a batch into ``arrivals``; return how many, and the errno that ended it or 0.

        Of each datagram its entry says where the outer header ends, what was in it and by which
        transport it came; its verdict is set where it is no good as it arrived. Never blocks; with
        *busy_poll* it may wait some hundred microseconds for the rest of a burst.
        """


class Sender(Protocol):
    """What a tunnel sends through."""

    @property
    def overhead(self) -> int:
        """Bytes that stand before the GRE header of each outer packet."""

    @property
    def no_bypass(self) -> str:
        """Why all packets go through the host's routing; empty when some go past it."""

    def transmit(
        self, batch: EgressBatch, first: int, end: int, destinations: mmap.mmap
    ) -> tuple[int, int]:
        """Send datagrams *first*..*end* of *batch*, each to the row of *destinations* it names.

        Return how many were taken, and the errno that the next was refused with or 0. Never blocks.
        """

    def told_mtu(self) -> int:
        """Return the longest outer packet that the kernel says it would have sent, in bytes.

        To be asked after EMSGSIZE; 0: it does not say.
        """

    def close(self) -> None:
        """Give back what was taken of the underlay. To be called once."""


class Store(Protocol):
    """Keeps descriptors across the end of this process."""

    def take(self, name: str, /) -> int | None:
        """Return what was kept as *name*, once; the caller closes it."""
        ...

    def keep(self, name: str, descriptor: int, /) -> bool:
        """Have a copy of *descriptor* kept; return whether it was handed over."""
        ...

    def remove(self, name: str, /) -> None:
        """Have it no longer kept."""


Watch = Callable[[Receiver], object]
Unwatch = Callable[[int], object]


class Underlay(Protocol):
    """One transport over one IP version. Whoever opens one says who watches its receivers.

    A watcher is called with each receiver that is opened, and with its descriptor before it is
    closed.
    """

    @property
    def family(self) -> Family:
        """IP version of the outer header."""

    @property
    def transport(self) -> Transport:
        """What carries GRE."""

    def take_sender(self, options: SendOptions, *, no_bypass: str) -> Sender:
        """Return a sender of a tunnel's own. Raises OSError.

        *no_bypass*: why it may not send past the host's routing; empty: it may.
        """

    def join(self, membership: Membership) -> None:
        """Receive what is sent to a group; to be followed by ``leave``. Raises GroupError."""

    def leave(self, membership: Membership) -> None:
        """Take one ``join`` back."""

    def guard(self, guarded: Guard) -> None:
        """Take nothing of a remote that was not protected; to be followed by ``unguard``.

        Raises OSError; then nothing has changed.
        """

    def unguard(self, guarded: Guard) -> None:
        """Take one ``guard`` back."""

    def overrun(self) -> int:
        """Return how many datagrams the kernel threw away unread since the last call."""

    def features(self) -> dict[str, str]:
        """Return what was found when it was opened, for one log line."""

    def leave_stored(self) -> None:
        """Have nothing removed from the store any more: this process ends."""

    def close(self) -> None:
        """Close all."""
