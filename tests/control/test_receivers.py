"""Other receivers: who they are, and which gred came first."""

import os
import socket
import struct
from ipaddress import ip_address
from pathlib import Path

import pytest
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from gred.control.kernel import raw_sockets
from gred.control.kernel.dumps import read_gre_links
from gred.control.kernel.rtnetlink import encode
from gred.control.receivers import (
    Others,
    Party,
    Receivers,
    kernels,
    rivals,
)
from gred.control.twins import Claim
from tests.control.kernel.test_raw_sockets import raw

CLAIM = Claim(4, ip_address("192.0.2.1"), ip_address("192.0.2.2"), None)
KEYED = Claim(6, None, ip_address("2001:db8::2"), 7)


def test_the_earlier_gred_has_the_packets() -> None:
    party = Party(77, (5.0, "b"), (("x", CLAIM), ("y", KEYED)))
    mine = [("t", CLAIM), ("u", Claim(4, None, None, None))]
    held = rivals(mine, (6.0, "a"), [party])
    assert list(held) == ["t"]
    assert "another gred (process 77, [Tunnel x]) takes the same packets" in held["t"]
    assert rivals(mine, (4.0, "a"), [party]) == {}
    assert rivals(mine, (5.0, "a"), [party]) == {}, "of two at once the token decides"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins for /proc/net/raw; what is under /proc/net/unix is the kernel's own."""
    monkeypatch.setattr(raw_sockets, "_RAW", {4: tmp_path / "raw", 6: tmp_path / "raw6"})
    return tmp_path


def test_our_own_sockets_are_no_others(files: Path) -> None:
    with socket.socket() as own:
        inode = os.fstat(own.fileno()).st_ino
        (files / "raw").write_text(raw(("00000000", "002F", 0, inode)))
        assert Receivers().look() == Others()


def test_anothers_senders_do_not_receive(files: Path) -> None:
    (files / "raw").write_text(raw(("0100007F", "002F", 998, 1)))
    assert Receivers().look().versions == frozenset()
    (files / "raw6").write_text(raw(("0" * 32, "002F", 998, 2)))
    assert Receivers().look().versions == {6}


def test_only_somebody_new_makes_it_look_at_its_own_descriptors(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are some for each of a thousand tunnels."""
    looks: list[int] = []

    def look() -> list[int]:
        looks.append(1)
        return []

    monkeypatch.setattr(raw_sockets, "own_sockets", look)
    receivers = Receivers()
    for number, inodes in enumerate([(1,), (1,), (1, 2), (2,), ()]):
        lines = [("00000000", "002F", 998, inode) for inode in inodes]
        (files / "raw").write_text(raw(*lines))
        assert receivers.look().versions == ({4} if inodes else set()), number
    assert len(looks) == 2


def test_a_host_without_proc_has_nobody_else(files: Path) -> None:
    assert Receivers().look() == Others()


def test_two_gred_know_each_others_claims(files: Path) -> None:
    one, two = Receivers(), Receivers()
    one.open()
    two.open()
    try:
        one.publish([("t", CLAIM), ("u", KEYED)])
        (files / "raw").write_text(raw(("00000000", "002F", os.getuid(), 1)))
        parties = {party.rank: party for party in two.look().parties}
        assert parties[one.rank].claims == (("t", CLAIM), ("u", KEYED))
        assert parties[one.rank].pid == os.getpid()
        assert two.rank not in parties
        one.close()
        assert one.rank not in {party.rank for party in two.look().parties}
    finally:
        one.close()
        two.close()


def test_who_may_not_take_gre_is_not_believed(files: Path) -> None:
    """Else any local user could hold tunnels down."""
    one, two = Receivers(), Receivers()
    one.open()
    try:
        one.publish([("t", CLAIM)])
        (files / "raw").write_text(raw(("00000000", "002F", os.getuid() + 1, 1)))
        assert two.look().parties == ()
    finally:
        one.close()


def gre_link(
    name: str, kind: str, ends: tuple[bytes, bytes], key: int | None, *, up: bool = True
) -> bytes:
    """Return what the kernel lists of an interface; flags and key are as on a wire."""
    message = ifinfmsg()
    message["flags"] = int(up)
    flags = b"\x20\x00" if key is not None else b"\0\0"
    values = [(2, flags), (4, (key or 0).to_bytes(4)), (6, ends[0]), (7, ends[1])]
    data = b"".join(
        struct.pack("=HH", 4 + len(value), number)
        + value.ljust(-len(value) % 4 + len(value), b"\0")
        for number, value in values
    )
    info = {"attrs": [("IFLA_INFO_KIND", kind)]}
    message["attrs"] = [("IFLA_IFNAME", name), ("IFLA_MTU", 1476), ("IFLA_LINKINFO", info)]
    encoded = bytearray(encode(message, 16, 0))
    # The data go behind the kind, inside of the nest, which is the last attribute.
    nest = bytes(encoded).rindex(kind.encode() + b"\0") - 8
    length = len(encoded) - nest
    struct.pack_into("=H", encoded, nest, length + 4 + len(data))
    return bytes(encoded) + struct.pack("=HH", 4 + len(data), 2) + data


V4 = (bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2)))


def test_the_kernels_interfaces_that_take_the_same_packets_are_found() -> None:
    links = read_gre_links(
        [
            gre_link("gre1", "gre", V4, None),
            gre_link("gre2", "gre", V4, 7),
            gre_link("tap1", "gretap", V4, 8),
            gre_link("gre3", "gre", V4, 9, up=False),
            gre_link("span1", "erspan", V4, 10),
        ]
    )
    assert [link.name for link in links] == ["gre1", "gre2", "tap1"]
    assert Others(links=tuple(links)).take_all == []
    mine = [(f"t{key}", Claim(4, CLAIM.local, CLAIM.remote, key)) for key in (None, 7, 8, 9, 10)]
    held = kernels(mine, {"t8"}, links)
    assert list(held) == ["tNone", "t7", "t8"]
    assert "the kernel's interface gre2 takes the same packets" in held["t7"]
    assert "ip link set dev gre2 down" in held["t7"]
    assert list(kernels(mine, set(), links)) == ["tNone", "t7"], "Ethernet is another matter"


NOWHERE = (bytes(4), bytes(4))
NOWHERE6 = (bytes(16), bytes(16))


def test_gre0_that_is_up_takes_everything() -> None:
    links = read_gre_links(
        [gre_link("gre0", "gre", NOWHERE, None), gre_link("ip6gre0", "ip6gre", NOWHERE6, None)]
    )
    others = Others(links=tuple(links))
    assert others.take_all == links
    assert list(others.words.values()) == ["warning"] * 2
    first, second = others.words
    assert "gre0 is up and takes every packet over IPv4" in first
    assert "ip6gre0 is up and takes every packet over IPv6" in second
    ours = [("t", CLAIM), ("any", Claim(4, None, None, None)), ("key", Claim(4, None, None, 7))]
    assert list(kernels(ours, set(), links)) == ["any"], "the others are warned of"


@pytest.mark.parametrize(
    ("ends", "key", "taken"),
    [
        ((V4[0], bytes(4)), 7, ["t", "any-remote"]),
        ((bytes(4), V4[1]), 7, ["t", "any-local"]),
        (NOWHERE, 7, ["t", "any-local", "any-remote", "any"]),
        (V4, 7, ["t", "any-local"]),
        ((V4[0], V4[0]), 7, []),
        ((V4[1], bytes(4)), 7, []),
    ],
)
def test_who_has_any_local_or_remote_takes_what_a_narrower_one_does(
    ends: tuple[bytes, bytes], key: int, taken: list[str]
) -> None:
    """And who has any local address hears the remote at the address that another has."""
    local, remote = CLAIM.local, CLAIM.remote
    mine = [
        ("t", Claim(4, local, remote, 7)),
        ("any-local", Claim(4, None, remote, 7)),
        ("any-remote", Claim(4, local, None, 7)),
        ("any", Claim(4, None, None, 7)),
        ("keyless", CLAIM),
    ]
    links = read_gre_links([gre_link("wide", "gre", ends, key)])
    assert list(kernels(mine, set(), links)) == taken
    far_local, far_remote = (ip_address(end) if any(end) else None for end in ends)
    theirs = Claim(4, far_local, far_remote, key)
    party = Party(77, (1.0, "b"), (("x", theirs),))
    assert list(rivals(mine, (2.0, "a"), [party])) == taken


def test_where_the_kernel_has_tunnels_unclaimed_packets_may_be_theirs() -> None:
    """It opens no raw socket: only its interfaces show it."""
    (link,) = read_gre_links([gre_link("k", "ip6gre", NOWHERE6, 9)])
    others = Others(links=(link,))
    assert others.receiving == {6}
    assert others.versions == frozenset()
    ((sentence, level),) = others.words.items()
    assert sentence.startswith("the kernel has tunnels of its own here over IPv6")
    assert level == "info"
    assert others.have(Claim(6, None, None, 9))
    assert not others.have(Claim(6, None, None, 8))
    assert Others(versions=frozenset({4})).receiving == {4}
