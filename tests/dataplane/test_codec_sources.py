"""Inner sources that a tunnel takes, in both codecs; the standard library's networks are judge."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6

from gred.dataplane.layout import RxState, TunnelFlag
from gred.dataplane.pure_sources import SourceRanges
from gred.dataplane.sources import SourceTable
from gred.wire.drop import DropReason
from gred.wire.gre import PROTOCOL_ETHERNET, PROTOCOL_IPV4, PROTOCOL_IPV6
from tests.dataplane.benches import Ingress, gre, make_record, outer, rows

SEQUENCE = 0x1000  # bit of the GRE header
ALLOWED = [ip_network(one) for one in ("10.1.0.0/16", "10.9.0.7/32", "fd01::/64", "fe80::/10")]


def packet(source: str) -> bytes:
    header = IP(src=source, dst="10.0.0.1") if "." in source else IPv6(src=source, dst="fd00::1")
    return bytes(header / UDP(dport=9) / b"hello")


def verdict(
    codec: Any, source: str, *, networks: Any = None, number: int = 1, flags: int = 0
) -> DropReason:
    """Return what becomes of a packet for tunnel 1, where tunnel *number* has the table."""
    protocol = PROTOCOL_IPV4 if "." in source else PROTOCOL_IPV6
    record = make_record(flags=TunnelFlag.CHECKS_SOURCES | flags)
    bench = Ingress([outer(gre(packet(source), protocol))], records=[record])
    table = SourceTable()
    table.put(number, ALLOWED if networks is None else networks)
    bench.sources = table.memory
    bench.run(codec)
    return DropReason(bench.verdicts[0])


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("10.1.0.0", DropReason.NONE),
        ("10.1.255.255", DropReason.NONE),
        ("10.9.0.7", DropReason.NONE),
        ("fd01::9", DropReason.NONE),
        ("fe80::1", DropReason.NONE),
        ("10.0.255.255", DropReason.SPOOFED),
        ("10.2.0.0", DropReason.SPOOFED),
        ("10.9.0.6", DropReason.SPOOFED),
        ("10.9.0.8", DropReason.SPOOFED),
        ("255.255.255.255", DropReason.SPOOFED),
        ("fd01:0:0:1::", DropReason.SPOOFED),
        ("::", DropReason.SPOOFED),
    ],
)
def test_what_lies_in_the_networks_passes(codec: Any, source: str, reason: DropReason) -> None:
    assert verdict(codec, source) is reason


@pytest.mark.parametrize("number", [0, 2, 65535])
def test_what_another_tunnel_takes_is_nothing_to_this_one(codec: Any, number: int) -> None:
    assert verdict(codec, "10.1.0.1", number=number) is DropReason.SPOOFED


def test_a_tunnel_that_checks_nothing_takes_all(codec: Any) -> None:
    bench = Ingress([outer(gre(packet("192.0.2.99")))])
    assert bench.run(codec) == (1, 0)


def test_of_ethernet_no_source_is_checked(codec: Any) -> None:
    frame = bytes(12) + b"\x08\x00" + packet("192.0.2.99")
    record = make_record(flags=TunnelFlag.CHECKS_SOURCES | TunnelFlag.ETHERNET)
    bench = Ingress([outer(gre(frame, PROTOCOL_ETHERNET))], records=[record])
    assert bench.run(codec) == (1, 0)


def test_it_is_counted_and_its_number_is_not_missing(codec: Any) -> None:
    flags = TunnelFlag.CHECKS_SOURCES | TunnelFlag.INPUT_SEQUENCE
    sources = ["10.1.0.1", "192.0.2.99", "10.1.0.2"]
    datagrams = [
        outer(gre(packet(source), PROTOCOL_IPV4, SEQUENCE, number.to_bytes(4)))
        for number, source in enumerate(sources)
    ]
    bench = Ingress(datagrams, records=[make_record(flags=flags)])
    table = SourceTable()
    table.put(1, ALLOWED)
    bench.sources = table.memory
    bench.run(codec)
    assert [DropReason(one) for one in bench.verdicts] == [
        DropReason.NONE,
        DropReason.SPOOFED,
        DropReason.NONE,
    ]
    state = rows(bench.tables.rx_states, RxState)[1]
    assert (state.rx_packets, state.rx_drops[DropReason.SPOOFED], state.rx_lost) == (2, 1, 0)


@pytest.mark.parametrize("cut", [1, 24, 47])
def test_a_table_that_is_cut_short_is_read_as_far_as_it_goes(codec: Any, cut: int) -> None:
    record = make_record(flags=TunnelFlag.CHECKS_SOURCES)
    bench = Ingress([outer(gre(packet("10.1.0.1")))], records=[record])
    table = SourceTable()
    table.put(1, [ip_network("10.1.0.0/16")])
    bench.sources = table.memory[:-cut]
    bench.run(codec)
    assert bench.verdicts[0] == DropReason.SPOOFED


four = st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)).map(
    lambda drawn: ip_network((drawn[0], drawn[1]), strict=False)
)
six = st.tuples(st.integers(0, 2**128 - 1), st.integers(0, 128)).map(
    lambda drawn: ip_network((IPv6Address(drawn[0]), drawn[1]), strict=False)
)


@given(
    tables=st.dictionaries(st.integers(1, 65535), st.lists(four | six, max_size=6), max_size=4),
    data=st.data(),
)
def test_the_table_agrees_with_the_standard_library(tables: Any, data: st.DataObject) -> None:
    table = SourceTable()
    for index, networks in tables.items():
        table.put(index, networks)
    known = SourceRanges(memoryview(table.memory))
    index = data.draw(st.sampled_from([*tables, 7]))
    networks = tables.get(index, [])
    near = [
        near
        for network in networks
        for near in (int(network[0]) - 1, int(network[0]), int(network[-1]), int(network[-1]) + 1)
    ]
    number = data.draw(st.sampled_from(near) if near else st.integers(0, 2**32 - 1))
    is_four = data.draw(st.booleans())
    address = IPv4Address(number % 2**32) if is_four else IPv6Address(number % 2**128)
    expected = any(address in network for network in networks)
    assert known.have(index, address.packed) == expected


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(networks=st.lists(four | six, max_size=8), data=st.data())
def test_any_source_is_judged_as_by_the_standard_library(
    codec: Any, networks: Any, data: st.DataObject
) -> None:
    ends = [end for network in networks for end in (network[0], network[-1])]
    kind = data.draw(st.sampled_from([IPv4Address, IPv6Address]))
    anywhere = st.integers(0, 2**32 - 1).map(kind)
    source = data.draw(st.sampled_from(ends) | anywhere if ends else anywhere)
    expected = any(source in network for network in networks)
    found = verdict(codec, str(source), networks=networks)
    assert (found is DropReason.NONE) == expected


def test_who_leaves_takes_its_ranges_along() -> None:
    table = SourceTable()
    table.put(2, [ip_network("10.1.0.0/16")])
    table.put(1, [ip_network("10.2.0.0/16"), ip_network("10.3.0.0/16")])
    assert len(table.memory) == 2 * 48, "neighbours are one range"
    table.put(1, [ip_network("10.4.0.0/16")])
    table.remove(2)
    known = SourceRanges(memoryview(table.memory))
    assert known.have(1, ip_address("10.4.0.1").packed)
    assert not known.have(1, ip_address("10.2.0.1").packed)
    table.put(1, [])
    assert not table.remove(1)
    assert table.memory == b""
