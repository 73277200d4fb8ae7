"""Which ICMP errors are believed: what a quote shows, and which tunnels it fits."""

from dataclasses import dataclass, replace
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gred.dataplane import quotes
from gred.dataplane.layout import Transport
from gred.dataplane.quotes import FITS_AT_MOST, SenderIndex, could_have_sent
from gred.dataplane.tunnels import TunnelParameters
from gred.wire.gre import GreHeader
from gred.wire.icmp import Quote

LOCAL, REMOTE = ip_address("192.0.2.1"), ip_address("192.0.2.2")
PLAIN = TunnelParameters(family=4, local=LOCAL, remote=REMOTE)
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


@dataclass(eq=False)
class Attachment:
    """A tunnel, as far as a quote is compared with it."""

    parameters: TunnelParameters


@dataclass
class Judge:
    """`could_have_sent`, and how many tunnels it was asked about."""

    asked: int = 0

    def __call__(self, parameters: TunnelParameters, quote: Quote) -> bool:
        self.asked += 1
        return could_have_sent(parameters, quote)


def index_of(attachments: list[Attachment]) -> SenderIndex[Attachment]:
    index = SenderIndex[Attachment]()
    for attachment in attachments:
        index.put(attachment)
    return index


looks = st.builds(
    TunnelParameters,
    local=st.sampled_from([None, LOCAL, REMOTE]),
    remote=st.sampled_from([None, REMOTE, ip_address("192.0.2.3")]),
    output_key=st.sampled_from([None, 0, 7]),
    output_checksum=st.booleans(),
    output_sequence=st.booleans(),
)
quoted = st.builds(
    quote,
    st.builds(
        GreHeader,
        protocol_type=st.just(0x0800),
        checksum=st.sampled_from([None, 1]),
        key=st.sampled_from([None, 0, 7]),
        sequence=st.sampled_from([None, 1]),
    ),
    length=st.integers(0, 16),
)


@given(before=st.lists(looks, max_size=6), after=st.lists(looks, max_size=6), about=quoted)
def test_the_index_finds_whom_a_look_at_each_would_find(
    before: list[TunnelParameters], after: list[TunnelParameters], about: Quote
) -> None:
    """Also when tunnels have come, changed and gone."""
    attachments = [Attachment(parameters) for parameters in before]
    index = index_of(attachments)
    for attachment, parameters in zip(attachments, after, strict=False):
        attachment.parameters = parameters
        index.put(attachment)
    for attachment in attachments[len(after) :]:
        index.remove(attachment)
    attachments = attachments[: len(after)]
    found = index.find(about)
    wanted = {
        id(attachment)
        for attachment in attachments
        if could_have_sent(attachment.parameters, about)
    }
    assert {id(attachment) for attachment in found} <= wanted
    assert len(found) == min(len(wanted), FITS_AT_MOST + 1)


def test_who_is_not_meant_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    attachments = [Attachment(replace(PLAIN, output_key=key)) for key in range(4000)]
    index, judge = index_of(attachments), Judge()
    monkeypatch.setattr(quotes, "could_have_sent", judge)
    assert index.find(quote(GreHeader(protocol_type=0x0800, key=77), length=8)) == [attachments[77]]
    assert index.find(quote(GreHeader(protocol_type=0x0800, key=4000), length=8)) == []
    assert judge.asked == 1


def test_a_quote_that_fits_too_many_tells_of_none() -> None:
    """RFC 792 asks for eight bytes; some quote less, and then the key is not among them."""
    cut = quote(GreHeader(protocol_type=0x0800, key=1), length=4)
    few = [Attachment(replace(PLAIN, output_key=key)) for key in range(FITS_AT_MOST)]
    index = index_of(few)
    assert index.find(cut) == few
    one_more = Attachment(replace(PLAIN, local=None, output_key=99))
    index.put(one_more)
    assert len(index.find(cut)) > FITS_AT_MOST
    index.remove(few[0])
    assert set(map(id, index.find(cut))) == set(map(id, [*few[1:], one_more]))


HUB = replace(KEYED, remote=None, learn_peers=True)
SPOKE, OTHER = ip_address("192.0.2.2").packed, ip_address("192.0.2.3").packed


def to(remote: bytes, *, key: int = 7, length: int = 8) -> Quote:
    return replace(
        quote(GreHeader(protocol_type=0x0800, key=key), length=length), destination=remote
    )


def test_a_tunnel_with_many_remotes_is_found_by_each_that_it_has() -> None:
    hub = Attachment(HUB)
    index = index_of([hub])
    assert index.find(to(SPOKE)) == []
    index.add_remote(hub, SPOKE)
    index.add_remote(hub, OTHER)
    assert index.find(to(SPOKE)) == index.find(to(OTHER)) == [hub]
    assert index.find(to(SPOKE, length=4)) == [hub]
    assert index.find(to(SPOKE, key=8)) == []
    index.remove_remote(hub, SPOKE)
    index.remove_remote(hub, SPOKE)
    assert index.find(to(SPOKE)) == []
    hub.parameters = replace(HUB, output_key=8)
    index.put(hub)
    assert index.find(to(OTHER)) == []
    assert index.find(to(OTHER, key=8)) == [hub], "its remotes stay when it changes"
    index.remove(hub)
    index.remove(hub)
    assert index.find(to(OTHER, key=8)) == []


def test_a_hub_and_a_tunnel_to_one_of_its_remotes_are_told_apart_by_the_key() -> None:
    hub, single = Attachment(HUB), Attachment(replace(KEYED, output_key=9))
    index = index_of([single])
    index.add_remote(hub, SPOKE)  # before it is put, as an attachment does that is being made
    index.put(hub)
    assert index.find(to(SPOKE)) == [hub]
    assert index.find(to(SPOKE, key=9)) == [single]
    assert len(index.find(to(SPOKE, length=4))) > FITS_AT_MOST


def test_a_tunnel_that_gets_one_remote_has_no_other() -> None:
    attachment = Attachment(HUB)
    index = index_of([attachment])
    index.add_remote(attachment, OTHER)
    attachment.parameters = KEYED
    index.put(attachment)
    assert index.find(to(OTHER)) == []
    assert index.find(to(SPOKE)) == [attachment]


def test_who_is_not_meant_among_many_hubs_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    hubs = [Attachment(replace(HUB, output_key=None)) for _ in range(1000)]
    index, judge = index_of(hubs), Judge()
    for number, hub in enumerate(hubs):
        index.add_remote(hub, bytes([10, 0, number >> 8, number & 0xFF]))
    monkeypatch.setattr(quotes, "could_have_sent", judge)
    plain = quote(GreHeader(protocol_type=0x0800), length=8)
    assert index.find(replace(plain, destination=bytes([10, 0, 0, 7]))) == [hubs[7]]
    assert judge.asked == 1


IN_UDP = replace(KEYED, transport=Transport.UDP, remote_port=4754)


def udp_quote(ports: tuple[int, int] = (50000, 4754), header: GreHeader | None = None) -> Quote:
    gre = b"" if header is None else header.pack()
    return Quote(LOCAL.packed, REMOTE.packed, gre, ports=ports)


def test_what_was_sent_in_udp_has_its_ports() -> None:
    mine = GreHeader(protocol_type=0x0800, key=7)
    assert could_have_sent(IN_UDP, udp_quote(header=mine))
    assert could_have_sent(IN_UDP, udp_quote()), "a UDP header is enough, as far as it goes"
    assert not could_have_sent(IN_UDP, quote(mine))
    assert not could_have_sent(KEYED, udp_quote(header=mine))
    assert not could_have_sent(KEYED, udp_quote())
    assert not could_have_sent(IN_UDP, udp_quote((50000, 4755), mine))
    assert not could_have_sent(IN_UDP, udp_quote((4754, 4754), mine))
    fixed = replace(IN_UDP, source_port=4754)
    assert could_have_sent(fixed, udp_quote((4754, 4754), mine))
    assert not could_have_sent(fixed, udp_quote((50000, 4754), mine))


@dataclass(eq=False)
class Sends:
    parameters: TunnelParameters


def test_the_index_finds_what_was_sent_in_udp() -> None:
    index = SenderIndex[Sends]()
    one, other = Sends(IN_UDP), Sends(KEYED)
    index.put(one)
    index.put(other)
    mine = GreHeader(protocol_type=0x0800, key=7)
    assert index.find(udp_quote(header=mine)) == [one]
    assert index.find(udp_quote()) == [one]
    assert index.find(quote(mine)) == [other]
    index.remove(one)
    assert index.find(udp_quote()) == []
