"""Tunnel records: what the codec knows of tunnels, and what workers keep of them.

A tunnel's number in this process is its index in three kinds of tables:

    record      what it is told to be; one table, written here alone, read by every worker
    state       sequence numbers and counters, of a worker that sends and of one that receives
    descriptor  what a worker writes its frames to

so that another worker is another ``Worker``. Number 0 belongs to no tunnel. Nothing here moves a
packet.
"""

import ctypes
import mmap
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Literal

from gred.dataplane.batch import table
from gred.dataplane.layout import (
    DROP_COUNTERS,
    Descriptor,
    RxState,
    Transport,
    TunnelFlag,
    TunnelRecord,
    TxState,
)
from gred.dataplane.receivers import Receivers, Taken, wire_address
from gred.dataplane.sources import SourceTable
from gred.dataplane.traffic import Traffic
from gred.dataplane.underlay import ipsec
from gred.dataplane.underlay.contract import Guard, Membership, SendOptions
from gred.wire.drop import DropReason

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

NO_PATH_LIMIT = 65535
_NO_DROPS = bytes(8 * DROP_COUNTERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelParameters:
    """What the data plane must know of one tunnel. ``None``: any address, no key, inherit."""

    family: Literal[4, 6]
    """IP version of the outer header."""
    local: IPAddress | None
    remote: IPAddress | None
    inner: IPv4Address | None = None
    """IPv4 address of the interface: keepalives may want an answer from it, through the tunnel."""
    echo: int | None = None
    """Identifier of echo requests that are sent for it, 16 bits; None: there are none."""
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
    """Of outer IPv6 headers; None: one for each inner flow, over UDP as the kernel has it."""
    encapsulation_limit: int | None = None
    """Sent in outer IPv6 headers; None: not sent."""
    firewall_mark: int | None = None
    """Of outer packets, for routing rules and netfilter."""
    protocol: int | None = None
    """One more protocol type that is carried, beside IPv4 and IPv6; needs a device for it."""
    peers: tuple[tuple[IPNetwork, IPAddress], ...] = ()
    """Without a remote: which remote an inner network is behind."""
    allowed_sources: tuple[IPNetwork, ...] = ()
    """Inner networks that packets of the other end may come from; none: they may from all."""
    learn_peers: bool = False
    """Without a remote: learn that from the packets that arrive."""
    group_device: int | None = 0
    """Index of the device that joins the group, where the remote is one; 0: the kernel's choice;
    None: there is no such device at present, and nothing is received."""
    transport: Transport = Transport.IP
    """What carries GRE."""
    port: int = 0
    """UDP: where it is received."""
    remote_port: int = 0
    """UDP: where it is sent to."""
    source_port: int | None = None
    """UDP: where it is sent from; None: one of many ports, by flow."""
    udp_checksum: bool = True
    """UDP: whether what is sent has a checksum, and whether over IPv6 what is received must."""
    packet_socket: bool = False
    """Whether datagrams may follow others through a packet socket, past the host's policy."""
    protection: bytes | None = None
    """Templates of IPsec, without which nothing leaves; empty: nothing leaves; None: it leaves as
    the host's policies say."""

    @property
    def send_options(self) -> SendOptions:
        """What a socket must have to send this tunnel's packets."""
        options = SendOptions(mark=self.firewall_mark or 0, protection=self.protection)
        if self.family == 6:
            options = replace(
                options,
                encapsulation_limit=self.encapsulation_limit,
                auto_flow_label=self.flow_label != 0,
                interface=self.interface,
            )
        if self.transport is Transport.IP:
            return options
        return replace(
            options,
            port=self.port,
            source_port=self.source_port or 0,
            checksum=self.udp_checksum,
        )

    @property
    def destination_port(self) -> int:
        """UDP: where it is sent to; 0 with another transport, as raw sockets of IPv6 want it."""
        return self.remote_port if self.transport is Transport.UDP else 0

    @property
    def no_bypass(self) -> str:
        """Why all packets go through the host's routing; empty: they need not."""
        if self.transport is Transport.UDP:
            return "Transport=udp"
        if self.protection is not None:
            return "IPsec=require"
        return "" if self.packet_socket else "not allowed"

    @property
    def labels_flows(self) -> bool:
        """Whether each inner flow has an outer flow label of its own."""
        return self.family == 6 and self.flow_label is None and self.transport is Transport.IP

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
    def guard(self) -> Guard | None:
        """The remote of which nothing is taken that was not protected; None: there is none."""
        if self.protection is None or self.remote is None:
            return None
        return Guard(self.remote.packed, ipsec.mode(self.protection))

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
            TunnelFlag.CHECKS_SOURCES: bool(self.allowed_sources),
            TunnelFlag.LABELS_FLOWS: self.labels_flows,
            TunnelFlag.ECHOES: self.echo is not None,
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
    tx_injected: int = 0
    """Packets that gred made itself; those that were encapsulated are in tx_packets, too."""
    rx_punted: int = 0
    """Packets that were handed to control, neither delivered nor dropped."""

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
            self.tx_injected + other.tx_injected,
            self.rx_punted + other.rx_punted,
        )


def _sum(one: dict[DropReason, int], other: dict[DropReason, int]) -> dict[DropReason, int]:
    return {reason: one.get(reason, 0) + other.get(reason, 0) for reason in one | other}


_SEQUENCE = (
    *("input_next", "input_seen", "old_run", "old_next", "input_time", "input_mark"),
    *("mark_time", "input_passed", "life_time", "first_seen", "has_former", "former_next"),
)
CAPACITY = 65536  # tunnels, and number 0

# What labels of flows are made with: of the flow itself they tell nobody anything.
_LABEL_VALUE = int.from_bytes(os.urandom(4))


class Worker:
    """What one worker keeps of all tunnels. Nobody else writes here while it moves packets."""

    def __init__(self) -> None:
        self.tx_states = table(TxState, CAPACITY)
        self.rx_states = table(RxState, CAPACITY)
        self.descriptors = table(Descriptor, CAPACITY)

    def tx(self, index: int) -> TxState:
        """Return a view of what it has sent of a tunnel."""
        return TxState.from_buffer(self.tx_states, index * ctypes.sizeof(TxState))

    def rx(self, index: int) -> RxState:
        """Return a view of what it has received of a tunnel."""
        return RxState.from_buffer(self.rx_states, index * ctypes.sizeof(RxState))

    def write_to(self, index: int, descriptor: int) -> None:
        """Write a tunnel's frames to *descriptor* from now on; -1: nowhere."""
        entry = Descriptor.from_buffer(self.descriptors, index * ctypes.sizeof(Descriptor))
        entry.fd = descriptor

    def forget(self, index: int) -> None:
        """Begin a tunnel anew: nothing sent, nothing received, nowhere to write to."""
        for state in (self.tx(index), self.rx(index)):
            ctypes.memset(ctypes.addressof(state), 0, ctypes.sizeof(state))
        self.write_to(index, -1)


class TunnelTable:
    """The records of all tunnels, the table that finds them, and the workers.

    No memory here moves: its pages are taken when a record is used.
    """

    def __init__(self, workers: int = 1) -> None:
        self.memory = table(TunnelRecord, CAPACITY)
        self.workers = tuple(Worker() for _ in range(workers))
        self._receivers = Receivers()
        self._sources = SourceTable()
        self._free = list[int]()
        self._next = 1

    @property
    def lookup(self) -> mmap.mmap:
        """The table that finds the record of a received datagram."""
        return self._receivers.memory

    @property
    def sources(self) -> bytearray:
        """The inner sources that tunnels take which check them."""
        return self._sources.memory

    def record(self, index: int) -> TunnelRecord:
        """Return a view of one record."""
        return TunnelRecord.from_buffer(self.memory, index * ctypes.sizeof(TunnelRecord))

    def add(self, parameters: TunnelParameters) -> int:
        """Take a record for *parameters*, counters at zero; return its index.

        Raises OverflowError when all records are taken.
        """
        if not self._free and self._next == CAPACITY:
            raise OverflowError(f"more than {CAPACITY - 1} tunnels")
        index = self._free.pop() if self._free else self._next
        self._next = max(self._next, index + 1)
        record = self.record(index)
        ctypes.memset(ctypes.addressof(record), 0, ctypes.sizeof(record))
        for worker in self.workers:
            worker.forget(index)
        self.configure(index, parameters)
        return index

    def configure(self, index: int, parameters: TunnelParameters) -> None:
        """Write *parameters* to the record. What workers keep stays."""
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
        record.echo = parameters.echo or 0
        record.port = parameters.destination_port
        record.flow_label = _LABEL_VALUE if parameters.labels_flows else parameters.flow_label or 0
        record.inner[:] = parameters.inner.packed if parameters.inner else bytes(4)
        record.local[:] = wire_address(parameters.local)
        record.remote[:] = wire_address(parameters.remote)
        self._sources.put(index, parameters.allowed_sources)
        self._receivers.put(index, parameters)

    def others_take(self, what: Iterable[Taken]) -> None:
        """Let *what* be foreign, and nothing else: see ``Receivers.others_take``."""
        self._receivers.others_take(what)

    def set_flag(self, index: int, flag: TunnelFlag, *, to: bool) -> None:
        """Set or clear one flag of a record."""
        record = self.record(index)
        record.flags = record.flags | flag if to else record.flags & ~flag

    def remove(self, index: int) -> None:
        """Give the record back. It receives nothing any more."""
        self._receivers.remove(index)
        self._sources.remove(index)
        self._free.append(index)

    def traffic(self, index: int) -> Traffic:
        """Return how many packets all workers have sent and received."""
        return Traffic(
            sum(worker.tx(index).tx_packets for worker in self.workers),
            sum(worker.rx(index).rx_packets for worker in self.workers),
        )

    def output_next(self, index: int) -> int:
        """Return the sequence number that the next packet will have, of whoever sends for it."""
        return max(int(worker.tx(index).output_next) for worker in self.workers)

    def sequence(self, index: int) -> tuple[int, list[int]]:
        """Return the next sequence number to send, and what is known of those received.

        Times are of the clock that packets are received by, in milliseconds.
        """
        received = self.workers[0].rx(index)
        return self.output_next(index), [getattr(received, name) for name in _SEQUENCE]

    def resume(self, index: int, sequence: tuple[int, list[int] | None]) -> None:
        """Go on with that of another process; None: nothing is known of those received."""
        worker, (sent, received) = self.workers[0], sequence
        worker.tx(index).output_next = sent
        state = worker.rx(index)
        for name, value in zip(_SEQUENCE, received or (), strict=received is not None):
            setattr(state, name, value)

    def counters(self, index: int) -> Counters:
        """Return what all workers have counted."""
        counted = [_counted(worker.tx(index), worker.rx(index)) for worker in self.workers]
        return sum(counted[1:], start=counted[0])

    def count_drop(
        self, index: int, direction: Literal["tx", "rx"], reason: DropReason, packets: int = 1
    ) -> None:
        """Count packets that were lost outside the codec."""
        worker = self.workers[0]
        if direction == "tx":
            worker.tx(index).tx_drops[reason] += packets
        else:
            worker.rx(index).rx_drops[reason] += packets


def _counted(tx: TxState, rx: RxState) -> Counters:
    def drops(counts: Sequence[int]) -> dict[DropReason, int]:
        if bytes(counts) == _NO_DROPS:  # as most are: much faster
            return {}
        return {reason: count for reason in DropReason if (count := counts[reason])}

    return Counters(
        tx.tx_packets,
        tx.tx_bytes,
        rx.rx_packets,
        rx.rx_bytes,
        drops(tx.tx_drops),
        drops(rx.rx_drops),
        rx.rx_resyncs,
        rx.rx_lost,
    )


assert max(DropReason) < DROP_COUNTERS  # noqa: S101 - the records have room for so many
