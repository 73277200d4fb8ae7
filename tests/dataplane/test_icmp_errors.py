"""Which ICMP errors are believed; and the sockets that receive them, on a real kernel."""

from dataclasses import replace
from ipaddress import ip_address

import pytest

from gred.dataplane.icmp_errors import could_have_sent
from gred.dataplane.tunnels import TunnelParameters
from gred.wire.gre import GreHeader
from gred.wire.icmp import Quote

LOCAL, REMOTE = ip_address("192.0.2.1"), ip_address("192.0.2.2")
PLAIN = TunnelParameters(local=LOCAL, remote=REMOTE)
KEYED = replace(PLAIN, output_key=7)
EVERY = replace(KEYED, output_checksum=True, output_sequence=True)


def quote(header: GreHeader, *, length: int = 16) -> Quote:
    return Quote(LOCAL.packed, REMOTE.packed, header.pack().ljust(16, b"\0")[:length])


def test_its_own_packet_is_known() -> None:
    assert could_have_sent(PLAIN, quote(GreHeader(protocol_type=0x0800)))
    assert could_have_sent(KEYED, quote(GreHeader(protocol_type=0x0800, key=7)))
    every = GreHeader(protocol_type=0x0800, checksum=1, key=7, sequence=99)
    assert could_have_sent(EVERY, quote(every))


def test_eight_bytes_are_enough_as_far_as_they_go() -> None:
    """All that RFC 792 asks a router to quote: the key is behind a checksum."""
    every = GreHeader(protocol_type=0x0800, checksum=1, key=8, sequence=99)
    assert could_have_sent(EVERY, quote(every, length=8))
    assert not could_have_sent(EVERY, quote(every, length=12))
    assert not could_have_sent(KEYED, quote(GreHeader(protocol_type=0x0800, key=8), length=8))


@pytest.mark.parametrize("parameters", [KEYED, EVERY, replace(PLAIN, output_sequence=True)])
def test_other_flags_are_somebody_elses(parameters: TunnelParameters) -> None:
    assert not could_have_sent(parameters, quote(GreHeader(protocol_type=0x0800)))


def test_what_was_cut_off_before_the_flags_proves_nothing() -> None:
    assert not could_have_sent(PLAIN, quote(GreHeader(protocol_type=0x0800), length=1))


def test_other_addresses_are_somebody_elses() -> None:
    mine = quote(GreHeader(protocol_type=0x0800))
    other = ip_address("192.0.2.3")
    assert not could_have_sent(replace(PLAIN, local=other), mine)
    assert not could_have_sent(replace(PLAIN, remote=other), mine)
    assert not could_have_sent(replace(PLAIN, remote=None), mine)


def test_any_local_sends_from_every_address() -> None:
    assert could_have_sent(replace(PLAIN, local=None), quote(GreHeader(protocol_type=0x0800)))
