"""IPsec's tables as the kernel dumps them. With a real kernel: tests/netns/test_doctor.py."""

import socket
import struct
from ipaddress import ip_address

import pytest

from gred.control.kernel.xfrm import (
    Policy,
    State,
    Tables,
    read_associations,
    read_policies,
    read_states,
)

LEFT, RIGHT, OTHER = map(ip_address, ("192.0.2.1", "192.0.2.2", "198.51.100.1"))
OUT, IN, FORWARD = 1, 0, 2


def selector(source: str, destination: str, protocol: int) -> bytes:
    """struct xfrm_selector, from linux/xfrm.h."""
    (here, here_bits), (there, there_bits) = (end.split("/") for end in (source, destination))
    packed = [ip_address(end).packed.ljust(16, b"\0") for end in (there, here)]
    return b"".join(packed) + struct.pack(
        "=4HHBBB3xiI", 0, 0, 0, 0, socket.AF_INET, int(there_bits), int(here_bits), protocol, 0, 0
    )


def policy(
    *,
    source: str = "192.0.2.1/32",
    destination: str = "192.0.2.2/32",
    protocol: int = 47,
    direction: int = OUT,
    priority: int = 0,
    action: int = 0,
    ends: tuple[str, ...] = (),
) -> bytes:
    """An answer to XFRM_MSG_GETPOLICY, with an attribute of templates."""
    body = selector(source, destination, protocol) + bytes(64 + 32)
    body += struct.pack("=IIBBBB4x", priority, 8, direction, action, 0, 0)
    assert len(body) == 168
    templates = b"".join(
        ip_address(end).packed.ljust(16, b"\0")
        + struct.pack("=4sB3xHxx16sIBBBxIII", b"", 50, socket.AF_INET, b"", 0, 0, 0, 0, 0, 0, 0)
        for end in ends
    )
    assert len(templates) == 64 * len(ends)
    attribute = struct.pack("=HH", 4 + len(templates), 5) + templates if ends else b""
    return bytes(16) + body + attribute


def state(end: str, index: int) -> bytes:
    """An answer to XFRM_MSG_GETSA."""
    body = selector("0.0.0.0/0", "0.0.0.0/0", 0)
    body += ip_address(end).packed.ljust(16, b"\0") + struct.pack("!IB3x", index, 50)
    body += bytes(16 + 64 + 32 + 12 + 4 + 4) + struct.pack("=HBBBx", socket.AF_INET, 0, 0, 0)
    return bytes(16) + body.ljust(224, b"\0")


def tables(*policies: bytes, states: tuple[bytes, ...] = ()) -> Tables:
    return Tables(tuple(read_policies(policies)), frozenset(read_states(states)))


def esp(source: str, end: str, *, family: int, reqid: int, mode: int, optional: int) -> bytes:
    """struct xfrm_user_tmpl."""
    ends = [ip_address(one).packed.ljust(16, b"\0") for one in (end, source)]
    packed = ends[0] + struct.pack("=4sB3xHxx", b"", 50, family) + ends[1]
    return packed + struct.pack("=IBBBx3I", reqid, mode, 0, optional, *[0xFFFFFFFF] * 3)


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value.ljust(len(value) + 3 & ~3, b"\0")


def algorithm(name: str, bits: int) -> bytes:
    return name.encode().ljust(64, b"\0") + struct.pack("=I", bits) + bytes(bits // 8)


def association(*attributes: bytes, expires: int = 0, reqid: int = 5, mode: int = 0) -> bytes:
    body = selector("0.0.0.0/0", "0.0.0.0/0", 0)
    body += RIGHT.packed.ljust(16, b"\0") + struct.pack("!IB3x", 7, 50)
    body += LEFT.packed.ljust(16, b"\0") + struct.pack("=8Q", *[0] * 5, expires, 0, 0)
    body += struct.pack("=4Q", 0, 0, 1000, 0) + bytes(12 + 4)
    body += struct.pack("=IHBB", reqid, socket.AF_INET, mode, 0)
    return bytes(16) + body.ljust(224, b"\0") + b"".join(attributes)


@pytest.mark.parametrize(
    ("kind", "name", "bits", "cipher"),
    [
        (18, "rfc4106(gcm(aes))", 160, "aes-gcm-128"),
        (18, "rfc7539esp(chacha20,poly1305)", 288, "chacha20-poly1305-256"),
        (2, "cbc(aes)", 256, "aes-cbc-256"),
        (2, "cbc(camellia)", 128, "cbc(camellia)"),
        (2, "ecb(cipher_null)", 0, ""),
        (18, "rfc4543(gcm(aes))", 160, ""),
        (1, "hmac(sha256)", 256, ""),
    ],
)
def test_an_association_is_read(kind: int, name: str, bits: int, cipher: str) -> None:
    message = association(attribute(kind, algorithm(name, bits)), expires=60, mode=1)
    (found,) = read_associations([message])
    assert found == State(LEFT, RIGHT, True, "tunnel", 5, cipher, 1000, 1060)


@pytest.mark.parametrize("expires", [0, 0xFFFFFFFFFFFFFFFF])
def test_an_association_may_be_for_good(expires: int) -> None:
    (found,) = read_associations([association(expires=expires)])
    assert found.until is None


def test_a_template_leads_to_the_newest_association() -> None:
    template = esp("192.0.2.1", "192.0.2.2", family=2, reqid=5, mode=0, optional=0)
    (wanted,) = read_policies([policy() + attribute(5, template)])
    assert wanted.protects
    assert wanted.templates[0].packed == template
    old, new = (State(LEFT, RIGHT, request=5, cipher="x", added=at) for at in (1, 2))
    others = (
        State(LEFT, RIGHT, request=6, added=3),
        State(LEFT, OTHER, request=5, added=3),
        State(LEFT, RIGHT, mode="tunnel", request=5, added=3),
        State(LEFT, RIGHT, is_esp=False, request=5, added=3),
    )
    assert Tables(associations=(*others, new, old)).association(wanted, RIGHT) == new
    assert Tables(associations=others).association(wanted, RIGHT) is None


def test_what_is_optional_does_not_protect() -> None:
    template = esp("192.0.2.1", "192.0.2.2", family=2, reqid=0, mode=0, optional=1)
    (found,) = read_policies([policy() + attribute(5, template)])
    assert not found.protects


@pytest.mark.parametrize(
    ("attributes", "mark", "is_meant"),
    [
        (attribute(21, struct.pack("=II", 7, 0xFF)), 7, True),
        (attribute(21, struct.pack("=II", 7, 0xFF)), 0, False),
        (attribute(31, struct.pack("=I", 3)), 0, False),
        (b"", 7, True),
    ],
)
def test_policies_of_marks_and_of_interfaces_are_for_those(
    attributes: bytes, mark: int, is_meant: bool
) -> None:
    found = tables(policy() + attributes).outbound(LEFT, RIGHT, mark=mark)
    assert (found is not None) is is_meant


def test_a_policy_is_read() -> None:
    (found,) = read_policies([policy(priority=7, action=1)])
    assert (found.outbound, found.priority, found.protocol, found.blocks) == (True, 7, 47, True)
    assert (str(found.source), str(found.destination)) == ("192.0.2.1/32", "192.0.2.2/32")


def test_the_lowest_priority_counts() -> None:
    found = tables(policy(priority=9, action=1), policy(priority=3)).outbound(LEFT, RIGHT)
    assert found is not None
    assert not found.blocks


@pytest.mark.parametrize(
    "other",
    [
        {"protocol": 50},
        {"direction": IN},
        {"direction": FORWARD},
        {"destination": "198.51.100.1/32"},
        {"source": "198.51.100.1/32"},
    ],
)
def test_a_policy_for_others_does_not_count(other: dict[str, object]) -> None:
    assert tables(policy(**other)).outbound(LEFT, RIGHT) is None  # type: ignore[arg-type]


def test_a_source_that_is_not_known_may_be_any() -> None:
    assert tables(policy()).outbound(None, RIGHT) is not None


def test_what_is_received_has_policies_of_its_own() -> None:
    both = tables(policy(direction=IN, source="192.0.2.2/32", destination="192.0.2.1/32"))
    assert both.inbound(RIGHT, LEFT) is not None
    assert both.inbound(OTHER, LEFT) is None
    assert both.outbound(LEFT, RIGHT) is None


def wanted(found: Tables) -> Policy:
    one = found.outbound(LEFT, RIGHT)
    assert one is not None
    return one


@pytest.mark.parametrize(
    ("ends", "states", "has"),
    [
        (("192.0.2.2",), (), False),
        (("192.0.2.2",), (state("192.0.2.2", 0x100),), True),
        (("192.0.2.2",), (state("192.0.2.2", 0),), False),  # asked for, and not there yet
        (("192.0.2.2",), (state("198.51.100.1", 0x100),), False),
        (("0.0.0.0",), (state("192.0.2.2", 0x100),), True),  # noqa: S104 - the packet's own
        (("192.0.2.2", "198.51.100.1"), (state("192.0.2.2", 0x100),), False),
    ],
)
def test_states_are_those_that_the_templates_want(
    ends: tuple[str, ...], states: tuple[bytes, ...], *, has: bool
) -> None:
    found = tables(policy(ends=ends), states=states)
    assert found.has_state(wanted(found), RIGHT) is has


def test_what_is_cut_off_is_passed_over() -> None:
    for length in range(len(policy(ends=("192.0.2.2",)))):
        list(read_policies([policy(ends=("192.0.2.2",))[:length]]))
    for length in range(len(state("192.0.2.2", 1))):
        list(read_states([state("192.0.2.2", 1)[:length]]))
