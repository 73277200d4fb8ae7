"""Which tunnels share sockets, and which need some of their own."""

import contextlib
import os
import select
import socket
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gred.dataplane import io
from gred.dataplane.linux import IPV6_AUTOFLOWLABEL, SO_BINDTOIFINDEX, SO_MARK
from gred.dataplane.tunnels import TunnelParameters
from gred.dataplane.underlay.bypass import Bypass
from gred.dataplane.underlay.contract import PLAIN, SendOptions
from gred.dataplane.underlay.raw import Pair, RawSender, RawUnderlay
from gred.lab.hosts import Host, Lab
from tests import require

if TYPE_CHECKING:
    from gred.dataplane.underlay.contract import Family

OVER_IPV4 = TunnelParameters(family=4, local=None, remote=ip_address("192.0.2.2"))
OVER_IPV6 = TunnelParameters(family=6, local=None, remote=ip_address("2001:db8::2"))


def test_a_plain_tunnel_uses_the_plain_sockets() -> None:
    assert OVER_IPV4.send_options == OVER_IPV6.send_options == PLAIN


def test_what_comes_with_each_datagram_needs_no_socket_of_its_own() -> None:
    assert replace(OVER_IPV4, ttl=3, tos=8, interface=4).send_options == PLAIN
    assert replace(OVER_IPV6, ttl=3, tos=8, flow_label=7).send_options == PLAIN


@pytest.mark.parametrize(
    ("parameters", "options"),
    [
        (replace(OVER_IPV4, firewall_mark=7), SendOptions(mark=7)),
        (replace(OVER_IPV6, firewall_mark=7), SendOptions(mark=7)),
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
def underlay(request: pytest.FixtureRequest) -> Iterator[RawUnderlay]:
    require.root()
    require.program("ip", package="iproute2")
    family: Family = request.param
    with Lab(f"gredpool{family}") as lab:
        host: Host = lab.host("one")
        made = host.inside(lambda: RawUnderlay(family))
        yield made
        made.close()


def is_open(one: socket.socket) -> bool:
    return one.fileno() != -1


def pair_of(underlay: RawUnderlay, options: SendOptions) -> Pair:
    return underlay._pairs[options]


ORDINARY = {"no_bypass": "not allowed"}
SO_DETACH_FILTER = 27  # asm-generic/socket.h


def test_equal_options_share_a_pair_that_goes_with_its_last_user(underlay: RawUnderlay) -> None:
    seven, eight = SendOptions(mark=7), SendOptions(mark=8)
    one, two = (underlay.take_sender(seven, **ORDINARY) for _ in range(2))
    pair = pair_of(underlay, seven)
    underlay.take_sender(eight, **ORDINARY)
    assert pair_of(underlay, eight) is not pair
    one.close()
    assert is_open(pair.df)
    two.close()
    assert not is_open(pair.df)
    assert not is_open(pair.no_df)
    assert underlay._pairs.keys() == {PLAIN, eight}


def test_the_plain_pair_stays_until_the_end(underlay: RawUnderlay) -> None:
    underlay.take_sender(PLAIN, **ORDINARY).close()
    plain = pair_of(underlay, PLAIN)
    assert is_open(plain.df)
    underlay.close()
    assert not is_open(plain.df)
    assert not is_open(underlay.receiver)


def test_both_sockets_of_a_pair_have_the_mark(underlay: RawUnderlay) -> None:
    options = SendOptions(mark=0xFFFFFFFE)
    underlay.take_sender(options, **ORDINARY)
    pair = pair_of(underlay, options)
    for one in (pair.df, pair.no_df):
        mark = one.getsockopt(socket.SOL_SOCKET, SO_MARK) & 0xFFFFFFFF
        assert mark == 0xFFFFFFFE


@pytest.mark.parametrize("family", [4, 6])
def test_senders_get_no_clone_of_what_arrives(family: "Family") -> None:
    """Not even one for the filter to throw away: that costs as much as to receive it.

    But for the one over IPv6 that has the kernel fragment: it learns by it what a path carries.
    """
    require.root()
    version = socket.AF_INET if family == 4 else socket.AF_INET6
    with Lab(f"greddeaf{family}") as lab:
        one, other = lab.host("one"), lab.host("other")
        lab.wire(one, other)
        for host, own in ((one, 1), (other, 2)):
            host.address(f"192.0.2.{own}/24" if family == 4 else f"2001:db8::{own}/64")
        made = one.inside(lambda: RawUnderlay(family))
        try:
            made.take_sender(PLAIN, no_bypass="")
            pair = pair_of(made, PLAIN)
            senders = [pair.df] if family == 6 else [pair.df, pair.no_df]
            if isinstance(pair.bypass, Bypass):
                senders.append(pair.bypass.probe)
            for sender in senders:
                with contextlib.suppress(FileNotFoundError):  # it has none
                    sender.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
            with other.socket(version, socket.SOCK_RAW, 47) as peer:
                peer.sendto(b"\0\0\x08\0", ("192.0.2.1" if family == 4 else "2001:db8::1", 0))
            assert select.select([made.receiver], [], [], 5)[0]
            assert not select.select(senders, [], [], 0)[0]
        finally:
            made.close()


@pytest.mark.parametrize("underlay", [6], indirect=True)
def test_ipv6_options_are_on_both_sockets(underlay: RawUnderlay) -> None:
    options = SendOptions(encapsulation_limit=9, auto_flow_label=False, interface=1)
    sender = underlay.take_sender(options, **ORDINARY)
    assert sender.overhead == 40 + 8
    pair = pair_of(underlay, options)
    for one in (pair.df, pair.no_df):
        header = one.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_DSTOPTS, 64)
        assert header[2:5] == bytes((4, 1, 9))
        assert not one.getsockopt(socket.IPPROTO_IPV6, IPV6_AUTOFLOWLABEL)
        assert one.getsockopt(socket.SOL_SOCKET, SO_BINDTOIFINDEX) == 1


@pytest.mark.parametrize("underlay", [6], indirect=True)
def test_sockets_are_bound_to_an_interface_that_is_not_there_too(underlay: RawUnderlay) -> None:
    """Else they would send through any while it is away."""
    options = SendOptions(interface=0x7FFFFFFF)
    underlay.take_sender(options, **ORDINARY)
    df = pair_of(underlay, options).df
    assert df.getsockopt(socket.SOL_SOCKET, SO_BINDTOIFINDEX) == 0x7FFFFFFF


def test_who_may_not_bypass_opens_no_packet_socket(underlay: RawUnderlay) -> None:
    sender = underlay.take_sender(PLAIN, **ORDINARY)
    assert sender.no_bypass == "not allowed"
    assert sender.overhead == (40 if underlay.family == 6 else 20)
    assert pair_of(underlay, PLAIN)._bypass is None


def test_the_sockets_of_a_bypass_go_with_their_pair(underlay: RawUnderlay) -> None:
    require.extension()
    options = SendOptions(mark=7)
    sender = underlay.take_sender(options, no_bypass="")
    assert sender.no_bypass == ""
    bypass = pair_of(underlay, options).bypass
    assert isinstance(bypass, Bypass)
    sender.close()
    assert not is_open(bypass.probe)
    assert not is_open(bypass.packet)


def test_without_the_extension_packets_go_the_ordinary_way(
    underlay: RawUnderlay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(io, "CAN_BYPASS", False)
    sender = underlay.take_sender(PLAIN, no_bypass="")
    assert isinstance(sender, RawSender)
    assert sender.no_bypass == "needs the C extension"


def test_each_receiver_is_told_and_its_going_too() -> None:
    watched: list[int] = []
    with Lab("gredpoolw") as lab:
        host: Host = lab.host("one")
        made = host.inside(
            lambda: RawUnderlay(
                4, watch=lambda one: watched.append(one.fileno()), unwatch=watched.remove
            )
        )
        assert watched == [made.receiver.fileno()]
        made.close()
        assert watched == []


class FakeStore:
    """Has copies, as a service manager has."""

    def __init__(self) -> None:
        self.kept: dict[str, int] = {}

    def take(self, name: str, /) -> int | None:
        return os.dup(self.kept[name]) if name in self.kept else None

    def keep(self, name: str, descriptor: int, /) -> bool:
        self.remove(name)
        self.kept[name] = os.dup(descriptor)
        return True

    def remove(self, name: str, /) -> None:
        if name in self.kept:
            os.close(self.kept.pop(name))


@pytest.fixture
def store() -> Iterator[FakeStore]:
    store = FakeStore()
    yield store
    for name in list(store.kept):
        store.remove(name)


def inode(descriptor: int) -> int:
    return os.fstat(descriptor).st_ino


@pytest.mark.parametrize("family", [4, 6])
def test_a_kept_receiver_is_used_again_with_what_waits_there(
    store: FakeStore, family: "Family"
) -> None:
    require.root()
    own = "127.0.0.1" if family == 4 else "::1"
    with Lab(f"gredkept{family}") as lab:
        one = lab.host("one")
        made = one.inside(lambda: RawUnderlay(family, store=store))
        before = inode(made.receiver.fileno())
        made.close()
        address = socket.AF_INET if family == 4 else socket.AF_INET6
        with one.socket(address, socket.SOCK_RAW, 47) as sending:
            sending.sendto(b"\0\0\x08\0waits", (own, 0))
        again = one.inside(lambda: RawUnderlay(family, store=store))
        try:
            assert inode(again.receiver.fileno()) == before
            assert again.receiver.recv(100).endswith(b"waits")
            assert again.overrun() == 0
        finally:
            again.close()


@pytest.mark.parametrize("unfit", ["another family", "no socket", "elsewhere"])
def test_an_unfit_receiver_is_replaced(store: FakeStore, unfit: str) -> None:
    require.root()
    with Lab("gredunfit") as lab:
        one, other = lab.host("one"), lab.host("other")
        if unfit == "no socket":
            with Path(os.devnull).open() as wrong:
                store.keep("gre4", wrong.fileno())
        else:
            host = other if unfit == "elsewhere" else one
            family = socket.AF_INET if unfit == "elsewhere" else socket.AF_INET6
            with host.socket(family, socket.SOCK_RAW, 47) as wrong_socket:
                store.keep("gre4", wrong_socket.fileno())
        before = inode(store.kept["gre4"])
        made = one.inside(lambda: RawUnderlay(4, store=store))
        try:
            assert inode(store.kept["gre4"]) == inode(made.receiver.fileno()) != before
        finally:
            made.close()
