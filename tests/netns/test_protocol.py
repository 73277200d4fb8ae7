"""Protocol=: a type that is neither IP nor Ethernet crosses, unchanged, beside IP."""

import select
import socket

from gred.lab.hosts import Host
from gred.lab.traffic import ping
from tests.netns.conftest import LEFT, RIGHT
from tests.netns.daemons import Daemons, drops, wait_for

MPLS = 0x8847
LABELLED = bytes.fromhex("003e8140") + b"behind a label"


def section(own: tuple[str, str], other: tuple[str, str], number: int, options: str) -> str:
    return (
        f"[Tunnel labels]\nLocal={own[0]}\nRemote={other[0]}\nAddress=10.6.0.{number}/24\n{options}"
    )


def packet_socket(host: Host) -> socket.socket:
    opened = host.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(MPLS))
    index = host.inside(lambda: socket.if_nametoindex("labels"))
    assert index
    host.inside(lambda: opened.bind(("labels", MPLS)))
    return opened


def test_labelled_packets_cross_beside_ip(hosts: tuple[Host, Host], daemons: Daemons) -> None:
    left = daemons.start(hosts[0], section(LEFT, RIGHT, 1, "Protocol=mpls\n"))
    right = daemons.start(hosts[1], section(RIGHT, LEFT, 2, "Protocol=mpls\n"))
    assert ping(hosts[0], "10.6.0.2", source="10.6.0.1", count=2).received == 2
    with packet_socket(hosts[0]) as sender, packet_socket(hosts[1]) as receiver:
        sender.sendto(LABELLED, ("labels", MPLS))
        assert select.select([receiver], [], [], 10)[0]
        data, address = receiver.recvfrom(2000)
    assert (data, address[1]) == (LABELLED, MPLS)
    for daemon in (left, right):
        daemon.stop()
        assert not drops(daemon)


def test_a_tunnel_without_it_names_what_came(hosts: tuple[Host, Host], daemons: Daemons) -> None:
    daemons.start(hosts[0], section(LEFT, RIGHT, 1, "Protocol=mpls\n"))
    right = daemons.start(hosts[1], section(RIGHT, LEFT, 2, ""))
    with packet_socket(hosts[0]) as sender:
        sender.sendto(LABELLED, ("labels", MPLS))
        before = "packet_refused"
        wait_for(lambda: before in right.log(), "the refusal in the log")
    right.stop()
    assert drops(right)["labels", "rx_mpls"] == 1
