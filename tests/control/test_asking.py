"""What asks for an answer: as long as was asked for, outside, whatever the tunnel adds."""

from dataclasses import replace
from ipaddress import ip_address
from typing import Any, cast

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6

from gred.config.model import TunnelConfig
from gred.control.asking import ask
from gred.control.tunnel import Tunnel
from gred.wire.keepalive import read_request
from tests.control.fakes import FakeAttachment, FakeDevice, FakeKernel, FakePlane, tunnel

COOKIE = bytes(range(16))
DEVICE = FakeDevice(FakeKernel(), "t1", 1)
INSIDE = tunnel(addresses=["10.1.2.1/24", "fd00::1/64"])
SIX = replace(INSIDE, local=ip_address("2001:db8::1"), remote=ip_address("2001:db8::2"))
# Bytes before what is injected.
FORMS: dict[str, tuple[TunnelConfig, int]] = {
    "plain": (INSIDE, 24),
    "everything": (
        replace(INSIDE, output_key=1, output_checksum=True, output_sequence=True),
        36,
    ),
    "gretap": (replace(INSIDE, mode="gretap"), 24),
    "over IPv6": (SIX, 44),
    "gretap over IPv6": (replace(SIX, mode="gretap", output_key=7), 48),
    "ping": (replace(INSIDE, keepalive_target=ip_address("10.1.2.2")), 24),
    "ping, IPv6": (replace(INSIDE, keepalive_target=ip_address("fd00::2")), 24),
    "ping over IPv6": (replace(SIX, keepalive_target=ip_address("10.1.2.2")), 44),
}


def asked(config: TunnelConfig, size: int) -> tuple[int | None, bytes]:
    one, plane = Tunnel(config), FakePlane(cast("Any", None))
    one.attachment = FakeAttachment(DEVICE, one.parameters())
    assert config.remote is not None
    assert ask(cast("Any", plane), one, config.remote, COOKIE, 7, size=size)
    ((protocol, packet, remote),) = one.attachment.injected
    assert remote == config.remote
    return protocol, packet


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [0, 128, 1400])
def test_a_request_is_as_long_as_it_is_to_be(form: str, size: int) -> None:
    config, outside = FORMS[form]
    protocol, packet = asked(config, size)
    length = len(packet) + outside
    assert length == size or (not size and length < 128)
    if config.keepalive_target is None:
        assert protocol == (0x86DD if config.family == 6 else 0x0800)
        request = read_request(packet)
        assert request is not None
        assert request.answer.endswith(COOKIE)
        return
    four = config.keepalive_target.version == 4
    assert protocol == (0x0800 if four else 0x86DD)
    seen = (IP if four else IPv6)(packet)
    assert (seen.src, seen.dst) == (str(config.echo_source), str(config.keepalive_target))
    echo = seen[ICMP] if four else seen[ICMPv6EchoRequest]
    assert echo.seq == 7


def test_without_an_address_to_answer_to_nothing_is_asked() -> None:
    one, plane = Tunnel(replace(INSIDE, local=None)), FakePlane(cast("Any", None))
    assert INSIDE.remote is not None
    assert not ask(cast("Any", plane), one, INSIDE.remote, COOKIE, 1)
    one.attachment = FakeAttachment(DEVICE, one.parameters())
    assert not ask(cast("Any", plane), one, INSIDE.remote, COOKIE, 1)
    assert one.attachment.injected == []
