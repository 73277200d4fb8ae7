"""The receiver's look-up table: outer addresses and key -> record, as the codec finds it.

Changed as tunnels come, change and go, one entry at a time; what that costs does not grow with
their number. Nothing here reads a packet.
"""

import mmap
import struct
from collections import Counter
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple, Protocol

from gred.dataplane.hashes import hash_entry
from gred.dataplane.layout import Kind, LookupEntry, LookupHeader, Stage, Transport
from gred.dataplane.open_table import OpenTable

IPAddress = IPv4Address | IPv6Address

_SOMEBODY = 1  # the record of an entry that is no tunnel's: any that there is
_ENTRY = struct.Struct("=2I4BI16s16s")  # struct lookup_entry


class Ends(Protocol):
    """What must be known of a tunnel to tell which datagrams are for it. None: any, or no key."""

    @property
    def local(self) -> IPAddress | None:
        """Its address here, a datagram's destination."""

    @property
    def remote(self) -> IPAddress | None:
        """Its address there, a datagram's source; or the group that both are in."""

    @property
    def input_key(self) -> int | None:
        """The key of what it receives."""

    @property
    def family(self) -> int:
        """IP version of the outer header."""

    @property
    def transport(self) -> Transport:
        """What carries GRE."""


class Taken(NamedTuple):
    """What another receiver on this host takes: ends as a tunnel's are."""

    family: int
    local: IPAddress | None
    remote: IPAddress | None
    input_key: int | None
    transport: Transport = Transport.IP


class _Look(NamedTuple):
    """What a datagram is found by."""

    stage: Stage
    kind: Kind
    key: int
    family: int
    transport: Transport
    local: bytes
    remote: bytes

    def entry(self, tunnel: int = 0) -> bytes:
        head = tunnel, self.key, self.family, self.kind, self.transport
        return _ENTRY.pack(*head, 0, 0, self.local, self.remote)


class Receivers:
    """Which record a datagram is for. Of two that fit it alike the first stands."""

    def __init__(self) -> None:
        self._table = OpenTable(LookupHeader, LookupEntry, key=_key, hashed=_hash)
        self._looks: dict[int, tuple[_Look, ...]] = {}
        self._tunnels: dict[_Look, dict[int, None]] = {}  # those that fit alike, the first first
        self._stages: Counter[Stage] = Counter()
        self._foreign = set[_Look]()

    @property
    def memory(self) -> mmap.mmap:
        """The table."""
        return self._table.memory

    def put(self, index: int, parameters: Ends) -> None:
        """Let record *index* receive what *parameters* say, for the first time or anew."""
        wanted = _looks(parameters)
        if self._looks.get(index) == wanted:
            return
        self.remove(index)
        self._looks[index] = wanted
        for look in wanted:
            tunnels = self._tunnels.setdefault(look, {})
            tunnels[index] = None
            if len(tunnels) == 1:
                self._table.put(look.entry(index))
                self._count(look.stage, 1)

    def remove(self, index: int) -> None:
        """Let record *index* receive nothing. Harmless when it does not."""
        for look in self._looks.pop(index, ()):
            tunnels = self._tunnels[look]
            first = next(iter(tunnels))
            del tunnels[index]
            if not tunnels:
                del self._tunnels[look]
                self._table.remove(look.entry())
                self._count(look.stage, -1)
            elif first == index:
                self._table.put(look.entry(next(iter(tunnels))))

    def others_take(self, what: Iterable[Taken]) -> None:
        """Let *what* be foreign, and nothing else, where these addresses have a tunnel of ours.

        It is asked after only when no tunnel of ours takes a datagram.
        """
        wanted = {_foreign(one) for one in what}
        for look in self._foreign - wanted:
            self._table.remove(look.entry())
            self._count(look.stage, -1)
        for look in wanted - self._foreign:
            self._table.put(look.entry(_SOMEBODY))
            self._count(look.stage, 1)
        self._foreign = wanted

    def _count(self, stage: Stage, step: int) -> None:
        self._stages[stage] += step
        header = LookupHeader.from_buffer(self.memory)
        header.stages = sum(1 << stage for stage, count in self._stages.items() if count)


def wire_address(address: IPAddress | None) -> bytes:
    """Return *address* as 16 bytes: IPv4 in front, zero behind; all zero for any."""
    return b"\0" * 16 if address is None else address.packed.ljust(16, b"\0")


def _looks(parameters: Ends) -> tuple[_Look, ...]:
    """Return what is received, and that these addresses have a tunnel, whatever the key."""
    local, remote = parameters.local, parameters.remote
    if local is not None:
        stage = Stage.BOTH if remote is not None else Stage.LOCAL
    else:
        stage = Stage.REMOTE if remote is not None else Stage.NEITHER
    if remote is not None and remote.is_multicast:
        # What a group member sends comes from its own address, to the group.
        stage, local, remote = Stage.LOCAL, remote, None
    kind = Kind.NO_KEY if parameters.input_key is None else Kind.KEY
    carrier = parameters.family, parameters.transport
    ends = wire_address(local), wire_address(remote)
    return (
        _Look(stage, kind, parameters.input_key or 0, *carrier, *ends),
        _Look(stage, Kind.SOME, 0, *carrier, *ends),
    )


def _foreign(what: Taken) -> _Look:
    look, _some = _looks(what)
    kind = Kind.FOREIGN_KEY if look.kind is Kind.KEY else Kind.FOREIGN_NO_KEY
    return look._replace(kind=kind)


def _key(entry: bytes) -> bytes:
    return entry[LookupEntry.key.offset :]


def _hash(entry: bytes) -> int:
    _tunnel, key, family, kind, transport, _, _, local, remote = _ENTRY.unpack(entry)
    return hash_entry(local, remote, key, family, kind, transport)
