"""Learning: what the accepted datagrams of a batch tell of remotes. The slow path of LearnPeers.

Only tunnels that learn and that are in the batch are looked at, and of their datagrams only those
from which there is something to learn. A lesson costs Python: whoever floods a tunnel with new
sources must not slow the others down.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

from gred.dataplane import codec
from gred.dataplane.attachment import Attachment
from gred.dataplane.batch import Arrivals
from gred.dataplane.peers import HOLD, PeerMap
from gred.dataplane.punt import Allowance

if TYPE_CHECKING:
    import mmap

IPAddress = IPv4Address | IPv6Address

LESSONS_PER_SECOND = 100.0


@dataclass(frozen=True, slots=True)
class PeerLearned:
    """A tunnel with many remotes has learned that *inner* is behind *remote*.

    *before*: where it was until that remote fell silent; None: it was not known.
    """

    tunnel: str
    inner: IPAddress
    remote: IPAddress
    before: IPAddress | None = None


@dataclass(frozen=True, slots=True)
class PeerClaimed:
    """Somebody at *claimant* sent as *inner*, whose *remote* was heard just now: it stays there."""

    tunnel: str
    inner: IPAddress
    remote: IPAddress
    claimant: IPAddress


class Learning:
    """Learns for all tunnels of a data plane. *attachments*: they, by the index of their record."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        attachments: Mapping[int, Attachment],
        report: Callable[[PeerLearned | PeerClaimed], None] | None,
    ) -> None:
        self._loop = loop
        self._attachments = attachments
        self._report = report
        self._lessons = Allowance(LESSONS_PER_SECOND, LESSONS_PER_SECOND)
        self._found = bytearray(4 * Arrivals.SLOTS)

    def learn(self, arrivals: Arrivals, count: int, records: "mmap.mmap") -> None:
        """Learn which remotes the inner sources of the first *count* datagrams are behind."""
        found = codec.find_learners(arrivals.received, count, records, self._found)
        for number in memoryview(self._found).cast("I")[:found]:
            attachment = self._attachments.get(number)
            if attachment is not None and attachment.peers is not None:
                self._teach(attachment, attachment.peers, arrivals, count)

    def _teach(
        self, attachment: Attachment, peers: PeerMap, arrivals: Arrivals, count: int
    ) -> None:
        now, index = int(self._loop.time()), -1
        claims = peers.refused[0]
        while True:
            index = codec.find_unlearned_source(
                arrivals.arena,
                arrivals.received,
                index + 1,
                count,
                attachment.index,
                peers.peers,
                peers.destinations,
                now,
                HOLD,
            )
            if index == count or not self._lessons.take(self._loop.time()):
                break
            inner, outer = _addresses(arrivals, index)
            before = peers.learned(inner)
            if peers.learn(inner, outer, now) and self._report is not None:
                known = None if before is None else ip_address(before)
                name = attachment.device.name
                self._report(PeerLearned(name, ip_address(inner), ip_address(outer), known))
        refused, last = peers.refused
        if refused != claims:
            self._tell_claim(attachment, peers, *_addresses(arrivals, last))

    def _tell_claim(
        self, attachment: Attachment, peers: PeerMap, inner: bytes, outer: bytes
    ) -> None:
        remote = peers.learned(inner)
        if self._report is None or remote is None or not attachment.claims.take(self._loop.time()):
            return
        name = attachment.device.name
        self._report(PeerClaimed(name, ip_address(inner), ip_address(remote), ip_address(outer)))


def _addresses(arrivals: Arrivals, index: int) -> tuple[bytes, bytes]:
    """Return the inner and the outer source of a datagram, packed."""
    entry = arrivals.datagram(index)
    start = entry.inner_offset
    if arrivals.arena[start] >> 4 == 4:
        inner = arrivals.arena[start + 12 : start + 16]
    else:
        inner = arrivals.arena[start + 8 : start + 24]
    return inner, bytes(entry.source)[: 16 if entry.family == 6 else 4]
