"""Sockets of GRE-in-UDP: who shares which, how long they are there, and who may have the port."""

import errno
import socket
from collections.abc import Iterator
from contextlib import closing
from ipaddress import ip_address

import pytest

from gred.dataplane.layout import Transport
from gred.dataplane.linux import SO_MARK
from gred.dataplane.tunnels import TunnelParameters
from gred.dataplane.underlay.contract import (
    Family,
    Membership,
    PortTakenError,
    Receiver,
    SendOptions,
)
from gred.dataplane.underlay.udp import FLOWS, UdpUnderlay
from gred.lab.hosts import Host, Lab
from tests import require

PLAIN = SendOptions(port=4754)
FIXED = SendOptions(port=4754, source_port=4754)
NO_BYPASS = {"no_bypass": "Transport=udp"}


@pytest.fixture(params=[4, 6])
def family(request: pytest.FixtureRequest) -> Family:
    version: Family = request.param
    return version


@pytest.fixture
def host(family: Family) -> Iterator[Host]:
    require.root()
    require.program("ip", package="iproute2")
    with Lab(f"gredudp{family}") as lab:
        yield lab.host("one")


class Watched:
    """An underlay, and the receivers it has open as its watcher knows them."""

    def __init__(self, host: Host, family: Family) -> None:
        self.receivers: dict[int, Receiver] = {}
        self.host = host
        self.underlay = UdpUnderlay(
            family,
            watch=lambda receiver: self.receivers.__setitem__(receiver.fileno(), receiver),
            unwatch=self.receivers.pop,
        )

    def take(self, options: SendOptions):  # type: ignore[no-untyped-def]
        return self.host.inside(lambda: self.underlay.take_sender(options, **NO_BYPASS))


@pytest.fixture
def made(host: Host, family: Family) -> Iterator[Watched]:
    watched = Watched(host, family)
    yield watched
    watched.underlay.close()
    assert not watched.receivers


def sockets(made: Watched) -> list[socket.socket]:
    return [one for senders in made.underlay._senders.values() for one in senders.sockets]


def test_what_a_tunnel_asks_of_its_sockets() -> None:
    plain = TunnelParameters(
        family=4, local=None, remote=ip_address("192.0.2.2"), transport=Transport.UDP, port=5
    )
    assert plain.send_options == SendOptions(port=5)
    assert plain.no_bypass == "Transport=udp"


def test_tunnels_share_sockets_that_go_with_the_last(made: Watched) -> None:
    one, two = made.take(PLAIN), made.take(PLAIN)
    assert len(sockets(made)) == FLOWS
    assert set(made.underlay.receivers) == {4754}
    assert len(made.receivers) == 1
    one.close()
    assert len(sockets(made)) == FLOWS
    two.close()
    assert not sockets(made)
    assert not made.receivers


def test_the_header_counts(made: Watched, family: Family) -> None:
    assert made.take(PLAIN).overhead == {4: 28, 6: 48}[family]


def test_ports_are_of_the_range_and_each_its_own(made: Watched) -> None:
    made.take(PLAIN)
    ports = {one.getsockname()[1] for one in sockets(made)}
    assert len(ports) == FLOWS
    assert min(ports) >= 49152


def test_a_mark_has_sockets_of_its_own_and_the_same_port(made: Watched) -> None:
    made.take(PLAIN)
    made.take(SendOptions(port=4754, mark=7))
    marks = {one.getsockopt(socket.SOL_SOCKET, SO_MARK) for one in sockets(made)}
    assert marks == {0, 7}
    assert len(made.receivers) == 1


def test_what_is_sent_from_is_received_from(made: Watched) -> None:
    """What a NAT lets in comes to where was sent from."""
    sender = made.take(SendOptions(port=4754, source_port=4800))
    assert set(made.underlay.receivers) == {4754, 4800}
    assert [one.getsockname()[1] for one in sockets(made)] == [4800]
    sender.close()
    assert not made.underlay.receivers


@pytest.mark.parametrize("options", [FIXED, SendOptions(port=4754, source_port=4754, mark=9)])
def test_who_sends_from_the_port_takes_nothing_of_what_arrives(
    made: Watched, host: Host, family: Family, options: SendOptions
) -> None:
    made.take(PLAIN)
    made.take(options)
    (receiver,) = (one.socket for one in made.underlay.receivers.values())
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    there = "127.0.0.1" if family == 4 else "::1"
    receiver.setblocking(True)
    receiver.settimeout(5)
    for _ in range(50):  # a hash of both ends decides in a group without a program
        with closing(host.socket(kind, socket.SOCK_DGRAM)) as other:
            other.sendto(b"gre", (there, 4754))
            assert receiver.recv(10) == b"gre"


@pytest.mark.parametrize("option", [0, socket.SO_REUSEADDR, socket.SO_REUSEPORT])
def test_a_second_program_is_refused_and_so_are_we(
    made: Watched, host: Host, family: Family, option: int
) -> None:
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    with closing(host.socket(kind, socket.SOCK_DGRAM)) as other:
        if option:
            other.setsockopt(socket.SOL_SOCKET, option, 1)
        other.bind(("", 4754))
        with pytest.raises(PortTakenError) as caught:
            made.take(FIXED)
        assert (caught.value.errno, caught.value.port) == (errno.EADDRINUSE, 4754)
        assert not made.receivers
    made.take(FIXED)
    second = UdpUnderlay(family)
    with pytest.raises(PortTakenError):
        host.inside(lambda: second.take_sender(FIXED, **NO_BYPASS))
    second.close()


def test_a_group_is_refused(made: Watched) -> None:
    with pytest.raises(OSError, match="not supported"):
        made.underlay.join(Membership(bytes(4), bytes(4), 0))


def test_what_was_thrown_away_unread_is_counted(made: Watched, host: Host, family: Family) -> None:
    made.take(PLAIN)
    (receiver,) = (one.socket for one in made.underlay.receivers.values())
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    with closing(host.socket(kind, socket.SOCK_DGRAM)) as other:
        for _ in range(50):
            other.sendto(bytes(1000), ("127.0.0.1" if family == 4 else "::1", 4754))
    lost = made.underlay.overrun()
    assert 0 < lost < 50
    assert made.underlay.overrun() == 0


class Kept:
    """A store that holds what it is given."""

    def __init__(self) -> None:
        self.held: dict[str, int] = {}

    def take(self, name: str, /) -> int | None:
        return self.held.pop(name, None)

    def keep(self, name: str, descriptor: int, /) -> bool:
        self.held[name] = socket.dup(descriptor)
        return True

    def remove(self, name: str, /) -> None:
        if name in self.held:
            socket.close(self.held.pop(name))


def test_the_receiver_outlives_the_process(host: Host, family: Family) -> None:
    store, name = Kept(), f"udp{family}-4754"
    first = UdpUnderlay(family, store=store)
    sender = host.inside(lambda: first.take_sender(PLAIN, **NO_BYPASS))
    assert name in store.held
    first.leave_stored()
    sender.close()
    first.close()
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    with closing(host.socket(kind, socket.SOCK_DGRAM)) as other:
        other.sendto(b"meanwhile", ("127.0.0.1" if family == 4 else "::1", 4754))
    second = UdpUnderlay(family, store=store)
    sender = host.inside(lambda: second.take_sender(PLAIN, **NO_BYPASS))
    (receiver,) = (one.socket for one in second.receivers.values())
    assert receiver.recv(100) == b"meanwhile"
    sender.close()
    second.close()


def test_a_port_that_nobody_wants_any_more_is_not_kept(host: Host, family: Family) -> None:
    store = Kept()
    underlay = UdpUnderlay(family, store=store)
    sender = host.inside(lambda: underlay.take_sender(PLAIN, **NO_BYPASS))
    sender.close()
    assert not store.held
    underlay.close()


def test_what_is_kept_and_is_no_such_socket_is_not_used(host: Host, family: Family) -> None:
    store = Kept()
    with closing(host.socket(socket.AF_INET, socket.SOCK_DGRAM)) as other:
        store.keep(f"udp{family}-4754", other.fileno())
    underlay = UdpUnderlay(family, store=store)
    sender = host.inside(lambda: underlay.take_sender(PLAIN, **NO_BYPASS))
    (receiver,) = (one.socket for one in underlay.receivers.values())
    assert receiver.getsockname()[1] == 4754
    sender.close()
    underlay.close()
