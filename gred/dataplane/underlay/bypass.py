"""Datagrams that follow a probe packet through a packet socket, past the host's routing.

For a run of datagrams that leave alike the kernel is asked once: the first goes through a raw
socket, and the kernel shows how it left. That is an entry of the tunnel's transmit path cache; for
a moment the others take the same header, device and next hop (native/bypass.c). The socket of probe
packets is not connected, so that they queue where the followers do; the packet socket receives
nothing. Only the C extension does this: without it packets go the ordinary way.
"""

import contextlib
import ctypes
import mmap
import os
import socket
from typing import Protocol

from gred.dataplane import io
from gred.dataplane.batch import EgressBatch
from gred.dataplane.layout import PATHS, PathEntry
from gred.dataplane.linux import (
    IP_PKTINFO,
    SO_SNDBUFFORCE,
    SO_TIMESTAMPING,
    SOF_TIMESTAMPING_OPT_CMSG,
    SOF_TIMESTAMPING_OPT_ID,
    SOF_TIMESTAMPING_SOFTWARE,
)
from gred.dataplane.underlay.contract import Family, SendOptions
from gred.dataplane.underlay.raw_senders import SEND_BUFFER, open_sender, overhead
from gred.dataplane.underlay.sockets import RawSocket, resize, set_mark, told_mtu


class Bypass:
    """The two sockets that all tunnels with the same options share. Raises OSError."""

    def __init__(self, family: Family, options: SendOptions) -> None:
        with contextlib.ExitStack() as undo:
            # Protocol 0: nothing is received.
            kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
            self.packet = undo.enter_context(socket.socket(socket.AF_PACKET, kind, 0))
            resize(self.packet, SO_SNDBUFFORCE, socket.SO_SNDBUF, SEND_BUFFER)
            set_mark(self.packet, options)
            self.probe: RawSocket = undo.enter_context(
                open_sender(family, options, dont_fragment=True, connected=False)
            )
            for refused in self.probe.lacks.values():
                raise refused  # what went ahead could not be told
            # Which datagrams are shown is said with each; with it comes the device it left by.
            wanted = SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_OPT_ID | SOF_TIMESTAMPING_OPT_CMSG
            self.probe.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, wanted)
            if family == 4:
                self.probe.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
            else:
                self.probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            undo.pop_all()

    def close(self) -> None:
        """Close both."""
        self.probe.close()
        self.packet.close()


class Shared(Protocol):
    """What a sender shares with all others of equal options."""

    family: Family
    options: SendOptions
    no_df: RawSocket

    def forgo_labels(self, error: int) -> bool:
        """Send without flow labels after *error*; return whether that may help."""

    def leave(self) -> None:
        """Give it back."""


class BypassSender:
    """A tunnel's sender with its transmit path cache.

    *pair* has the socket for datagrams without Don't Fragment, which never follow.
    """

    __slots__ = "_descriptors", "_pair", "_probe", "overhead", "paths"
    no_bypass = ""

    def __init__(self, pair: Shared, bypass: Bypass) -> None:
        self.overhead = overhead(pair.family, pair.options)
        has_labels = pair.family == 6 and pair.options.auto_flow_label
        self.paths = bytearray(ctypes.sizeof(PathEntry) * (PATHS if has_labels else 1))
        self._probe = bypass.probe
        self._pair = pair
        self._descriptors = bypass.probe.fileno(), pair.no_df.fileno(), bypass.packet.fileno()

    def transmit(
        self, batch: EgressBatch, first: int, end: int, destinations: mmap.mmap
    ) -> tuple[int, int]:
        """See contract.Sender."""
        sent, error = io.send_bypassing(
            *self._descriptors, self.paths, batch.arena, batch.datagrams, first, end, destinations
        )
        if error and self._pair.forgo_labels(error):
            more, error = self.transmit(batch, first + sent, end, destinations)
            sent += more
        return sent, error

    def told_mtu(self) -> int:
        """See contract.Sender."""
        return told_mtu(self._probe)

    def close(self) -> None:
        """See contract.Sender."""
        self._pair.leave()


def open_bypass(family: Family, options: SendOptions) -> Bypass | str:
    """Return the sockets, or why there are none: sandboxes have raw sockets and nothing else."""
    if not io.CAN_BYPASS:
        return "needs the C extension"
    try:
        return Bypass(family, options)
    except OSError as error:
        return os.strerror(error.errno or 0)
