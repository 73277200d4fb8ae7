"""Keepalives on a real wire: asked and answered in each form, and what the carrier does of it."""

import json
import select
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial

import pytest
from scapy.layers.inet import GRE, IP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet, Raw

from gred.lab.hosts import Host
from gred.lab.traffic import ping
from gred.lab.waiting import wait_for
from tests.netns.conftest import LEFT, RIGHT
from tests.netns.daemons import COMING_AND_GOING, Daemons, drops, events, wait_for_event

COOKIE = bytes(range(16))
STRANGER = "192.0.2.99"


def ends(here: int, version: int = 4) -> str:
    both = LEFT, RIGHT
    pick = 0 if version == 4 else 1
    return f"Local={both[here][pick]}\nRemote={both[1 - here][pick]}\n"


def config(here: int, options: str, *, version: int = 4) -> str:
    return f"[Tunnel t1]\n{ends(here, version)}Address=10.7.1.{here + 1}/24\n{options}\n"


def has_carrier(host: Host) -> bool:
    state: str = json.loads(host.ip("-json", "link", "show", "t1"))[0]["operstate"]
    return state == "UP"


OPTIONS = {
    "plain": ("", 4),
    "keys": ("Key=42", 4),
    "checksums": ("Checksum=yes", 4),
    "numbers": ("SerializeTunneledPackets=yes", 4),
    "everything": ("Key=1\nChecksum=yes\nSerializeTunneledPackets=yes", 4),
    "gretap": ("Mode=gretap", 4),
    "IPv6": ("Key=7", 6),
    "gretap over IPv6": ("Mode=gretap\nChecksum=yes", 6),
}


@pytest.mark.parametrize("options", OPTIONS)
def test_two_gred_ask_each_other(hosts: tuple[Host, Host], daemons: Daemons, options: str) -> None:
    more, version = OPTIONS[options]
    one, other = hosts
    text = f"{more}\nKeepalive=200ms\n"
    near = daemons.start(one, config(0, text, version=version))
    wait_for(lambda: not has_carrier(one), "no carrier without an answer")
    far = daemons.start(other, config(1, text, version=version))
    for daemon, host in ((near, one), (far, other)):
        wait_for_event(daemon, "tunnel_up")
        wait_for(partial(has_carrier, host), "carrier")
    assert ping(one, "10.7.1.2").received == 3
    said = len(near.log().splitlines())
    far.send_signal(signal.SIGKILL)
    far.wait(5)
    wait_for_event(near, "tunnel_silent", after=said)
    wait_for(lambda: not has_carrier(one), "no carrier")
    again = daemons.start(other, config(1, text, version=version))
    wait_for_event(again, "tunnel_up")
    wait_for_event(near, "tunnel_up", after=said)
    wait_for(partial(has_carrier, one), "carrier")
    assert ping(one, "10.7.1.2").received == 3


def test_the_other_end_need_not_ask(hosts: tuple[Host, Host], daemons: Daemons) -> None:
    near = daemons.start(hosts[0], config(0, "Keepalive=200ms"))
    daemons.start(hosts[1], config(1, ""))
    wait_for_event(near, "tunnel_up")
    assert ping(hosts[0], "10.7.1.2").received == 3


class Peer:
    """The right host as another vendor's router: sends whole packets, hears what comes back."""

    def __init__(self, host: Host, version: int) -> None:
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        self._sender = host.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self._receiver = host.socket(family, socket.SOCK_RAW, socket.IPPROTO_GRE)
        self._version = version

    def send(self, packet: Packet, times: int = 1) -> None:
        for _ in range(times):
            self._sender.sendto(bytes(packet), (packet.dst, 0))

    def hear(self, seconds: float = 5.0) -> bytes | None:
        """Return the next packet from its GRE header on; None when there is none."""
        if not select.select([self._receiver], [], [], seconds)[0]:
            return None
        data: bytes = self._receiver.recv(4096)
        return data[(data[0] & 15) * 4 :] if self._version == 4 else data

    def close(self) -> None:
        self._sender.close()
        self._receiver.close()


@pytest.fixture(params=[4, 6])
def peer(request: pytest.FixtureRequest, hosts: tuple[Host, Host]) -> Iterator[Peer]:
    with closing(Peer(hosts[1], request.param)) as made:
        yield made


@pytest.fixture
def peer4(hosts: tuple[Host, Host]) -> Iterator[Peer]:
    with closing(Peer(hosts[1], 4)) as made:
        yield made


@pytest.fixture
def peer6(hosts: tuple[Host, Host]) -> Iterator[Peer]:
    with closing(Peer(hosts[1], 6)) as made:
        yield made


def asked(answer: Packet, *, source: str = LEFT[0], destination: str = RIGHT[0]) -> Packet:
    """A request over IPv4 that carries *answer*, without the outer GRE header."""
    return IP(src=source, dst=destination, ttl=255, tos=0xC0) / answer


def over4(gre: Packet) -> Packet:
    return IP(src=RIGHT[0], dst=LEFT[0], proto=47) / gre


def over6(gre: Packet) -> Packet:
    return IPv6(src=RIGHT[1], dst=LEFT[1], nh=47) / gre


KEYED = GRE(proto=0, key_present=1, key=42)
FORMS = {
    "Cisco": ("", GRE(proto=0x0800) / asked(GRE(proto=0)), GRE(proto=0)),
    "Cisco, keyed": (
        "Key=42",
        GRE(proto=0x0800, key_present=1, key=42) / asked(KEYED.copy()),
        KEYED.copy(),
    ),
    "OpenBSD": (
        "",
        GRE(proto=0x0800) / asked(GRE(proto=0) / Raw(COOKIE)),
        GRE(proto=0) / Raw(COOKIE),
    ),
    "Huawei": ("", GRE(proto=0x0004) / asked(GRE(proto=0)), GRE(proto=0)),
    "MikroTik behind a NAT": (
        "",
        GRE(proto=0x0800) / asked(GRE(proto=0), destination="10.99.0.7"),
        GRE(proto=0),
    ),
    "numbered, though we are not": (
        "",
        GRE(proto=0x0800, seqnum_present=1, sequence_number=7) / asked(GRE(proto=0)),
        GRE(proto=0),
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_request_of_each_form_is_answered(
    hosts: tuple[Host, Host], daemons: Daemons, peer4: Peer, form: str
) -> None:
    options, request, answer = FORMS[form]
    daemons.start(hosts[0], config(0, options))
    peer4.send(over4(request))
    assert peer4.hear() == bytes(answer)


@pytest.mark.parametrize(
    ("inner", "answer"),
    [
        (GRE(proto=0) / Raw(COOKIE), GRE(proto=0) / Raw(COOKIE)),
        (GRE(proto=0x86DD), GRE(proto=0x86DD)),
    ],
    ids=["OpenBSD", "MikroTik"],
)
def test_over_ipv6_too(
    hosts: tuple[Host, Host], daemons: Daemons, peer6: Peer, inner: Packet, answer: Packet
) -> None:
    daemons.start(hosts[0], config(0, "", version=6))
    request = IPv6(src=LEFT[1], dst=RIGHT[1], hlim=255, nh=47) / inner
    peer6.send(over6(GRE(proto=0x86DD) / request))
    assert peer6.hear() == bytes(answer)


def test_between_inner_addresses_it_is_answered_through_the_tunnel(
    hosts: tuple[Host, Host], daemons: Daemons, peer4: Peer
) -> None:
    """As VeloCloud asks."""
    daemons.start(hosts[0], config(0, ""))
    inner = asked(GRE(proto=0), source="10.7.1.1", destination="10.7.1.2")
    peer4.send(over4(GRE(proto=0x0800) / inner))
    data = peer4.hear()
    assert data is not None
    packet = GRE(data)
    assert (packet.proto, packet[IP].src, packet[IP].dst) == (0x0800, "10.7.1.1", "10.7.1.2")
    assert bytes(packet[IP].payload) == bytes(GRE(proto=0))


def test_an_answer_is_no_request(hosts: tuple[Host, Host], daemons: Daemons, peer4: Peer) -> None:
    daemons.start(hosts[0], config(0, ""))
    peer4.send(over4(GRE(proto=0) / Raw(COOKIE)))
    peer4.send(over4(GRE(proto=0x0800) / asked(GRE(proto=0))))
    assert peer4.hear() == bytes(GRE(proto=0)), "of the second"
    assert peer4.hear(0.2) is None


def test_answers_of_others_pass_through_the_tunnel(
    hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    """Two routers behind us may have a tunnel, too: what they tell each other is theirs."""
    one, other = hosts
    daemons.start(one, config(0, "Route=10.8.2.0/24"))
    daemons.start(other, config(1, ""))
    other.address("10.8.2.1/32", "lo")
    with (
        closing(one.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)) as sender,
        closing(other.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_GRE)) as receiver,
    ):
        packet = IP(src="10.7.1.1", dst="10.8.2.1") / GRE(proto=0)
        sender.sendto(bytes(packet), ("10.8.2.1", 0))
        wait_for(lambda: select.select([receiver], [], [], 0)[0], "the answer")
        while select.select([receiver], [], [], 0.5)[0]:
            if IP(receiver.recv(4096)).dst == "10.8.2.1":
                return
        raise AssertionError("it did not arrive")


def test_nothing_reaches_a_third_host_and_a_flood_is_answered_slowly(
    hosts: tuple[Host, Host], daemons: Daemons, peer4: Peer
) -> None:
    """Whoever names himself in a request, the answer goes to the tunnel's other end."""
    one, other = hosts
    other.address(f"{STRANGER}/24")
    daemons.start(one, config(0, ""))
    with closing(other.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_GRE)) as third:
        third.bind((STRANGER, 0))
        for source, destination in (
            (LEFT[0], STRANGER),
            (STRANGER, RIGHT[0]),
            (STRANGER, STRANGER),
        ):
            inner = asked(GRE(proto=0), source=source, destination=destination)
            peer4.send(over4(GRE(proto=0x0800) / inner), times=1000)
        answers = 0
        while (answer := peer4.hear(0.5)) is not None:
            answers += answer == bytes(GRE(proto=0))
        assert 1 <= answers <= 240, "a bucket of 20, and 20 a second"
        assert not select.select([third], [], [], 0)[0]


FORGED = (
    GRE(proto=0),
    GRE(proto=0) / Raw(COOKIE),
    GRE(proto=0x0800) / asked(GRE(proto=0)),
    GRE(proto=0x0800) / asked(GRE(proto=0) / Raw(COOKIE)),
)


def test_a_flood_of_forgeries_neither_kills_nor_revives(
    hosts: tuple[Host, Host], daemons: Daemons, peer4: Peer
) -> None:
    """From the other end's own address: it changes no state, and hides no answer."""
    near = daemons.start(hosts[0], config(0, "Keepalive=200ms"))
    far = daemons.start(hosts[1], config(1, ""))
    wait_for_event(near, "tunnel_up")
    said = len(near.log().splitlines())

    def flood(rounds: int) -> None:
        for _ in range(rounds):
            for packet in FORGED:
                peer4.send(over4(packet), times=25)
            time.sleep(0.01)  # 10,000 a second at most

    flood(100)
    assert not [one for one in events(near)[said:] if one["event"].startswith("tunnel_")]
    far.send_signal(signal.SIGKILL)
    far.wait(5)
    flood(100)
    wait_for_event(near, "tunnel_silent", after=said)
    flood(20)
    assert not [one for one in events(near)[said:] if one["event"] == "tunnel_up"]
    near.stop()
    assert drops(near)["t1", "rx_keepalive"] > 0, "what is not looked at is counted"


def test_a_dead_end_moves_a_route(hosts: tuple[Host, Host], daemons: Daemons) -> None:
    """Without any routing daemon: the next metric takes over, and gives back."""
    one, other = hosts
    near = daemons.start(
        one,
        f"[Tunnel t1]\n{ends(0)}Key=1\nAddress=10.7.1.1/24\nKeepalive=200ms\n"
        f"[Tunnel t2]\n{ends(0)}Key=2\nAddress=10.7.2.1/24\n",
    )
    first = f"[Tunnel t1]\n{ends(1)}Key=1\nAddress=10.7.1.2/24\n"
    second = f"[Tunnel t2]\n{ends(1)}Key=2\nAddress=10.7.2.2/24\n"
    far = daemons.start(other, first + second)
    other.address("10.9.9.9/32", "lo")
    wait_for_event(near, "tunnel_up", tunnel="t1")
    for version, network in ((4, "10.9.9.0/24"), (6, "fd09:9::/64")):
        for metric, name in ((10, "t1"), (20, "t2")):
            one.ip(f"-{version}", "route", "add", network, "dev", name, "metric", str(metric))
    wait_for(lambda: "dev t1" in one.ip("route", "get", "10.9.9.9"), "the better route")
    assert ping(one, "10.9.9.9").received == 3
    far.stop()
    daemons.start(other, second)
    wait_for(lambda: "dev t2" in one.ip("route", "get", "10.9.9.9"), "the other route")
    assert ping(one, "10.9.9.9").received == 3
    wait_for(lambda: "dev t2" in one.ip("route", "get", "fd09:9::1"), "the other route, IPv6")


@pytest.mark.parametrize("inner", ["10.7.1.2", "fd07::2"])
@pytest.mark.parametrize("options", ["", "Key=1\nChecksum=yes\nSerializeTunneledPackets=yes"])
def test_an_inner_address_is_pinged(
    hosts: tuple[Host, Host], daemons: Daemons, options: str, inner: str
) -> None:
    """Whoever has it; and no answer to gred's own requests reaches the interface."""
    both = [
        f"[Tunnel t1]\n{ends(here)}Address=10.7.1.{here + 1}/24, fd07::{here + 1}/64\n{options}\n"
        for here in (0, 1)
    ]
    asks = f"Keepalive=200ms\nKeepaliveTarget={inner}\n"
    near = daemons.start(hosts[0], both[0] + asks)
    wait_for(lambda: not has_carrier(hosts[0]), "no carrier without an answer")
    far = daemons.start(hosts[1], f"{both[1]}KeepaliveReply=no\n")
    wait_for_event(near, "tunnel_up")
    wait_for(partial(has_carrier, hosts[0]), "carrier")
    assert ping(hosts[0], inner).received == 3, "pings of others pass"
    said = len(near.log().splitlines())
    far.send_signal(signal.SIGKILL)
    far.wait(5)
    wait_for_event(near, "tunnel_silent", after=said)
    wait_for(lambda: not has_carrier(hosts[0]), "no carrier")
    again = daemons.start(hosts[1], f"{both[1]}KeepaliveReply=no\n")
    wait_for_event(again, "tunnel_up")
    wait_for_event(near, "tunnel_up", after=said)
    near.stop()
    again.stop()
    assert not {what for _tunnel, what in drops(near) + drops(again)} - COMING_AND_GOING


def test_an_answer_to_a_ping_of_ours_stays_outside(
    hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    one, other = hosts
    text = config(0, "Keepalive=200ms\nKeepaliveTarget=10.7.1.2\nProbeMTU=no")
    near = daemons.start(one, text)
    daemons.start(other, config(1, ""))
    wait_for_event(near, "tunnel_up")
    with closing(one.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)) as icmp:
        answered = other.statistics("t1")["rx_packets"]
        wait_for(lambda: other.statistics("t1")["rx_packets"] > answered + 5, "requests")
        assert not select.select([icmp], [], [], 0)[0]
