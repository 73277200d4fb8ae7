"""One tunnel, many remotes: by the configuration, and learned from what arrives."""

import contextlib
import socket
import struct
from functools import partial

import pytest

from gred.lab.hosts import Host
from gred.lab.traffic import ping
from gred.wire.gre import IPPROTO_GRE, PROTOCOL_IPV4, GreHeader
from tests.dataplane.packets import Udp
from tests.netns.daemons import Daemons, drops, events, wait_for, wait_for_event

HUB = "[Tunnel hub]\nLocal=192.0.2.1\nKey=7\nAddress=10.7.0.1/16, fd07::1/64\n"
# Two ends on one host, told apart by their outer addresses.
SPOKES = """
[Tunnel near]
Local=192.0.2.2
Remote=192.0.2.1
Key=7
Address=10.7.0.2/32, fd07::2/128
Route=10.7.0.1/32, fd07::1/128

[Tunnel far]
Local=192.0.2.3
Remote=192.0.2.1
Key=7
Address=10.7.3.1/32
"""
PEERS = "Peers=10.7.0.2@192.0.2.2, 10.7.3.0/24@192.0.2.3, fd07::2@192.0.2.2\n"


@pytest.fixture(scope="module")
def spokes(hosts: tuple[Host, Host]) -> tuple[Host, Host]:
    hosts[1].address("192.0.2.3/24")
    return hosts


def test_each_inner_address_is_sent_to_its_own_remote(
    spokes: tuple[Host, Host], daemons: Daemons
) -> None:
    left, right = spokes
    hub = daemons.start(left, HUB + PEERS)
    spoke = daemons.start(right, SPOKES)
    for here, there in (("10.7.0.1", "10.7.0.2"), ("fd07::1", "fd07::2")):
        assert ping(left, there, source=here, count=3).received == 3
    # What goes to 10.7.3.0/24 arrives at the other end of the same host.
    ping(left, "10.7.3.1", source="10.7.0.1", count=1)
    ping(left, "10.7.9.9", source="10.7.0.1", count=1)  # behind nobody
    hub.stop()
    spoke.stop()
    assert drops(hub)["hub", "tx_no_remote"] >= 1
    assert not [key for key in drops(spoke) if key[1].startswith("rx_")]


def test_what_arrives_teaches_where_to_answer(spokes: tuple[Host, Host], daemons: Daemons) -> None:
    left, right = spokes
    hub = daemons.start(left, HUB + "LearnPeers=yes\n")
    daemons.start(right, SPOKES)
    assert ping(left, "10.7.0.2", source="10.7.0.1", count=1).received == 0
    assert ping(right, "10.7.0.1", source="10.7.0.2", count=3).received == 3
    assert ping(left, "10.7.0.2", source="10.7.0.1", count=3).received == 3

    def learned() -> list[tuple[str, str]]:
        return [
            (event["inner"], event["remote"])
            for event in events(hub)
            if event["event"] == "peer_learned"
        ]

    wait_for(lambda: ("10.7.0.2", "192.0.2.2") in learned(), "the hub to tell what it learned")


def test_who_sends_as_a_peer_that_is_heard_does_not_get_its_packets(
    spokes: tuple[Host, Host], daemons: Daemons
) -> None:
    left, right = spokes
    hub = daemons.start(left, HUB + "LearnPeers=yes\n")
    daemons.start(right, SPOKES)
    assert ping(right, "10.7.0.1", source="10.7.0.2", count=1).received == 1
    wait_for_event(hub, "peer_learned", inner="10.7.0.2", remote="192.0.2.2")
    inner = Udp(source=bytes([10, 7, 0, 2]), destination=bytes([10, 7, 0, 1])).build()
    with right.socket(socket.AF_INET, socket.SOCK_RAW, IPPROTO_GRE) as thief:
        thief.bind(("192.0.2.3", 0))
        header = GreHeader(protocol_type=PROTOCOL_IPV4, key=7).pack()
        thief.sendto(header + inner, ("192.0.2.1", 0))
    claim = wait_for_event(hub, "peer_claimed", inner="10.7.0.2", claimant="192.0.2.3")
    assert claim["remote"] == "192.0.2.2"
    assert ping(left, "10.7.0.2", source="10.7.0.1", count=3).received == 3


def test_a_multicast_packet_of_the_hub_reaches_every_peer_once(
    spokes: tuple[Host, Host], daemons: Daemons
) -> None:
    left, right = spokes
    groups = ", ".join(
        f"{group}@192.0.2.{number}" for group in ("224.0.0.0/4", "ff00::/8") for number in (2, 3)
    )
    hub = daemons.start(left, HUB + f"SerializeTunneledPackets=yes\n{PEERS[:-1]}, {groups}\n")
    text = SPOKES.replace("Key=7\n", "Key=7\nSerializeTunneledPackets=yes\n")
    daemons.start(right, text)
    with contextlib.ExitStack() as stack:
        listeners = []
        for device in ("near", "far"):
            listener = stack.enter_context(right.socket(socket.AF_INET, socket.SOCK_DGRAM))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
            listener.bind(("239.7.7.7", 4700))
            index = right.inside(partial(socket.if_nametoindex, device))
            joined = struct.pack("=4s4si", socket.inet_aton("239.7.7.7"), bytes(4), index)
            listener.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, joined)
            listener.settimeout(10)
            listeners.append(listener)
        sender = stack.enter_context(left.socket(socket.AF_INET, socket.SOCK_DGRAM))
        source = struct.pack("=4s4si", bytes(4), socket.inet_aton("10.7.0.1"), 0)
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, source)
        for number in range(20):
            sender.sendto(b"%d" % number, ("239.7.7.7", 4700))
        for listener in listeners:
            assert [listener.recv(99) for _ in range(20)] == [b"%d" % n for n in range(20)]
            listener.setblocking(False)
            with pytest.raises(BlockingIOError):
                listener.recv(99)
    hub.stop()
    # Each spoke numbers for itself: in the other direction order cannot be told.
    assert not [key for key in drops(hub) if key[1].startswith("tx_")]


def group(own: str, number: int) -> str:
    address = f"10.8.0.{number}/24"
    return f"[Tunnel group]\nLocal={own}\nRemote=239.47.1.1\nKey=9\nAddress={address}\nTTL=1\n"


def test_a_group_as_remote_reaches_its_members_and_not_ourselves(
    hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    left, right = (
        daemons.start(host, group(f"192.0.2.{number}", number))
        for number, host in enumerate(hosts, start=1)
    )
    assert ping(hosts[0], "10.8.0.2", source="10.8.0.1", count=3).received == 3
    assert ping(hosts[1], "10.8.0.1", source="10.8.0.2", count=3).received == 3
    for daemon in (left, right):
        daemon.stop()
        assert not drops(daemon)
        assert not [e for e in events(daemon) if e["event"] in {"tunnel_no_route", "tunnel_loop"}]
