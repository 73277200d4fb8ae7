"""Each sentence names who does what, and a remedy that is an option or a command."""

from dataclasses import replace
from ipaddress import ip_address
from typing import Literal

import pytest

from gred.config.model import TunnelConfig
from gred.config.options import TUNNEL_OPTIONS
from gred.control import sentences
from gred.control.kernel.routes import Delivery, Drop
from gred.dataplane.punt import Report
from gred.wire.drop import DropReason
from tests.control.fakes import tunnel

HERE, THERE, ELSEWHERE = map(ip_address, ("192.0.2.1", "192.0.2.2", "192.0.2.9"))


def report(reason: DropReason, key: int | None = None, protocol: int | None = None) -> Report:
    return Report(None, reason, THERE, HERE, key, "", protocol=protocol)


def keyed(input_key: int | None, output_key: int | None) -> TunnelConfig:
    return replace(tunnel(), input_key=input_key, output_key=output_key)


@pytest.mark.parametrize(
    ("came", "config", "words"),
    [
        (None, keyed(1, 1), ("sends no key", "expects key 1", "Key=1 there")),
        (2, keyed(None, None), ("key 2", "this end has none", "Key=2 here")),
        (2, keyed(1, 1), ("key 2", "expects key 1", "Key=2 here", "Key=1 there")),
        (2, keyed(1, 2), ("key 2", "crossed", "InputKey=", "OutputKey=")),
    ],
)
def test_keys(came: int | None, config: TunnelConfig, words: tuple[str, ...]) -> None:
    said = sentences.refused(report(DropReason.KEY_MISMATCH, came), config)
    assert said.startswith("192.0.2.2 sends")
    assert all(word in said for word in words), said


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (DropReason.CSUM_MISSING, ("without checksums", "Checksum=yes there")),
        (DropReason.CSUM_UNEXPECTED, ("with checksums", "Checksum=no there")),
        (DropReason.SEQ_MISSING, ("without sequence", "SerializeTunneledPackets=yes there")),
        (DropReason.OUT_OF_SEQ, ("have been before",)),
        (DropReason.EOIP, ("EoIP",)),
        (DropReason.PPTP, ("PPTP",)),
        (DropReason.ERSPAN, ("ERSPAN",)),
        (DropReason.MPLS, ("MPLS", "Protocol=mpls")),
    ],
)
def test_the_other_ends_settings(reason: DropReason, words: tuple[str, ...]) -> None:
    said = sentences.refused(report(reason), tunnel())
    assert said.startswith("192.0.2.2 sends")
    assert all(word in said for word in words), said


@pytest.mark.parametrize(
    ("mode", "protocol", "words"),
    [
        ("gre", 0x6558, ("Ethernet", "Mode=gretap here")),
        ("gretap", 0x0800, ("IP packets", "Mode=gre here")),
        ("gretap", 0x86DD, ("IP packets", "Mode=gre here")),
        ("gre", 0x2001, ("NHRP", "0x2001")),
        ("gre", 0x1234, ("protocol type 0x1234", "Protocol=0x1234")),
        ("gre", None, ("does not carry",)),
    ],
)
def test_what_is_inside(
    mode: Literal["gre", "gretap"], protocol: int | None, words: tuple[str, ...]
) -> None:
    config = replace(tunnel(), mode=mode)
    said = sentences.refused(report(DropReason.UNKNOWN_PROTOCOL, protocol=protocol), config)
    assert all(word in said for word in words), said


def test_an_inner_source_that_is_not_allowed() -> None:
    spoofed = replace(report(DropReason.SPOOFED), detail="from 10.9.9.9")
    said = sentences.refused(spoofed, tunnel())
    assert said.startswith("192.0.2.2 sends packets from 10.9.9.9, which AllowedSources= does not")


@pytest.mark.parametrize("source", ["fe80::1", "::"])
def test_what_every_host_announces_is_no_mismatch(source: str) -> None:
    spoofed = replace(report(DropReason.SPOOFED), detail=f"from {source}")
    assert sentences.refused(spoofed, tunnel()) == ""


def test_what_is_no_matter_of_settings_is_not_said() -> None:
    for reason in (DropReason.NO_BUFS, DropReason.DEVICE_DOWN, DropReason.OTHER):
        assert sentences.refused(report(reason), tunnel()) == ""


def test_a_stranger_in_its_place() -> None:
    from_elsewhere = replace(report(DropReason.NO_TUNNEL), source=ELSEWHERE)
    said = sentences.stray(from_elsewhere, tunnel(), HERE)
    assert "from 192.0.2.9 and none from 192.0.2.2" in said
    assert "NAT" in said
    assert "Remote=192.0.2.9 here" in said
    to_elsewhere = replace(report(DropReason.NO_TUNNEL), destination=ELSEWHERE)
    assert "Local=192.0.2.9 here" in sentences.stray(to_elsewhere, tunnel(), HERE)
    assert sentences.stray(report(DropReason.NO_TUNNEL), tunnel(), HERE) == ""


@pytest.mark.parametrize(
    ("why", "words"),
    [
        ("filtered", ("reverse path", "Route=", "rp_filter")),
        ("forwarding", ("forwarding is off", "net.ipv4.ip_forward=1", "Address=10.0.0.2/")),
        ("own", ("both ends",)),
        ("route", ("no route", "ip route get 10.0.0.2 from 10.0.0.1 iif t1")),
    ],
)
def test_what_this_host_does_with_it(why: Drop, words: tuple[str, ...]) -> None:
    said = sentences.undelivered(
        ip_address("10.0.0.1"), ip_address("10.0.0.2"), Delivery(why), "t1"
    )
    assert said.startswith("packets arrive, and this host drops them: 10.0.0.1 to 10.0.0.2 ")
    assert all(word in said for word in words), said


def test_answers_that_leave_elsewhere() -> None:
    """A fault for private addresses; others are often answered the shortest way, on purpose."""
    private, public = ip_address("10.0.0.1"), ip_address("9.9.9.9")
    here = ip_address("10.0.0.2")
    said = sentences.undelivered(private, here, Delivery("elsewhere", "eth0"), "t1")
    assert "are not routed into t1, they leave by eth0: Route=" in said
    said = sentences.undelivered(private, here, Delivery("elsewhere"), "t1")
    assert "have no route at all" in said
    assert not sentences.undelivered(public, here, Delivery("elsewhere", "eth0"), "t1")
    assert not sentences.undelivered(private, here, Delivery(""), "t1")


def test_a_tunnel_without_addresses_lacks_one() -> None:
    said = sentences.undelivered(
        ip_address("10.0.0.1"),
        ip_address("10.0.0.2"),
        Delivery("forwarding"),
        "t1",
        is_numbered=False,
    )
    assert "t1 has none: Address=10.0.0.2/" in said
    assert "ip_forward" not in said


def test_options_that_are_named_exist() -> None:
    import re

    known = {option.name for option in TUNNEL_OPTIONS}
    reasons = [
        report(reason, 7, protocol) for reason in DropReason for protocol in (0x6558, 0x0800)
    ]
    configs = [
        keyed(1, 1),
        keyed(7, 1),
        keyed(1, 7),
        keyed(None, None),
        replace(tunnel(), mode="gretap"),
    ]
    text = " ".join(sentences.refused(one, config) for one in reasons for config in configs)
    text += sentences.unanswered(THERE, 3, 10.0) + sentences.stray(
        replace(reasons[0], source=ELSEWHERE), tunnel(), HERE
    )
    named = set(re.findall(r"\b([A-Z][A-Za-z]+)=", text))
    assert named
    assert named <= known
