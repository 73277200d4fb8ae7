"""Which tunnels share sockets, and which need some of their own."""

import socket
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from gred.dataplane.tunnels import TunnelParameters
from gred.dataplane.underlay import (
    IPV6_AUTOFLOWLABEL,
    PLAIN,
    SO_BINDTOIFINDEX,
    SO_MARK,
    SendOptions,
    Underlay,
)
from gred.lab.hosts import Host, Lab
from tests import require

if TYPE_CHECKING:
    from gred.dataplane.groups import Family

OVER_IPV4 = TunnelParameters(local=None, remote=ip_address("192.0.2.2"))
OVER_IPV6 = TunnelParameters(local=None, remote=ip_address("2001:db8::2"))


def test_a_plain_tunnel_uses_the_plain_sockets() -> None:
    assert OVER_IPV4.send_options == OVER_IPV6.send_options == PLAIN


def test_what_comes_with_each_datagram_needs_no_socket_of_its_own() -> None:
    assert replace(OVER_IPV4, ttl=3, tos=8, interface=4).send_options == PLAIN
    assert replace(OVER_IPV6, ttl=3, tos=8, flow_label=7).send_options == PLAIN


@pytest.mark.parametrize(
    ("parameters", "options"),
    [
        (replace(OVER_IPV4, mark=7), SendOptions(mark=7)),
        (replace(OVER_IPV6, mark=7), SendOptions(mark=7)),
        (replace(OVER_IPV6, encapsulation_limit=0), SendOptions(encapsulation_limit=0)),
        (replace(OVER_IPV6, flow_label=0), SendOptions(auto_flow_label=False)),
        (replace(OVER_IPV6, interface=4), SendOptions(interface=4)),
    ],
)
def test_what_only_a_socket_can_have_is_asked_of_one(
    parameters: TunnelParameters, options: SendOptions
) -> None:
    assert parameters.send_options == options


@pytest.fixture(params=[4, 6])
def underlay(request: pytest.FixtureRequest) -> Iterator[Underlay]:
    require.root()
    require.program("ip", package="iproute2")
    family: Family = request.param
    with Lab(f"gredpool{family}") as lab:
        host: Host = lab.host("one")
        made = host.inside(lambda: Underlay(family))
        yield made
        made.close()


def is_open(one: socket.socket) -> bool:
    return one.fileno() != -1


def test_equal_options_share_a_pair_that_goes_with_its_last_user(underlay: Underlay) -> None:
    one = underlay.take_senders(SendOptions(mark=7))
    assert underlay.take_senders(SendOptions(mark=7)) is one
    assert underlay.take_senders(SendOptions(mark=8)) is not one
    underlay.leave_senders(one)
    assert is_open(one.whole)
    underlay.leave_senders(one)
    assert not is_open(one.whole)
    assert not is_open(one.fragmenting)


def test_the_plain_pair_stays_until_the_end(underlay: Underlay) -> None:
    plain = underlay.take_senders(PLAIN)
    underlay.leave_senders(plain)
    assert is_open(plain.whole)
    underlay.close()
    assert not is_open(plain.whole)
    assert not is_open(underlay.receiver)


def test_both_sockets_of_a_pair_have_the_mark(underlay: Underlay) -> None:
    pair = underlay.take_senders(SendOptions(mark=0xFFFFFFFE))
    for one in (pair.whole, pair.fragmenting):
        mark = one.getsockopt(socket.SOL_SOCKET, SO_MARK) & 0xFFFFFFFF
        assert mark == 0xFFFFFFFE


@pytest.mark.parametrize("underlay", [6], indirect=True)
def test_ipv6_options_are_on_both_sockets(underlay: Underlay) -> None:
    options = SendOptions(encapsulation_limit=9, auto_flow_label=False, interface=1)
    pair = underlay.take_senders(options)
    for one in (pair.whole, pair.fragmenting):
        header = one.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_DSTOPTS, 64)
        assert header[2:5] == bytes((4, 1, 9))
        assert not one.getsockopt(socket.IPPROTO_IPV6, IPV6_AUTOFLOWLABEL)
        assert one.getsockopt(socket.SOL_SOCKET, SO_BINDTOIFINDEX) == 1


@pytest.mark.parametrize("underlay", [6], indirect=True)
def test_sockets_are_bound_to_an_interface_that_is_not_there_too(underlay: Underlay) -> None:
    """Else they would send through any while it is away."""
    pair = underlay.take_senders(SendOptions(interface=0x7FFFFFFF))
    assert pair.whole.getsockopt(socket.SOL_SOCKET, SO_BINDTOIFINDEX) == 0x7FFFFFFF
