"""Remotes of which nothing is taken in clear, and sockets that send nothing in clear.

On the loopback, which policies of the host do not concern. What comes in ESP: the guest.
"""

import errno
import socket
import struct
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from gred.dataplane.underlay.contract import Family, Guard, SendOptions
from gred.dataplane.underlay.ipsec import TRANSPORT
from gred.dataplane.underlay.raw import RawUnderlay
from gred.dataplane.underlay.raw_senders import open_sender
from gred.lab.hosts import Host, Lab
from tests import require

GRE = 47
ENDS: dict[Family, tuple[str, str, str]] = {
    4: ("127.0.0.1", "127.0.0.2", "127.0.0.3"),
    6: ("2001:db8::1", "2001:db8::2", "2001:db8::3"),
}
FAMILIES = pytest.mark.parametrize("family", [4, 6])


@pytest.fixture
def host() -> Iterator[Host]:
    require.root()
    require.program("ip", package="iproute2")
    with Lab("guard") as lab:
        made = lab.host("one")
        for address in ENDS[6]:
            made.address(f"{address}/128", "lo")
        yield made


def send(family: Family, sender: str, payload: bytes) -> None:
    """Send GRE to the first of ENDS."""
    domain = socket.AF_INET if family == 4 else socket.AF_INET6
    with socket.socket(domain, socket.SOCK_RAW, GRE) as opened:
        opened.bind((sender, 0))
        opened.sendto(payload, (ENDS[family][0], 0))


def taken(underlay: RawUnderlay) -> list[bytes]:
    """Return the last byte of each packet that is waiting."""
    found = []
    for receiver in (underlay.receiver, *underlay.guarded.receivers):
        while True:
            try:
                found.append(receiver.recv(100)[-1:])
            except BlockingIOError:
                break
    return found


@FAMILIES
def test_of_a_guarded_remote_nothing_is_taken_in_clear(host: Host, family: Family) -> None:
    _here, there, other = ENDS[family]
    guard = Guard(ip_address(there).packed, TRANSPORT)

    def run() -> None:
        underlay = RawUnderlay(family)
        underlay.guard(guard)
        for sender, payload in ((there, b"a"), (other, b"b"), (there, b"c"), (other, b"d")):
            send(family, sender, payload)
        assert taken(underlay) == [b"b", b"d"]
        underlay.guard(guard)
        underlay.unguard(guard)
        send(family, there, b"e")
        assert taken(underlay) == [], "another tunnel has it guarded"
        underlay.unguard(guard)
        send(family, there, b"f")
        assert taken(underlay) == [b"f"]
        underlay.close()

    host.inside(run)


@FAMILIES
def test_many_are_guarded(host: Host, family: Family) -> None:
    _here, there, other = ENDS[family]

    def run() -> None:
        underlay = RawUnderlay(family)
        network = "198.51.100." if family == 4 else "2001:db8:7::"
        for number in range(1, 200):
            underlay.guard(Guard(ip_address(f"{network}{number}").packed, TRANSPORT))
        underlay.guard(Guard(ip_address(there).packed, TRANSPORT))
        send(family, there, b"a")
        send(family, other, b"b")
        assert taken(underlay) == [b"b"]
        underlay.close()

    host.inside(run)


@FAMILIES
def test_a_socket_whose_packets_must_be_protected_sends_none_in_clear(
    host: Host, family: Family
) -> None:
    def run() -> None:
        for dont_fragment in (False, True):
            shut = open_sender(family, SendOptions(protection=b""), dont_fragment=dont_fragment)
            assert send_by(shut, family) == errno.EPERM
            template = struct.pack(
                "=16s4sB3xHxx16sIBBBx3I",
                ip_address(ENDS[family][1]).packed,
                b"",
                50,
                socket.AF_INET if family == 4 else socket.AF_INET6,
                ip_address(ENDS[family][0]).packed,
                *(0, TRANSPORT, 0, 0),
                *[0xFFFFFFFF] * 3,
            )
            assert len(template) == 64
            options = SendOptions(protection=template)
            waits = open_sender(family, options, dont_fragment=dont_fragment)
            assert send_by(waits, family) in {errno.EAGAIN, errno.ESRCH}, "there is no SA"

    host.inside(run)


def send_by(sender: socket.socket, family: Family) -> int:
    """Send and close; return the errno."""
    with sender:
        try:
            sender.sendto(b"GRE", (ENDS[family][0], 0))
        except OSError as error:
            return error.errno or -1
    return 0
