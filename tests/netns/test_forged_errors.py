"""Forged ICMP errors, from a host that is no router of ours: what they can do, and what not."""

import json
from collections.abc import Iterator
from contextlib import closing

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6PacketTooBig,
    IPv6,
)
from scapy.packet import Packet, Raw

from gred.lab.hosts import Host, Lab
from gred.lab.traffic import ping
from gred.wire.gre import GreHeader
from tests.netns.daemons import Daemons, events, wait_for, wait_for_event
from tests.netns.once import implementation  # noqa: F401 - control alone
from tests.netns.path import LEFT, RIGHT, Path, build
from tests.netns.test_refusals import Sender

UNDERLAYS = pytest.mark.parametrize("underlay", [0, 1], ids=["ipv4", "ipv6"])
NOBODY = ("203.0.113.77", "2001:db8:3::77")  # who never forwarded a packet
LITTLE = (600, 1280)  # what is claimed; as IPv6 has it, the least that a path carries
WHOLE = 1500
LARGE = 1400  # of an echo request: more than what is claimed and believed carries
NONE_SO_LONG = "no packet longer than it tells was sent lately"


@pytest.fixture(scope="module")
def lasting_path(lab: Lab) -> Path:
    path = build(lab)
    path.narrow(WHOLE)
    return path


@pytest.fixture
def path(lasting_path: Path) -> Iterator[Path]:
    """A path that carries what its ends do, on which nobody has learned anything."""
    yield lasting_path
    lasting_path.forget()


@pytest.fixture
def forger(path: Path) -> Iterator[Sender]:
    with closing(Sender(path.routers[1])) as sender:
        yield sender


def section(host: Host, underlay: int, options: str = "", name: str = "t", net: int = 1) -> str:
    ends, own = ((LEFT, RIGHT), 1) if host.name == "left" else ((RIGHT, LEFT), 2)
    return (
        f"[Tunnel {name}]\nLocal={ends[0][underlay]}\nRemote={ends[1][underlay]}\n"
        f"Address=10.9.{net}.{own}/24\n{options}\n"
    )


def outer(underlay: int, inside: Packet, length: int, protocol: int) -> Packet:
    """Return the start of a packet of *length* bytes from left to right."""
    if underlay == 0:
        ends = {"src": LEFT[0], "dst": RIGHT[0]}
        return IP(**ends, proto=protocol, flags="DF", len=length, id=7) / inside
    ends = {"src": LEFT[1], "dst": RIGHT[1]}
    return IPv6(**ends, nh=protocol, plen=length - 40) / inside


def gre(header: GreHeader, more: bytes = bytes(24)) -> Packet:
    return Raw(header.pack() + more)


def too_big(underlay: int, mtu: int, quoted: Packet) -> Packet:
    if underlay == 0:
        head = IP(src=NOBODY[0], dst=LEFT[0]) / ICMP(type=3, code=4, nexthopmtu=mtu)
        return head / quoted
    return IPv6(src=NOBODY[1], dst=LEFT[1]) / ICMPv6PacketTooBig(mtu=mtu) / quoted


def unreachable(underlay: int, quoted: Packet) -> Packet:
    """Administratively prohibited."""
    if underlay == 0:
        return IP(src=NOBODY[0], dst=LEFT[0]) / ICMP(type=3, code=13) / quoted
    return IPv6(src=NOBODY[1], dst=LEFT[1]) / ICMPv6DestUnreach(code=1) / quoted


def told(daemon_events: list[dict[str, object]]) -> list[object]:
    return [e["path_mtu"] for e in daemon_events if e["event"] == "path_mtu_changed"]


def route_mtu(host: Host, underlay: int) -> int | None:
    """Return what the kernel of *host* has learned of the path to right."""
    version = ("-4", "-6")[underlay]
    (route,) = json.loads(host.ip("-j", version, "route", "get", RIGHT[underlay]))
    metrics = route.get("metrics", [{}])[0]
    found: int | None = metrics.get("mtu", route.get("mtu"))
    return found


@UNDERLAYS
def test_who_does_not_know_the_key_lowers_nothing(
    path: Path, daemons: Daemons, forger: Sender, underlay: int
) -> None:
    daemons.start(path.right, section(path.right, underlay, "Key=7"))
    left = daemons.start(path.left, section(path.left, underlay, "Key=7"))
    little = LITTLE[underlay]
    assert ping(path.left, "10.9.1.2", size=LARGE).received == 3, "there is something to refuse"
    for key in (None, 8, 0x07000000):
        header = GreHeader(protocol_type=0x0800, key=key)
        forger.send(too_big(underlay, little, outer(underlay, gre(header), WHOLE, 47)), 5)
    # Right key, but no packet that was sent: too small for the claim, of another kind.
    right = GreHeader(protocol_type=0x0800, key=7)
    forger.send(too_big(underlay, little, outer(underlay, gre(right), little, 47)))
    odd = GreHeader(protocol_type=0x6558, key=7)
    forger.send(too_big(underlay, little, outer(underlay, gre(odd), WHOLE, 47)))
    wait_for_event(left, "icmp_error_ignored", kind="too big")
    # The last in line is a true one: by then all others have been looked at.
    forger.send(too_big(underlay, 1400, outer(underlay, gre(right), WHOLE, 47)))
    wait_for_event(left, "path_mtu_changed", path_mtu=1400)
    assert told(events(left)) == [1400]
    # IPv6 leaves fragments to those who send, so that gred lets the kernel know for these.
    assert underlay == 1 or route_mtu(path.left, underlay) is None, "the kernel learned nothing"
    assert ping(path.left, "10.9.1.2", size=1300).received == 3


@UNDERLAYS
@pytest.mark.parametrize("key", [None, 7], ids=["plain", "key"])
def test_where_nothing_so_long_was_sent_nothing_happens(
    path: Path, daemons: Daemons, forger: Sender, underlay: int, key: int | None
) -> None:
    """On an idle tunnel, and on one that sends small packets only."""
    options = "" if key is None else f"Key={key}"
    daemons.start(path.right, section(path.right, underlay, options))
    left = daemons.start(path.left, section(path.left, underlay, options))
    wide = path.left.ip("link", "show", "dev", "t")
    header = GreHeader(protocol_type=0x0800, key=key)
    quoted = outer(underlay, gre(header, b"E" + bytes(3)), WHOLE, 47)
    for mtu, times, so_far in ((1280, 1, 1), (1400, 9, 10)):
        forger.send(too_big(underlay, mtu, quoted), times)
        wait_for_event(left, "icmp_error_ignored", count=so_far, detail=NONE_SO_LONG)
        assert ping(path.left, "10.9.1.2", size=1000).received == 3
    assert told(events(left)) == []
    assert path.left.ip("link", "show", "dev", "t").split("mtu")[1][:6] == wide.split("mtu")[1][:6]
    assert ping(path.left, "10.9.1.2", size=LARGE).received == 3
    # From here on it may be true.
    forger.send(too_big(underlay, 1400, quoted))
    wait_for_event(left, "path_mtu_changed", path_mtu=1400)


@UNDERLAYS
def test_without_a_key_one_message_lowers_little_and_repeats_no_more(
    path: Path, daemons: Daemons, forger: Sender, underlay: int
) -> None:
    daemons.start(path.right, section(path.right, underlay))
    left = daemons.start(path.left, section(path.left, underlay))
    quoted = outer(underlay, gre(GreHeader(protocol_type=0x0800), b"E" + bytes(3)), WHOLE, 47)
    assert ping(path.left, "10.9.1.2", size=LARGE).received == 3
    forger.send(too_big(underlay, LITTLE[underlay], quoted))
    wait_for_event(left, "path_mtu_changed", path_mtu=1280)
    known = len(events(left))
    ignored = unreachable(
        underlay, outer(underlay, gre(GreHeader(protocol_type=0x6558)), WHOLE, 47)
    )
    for _ in range(15):
        forger.send(too_big(underlay, LITTLE[underlay], quoted))
        assert ping(path.left, "10.9.1.2", size=1100, count=5).received > 0
    forger.send(ignored)
    wait_for_event(left, "icmp_error_ignored", after=known)
    assert told(events(left)) == [1280]


@UNDERLAYS
def test_what_the_kernel_believes_is_nothing_to_a_tunnel(
    path: Path, daemons: Daemons, forger: Sender, underlay: int
) -> None:
    """It believes whoever quotes an echo reply; and forgets what the administrator's route says."""
    version = ("-4", "-6")[underlay]
    gateway = ("192.0.2.254", "2001:db8:1::fe")[underlay]
    bits = ("32", "128")[underlay]
    route = (f"{RIGHT[underlay]}/{bits}", "via", gateway)
    daemons.start(path.right, section(path.right, underlay))
    left = daemons.start(path.left, section(path.left, underlay))
    wide = json.loads(path.left.ip("-j", "link", "show", "dev", "t"))[0]["mtu"]
    reply = outer(underlay, ICMP(type=0) if underlay == 0 else ICMPv6EchoReply(), WHOLE, 1)
    if underlay == 1:
        reply.nh = 58
    forger.send(too_big(underlay, LITTLE[underlay], reply / Raw(bytes(40))))
    wait_for(lambda: route_mtu(path.left, underlay) == LITTLE[underlay], "the kernel believes it")
    assert ping(path.left, "10.9.1.2", size=wide - 28).received == 3
    try:
        path.left.ip(version, "route", "add", *route, "mtu", "1400")
        wait_for_event(left, "mtu_changed", mtu=wide - 100)
        forger.send(too_big(underlay, LITTLE[underlay], reply / Raw(bytes(40))))
        wait_for(lambda: route_mtu(path.left, underlay) == LITTLE[underlay], "it does again")
        known = len(events(left))
        path.left.ip("link", "add", "stir", "type", "veth")  # so that gred looks at its routes
        path.left.ip("link", "delete", "stir")
        path.left.ip(version, "route", "change", *route, "mtu", "1450")
        wait_for_event(left, "mtu_changed", mtu=wide - 50, before=wide - 100, after=known)
    finally:
        path.left.ip(version, "route", "delete", *route)
    assert told(events(left)) == []


@UNDERLAYS
def test_a_quote_that_fits_several_tunnels_is_of_none(
    path: Path, daemons: Daemons, forger: Sender, underlay: int
) -> None:
    tunnels = "".join(
        section(path.left, underlay, f"Key={number}", f"t{number}", number) for number in (1, 2, 3)
    )
    left = daemons.start(path.left, tunnels)
    header = GreHeader(protocol_type=0x0800, key=2)
    cut = outer(underlay, Raw(header.pack()[:4]), WHOLE, 47)
    forger.send(unreachable(underlay, cut), 50)
    forger.send(too_big(underlay, LITTLE[underlay], cut), 50)
    whole = outer(underlay, gre(header), WHOLE, 47)
    ping(path.left, "10.9.2.2", size=LARGE, count=1, timeout=0.1)  # to nobody
    forger.send(unreachable(underlay, whole))
    forger.send(too_big(underlay, 1400, whole))
    wait_for_event(left, "tunnel_refused", tunnel="t2")
    wait_for_event(left, "path_mtu_changed", tunnel="t2", path_mtu=1400)
    seen = events(left)
    assert {e["tunnel"] for e in seen if e["event"] == "tunnel_refused"} == {"t2"}
    assert {e["tunnel"] for e in seen if e["event"] == "path_mtu_changed"} == {"t2"}
    told_of = [e["count"] for e in seen if e["event"] == "icmp_error_ignored"]
    assert told_of == [1, 10][: len(told_of)] or told_of == [1, 10, 100]
