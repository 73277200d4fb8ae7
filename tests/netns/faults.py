"""Every fault that two hosts and a router can have between them, and what gred must say of it.

    python -m tests.netns.faults [NAME...]      as root: plants them, prints what was said

Written from what users meet, not from what gred finds. The words that a sentence needs are those of
any true sentence that names the cause and what to do.
"""

import os
import re
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from tests.netns.diagnosis import (
    BOTH,
    CAUSES,
    LEFT_FLOW,
    NONE,
    RIGHT_FLOW,
    Fault,
    Row,
    Says,
    running,
)
from tests.netns.scene import (
    FAR,
    FAR_LINK,
    INNER,
    LEFT,
    NEAR,
    NEAR_LINK,
    RIGHT,
    Change,
    Flow,
    Scene,
)

FAULTS: dict[str, Fault] = {}
Plant = Callable[[Scene], object]

GRE = "meta l4proto 47"
THERE = f"{GRE} ip saddr {LEFT[0]}"  # left to right
BACK = f"{GRE} ip saddr {RIGHT[0]}"
QUICK = tuple(Flow(flow.end, flow.to, every=0.05) for flow in BOTH)
LONG = (Flow("left", INNER["right"], sizes=(56, 1400)), RIGHT_FLOW)
NOBODY = r"runs nothing|protocol unreachable|nothing (there )?takes|no program|not running"
# What a sentence about packets that vanish may consider.
GUESSES = ("key", "nat", "refusal", "route", "keepalive", "absent", "loss")


def at(address: str) -> str:
    """Return what finds *address* and no longer one."""
    return rf"(?<![\w.:]){re.escape(address)}(?!\d|[.:]\w)"


def void(end: str) -> Says:
    """Packets go out at *end* and none comes in: how many, and who may be to blame."""
    return Says(end, (NONE, r"\d+ packets|packets .*sent|sent|keepalives"))


def fault(
    name: str,
    what: str,
    *says: Says,
    causes: tuple[str, ...] = (),
    **more: Any,
) -> Callable[[Plant], Plant]:
    """Enter a case whose plant is the function below."""
    unknown = set(causes) - CAUSES.keys()
    assert not unknown, unknown

    def enter(plant: Plant) -> Plant:
        assert name not in FAULTS, name
        group = name.partition("-")[0]
        FAULTS[name] = Fault(name, group, what, plant, says, frozenset(causes), **more)
        return plant

    return enter


def simple(
    name: str,
    what: str,
    left: str,
    right: str,
    *says: Says,
    causes: tuple[str, ...] = (),
    version: int = 4,
    **more: Any,
) -> None:
    """Enter a case that is two configurations."""
    fault(name, what, *says, causes=causes, **more)(
        lambda scene: scene.both(left, right, version=version)
    )


# -- the peer's settings

KEY_OPTION = r"\bKey=|InputKey=|OutputKey="
CHECKSUM_OPTION = r"Checksum=|InputChecksum=|OutputChecksum="
NUMBER_OPTION = r"SerializeTunneledPackets=|InputSequence=|OutputSequence="

simple(
    "peer-other-key",
    "the ends have different keys",
    "Key=4711",
    "Key=4712",
    Says("left", (at(RIGHT[0]), r"\b4711\b", r"\b4712\b", KEY_OPTION)),
    Says("right", (at(LEFT[0]), r"\b4711\b", r"\b4712\b", KEY_OPTION)),
    causes=("key",),
)
simple(
    "peer-other-key-v6",
    "the ends have different keys, over IPv6",
    "Key=4711",
    "Key=4712",
    Says("left", (at(RIGHT[1]), r"\b4711\b", r"\b4712\b", KEY_OPTION)),
    Says("right", (at(LEFT[1]), r"\b4711\b", r"\b4712\b", KEY_OPTION)),
    causes=("key",),
    version=6,
)
simple(
    "peer-no-key",
    "one end has a key, the other none",
    "Key=4711",
    "",
    Says("left", (r"\b4711\b", r"\bno key|without (a )?key|has no key|none", KEY_OPTION)),
    Says("right", (r"\b4711\b", r"\bno key|without (a )?key|none|expects no", KEY_OPTION)),
    causes=("key",),
)
simple(
    "peer-keys-crossed",
    "both ends have InputKey= and OutputKey= the same way round",
    "InputKey=11\nOutputKey=22",
    "InputKey=11\nOutputKey=22",
    Says("left", (r"\b11\b", r"\b22\b", r"InputKey|OutputKey|crossed|swap")),
    Says("right", (r"\b11\b", r"\b22\b", r"InputKey|OutputKey|crossed|swap")),
    causes=("key",),
)
simple(
    "peer-key-one-way",
    "the keys differ in one direction",
    "InputKey=11\nOutputKey=22",
    "InputKey=33\nOutputKey=11",
    Says("right", (r"\b22\b", r"\b33\b", KEY_OPTION)),
    causes=("key", *GUESSES),
)
simple(
    "peer-checksum-demanded",
    "one end demands checksums, the other sends none",
    "Checksum=yes",
    "",
    Says("left", (r"checksum", r"without|no checksum|sends none|missing|lack", CHECKSUM_OPTION)),
    causes=("checksum", *GUESSES),
)
simple(
    "peer-checksum-refused",
    "one end refuses checksums, the other sends them",
    "InputChecksum=refuse",
    "Checksum=yes",
    Says("left", (r"checksum", r"refuse|with (a )?checksum|unexpected", CHECKSUM_OPTION)),
    Says("right", (r"checksum", r"without|no checksum|none|missing|lack", CHECKSUM_OPTION)),
    causes=("checksum",),
)
simple(
    "peer-sequence-demanded",
    "one end demands sequence numbers, the other sends none",
    "SerializeTunneledPackets=yes",
    "",
    Says("left", (r"sequence|number", r"without|no |not |missing|lack", NUMBER_OPTION)),
    causes=("sequence", *GUESSES),
)
simple(
    "peer-key-and-checksum",
    "key and checksum differ both",
    "Key=4711\nChecksum=yes",
    "Key=4712",
    Says("left", (r"\b4711\b", r"\b4712\b", KEY_OPTION)),
    Says("right", (r"\b4711\b", r"\b4712\b", KEY_OPTION)),
    causes=("key", "checksum"),
)
simple(
    "peer-gretap",
    "gre here, gretap there",
    "",
    "Mode=gretap",
    Says("left", (r"ethernet|0x6558|gretap", r"Mode=|gretap")),
    Says("right", (r"\bIP(v4)?\b|0x0800|ethernet", r"Mode=|\bgre\b")),
    causes=("mode",),
)
simple(
    "peer-gretap-v6",
    "gre here, gretap there, over IPv6",
    "",
    "Mode=gretap",
    Says("left", (r"ethernet|0x6558|gretap", r"Mode=|gretap")),
    Says("right", (r"\bIP(v4)?\b|0x0800|ethernet", r"Mode=|\bgre\b")),
    causes=("mode",),
    version=6,
)


@fault(
    "peer-remote-is-another-of-ours",
    "the peer's Remote= is another address of this host",
    Says("left", (at("192.0.2.7"), at(RIGHT[0]), r"Local=|Remote=")),
    causes=("nat", *GUESSES),
)
def _(scene: Scene) -> None:
    scene.left.address("192.0.2.7/24", NEAR_LINK)
    scene.both("", "Remote=192.0.2.7")


@fault(
    "peer-local-is-another",
    "the peer sends from another address than Remote= here",
    Says("left", (at("198.51.100.9"), r"Remote=")),
    Says("right", (at(RIGHT[0]), r"Local=|Remote=")),
    causes=("nat", *GUESSES),
)
def _(scene: Scene) -> None:
    scene.right.address("198.51.100.9/24", FAR_LINK)
    scene.both("", "Local=198.51.100.9")


@fault(
    "peer-other-ip-version",
    "one end's tunnel is over IPv4, the other's over IPv6",
    Says("left", (rf"{at(RIGHT[0])}|{at(RIGHT[1])}", rf"{NOBODY}|IPv[46]|Local=|Remote=")),
    Says("right", (rf"{at(LEFT[0])}|{at(LEFT[1])}", rf"{NOBODY}|next header|IPv[46]|Remote=")),
    causes=("absent", "route"),
)
def _(scene: Scene) -> None:
    scene.texts(scene.section("left"), scene.section("right", version=6))


@fault(
    "peer-absent",
    "the peer's host is there and runs no gred",
    Says("left", (at(RIGHT[0]), NOBODY)),
    causes=("absent", "route"),
    traffic=(LEFT_FLOW,),
)
def _(scene: Scene) -> None:
    scene.gred("left")


@fault(
    "peer-absent-v6",
    "the peer's host is there and runs no gred, over IPv6",
    Says("left", (at(RIGHT[1]), NOBODY)),
    causes=("absent", "route"),
    traffic=(LEFT_FLOW,),
)
def _(scene: Scene) -> None:
    scene.gred("left", version=6)


@fault(
    "peer-killed",
    "the peer's gred was killed",
    Says("left", (at(RIGHT[0]), NOBODY)),
    causes=("absent", "route"),
    traffic=(LEFT_FLOW,),
)
def _(scene: Scene) -> None:
    scene.both()
    scene.works()
    scene.planted()
    scene.ends["right"].daemon.send_signal(signal.SIGKILL)


@fault(
    "peer-killed-keepalive",
    "the peer's gred was killed, and nothing but keepalives goes on",
    Says("left", (rf"keepalive|{NOBODY}", rf"{NONE}|{NOBODY}")),
    causes=("absent", "route", "keepalive"),
    traffic=(),
)
def _(scene: Scene) -> None:
    scene.both("Keepalive=1s")
    scene.works()
    scene.planted()
    scene.ends["right"].daemon.send_signal(signal.SIGKILL)


@fault(
    "peer-set-down",
    "somebody has set the peer's interface down",
    Says("right", (r"set down|is down", r"\bup\b")),
    void("left"),
    causes=("interface", *GUESSES),
)
def _(scene: Scene) -> None:
    scene.both()
    scene.works()
    scene.planted()
    scene.right.ip("link", "set", "dev", "t", "down")


simple(
    "peer-answers-no-keepalives",
    "the peer answers no keepalives, and works",
    "Keepalive=1s",
    "KeepaliveReply=no",
    Says("left", (r"keepalive", r"KeepaliveReply|not answer|answers no|Keepalive=")),
    causes=("keepalive", "loss"),
)


def vendor(
    name: str,
    what: str,
    data: bytes,
    needs: tuple[str, ...],
    cause: str = "vendor",
    options: str = "",
) -> None:
    """Enter a case whose peer is a raw socket that sends *data*, from the GRE header on."""

    def plant(scene: Scene) -> None:
        raw = scene.socket("right", socket.SOCK_RAW, socket.IPPROTO_GRE)
        scene.gred("left", options)
        scene.each(lambda: raw.sendto(data, (LEFT[0], 0)))

    says = Says("left", (*needs, r"\bgre\b|gretap|Mode=|Protocol=|other end|\bthere\b|peer"))
    fault(name, what, says, causes=(cause, "mode"), traffic=(LEFT_FLOW,))(plant)


def ip(source: str, destination: str, protocol: int, data: bytes, *, ttl: int = 64) -> bytes:
    """Return an IPv4 packet. RFC 791."""
    head = struct.pack(
        "!BBHHHBBH4s4s",
        *(0x45, 0, 20 + len(data), 0, 0, ttl, protocol, 0),
        *(socket.inet_aton(address) for address in (source, destination)),
    )
    return head[:10] + checksum(head) + head[12:] + data


def checksum(data: bytes) -> bytes:
    """RFC 1071."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)


DATAGRAM = struct.pack("!HHHH", 9, 9, 40, 0) + bytes(32)
PACKET = ip(INNER["right"], INNER["left"], 17, DATAGRAM)
FRAME = bytes.fromhex("020000000001 020000000002 0800") + PACKET

vendor(
    "peer-eoip",
    "the peer is a MikroTik with EoIP",
    bytes.fromhex("2001 6400") + struct.pack("!H", len(FRAME)) + b"\x07\0" + FRAME,
    (r"EoIP|MikroTik",),
)
vendor(
    "peer-pptp",
    "the peer speaks PPTP",
    bytes.fromhex("3001 880b 0010 0001 00000001") + bytes(16),
    (r"PPTP",),
)
vendor(
    "peer-erspan",
    "the peer mirrors a port: ERSPAN type II",
    bytes.fromhex("1000 88be 00000001 1000 0001 00000000") + FRAME,
    (r"ERSPAN",),
)
vendor(
    "peer-erspan-3",
    "the peer mirrors a port: ERSPAN type III",
    bytes.fromhex("1000 22eb 00000001 2000 0001 00000000 00000000") + FRAME,
    (r"ERSPAN",),
)
vendor(
    "peer-wccp",
    "the peer redirects web traffic: WCCP, with flags",
    bytes.fromhex("0008 883e") + PACKET,
    (r"WCCP",),
)
vendor(
    "peer-nvgre",
    "the peer speaks NVGRE: a flow number in the low byte of the key",
    bytes.fromhex("2000 6558") + struct.pack("!I", 5001 << 8 | 7) + FRAME,
    (r"NVGRE|\bVSID\b|1280263",),
    "key",
    f"Mode=gretap\nKey={5001 << 8}",
)
vendor(
    "peer-mpls",
    "the peer sends MPLS",
    bytes.fromhex("0000 8847 00010140") + PACKET,
    (r"MPLS",),
)
vendor(
    "peer-isis",
    "the peer sends OSI packets (IS-IS)",
    bytes.fromhex("0000 00fe 831b0100 0f010000") + bytes(20),
    (r"0x00fe|0xfe\b|IS-IS|OSI",),
)
vendor(
    "peer-source-routing",
    "the peer sends RFC 1701 source routes",
    bytes.fromhex("4000 0800 00000000 00000000") + PACKET,
    (r"RFC 1701|source rout|routing",),
    "ttl",
)
vendor(
    "peer-version",
    "the peer's GRE has a version that is none",
    bytes.fromhex("0002 0800") + PACKET,
    (r"version",),
)


@fault(
    "peer-hub-lacks-us",
    "the peer is a hub that does not know this end's inner address",
    Says("right", (at("10.9.1.1"), r"Peers=|LearnPeers=")),
    void("left"),
    causes=GUESSES,
    traffic=(LEFT_FLOW,),
)
def _(scene: Scene) -> None:
    scene.both("Key=5", f"Key=5\nRemote=\nPeers=10.9.1.77@{LEFT[0]}")


# -- the path


def refused(name: str, how: str, needs: str, *, version: int = 4) -> None:
    pick = 0 if version == 4 else 1

    def plant(scene: Scene) -> None:
        scene.nft(scene.router, "forward", f"{GRE} reject with {how}")
        scene.both(version=version)

    fault(
        name,
        f"a router refuses protocol 47: {how}",
        Says("left", (at(NEAR[pick]), needs), rf"{re.escape(RIGHT[pick])} runs nothing"),
        Says("right", (at(FAR[pick]), needs), rf"{re.escape(LEFT[pick])} runs nothing"),
        causes=("refusal", "route", "absent"),
    )(plant)


refused("path-prohibited", "icmp type admin-prohibited", r"prohibited|firewall|refuse")
refused(
    "path-net-unreachable", "icmp type net-unreachable", r"net(work)? .*unreachable|unreachable"
)
refused("path-protocol-refused", "icmp type prot-unreachable", r"protocol|refuse")
refused("path-port-refused", "icmp type port-unreachable", r"port unreachable|refuse|reject")
refused("path-host-prohibited", "icmp type host-prohibited", r"prohibited|firewall|refuse")
refused(
    "path-prohibited-v6", "icmpv6 type admin-prohibited", r"prohibited|firewall|refuse", version=6
)
refused("path-no-route-v6", "icmpv6 type no-route", r"no route|unreachable", version=6)


@fault(
    "path-peer-gone",
    "the peer's host is off: its last router finds it no more",
    Says("left", (at(NEAR[0]), r"host .*unreachable|unreachable"), r"runs nothing"),
    causes=("route", "refusal"),
    traffic=(LEFT_FLOW,),
)
def _(scene: Scene) -> None:
    scene.both()
    scene.works()
    scene.planted()
    scene.right.ip("link", "set", FAR_LINK, "down")


@fault(
    "path-peer-firewall-rejects",
    "the peer's firewall rejects protocol 47",
    Says("left", (at(RIGHT[0]), r"refuse|reject|port unreachable|firewall")),
    Says("right", (r"firewall|nft|rule", r"this host|here|input|local")),
    causes=("refusal", "route", "own firewall", "rp_filter"),
)
def _(scene: Scene) -> None:
    scene.nft(scene.right, "input", f"{GRE} reject")
    scene.both()


def dropped(
    name: str, what: str, rule: str, *says: Says, version: int = 4, options: str = ""
) -> None:
    def plant(scene: Scene) -> None:
        scene.nft(scene.router, "forward", f"{rule} drop")
        scene.both(options, version=version)

    fault(name, what, *says, causes=GUESSES)(plant)


def lost(end: str) -> Says:
    return Says(end, (*void(end).needs, r"\b47\b|firewall|\bdrop|on the way|filter|the other end"))


@fault(
    "path-prohibited-there",
    "a router refuses what this end sends, and the other's packets arrive",
    Says("left", (at(NEAR[0]), r"prohibited|firewall|refuse"), r"runs nothing"),
    lost("right"),
    causes=("refusal", *GUESSES),
)
def _(scene: Scene) -> None:
    scene.nft(scene.router, "forward", f"{THERE} reject with icmp type admin-prohibited")
    scene.both()


dropped("path-dropped", "somebody on the way drops protocol 47", GRE, lost("left"), lost("right"))
dropped(
    "path-dropped-v6",
    "somebody on the way drops GRE over IPv6",
    GRE,
    lost("left"),
    lost("right"),
    version=6,
)
dropped("path-dropped-there", "what this end sends is dropped on the way", THERE, lost("right"))
dropped("path-dropped-back", "what the other end sends is dropped on the way", BACK, lost("left"))


@fault(
    "path-dies-later",
    "somebody on the way begins to drop protocol 47 under way",
    lost("left"),
    lost("right"),
    causes=GUESSES,
)
def _(scene: Scene) -> None:
    scene.both()
    scene.works()
    scene.planted()
    scene.nft(scene.router, "forward", f"{GRE} drop")


@fault(
    "path-dies-keepalive",
    "somebody on the way drops protocol 47, with keepalives",
    Says("left", (r"keepalive", NONE), r"though packets arrive"),
    Says("right", (r"keepalive", NONE), r"though packets arrive"),
    causes=GUESSES,
    traffic=(),
)
def _(scene: Scene) -> None:
    scene.both("Keepalive=1s", "Keepalive=1s")
    scene.works()
    scene.planted()
    scene.nft(scene.router, "forward", f"{GRE} drop")


@fault(
    "path-dropped-there-keepalive",
    "what this end sends is lost and the other's packets arrive, with keepalives",
    Says(
        "left", (r"arrive|comes? in|received", r"this end sends|our|way there|does not (get|reach)")
    ),
    lost("right"),
    causes=GUESSES,
)
def _(scene: Scene) -> None:
    scene.both("Keepalive=1s")
    scene.works()
    scene.planted()
    scene.nft(scene.router, "forward", f"{THERE} drop")


@fault(
    "path-other-source",
    "a translator gives the peer's packets another source",
    Says("left", (at("203.0.113.7"), r"Remote=|NAT|translat")),
    causes=("nat", *GUESSES),
)
def _(scene: Scene) -> None:
    rule = f"{BACK} ip saddr set 203.0.113.7"
    scene.nft(scene.router, "forward", rule)
    scene.both()


@fault(
    "path-masquerade",
    "the peer is behind a translator that this end does not know of",
    Says("left", (at(NEAR[0]), r"Remote=|NAT|translat")),
    void("right"),
    causes=("nat", *GUESSES),
    traffic=(RIGHT_FLOW,),
)
def _(scene: Scene) -> None:
    from tests.nft import nft

    nft(
        scene.router,
        "add table ip nat",
        "add chain ip nat post { type nat hook postrouting priority 100; }",
        f"add rule ip nat post oifname {NEAR_LINK} masquerade",
    )
    scene.both()


def spent(name: str, what: str, options: str, flow: Flow, version: int) -> None:
    pick = 0 if version == 4 else 1
    says = Says("left", (r"TTL|hop limit", at(NEAR[pick])))
    fault(name, what, says, causes=("ttl", "loop", *GUESSES), traffic=(flow,))(
        lambda scene: scene.both(options, version=version)
    )


spent("path-ttl", "TTL= is too small for the path", "TTL=1", LEFT_FLOW, 4)
spent("path-ttl-v6", "TTL= is too small for the path, over IPv6", "TTL=1", LEFT_FLOW, 6)
spent(
    "path-ttl-inherit",
    "TTL=inherit, and packets inside have a TTL of 1",
    "TTL=inherit",
    Flow("left", INNER["right"], ttl=1),
    4,
)


@fault(
    "path-loop",
    "two routers send the packets to each other",
    Says("left", (r"loop|TTL", rf"{at(NEAR[0])}|203\.0\.113\.\d")),
    causes=("ttl", "loop", *GUESSES),
    traffic=(LEFT_FLOW,),
)
def _(scene: Scene) -> None:
    other = scene.host("other")
    scene.lab.wire(scene.router, other, device="back")
    scene.router.address("203.0.113.1/24", "back")
    other.address("203.0.113.2/24", "back")
    other.sysctl("net.ipv4.ip_forward", "1")
    other.ip("route", "add", "default", "via", "203.0.113.1")
    scene.router.ip("route", "add", RIGHT[0], "via", "203.0.113.2")
    scene.both()


@fault(
    "path-mtu-told",
    "the path carries less, and a router says so",
    Says("left", (r"\b1300\b", r"MTU")),
    causes=("mtu",),
    traffic=LONG,
    lasting=False,
)
def _(scene: Scene) -> None:
    scene.both()
    scene.works()
    scene.planted()
    for host in (scene.router, scene.right):
        host.ip("link", "set", FAR_LINK, "mtu", "1300")


@fault(
    "path-mtu-told-v6",
    "the path carries less, and a router says so, over IPv6",
    Says("left", (r"\b1300\b", r"MTU")),
    causes=("mtu",),
    traffic=LONG,
    lasting=False,
)
def _(scene: Scene) -> None:
    scene.both(version=6)
    scene.works()
    scene.planted()
    for host in (scene.router, scene.right):
        host.ip("link", "set", FAR_LINK, "mtu", "1300")


BLACK_HOLE = f"{THERE} meta length > 1300 drop"


@fault(
    "path-mtu-silent-keepalive",
    "large packets vanish, small ones pass, with keepalives",
    Says("left", (r"\b(12\d\d|1300)\b", r"MTU", r"filter|nothing says|without a word|silent")),
    causes=("mtu",),
    traffic=LONG,
    lasting=False,
)
def _(scene: Scene) -> None:
    scene.nft(scene.router, "forward", BLACK_HOLE)
    scene.both("Keepalive=1s")


@fault(
    "path-mtu-silent-later",
    "large packets begin to vanish under way, with keepalives",
    Says("left", (r"\b(12\d\d|1300)\b", r"MTU", r"filter|nothing says|without a word|silent")),
    causes=("mtu",),
    traffic=LONG,
    lasting=False,
)
def _(scene: Scene) -> None:
    scene.both("Keepalive=1s")
    scene.works()
    scene.planted()
    scene.nft(scene.router, "forward", BLACK_HOLE)


@fault(
    "path-mtu-silent",
    "large packets vanish, small ones pass, without keepalives",
    Says("left", (r"large|long|MTU", r"ProbeMTU=|Keepalive=|MTUBytes=")),
    causes=("mtu", "keepalive"),
    traffic=LONG,
)
def _(scene: Scene) -> None:
    scene.nft(scene.router, "forward", BLACK_HOLE)
    scene.both()


NUMBERED = "SerializeTunneledPackets=yes"


@fault(
    "path-loss",
    "a quarter of the packets is lost, with sequence numbers",
    Says("left", (r"\blost|\bloss|\bloses|missing", r"%|\d+ of|\d+ packets")),
    causes=("loss", "sequence"),
    traffic=QUICK,
)
def _(scene: Scene) -> None:
    scene.nft(scene.router, "forward", f"{BACK} numgen inc mod 4 == 0 drop")
    scene.both(NUMBERED, NUMBERED)


@fault(
    "path-loss-keepalive",
    "a third of the packets is lost, with keepalives that bear it",
    Says("left", (r"\blost|\bloss|\bloses|unanswered", r"%|\d+ of|\d+ (packets|keepalives)")),
    causes=("loss", "keepalive"),
    traffic=QUICK,
)
def _(scene: Scene) -> None:
    scene.nft(scene.router, "forward", f"{BACK} numgen random mod 3 == 0 drop")
    scene.both("Keepalive=200ms\nKeepaliveRetries=20")


def late() -> Change:
    count = 0

    def change(frame: bytes) -> list[tuple[float, bytes]]:
        nonlocal count
        count += 1
        return [(0.2 if count % 3 == 0 else 0.0, frame)]

    return change


def twice() -> Change:
    return lambda frame: [(0.0, frame), (0.001, frame)]


def damaged() -> Change:
    """Flip bits of an inner packet: behind Ethernet, IP, GRE with checksum, IP and ICMP."""
    return lambda frame: [(0.0, frame[:80] + bytes([frame[80] ^ 0xFF]) + frame[81:])]


fault(
    "path-reorders",
    "every third packet is late, with sequence numbers",
    Says("left", (r"late|order",)),
    causes=("order", "sequence", "loss"),
    traffic=QUICK,
    change=late,
)(lambda scene: scene.both(NUMBERED, NUMBERED))
fault(
    "path-duplicates",
    "every packet arrives twice, with sequence numbers",
    Says("left", (r"twice|duplicate|copies|double",), r"the path reorders"),
    causes=("order", "sequence", "twin", "loss"),
    traffic=QUICK,
    change=twice,
)(lambda scene: scene.both(NUMBERED, NUMBERED))
fault(
    "path-damages",
    "packets are damaged on the way, with checksums",
    Says("left", (r"checksum", r"wrong|damage|corrupt|incorrect|bad")),
    causes=("checksum", *GUESSES),
    change=damaged,
)(lambda scene: scene.both("Checksum=yes", "Checksum=yes"))


# -- this host

OWN_FIREWALL = (r"firewall|nft|netfilter|\brule", r"this host|here|input|output|local")


def firewall(name: str, what: str, hook: str, rule: str, *says: Says) -> None:
    def plant(scene: Scene) -> None:
        scene.both()
        scene.works()
        scene.planted()
        scene.nft(scene.left, hook, rule)

    fault(name, what, *says, causes=("own firewall", "rp_filter", *GUESSES))(plant)


firewall(
    "host-firewall-in",
    "this host's firewall drops GRE that arrives",
    "input",
    f"{GRE} drop",
    Says("left", OWN_FIREWALL),
)
firewall(
    "host-firewall-in-policy",
    "this host's firewall accepts a few protocols, and GRE is none of them",
    "input",
    "meta l4proto 47 counter drop",
    Says("left", OWN_FIREWALL),
)
firewall(
    "host-firewall-out",
    "this host's firewall drops GRE that leaves",
    "output",
    f"{GRE} drop",
    Says("left", OWN_FIREWALL),
    void("right"),
)
firewall(
    "host-firewall-out-rejects",
    "this host's firewall rejects GRE that leaves",
    "output",
    f"{GRE} reject",
    Says("left", OWN_FIREWALL, rf"{re.escape(RIGHT[0])} (runs nothing|refuses)"),
    void("right"),
)
firewall(
    "host-firewall-inside",
    "this host's firewall drops what comes out of the tunnel",
    "input",
    "iifname t drop",
    Says("left", (r"firewall|nft|netfilter|\brule", r"\bt\b|deliver|tunnel|arriv")),
)


@fault(
    "host-firewall-policy-drop",
    "the policy of this host's input chain is drop, and nothing accepts GRE",
    Says("left", OWN_FIREWALL),
    causes=("own firewall", "rp_filter", *GUESSES),
)
def _(scene: Scene) -> None:
    from tests.nft import nft

    nft(
        scene.left,
        "add table inet f",
        "add chain inet f in { type filter hook input priority 0; policy drop; }",
        "add rule inet f in meta l4proto { tcp, udp, icmp, ipv6-icmp } accept",
    )
    scene.both()


def ipsec(name: str, what: str, policy: str, *says: Says) -> None:
    def plant(scene: Scene) -> None:
        scene.both()
        scene.works()
        scene.planted()
        scene.left.ip("xfrm", "policy", "add", *policy.split())

    fault(name, what, *says, causes=("ipsec", *GUESSES))(plant)


WAY_OUT = f"src {LEFT[0]} dst {RIGHT[0]} proto 47 dir out"
WAY_IN = f"src {RIGHT[0]} dst {LEFT[0]} proto 47 dir in"
ESP = "proto esp mode transport"
ipsec(
    "host-ipsec-blocks",
    "an IPsec policy blocks what leaves",
    f"{WAY_OUT} action block",
    Says("left", (r"IPsec|xfrm", r"polic")),
    void("right"),
)
ipsec(
    "host-ipsec-no-state",
    "an IPsec policy has no state: nobody has agreed on keys yet",
    f"{WAY_OUT} tmpl src {LEFT[0]} dst {RIGHT[0]} {ESP}",
    Says("left", (r"IPsec|xfrm", r"\bstate|\bSA\b|association|IKE")),
    void("right"),
)
ipsec(
    "host-ipsec-in",
    "an IPsec policy wants what arrives protected, and it comes in clear text",
    f"{WAY_IN} tmpl src {RIGHT[0]} dst {LEFT[0]} {ESP}",
    Says("left", (r"IPsec|xfrm", r"clear|unprotected|in(bound|coming)|arriv|receiv|polic")),
)
ipsec(
    "host-ipsec-in-blocks",
    "an IPsec policy blocks what arrives",
    f"{WAY_IN} action block",
    Says("left", (r"IPsec|xfrm", r"in(bound|coming)|arriv|receiv|polic")),
)


@fault(
    "host-rp-filter",
    "reverse path filtering eats what the tunnel delivers",
    Says("left", (r"rp_filter|reverse.path", r"rp_filter=|sysctl|Route=|route")),
    causes=("rp_filter", "forwarding", *GUESSES),
    traffic=(Flow("right", INNER["left"], source="10.50.0.1"),),
)
def _(scene: Scene) -> None:
    scene.right.address("10.50.0.1/32", "lo")
    scene.both()
    scene.works()
    scene.planted()
    scene.left.sysctl("net.ipv4.conf.t.rp_filter", "1")


@fault(
    "host-rp-filter-underlay",
    "reverse path filtering eats outer packets: they come by another interface",
    Says("left", (r"rp_filter|reverse.path", r"alt0|rp_filter=|sysctl")),
    causes=("rp_filter", "own firewall", *GUESSES),
)
def _(scene: Scene) -> None:
    scene.lab.wire(scene.router, scene.left, device="alt0")
    scene.router.address("192.0.3.254/24", "alt0")
    scene.left.address("192.0.3.1/24", "alt0")
    scene.left.sysctl("net.ipv4.conf.alt0.rp_filter", "1")
    scene.router.ip("route", "add", f"{LEFT[0]}/32", "via", "192.0.3.1")
    scene.both()


def behind(scene: Scene) -> None:
    """Give left a network 10.60.0.0/24 and fd60::/64 with a host in it."""
    lan = scene.host("lan")
    scene.lab.wire(scene.left, lan, device="lan0")
    for host, own in ((scene.left, 254), (lan, 1)):
        host.address(f"10.60.0.{own}/24", "lan0")
        host.address(f"fd60::{own}/64", "lan0")
    lan.ip("route", "add", "default", "via", "10.60.0.254")
    lan.ip("-6", "route", "add", "default", "via", "fd60::254")


@fault(
    "host-forwarding-off",
    "packets for a network behind this host arrive, and it does not forward",
    Says("left", (r"ip_forward|forwarding", r"10\.60\.0\.|ip_forward=1|sysctl")),
    causes=("forwarding", *GUESSES),
    traffic=(Flow("right", "10.60.0.1"),),
)
def _(scene: Scene) -> None:
    behind(scene)
    scene.both("", "Route=10.60.0.0/24")


@fault(
    "host-forwarding-off-v6",
    "packets for an IPv6 network behind this host arrive, and it does not forward",
    Says("left", (r"forwarding", r"fd60:|forwarding=1|sysctl")),
    causes=("forwarding", *GUESSES),
    traffic=(Flow("right", "fd60::1"),),
)
def _(scene: Scene) -> None:
    behind(scene)
    scene.both(
        "Address=10.9.1.1/24, fd09::1/64", "Address=10.9.1.2/24, fd09::2/64\nRoute=fd60::/64"
    )


def flood(scene: Scene, *, packets: int, seconds: float) -> None:
    """Stop left for *seconds*, and let right send it more than its receive buffer takes."""
    raw = scene.socket("right", socket.SOCK_RAW, socket.IPPROTO_GRE)
    data = bytes.fromhex("0000 0800") + ip("10.9.1.2", "10.9.1.1", 17, DATAGRAM + bytes(1000))
    daemon = scene.ends["left"].daemon
    daemon.send_signal(signal.SIGSTOP)
    try:
        end = time.monotonic() + seconds
        for _ in range(packets):
            raw.sendto(data, (LEFT[0], 0))
        while time.monotonic() < end and not scene.stop.is_set():
            scene.step()
            scene.stop.wait(0.05)
    finally:
        daemon.send_signal(signal.SIGCONT)


@fault(
    "host-overrun",
    "packets come faster than gred reads them",
    Says("left", (r"overrun|receive buffer|faster than",)),
    causes=("overrun", "absent", *GUESSES),
    lasting=False,
)
def _(scene: Scene) -> None:
    scene.both()
    scene.works()
    scene.planted()
    flood(scene, packets=30_000, seconds=0.5)


@fault(
    "host-two-gred",
    "a second gred takes the same packets",
    Says(
        "second", (r"another gred|gred \(|second gred|process \d+", r"process \d+|pid \d+|\[Tunnel")
    ),
    causes=("twin", "key", "local"),
)
def _(scene: Scene) -> None:
    scene.both()
    scene.works()
    scene.planted()
    text = scene.section("left", "Address=10.9.1.9/24", name="u")
    scene.launch("left", text, name="second").wait_ready()


@fault(
    "host-two-tunnels",
    "two tunnels of this host have the same ends: the second has another spelling of them",
    Says("left", (r"\bt\b|\[Tunnel t\]", r"same|twin|both|already")),
    causes=("twin", "key", "local"),
)
def _(scene: Scene) -> None:
    first = scene.section("left")
    second = scene.section("left", f"Local=%{NEAR_LINK}\nAddress=10.9.2.1/24", name="u")
    scene.texts(first + second, scene.section("right"))


@fault(
    "host-local-gone",
    "the local address is taken away under way",
    Says("left", (at(LEFT[0]), r"\bno\b|\bnot\b|gone|none|removed")),
    causes=("local", "interface", "route"),
)
def _(scene: Scene) -> None:
    scene.left.address("192.0.2.7/24", NEAR_LINK)
    scene.left.sysctl(f"net.ipv4.conf.{NEAR_LINK}.promote_secondaries", "1")
    scene.both()
    scene.works()
    scene.planted()
    scene.left.ip("addr", "del", f"{LEFT[0]}/24", "dev", NEAR_LINK)
    scene.left.ip("route", "replace", "default", "via", NEAR[0])


@fault(
    "host-local-never",
    "Local= is no address of this host",
    Says("left", (at("192.0.2.55"), r"\bno\b|\bnot\b|none")),
    causes=("local", "route", "interface"),
    traffic=(LEFT_FLOW,),
)
def _(scene: Scene) -> None:
    scene.gred("left", "Local=192.0.2.55")


def later(
    name: str, what: str, change: Plant, *says: Says, causes: tuple[str, ...], **more: Any
) -> None:
    """Enter a case in which something changes on a host whose tunnel has worked."""
    left = more.pop("left", "")
    right = more.pop("right", "")

    def plant(scene: Scene) -> None:
        scene.both(left, right)
        scene.works()
        scene.planted()
        change(scene)

    fault(name, what, *says, causes=causes, **more)(plant)


def on_left(*arguments: str) -> Plant:
    return lambda scene: scene.left.ip(*arguments)


NO_WAY = (r"no route|unreachable|prohibit|blackhole|denied|refuses", rf"{at(RIGHT[0])}|route")
later(
    "host-no-route",
    "the route to the remote is gone",
    on_left("route", "del", "default"),
    Says("left", (r"no route", at(RIGHT[0]))),
    void("right"),
    causes=GUESSES,
)
for _kind in ("blackhole", "prohibit", "unreachable"):
    later(
        f"host-route-{_kind}",
        f"a route of type {_kind} leads to the remote",
        on_left("route", "add", _kind, RIGHT[0]),
        Says("left", NO_WAY),
        void("right"),
        causes=GUESSES,
    )
later(
    "host-rule",
    "a routing rule stops GRE",
    on_left("-4", "rule", "add", "ipproto", "47", "pref", "100", "unreachable"),
    Says("left", (r"no route|unreachable|\brule", rf"{at(RIGHT[0])}|rule")),
    void("right"),
    causes=GUESSES,
)
later(
    "host-underlay-down",
    "the interface that outer packets leave by is down",
    on_left("link", "set", NEAR_LINK, "down"),
    Says("left", (r"no route|down|carrier", rf"{at(RIGHT[0])}|{NEAR_LINK}")),
    causes=("interface", *GUESSES),
)


def _no_neighbours(scene: Scene) -> None:
    from tests.nft import nft

    nft(
        scene.router,
        "add table arp deaf",
        "add chain arp deaf in { type filter hook input priority 0; }",
        f"add rule arp deaf in iifname {NEAR_LINK} drop",
    )
    for host in (scene.left, scene.router):
        host.ip("neigh", "flush", "dev", NEAR_LINK)


later(
    "host-gateway-gone",
    "the gateway does not answer any more",
    _no_neighbours,
    Says(
        "left",
        (r"192\.0\.2\.(254|1)\b", r"unreachable|ARP|neighbo|not answer|gateway"),
        rf"{re.escape(RIGHT[0])} (runs nothing|refuses)",
    ),
    Says("right", (at(FAR[0]), r"unreachable")),
    causes=GUESSES,
    seconds=35.0,  # Linux itself needs up to 8 s until it asks a neighbour again, and gives up
)


@fault(
    "host-device-missing",
    "Device= is not there",
    Says("left", (r"nosuch0", r"\bno\b|\bnot\b|missing")),
    causes=("interface", "route"),
    traffic=(LEFT_FLOW,),
)
def _(scene: Scene) -> None:
    scene.launch("left", scene.section("left", "Device=nosuch0"))


ITSELF = (r"198\.51\.100\.(0/24|1)", r"itself|loop")


@fault(
    "host-loop",
    "two tunnels are routed into each other",
    Says("left", (r"itself|loop", r"\bt\b.*\bu\b|\bu\b.*\bt\b")),
    causes=("loop", *GUESSES),
    traffic=(LEFT_FLOW,),
)
def _(scene: Scene) -> None:
    ring = f"Local=\nRemote=203.0.113.9\nAddress=\nRoute={RIGHT[0]}/32"
    first = scene.section("left", "Route=203.0.113.0/24")
    scene.launch("left", first + scene.section("left", ring, name="u")).wait_ready()


later(
    "host-loop-later",
    "somebody routes the remote into the tunnel",
    on_left("route", "add", RIGHT[0], "dev", "t"),
    Says("left", ITSELF),
    causes=("loop", *GUESSES),
)
simple(
    "host-mtu-too-large",
    "MTUBytes= is larger than the route takes",
    "MTUBytes=1600",
    "",
    Says("left", (r"MTU", r"\b(1476|1480|1500)\b")),
    causes=("mtu",),
    traffic=(Flow("left", INNER["right"], sizes=(1550,)), RIGHT_FLOW),
)


def _full(scene: Scene) -> None:
    limit = ("rate", "8bit", "burst", "1600", "limit", "1")
    scene.lab.run(
        ["tc", "-n", scene.left.namespace, "qdisc", "add", "dev", NEAR_LINK, "root", "tbf", *limit]
    )


later(
    "host-queue-full",
    "the queue of the underlay is full",
    _full,
    Says("left", (r"queue|qdisc",)),
    causes=GUESSES,
    traffic=(Flow("left", INNER["right"], sizes=(1400,)),),
)


# -- inside

simple(
    "inside-not-routed",
    "Address= without a prefix: nothing is routed into the tunnel",
    "Address=10.9.1.1",
    "",
    Says("left", (r"10\.9\.1\.1/32|rout|prefix", r"nothing|no route|not routed|never|elsewhere")),
    causes=("route", "forwarding", *GUESSES),
)
simple(
    "inside-no-address",
    "the tunnel has no address and no route",
    "Address=",
    "",
    Says("left", (r"address|rout", r"\bno\b|nothing|Address=|Route="), r"ip_forward=1"),
    causes=("route", "forwarding", *GUESSES),
)
simple(
    "inside-other-address",
    "the peer's inner address is another than the one that is asked",
    "",
    "Address=10.9.1.9/24",
    Says("right", (at("10.9.1.2"), r"Address=|address of|no address|nobody has|inner address")),
    void("left"),
    causes=("forwarding", *GUESSES),
    traffic=(LEFT_FLOW,),
)
SAME = (at("10.9.1.1"), r"same|both|also|own address|twice", r"Address=|another|change|give|differ")
simple(
    "inside-same-address",
    "both ends have the same inner address",
    "",
    "Address=10.9.1.1/24",
    Says("left", SAME),
    Says("right", SAME),
    causes=("both ends", "rp_filter", *GUESSES),
    traffic=(LEFT_FLOW, Flow("right", INNER["right"])),
)


@fault(
    "inside-network-elsewhere",
    "the tunnel's network is on-link at another interface",
    Says("left", (r"lan0", r"10\.9\.1\.")),
    causes=("route", *GUESSES),
    traffic=(LEFT_FLOW,),
)
def _(scene: Scene) -> None:
    behind(scene)
    scene.left.address("10.9.1.50/24", "lan0")
    scene.both()


@fault(
    "inside-no-way-back",
    "the peer has no route back to the inner source",
    void("left"),
    causes=("forwarding", "rp_filter", *GUESSES),
    traffic=(Flow("left", INNER["right"], source="10.80.0.1"),),
)
def _(scene: Scene) -> None:
    scene.left.address("10.80.0.1/32", "lo")
    scene.both()


simple(
    "inside-no-ipv6-there",
    "IPv6 goes in, and the peer's tunnel has none",
    "Address=10.9.1.1/24, fd09::1/64",
    "",
    Says("right", (r"IPv6", r"Address=|disable|\bno\b|\bnot\b|address")),
    causes=("forwarding", *GUESSES),
    traffic=(Flow("left", "fd09::2"),),
)
simple(
    "inside-no-remote",
    "neither end has a Remote=",
    "Remote=",
    "Remote=",
    Says("left", (r"Remote=|no remote|without a remote|Peers=",)),
    Says("right", (r"Remote=|no remote|without a remote|Peers=",)),
    causes=GUESSES,
)
GONE = ("route", "interface", "mtu", "own firewall")
later(
    "inside-address-removed",
    "somebody removes the tunnel's address, once",
    on_left("addr", "del", "10.9.1.1/24", "dev", "t"),
    Says("left", (r"10\.9\.1\.1/24",)),
    causes=GONE,
    lasting=False,
)
later(
    "inside-address-missing",
    "somebody removes the tunnel's address, and Repair=no",
    on_left("addr", "del", "10.9.1.1/24", "dev", "t"),
    Says("left", (r"10\.9\.1\.1/24", r"missing|removed|gone|lack|not there")),
    causes=GONE,
    left="Repair=no",
)
later(
    "inside-route-missing",
    "somebody removes a route of the tunnel, and Repair=no",
    on_left("route", "del", "10.70.0.0/24"),
    Says("left", (r"10\.70\.0\.0/24", r"missing|removed|gone|lack|not there")),
    causes=GONE,
    left="Repair=no\nRoute=10.70.0.0/24",
)
later(
    "inside-mtu-changed",
    "somebody changes the tunnel's MTU, once",
    on_left("link", "set", "dev", "t", "mtu", "900"),
    Says("left", (r"\b900\b", r"MTU")),
    causes=GONE,
    lasting=False,
)
later(
    "inside-mtu-wrong",
    "somebody changes the tunnel's MTU, and Repair=no",
    on_left("link", "set", "dev", "t", "mtu", "900"),
    Says("left", (r"\b900\b", r"MTU")),
    causes=GONE,
    left="Repair=no",
)


def _again(scene: Scene) -> None:
    def remove() -> None:
        if "10.9.1.1/24" in scene.left.ip("-4", "addr", "show", "dev", "t"):
            scene.left.ip("addr", "del", "10.9.1.1/24", "dev", "t")

    scene.each(remove, 0.4)


later(
    "inside-address-contested",
    "somebody removes the tunnel's address again and again",
    _again,
    Says("left", (r"10\.9\.1\.1/24", r"times|again")),
    causes=GONE,
    lasting=False,
)
later(
    "inside-set-down",
    "somebody sets the tunnel down",
    on_left("link", "set", "dev", "t", "down"),
    Says("left", (r"set down|is down", r"\bup\b")),
    void("right"),
    causes=("interface", *GUESSES),
)
later(
    "inside-deleted",
    "somebody deletes the tunnel's interface",
    on_left("link", "del", "dev", "t"),
    Says("left", (r"gone|delete|removed|vanish|no longer|disappear",)),
    causes=("interface", *GUESSES),
    lasting=False,
)


def _elsewhere(scene: Scene) -> None:
    scene.left.ip("route", "replace", "10.70.0.0/24", "dev", NEAR_LINK)


later(
    "inside-route-elsewhere",
    "somebody leads a route of the tunnel elsewhere",
    _elsewhere,
    Says("left", (r"10\.70\.0\.0/24", rf"{NEAR_LINK}|elsewhere|another")),
    causes=GONE,
    left="Route=10.70.0.0/24",
)


# -- nothing is wrong

HERE = ("left", "right")
LARGE = tuple(Flow(flow.end, flow.to, sizes=(56, 1400)) for flow in BOTH)
ABSENCE = rf"{NOBODY}|{NONE}"


def healthy(name: str, what: str, left: str = "", right: str = "", **more: Any) -> None:
    version = more.pop("version", 4)
    more.setdefault("calm", HERE)
    more.setdefault("answered", True)
    fault(name, what, **more)(lambda scene: scene.both(left, right, version=version))


healthy("well-traffic", "traffic in both directions", traffic=LARGE)
healthy("well-traffic-v6", "traffic in both directions, over IPv6", traffic=LARGE, version=6)
healthy("well-idle", "an idle tunnel", traffic=())
EVERYTHING = "Key=1\nChecksum=yes\nSerializeTunneledPackets=yes\nKeepalive=1s"
healthy("well-idle-keepalive", "an idle tunnel with everything", EVERYTHING, EVERYTHING, traffic=())
healthy("well-gretap", "gretap with traffic", "Mode=gretap", "Mode=gretap")
healthy("well-gretap-idle", "gretap, idle", "Mode=gretap", "Mode=gretap", traffic=())
healthy(
    "well-hub",
    "a hub with one spoke",
    "Key=5",
    f"Key=5\nRemote=\nPeers=10.9.1.1@{LEFT[0]}",
)
healthy(
    "well-numbers-one-way",
    "sequence numbers and checksums at one end only, and nobody demands them",
    "OutputSequence=yes\nOutputChecksum=yes",
)


def _one_way(options: str) -> Plant:
    def plant(scene: Scene) -> None:
        scene.both(options)
        scene.socket("right", socket.SOCK_DGRAM, 0).bind((INNER["right"], 9))

    return plant


UDP = (Flow("left", INNER["right"], kind="udp"),)
fault(
    "well-one-way",
    "traffic in one direction alone (syslog, say)",
    causes=GUESSES,
    calm=HERE,
    excuse=NONE,
    traffic=UDP,
)(_one_way(""))
fault(
    "well-one-way-keepalive",
    "traffic in one direction alone, with keepalives",
    calm=HERE,
    traffic=UDP,
)(_one_way("Keepalive=1s"))


@fault(
    "well-autoconfiguration",
    "an idle tunnel into which the kernel sends router solicitations and group reports",
    calm=HERE,
    traffic=(),
)
def _(scene: Scene) -> None:
    for host in (scene.left, scene.right):
        for setting, value in {"accept_dad": 1, "accept_ra": 1, "router_solicitations": -1}.items():
            host.sysctl(f"net.ipv6.conf.default.{setting}", str(value))
    scene.both("Address=10.9.1.1/24, fd09::1/64", "")


@fault(
    "well-late-peer",
    "the peer starts five seconds later",
    causes=GUESSES,
    calm=HERE,
    excuse=ABSENCE,
    answered=True,
)
def _(scene: Scene) -> None:
    scene.gred("left")
    scene.later(5, lambda: scene.launch("right", scene.section("right")))


@fault(
    "well-late-peer-keepalive",
    "the peer starts five seconds later, with keepalives",
    causes=GUESSES,
    calm=HERE,
    excuse=ABSENCE,
    answered=True,
)
def _(scene: Scene) -> None:
    scene.gred("left", "Keepalive=1s")
    scene.later(5, lambda: scene.launch("right", scene.section("right")))


def _restarting(options: str) -> Plant:
    def plant(scene: Scene) -> None:
        scene.both(options, options)
        scene.works()
        scene.planted()
        scene.ends["right"].daemon.stop()
        scene.launch("right", scene.section("right", options)).wait_ready()

    return plant


fault(
    "well-restart",
    "the peer restarts",
    causes=GUESSES,
    calm=HERE,
    excuse=ABSENCE,
    answered=True,
)(_restarting(""))
fault(
    "well-restart-numbers",
    "the peer restarts, and its sequence numbers begin anew",
    causes=GUESSES,
    calm=HERE,
    excuse=ABSENCE,
    answered=True,
)(_restarting(NUMBERED))


def _burst(options: str) -> Plant:
    def plant(scene: Scene) -> None:
        scene.both(options, options)
        scene.works()
        scene.planted()
        scene.nft(scene.router, "forward", f"{GRE} drop")
        scene.later(1.0, lambda: scene.lift(scene.router, "forward"))

    return plant


for _name, _options in (("", ""), ("-keepalive", "Keepalive=1s"), ("-numbers", NUMBERED)):
    fault(
        f"well-burst{_name}",
        f"everything is lost for a second {_options}",
        calm=HERE,
        answered=True,
    )(_burst(_options))


@fault(
    "well-beside-a-broken-one",
    "a healthy tunnel beside one whose keys differ",
    Says("right", (r"\b4711\b", r"\b4712\b", KEY_OPTION)),
    causes=("key", *GUESSES),
    calm=HERE,
    answered=True,
    traffic=(*BOTH, Flow("left", "10.9.2.2")),
    unanswered=("10.9.2.2",),
)
def _(scene: Scene) -> None:
    def more(end: str, number: int) -> str:
        key = f"Key={4710 + number}"
        return scene.section(end, key, name="u", inner=f"10.9.2.{number}")

    scene.texts(
        scene.section("left", "Key=1") + more("left", 1),
        scene.section("right", "Key=1") + more("right", 2),
    )


def icmp(kind: int, code: int, rest: int, about: bytes) -> bytes:
    """RFC 792, RFC 1191 section 4."""
    data = struct.pack("!BBHI", kind, code, 0, rest) + about
    return data[:2] + checksum(data) + data[4:]


def stranger(scene: Scene) -> Any:
    """Return a socket for whole packets of a host 203.0.113.9 behind the router."""
    host = scene.host("stranger")
    scene.lab.wire(scene.router, host, device="under2")
    scene.router.address("203.0.113.254/24", "under2")
    host.address("203.0.113.9/24", "under2")
    host.ip("route", "add", "default", "via", "203.0.113.254")
    return scene.socket("stranger", socket.SOCK_RAW, socket.IPPROTO_RAW)


@fault(
    "well-forged-errors",
    "a stranger forges ICMP errors about a healthy tunnel",
    calm=HERE,
    answered=True,
)
def _(scene: Scene) -> None:
    raw = stranger(scene)
    scene.both()
    scene.works()
    scene.planted()
    about = ip(*(LEFT[0], RIGHT[0]), 47, bytes.fromhex("00000800 45000054"))
    errors = [
        ip(source, LEFT[0], 1, icmp(kind, code, rest, about))
        for source in ("203.0.113.9", RIGHT[0])
        for kind, code, rest in ((3, 13, 0), (3, 2, 0), (3, 1, 0), (11, 0, 0), (3, 4, 600))
    ]
    scene.each(lambda: [raw.sendto(error, (LEFT[0], 0)) for error in errors], 0.5)


@fault(
    "well-stranger",
    "a stranger sends GRE to a host with a healthy tunnel",
    causes=("nat",),
    calm=HERE,
    answered=True,
)
def _(scene: Scene) -> None:
    raw = stranger(scene)
    scene.both()
    packet = ip("203.0.113.9", LEFT[0], 47, bytes.fromhex("20000800 00000007") + PACKET)
    scene.each(lambda: raw.sendto(packet, (LEFT[0], 0)))


@fault(
    "well-buffer-full",
    "a live peer's receive buffer is full for a second",
    calm=("right",),
    causes=("overrun",),
    answered=True,
)
def _(scene: Scene) -> None:
    scene.both()
    scene.works()
    scene.planted()
    flood(scene, packets=30_000, seconds=1.0)


def report(rows: list[Row]) -> str:
    """Return the table and how many of which verdict there are."""
    verdicts = [row.verdict for row in rows]
    counts = ", ".join(f"{verdicts.count(v)} {v}" for v in sorted(set(verdicts)))
    return "\n".join([*map(str, rows), f"{len(FAULTS)} cases, {len(rows)} ends: {counts}"])


def plant(names: Iterable[str]) -> list[Row]:
    """Plant the faults of these names, and return what was said of each, in their order."""
    rows: list[Row] = []
    with running([FAULTS[name] for name in names]) as futures:
        for future in futures.values():
            try:
                rows += future.result()
            except AssertionError as error:
                rows.append(Row(str(error).partition(" ")[0], "-", "-", str(error), "broken"))
    places = {name: place for place, name in enumerate(FAULTS)}
    return sorted(rows, key=lambda row: places.get(row.name, -1))


def main(names: list[str]) -> int:
    """Plant the faults of these names, or all; print the table."""
    unknown = set(names) - FAULTS.keys()
    if unknown:
        print(f"no such case: {' '.join(sorted(unknown))}; there are {' '.join(FAULTS)}")  # noqa: T201
        return 2
    if os.geteuid() != 0:
        print("needs root: it makes network namespaces")  # noqa: T201
        return 1
    rows = plant(names or FAULTS)
    print(report(rows))  # noqa: T201
    return 0 if all(row.good for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
