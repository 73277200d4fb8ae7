"""Flow labels of outer IPv6 headers on the wire: gred's own, or where it may not, the kernel's."""

import itertools
import socket
import struct
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gred.dataplane.linux import SO_RCVBUFFORCE
from gred.lab.hosts import UNDERLAY, Host
from gred.lab.traffic import transfer
from tests.netns.capture import Wire, outer, wire
from tests.netns.daemons import PACKET_SOCKET, Daemons, wait_for_event
from tests.netns.test_modes_underlay import crosses, label_seen, tunnel

TCP = 6
IPV6_FLOWLABEL_MGR = 32  # linux/in6.h
LABELS = itertools.count(0x54321)


def labels_by_flow(packets: Wire) -> dict[bytes, Counter[int]]:
    """The labels on the wire of each inner TCP flow, by its addresses and ports, so far."""
    found = defaultdict[bytes, Counter[int]](Counter)
    while (frame := packets.frame(lambda data: outer(data) is not None, timeout=0.1)) is not None:
        packet = outer(frame)
        assert packet is not None
        inner = packet.payload[4:]
        if packet.payload[2:4] == b"\x08\x00" and inner[9] == TCP:
            found[inner[12:24]][packet.flow_label] += 1
    return found


@pytest.mark.parametrize(("allowed", "said"), [("auto", PACKET_SOCKET), ("no", {})])
def test_each_inner_flow_keeps_a_label_of_its_own(
    hosts: tuple[Host, Host],
    daemons: Daemons,
    implementation: str,
    allowed: str,
    said: dict[str, str],
) -> None:
    """Whichever way its packets leave: behind a probe packet, or each routed by itself."""
    left, right = hosts
    daemons.start(right, tunnel(right, version=6))
    daemon = daemons.start(left, tunnel(left, f"PacketSocket={allowed}", version=6))
    told = wait_for_event(daemon, "tunnel_up", tunnel="t")
    assert told["packet_socket"] == said.get(implementation, "no (configured)")
    with wire(right, UNDERLAY) as packets:
        packets.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 24)
        for _ in range(3):
            assert transfer(left, right, "10.9.1.2", size=1 << 19).intact
        flows = labels_by_flow(packets)
    assert len(flows) == 3
    assert all(len(labels) == 1 and labels.total() > 100 for labels in flows.values())
    different = {label for labels in flows.values() for label in labels}
    assert len(different) == 3
    assert 0 not in different


@contextmanager
def exclusive_label(host: Host) -> Iterator[None]:
    """Hold a lease that makes the kernel refuse all labels nobody has leased: anybody may."""
    label = next(LABELS)  # one that is given back is not free at once
    request = struct.pack("=16sIBBHHHI", bytes(15) + b"\1", socket.htonl(label), 0, 1, 1, 60, 60, 0)
    with host.socket(socket.AF_INET6, socket.SOCK_DGRAM) as holder:
        holder.setsockopt(socket.IPPROTO_IPV6, IPV6_FLOWLABEL_MGR, request)
        yield


@pytest.mark.parametrize("allowed", ["auto", "no"])
def test_who_leases_a_label_stops_no_tunnel(
    hosts: tuple[Host, Host], daemons: Daemons, allowed: str
) -> None:
    left, right = hosts
    daemons.start(right, tunnel(right, version=6))
    daemons.start(left, tunnel(left, f"PacketSocket={allowed}", version=6))
    assert label_seen(left, right)
    with exclusive_label(left):
        assert crosses(left)
        assert transfer(left, right, "10.9.1.2", size=1 << 18).intact
        assert label_seen(left, right), "the kernel's, then"
