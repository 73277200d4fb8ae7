"""The sources in C and the modules in Python say the same: fields, their types, and numbers."""

import ctypes
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import gred.dataplane
from gred.dataplane import (
    hashes,
    layout,
    linux,
    pure_coalesce,
    pure_encapsulate,
    pure_flows,
    pure_receive,
    pure_segment,
    pure_send,
    pure_sequence,
    pure_tun,
)
from gred.wire import echo, ethernet, gre, icmp, ip, transport, vnet
from gred.wire.drop import DropReason
from tests.dataplane import declarations
from tests.dataplane.declarations import UnreadableError

NATIVE = Path(gred.dataplane.__file__).parent / "native"
TEXT = (NATIVE / "layout.h").read_text(encoding="utf-8")
NUMBERS = declarations.read(sorted(NATIVE.glob("*.[ch]")))
STRUCTURES = declarations.structures(TEXT, NUMBERS["layout.h"])

TYPES: dict[str, Any] = {
    "uint8_t": ctypes.c_uint8,
    "uint16_t": ctypes.c_uint16,
    "uint32_t": ctypes.c_uint32,
    "uint64_t": ctypes.c_uint64,
    "int32_t": ctypes.c_int32,
}

# One number each in Python, as it is called there.
TWINS: dict[str, dict[str, tuple[ModuleType, str]]] = {
    "layout.h": {
        name: (layout, name)
        for name in (
            *("DROP_COUNTERS", "FRAME_HEADROOM", "PACKET_INFO_LENGTH", "NO_DESTINATION"),
            *("SENT_INTERVAL", "SOCKET_TTL", "SOCKET_TOS", "SOURCE_KEY", "PATHS"),
        )
    },
    "bytes.h": {"MIX_SEED": (hashes, "MIX_SEED")},
    "codec.h": {
        "GRE_CHECKSUM": (gre, "CHECKSUM_PRESENT"),
        "GRE_ROUTING": (gre, "ROUTING_PRESENT"),
        "GRE_KEY": (gre, "KEY_PRESENT"),
        "GRE_SEQUENCE": (gre, "SEQUENCE_PRESENT"),
        "GRE_RESERVED": (gre, "RESERVED_REFUSED"),
        "GRE_VERSION": (gre, "VERSION"),
        "RUN_SLOTS": (pure_coalesce, "RUN_SLOTS"),
        "RUN_UDP_PACKETS": (pure_coalesce, "UDP_MAX_PACKETS"),
    },
    "coalesce.c": {"IP_LENGTH_LIMIT": (ip, "LONGEST_PACKET"), "LINE": (pure_segment, "LINE")},
    "decapsulate.c": {
        "WCCP_HEADER": (gre, "WCCP_HEADER"),
        **{name: (echo, name) for name in ("ECHO_REPLY", "ECHO_REPLY6", "ECHO_MARK", "ECHO_LEAST")},
    },
    "encapsulate.c": {
        name: (pure_encapsulate, name) for name in ("UDP_SEGMENT_LIMIT", "TCP_SEGMENT_LEAST")
    },
    "flows.c": {name: (pure_flows, name) for name in ("SPARSE_AT_MOST", "QUANTUM")},
    "io.h": {"FRAME_LIMIT": (pure_tun, "FRAME_LIMIT")},
    "packet.h": {
        "PROTOCOL_IPV4": (gre, "PROTOCOL_IPV4"),
        "PROTOCOL_IPV6": (gre, "PROTOCOL_IPV6"),
        "PROTOCOL_ETHERNET": (gre, "PROTOCOL_ETHERNET"),
        "PROTOCOL_WCCP": (gre, "PROTOCOL_WCCP"),
        "PROTOCOL_KEEPALIVE": (gre, "PROTOCOL_KEEPALIVE"),
        "PROTOCOL_HUAWEI": (gre, "PROTOCOL_HUAWEI"),
        "PROTOCOL_PPP": (gre, "PROTOCOL_PPP"),
        "PROTOCOL_EOIP": (gre, "PROTOCOL_EOIP"),
        "IP_ICMP": (icmp, "IPPROTO_ICMP"),
        "IP_ICMPV6": (icmp, "IPPROTO_ICMPV6"),
        "IP_TCP": (transport, "IPPROTO_TCP"),
        "IP_UDP": (transport, "IPPROTO_UDP"),
        "IP_GRE": (linux, "IPPROTO_GRE"),
        "IPV6_HOP_BY_HOP": (ip, "HOP_BY_HOP"),
        "IPV6_ROUTING": (ip, "ROUTING"),
        "IPV6_FRAGMENT": (ip, "IPV6_FRAGMENT"),
        "IPV6_AUTHENTICATION": (ip, "AUTHENTICATION"),
        "IPV6_DESTINATION_OPTIONS": (ip, "DESTINATION_OPTIONS"),
        "ETHERNET_HEADER": (ethernet, "HEADER"),
        "IPV4_HEADER": (ip, "IPV4_HEADER"),
        "IPV6_HEADER": (ip, "IPV6_HEADER"),
        "TCP_HEADER": (transport, "TCP_HEADER"),
        "UDP_HEADER": (transport, "UDP_HEADER"),
        "TCP_CHECKSUM": (transport, "TCP_CHECKSUM"),
        "UDP_CHECKSUM": (transport, "UDP_CHECKSUM"),
        "TCP_FLAGS": (transport, "TCP_FLAGS"),
        **{
            f"TCP_{name}": (transport, name)
            for name in ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "CWR")
        },
        "IPV4_DF": (ip, "DONT_FRAGMENT"),
        "VNET_HEADER": (layout, "VNET_HEADER"),
        "VNET_NEEDS_CSUM": (vnet, "NEEDS_CSUM"),
        "GSO_NONE": (vnet, "GSO_NONE"),
        "GSO_TCPV4": (vnet, "GSO_TCPV4"),
        "GSO_TCPV6": (vnet, "GSO_TCPV6"),
        "GSO_UDP": (vnet, "GSO_UDP_L4"),
        "GSO_ECN": (vnet, "GSO_ECN"),
    },
    "receive.c": {
        "PENDING_ERROR_LIMIT": (pure_receive, "PENDING_ERROR_LIMIT"),
        "MERGED_LIMIT": (pure_receive, "MERGED_LIMIT"),
    },
    "udp.c": {"PENDING_ERROR_LIMIT": (pure_send, "SEND_ERROR_LIMIT")},
    "sequence.c": {
        name: (pure_sequence, name)
        for name in (
            *("SEQUENCE_WINDOW", "LATENESS", "RESTART_RUN", "SEEN_AGAIN", "FIRST_NUMBERS"),
            *("FORMER_DEPTH", "NO_FORMER", "FORMER", "FORMER_AND_MORE"),
        )
    },
    "tun.c": {"PIECE_LIMIT": (pure_tun, "PIECE_LIMIT")},
}

# Enumerations of layout.h by what stands before their members' names.
ENUMERATIONS: dict[str, Any] = {
    "DROP_": DropReason,
    "PEER_": layout.PeerState,
    "STAGE_": layout.Stage,
    "KIND_": layout.Kind,
    "TRANSPORT_": layout.Transport,
    "": layout.TunnelFlag,
}

# What Python has no use for, or says in another way.
OF_C_ALONE = {
    "layout.h": {"DROP_REASON_COUNT", "STAGE_COUNT"},
    "io.h": {"CHUNK"},
    "outbox.h": {"HEADER", "HEAD", "BODY", "PARTS"},
    # What goes past the host's routing has no twin, and nobody waits for more in Python.
    "bypass.c": {
        *("LEAST_RUN", "TOS_OF_PRIORITY", "ENTRY_LASTS", "NEGATIVE_LASTS", "SHOWN", "COMPARED"),
        *("LOOKS", "OPTIONS_SIZE"),
    },
    "receive.c": {"BURST", "BUSY_POLL", "IDLE_TIMEOUT"},
    # The kernel cuts segments for the extension alone.
    "udp.c": {"DATAGRAMS", "SEGMENTS", "SEGMENTED_LIMIT"},
    # In gre.NAMED_PROTOCOLS and ethernet.VLAN_TAGS, and of two words in ip.
    "packet.h": {
        *("PROTOCOL_MPLS", "PROTOCOL_MPLS_MULTICAST", "PROTOCOL_ERSPAN_2", "PROTOCOL_ERSPAN_3"),
        *("PROTOCOL_VLAN", "PROTOCOL_QINQ", "IPV4_FRAGMENT"),
    },
}


def members(kind: Any, prefix: str) -> dict[str, int]:
    """Return what an enumeration is in C."""
    known = NUMBERS["layout.h"]
    names = {f"{prefix}{member.name}": int(member) for member in kind}
    if kind is DropReason:  # as far as the codec counts
        return {name: number for name, number in names.items() if name in known}
    return names


def test_enumerations_have_the_same_members_and_numbers() -> None:
    for prefix, kind in ENUMERATIONS.items():
        expected = members(kind, prefix)
        found = {name: NUMBERS["layout.h"].get(name) for name in expected}
        assert found == expected
        if prefix:
            in_c = {name for name in NUMBERS["layout.h"] if name.startswith(prefix)}
            alone = OF_C_ALONE["layout.h"] | {"DROP_COUNTERS"}
            assert in_c - alone == expected.keys()


def test_drop_reasons_have_one_order_without_a_gap() -> None:
    counted = NUMBERS["layout.h"]["DROP_REASON_COUNT"]
    assert counted > DropReason.EOIP
    names = [f"DROP_{DropReason(number).name}" for number in range(counted)]
    assert [NUMBERS["layout.h"][name] for name in names] == list(range(counted))
    assert max(DropReason) < layout.DROP_COUNTERS


@pytest.mark.parametrize("file", TWINS)
def test_numbers_are_equal(file: str) -> None:
    found = {name: NUMBERS[file].get(name) for name in TWINS[file]}
    assert found == {
        name: int(getattr(module, twin)) for name, (module, twin) in TWINS[file].items()
    }


@pytest.mark.parametrize("file", sorted(NUMBERS))
def test_every_number_is_compared_or_known_to_be_of_c_alone(file: str) -> None:
    compared = TWINS.get(file, {}).keys() | OF_C_ALONE.get(file, set())
    if file == "layout.h":
        for prefix, kind in ENUMERATIONS.items():
            compared |= members(kind, prefix).keys()
    assert NUMBERS[file].keys() == compared


def test_protocols_that_are_named_are_the_same() -> None:
    numbers = NUMBERS["packet.h"]
    named = {
        numbers[f"PROTOCOL_{name}"]: reason
        for name, reason in (
            ("KEEPALIVE", DropReason.KEEPALIVE),
            ("WCCP", DropReason.WCCP),
            ("MPLS", DropReason.MPLS),
            ("MPLS_MULTICAST", DropReason.MPLS),
            ("ERSPAN_2", DropReason.ERSPAN),
            ("ERSPAN_3", DropReason.ERSPAN),
        )
    }
    assert named == gre.NAMED_PROTOCOLS
    assert (numbers["PROTOCOL_VLAN"], numbers["PROTOCOL_QINQ"]) == ethernet.VLAN_TAGS
    assert numbers["IPV4_FRAGMENT"] == ip.MORE_FRAGMENTS | ip.FRAGMENT_OFFSET


def structure_of(name: str) -> type[ctypes.Structure]:
    found: type[ctypes.Structure] = getattr(layout, "".join(map(str.title, name.split("_"))))
    return found


def described(structure: type[ctypes.Structure]) -> list[tuple[Any, str, int]]:
    """Return type, name and count of each field."""
    found = []
    for name, kind, *_ in structure._fields_:
        count: int = 1
        single: Any = kind
        while issubclass(single, ctypes.Array):
            count, single = count * single._length_, single._type_
        found.append((single, name, count))
    return found


@pytest.mark.parametrize("name", STRUCTURES)
def test_fields_have_the_same_names_types_and_order(name: str) -> None:
    """And so the same offsets: both leave the alignment to the ABI."""
    expected = [(TYPES[kind], field, count) for kind, field, count in STRUCTURES[name]]
    assert described(structure_of(name)) == expected


def test_no_structure_is_in_python_alone() -> None:
    in_python = {
        name
        for name, kind in vars(layout).items()
        if isinstance(kind, type) and issubclass(kind, ctypes.Structure)
    }
    # A table of numbers in C.
    assert in_python - {structure_of(name).__name__ for name in STRUCTURES} == {"Descriptor"}
    assert described(layout.Descriptor) == [(ctypes.c_int32, "fd", 1)]
    assert re.search(r"const int32_t \*descriptors;", (NATIVE / "codec.h").read_text())


@pytest.mark.parametrize("name", STRUCTURES)
def test_structures_need_no_padding(name: str) -> None:
    """A table is an array: its stride is the sum of the fields."""
    structure = structure_of(name)
    assert ctypes.sizeof(structure) == sum(
        ctypes.sizeof(kind) * count for kind, _, count in described(structure)
    )


class TestReader:
    """What compares can fail."""

    def test_numbers_are_read_as_a_compiler_does(self) -> None:
        text = (
            "/* enum { NOT = 1 }; */\n#define MANY UINT32_MAX\n#define SEED 0x9e3779b9u\n"
            "enum { A, B = 5, C, /* of C */\n    D = 1u << 3, E = B };\n"
        )
        expected = {"A": 0, "B": 5, "C": 6, "D": 8, "E": 5, "MANY": 0xFFFFFFFF, "SEED": 0x9E3779B9}
        assert declarations.numbers(text) == expected

    def test_fields_are_read_with_their_signs(self) -> None:
        text = "struct a {\n    uint32_t b;\n    int32_t c[N][3]; /* d */\n};\n"
        assert declarations.structures(text, {"N": 2}) == {
            "a": [("uint32_t", "b", 1), ("int32_t", "c", 6)]
        }

    @pytest.mark.parametrize("text", ["enum { A = f(2) };", "enum { A = -x };"])
    def test_what_is_not_understood_is_said(self, text: str) -> None:
        with pytest.raises(UnreadableError):
            declarations.numbers(text)

    def test_a_field_that_is_not_understood_is_said(self) -> None:
        with pytest.raises(UnreadableError):
            declarations.structures("struct a {\n    uint32_t *b;\n};\n", {})
