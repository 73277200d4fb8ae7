"""Tunnel records: what the codec knows of tunnels.

Records live in one piece of memory that the codec reads and counts in; a record's index is the
tunnel's number in this process. Record 0 belongs to no tunnel. Nothing here moves a packet.
"""

import ctypes
import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Literal

from gred.dataplane.batch import table
from gred.dataplane.groups import Membership
from gred.dataplane.layout import DROP_COUNTERS, TunnelFlag, TunnelRecord
from gred.dataplane.receivers import Receivers, wire_address
from gred.dataplane.underlay import SendOptions
from gred.wire.drop import DropReason

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

NO_PATH_LIMIT = 65535
_NO_DROPS = bytes(8 * DROP_COUNTERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelParameters:
    """What the data plane must know of one tunnel. ``None``: any address, no key, inherit."""

    local: IPAddress | None
    remote: IPAddress | None
    input_key: int | None = None
    output_key: int | None = None
    input_checksum: Literal["require", "accept", "refuse"] = "accept"
    output_checksum: bool = False
    input_sequence: bool = False
    output_sequence: bool = False
    ttl: int | None = 64
    tos: int | None = None
    dont_fragment: bool = True
    ignore_dont_fragment: bool = False
    mtu: int = 1476
    path_mtu: int | None = None
    """Largest inner packet that the path to the remote carries, in bytes; None: not known."""
    clamp_mss: bool = True
    interface: int = 0
    """Index of the device that outer packets leave through, or of a VRF; 0: as routed."""
    flow_label: int | None = None
    """Of outer IPv6 headers; None: the kernel's choice."""
    encapsulation_limit: int | None = None
    """Sent in outer IPv6 headers; None: not sent."""
    mark: int = 0
    """Of outer packets, for routing rules and netfilter; 0: none."""
    protocol: int | None = None
    """One more protocol type that is carried, beside IPv4 and IPv6; needs a device for it."""
    peers: tuple[tuple[IPNetwork, IPAddress], ...] = ()
    """Without a remote: which remote an inner network is behind."""
    learn_peers: bool = False
    """Without a remote: learn that from the packets that arrive."""
    group_device: int | None = 0
    """Index of the device that joins the group, where the remote is one; 0: the kernel's choice;
    None: there is no such device at present, and nothing is received."""
    packet_socket: bool = False
    """Whether datagrams may follow others through a packet socket, past the host's policy."""

    @property
    def family(self) -> Literal[4, 6]:
        """IP version of the outer header; 4 when both addresses are open."""
        address = self.remote if self.remote is not None else self.local
        if address is None and self.peers:
            address = self.peers[0][1]
        return 6 if address is not None and address.version == 6 else 4

    @property
    def send_options(self) -> SendOptions:
        """What a socket must have to send this tunnel's packets."""
        if self.family == 4:
            return SendOptions(mark=self.mark)
        return SendOptions(
            self.mark,
            self.encapsulation_limit,
            self.flow_label != 0,
            self.interface,
        )

    @property
    def membership(self) -> Membership | None:
        """The group to join, where the remote is one, and the device for it is there."""
        if self.group_device is None or self.remote is None or not self.remote.is_multicast:
            return None
        device = self.group_device or self.interface
        # Beside a device the address says nothing; two tunnels in one group join once.
        local = b"\0\0\0\0" if self.local is None or device else self.local.packed
        return Membership(self.remote.packed, local, device)

    @property
    def has_many_remotes(self) -> bool:
        """Whether the inner destination decides on the remote."""
        return self.remote is None and (bool(self.peers) or self.learn_peers)

    def flags(self) -> TunnelFlag:
        """Return what the codec's record says of these parameters."""
        wanted = {
            TunnelFlag.OUTPUT_KEY: self.output_key is not None,
            TunnelFlag.INPUT_KEY: self.input_key is not None,
            TunnelFlag.OUTPUT_CHECKSUM: self.output_checksum,
            TunnelFlag.INPUT_CHECKSUM_REQUIRED: self.input_checksum == "require",
            TunnelFlag.INPUT_CHECKSUM_REFUSED: self.input_checksum == "refuse",
            TunnelFlag.OUTPUT_SEQUENCE: self.output_sequence,
            TunnelFlag.INPUT_SEQUENCE: self.input_sequence,
            TunnelFlag.TTL_INHERIT: self.ttl is None,
            TunnelFlag.TOS_INHERIT: self.tos is None,
            TunnelFlag.DONT_FRAGMENT: self.dont_fragment,
            TunnelFlag.IGNORE_DONT_FRAGMENT: self.ignore_dont_fragment,
            TunnelFlag.NO_REMOTE: self.remote is None and not self.has_many_remotes,
            # A tunnel that only receives is a mirror's: what it hands on stays as it came.
            TunnelFlag.CLAMP_MSS: self.clamp_mss
            and (self.remote is not None or self.has_many_remotes),
            TunnelFlag.LEARNS: self.has_many_remotes and self.learn_peers,
        }
        flags = TunnelFlag(0)
        for flag, is_set in wanted.items():
            if is_set:
                flags |= flag
        return flags


@dataclass(frozen=True, slots=True)
class Counters:
    """A snapshot. tx: inner to outer, rx: outer to inner; inner bytes, as ``ip -s link``."""

    tx_packets: int
    tx_bytes: int
    rx_packets: int
    rx_bytes: int
    tx_drops: dict[DropReason, int]
    rx_drops: dict[DropReason, int]
    rx_resyncs: int = 0
    rx_lost: int = 0

    def __add__(self, other: "Counters") -> "Counters":
        """Return the sum of two counts of one tunnel, as of before and after it was made anew."""
        return Counters(
            self.tx_packets + other.tx_packets,
            self.tx_bytes + other.tx_bytes,
            self.rx_packets + other.rx_packets,
            self.rx_bytes + other.rx_bytes,
            _sum(self.tx_drops, other.tx_drops),
            _sum(self.rx_drops, other.rx_drops),
            self.rx_resyncs + other.rx_resyncs,
            self.rx_lost + other.rx_lost,
        )


def _sum(one: dict[DropReason, int], other: dict[DropReason, int]) -> dict[DropReason, int]:
    return {reason: one.get(reason, 0) + other.get(reason, 0) for reason in one | other}


class TunnelTable:
    """The records of all tunnels and the table that finds them.

    ``memory`` never moves: its pages are taken when a record is used.
    """

    CAPACITY = 65536

    def __init__(self) -> None:
        self.memory = table(TunnelRecord, self.CAPACITY)
        self._receivers = Receivers()
        self._free = list[int]()
        self._next = 1

    @property
    def lookup(self) -> mmap.mmap:
        """The table that finds the record of a received datagram."""
        return self._receivers.memory

    def record(self, index: int) -> TunnelRecord:
        """Return a view of one record."""
        return TunnelRecord.from_buffer(self.memory, index * ctypes.sizeof(TunnelRecord))

    def add(self, parameters: TunnelParameters) -> int:
        """Take a record for *parameters*, counters at zero; return its index.

        Raises OverflowError when all records are taken.
        """
        if not self._free and self._next == self.CAPACITY:
            raise OverflowError(f"more than {self.CAPACITY - 1} tunnels")
        index = self._free.pop() if self._free else self._next
        self._next = max(self._next, index + 1)
        record = self.record(index)
        ctypes.memset(ctypes.addressof(record), 0, ctypes.sizeof(record))
        record.fd = -1
        self.configure(index, parameters)
        return index

    def configure(self, index: int, parameters: TunnelParameters) -> None:
        """Write *parameters* to the record. Counters and sequence state stay."""
        kept = TunnelFlag(self.record(index).flags) & (
            TunnelFlag.BLOCKED
            | TunnelFlag.ETHERNET
            | TunnelFlag.PACKET_INFO
            | TunnelFlag.WRITE_TSO
            | TunnelFlag.WRITE_USO
        )
        record = self.record(index)
        record.flags = parameters.flags() | kept
        record.input_key = parameters.input_key or 0
        record.output_key = parameters.output_key or 0
        record.mtu = parameters.mtu
        record.protocol = parameters.protocol or 0
        record.path_mtu = NO_PATH_LIMIT if parameters.path_mtu is None else parameters.path_mtu
        record.ttl = parameters.ttl or 0
        record.tos = parameters.tos or 0
        record.family = parameters.family
        record.local[:] = wire_address(parameters.local)
        record.remote[:] = wire_address(parameters.remote)
        self._receivers.put(index, parameters)

    def set_flag(self, index: int, flag: TunnelFlag, *, to: bool) -> None:
        """Set or clear one flag of a record."""
        record = self.record(index)
        record.flags = record.flags | flag if to else record.flags & ~flag

    def remove(self, index: int) -> None:
        """Give the record back. It receives nothing any more."""
        self._receivers.remove(index)
        self._free.append(index)

    def counters(self, index: int) -> Counters:
        """Return what the record has counted."""
        record = self.record(index)

        def drops(counts: Sequence[int]) -> dict[DropReason, int]:
            if bytes(counts) == _NO_DROPS:  # as most are: much faster
                return {}
            return {reason: count for reason in DropReason if (count := counts[reason])}

        return Counters(
            record.tx_packets,
            record.tx_bytes,
            record.rx_packets,
            record.rx_bytes,
            drops(record.tx_drops),
            drops(record.rx_drops),
            record.rx_resyncs,
            record.rx_lost,
        )

    def count_drop(
        self, index: int, direction: Literal["tx", "rx"], reason: DropReason, packets: int = 1
    ) -> None:
        """Count packets that were lost outside the codec."""
        record = self.record(index)
        drops = record.tx_drops if direction == "tx" else record.rx_drops
        drops[reason] += packets


assert max(DropReason) < DROP_COUNTERS  # noqa: S101 - the records have room for so many
