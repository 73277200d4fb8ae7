"""Requests as they arrive in a tunnel between A and B, and what B makes of them."""

from ipaddress import ip_address

import pytest
from scapy.layers.inet import GRE, IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet, Raw

from gred.config.model import IPAddress
from gred.control.replies import PER_PROCESS, PER_TUNNEL, Replies, Reply
from gred.dataplane.punt import Allowance
from gred.wire.keepalive import Request, read_request

A, B = ip_address("192.0.2.1"), ip_address("198.51.100.7")
INNER_A, INNER_B = ip_address("10.1.2.1"), ip_address("10.1.2.2")
A6, B6 = ip_address("2001:db8::1"), ip_address("2001:db8::7")
STRANGER = ip_address("203.0.113.9")


def request(source: IPAddress, destination: IPAddress, payload: Packet | None = None) -> Request:
    payload = GRE(proto=0) if payload is None else payload
    layer = IP(ttl=255) if source.version == 4 else IPv6(hlim=255)
    layer.src, layer.dst = str(source), str(destination)
    found = read_request(bytes(layer / payload))
    assert found is not None
    return found


def replies() -> Replies:
    return Replies([INNER_B], Allowance(*PER_PROCESS))


@pytest.mark.parametrize(
    ("source", "destination"),
    [(B, A), (B, ip_address("10.9.9.9")), (STRANGER, A)],
    ids=["as Cisco does", "who asks is behind a NAT", "we are behind a NAT"],
)
def test_the_answer_is_the_header_within(source: IPAddress, destination: IPAddress) -> None:
    asked = request(source, destination, GRE(proto=0, key_present=1, key=42) / Raw(b"cookie"))
    expected = bytes(GRE(proto=0, key_present=1, key=42) / Raw(b"cookie"))
    assert replies().reply(asked, A, B, 1.0) == Reply(expected, tunnelled=False)


def test_over_ipv6() -> None:
    asked = request(B6, A6, GRE(proto=0x86DD))
    assert replies().reply(asked, A6, B6, 1.0) == Reply(bytes(GRE(proto=0x86DD)), tunnelled=False)


def test_between_inner_addresses_it_goes_through_the_tunnel() -> None:
    asked = request(INNER_B, INNER_A)
    reply = replies().reply(asked, A, B, 1.0)
    assert reply is not None
    assert reply.tunnelled
    packet = IP(reply.content)
    assert (packet.src, packet.dst, packet.ttl) == (str(INNER_B), str(INNER_A), 254)


def test_a_request_that_names_two_strangers_is_refused() -> None:
    one = replies()
    assert one.reply(request(STRANGER, ip_address("203.0.113.10")), A, B, 1.0) is None
    assert (one.answered, one.refused) == (0, 1)


def test_nothing_but_an_empty_header_can_be_asked_for() -> None:
    """What a stranger could use is no request at all."""
    for payload in (UDP(dport=53) / Raw(b"?"), GRE() / IP(dst="203.0.113.9") / UDP(dport=53)):
        assert read_request(bytes(IP(src=str(B), dst=str(STRANGER)) / payload)) is None


def test_a_flood_is_answered_at_the_rate_of_the_bucket() -> None:
    one, asked = replies(), request(B, A)
    answered = sum(one.reply(asked, A, B, 100 + n / 1000) is not None for n in range(10_000))
    rate, burst = PER_TUNNEL
    assert answered == pytest.approx(10 * rate + burst, abs=1)
    assert one.limited == 10_000 - answered


def test_all_tunnels_together_are_bounded() -> None:
    shared, asked = Allowance(*PER_PROCESS), request(B, A)
    answered = sum(
        one.reply(asked, A, B, 100.0) is not None
        for one in [Replies([], shared) for _ in range(1000)]
    )
    assert answered == PER_PROCESS[1]
