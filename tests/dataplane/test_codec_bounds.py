"""Both twins refuse arguments that would lead out of a buffer: ValueError, nothing touched."""

from typing import Any

import pytest

from gred.dataplane.layout import Frame, LookupHeader, Received
from gred.dataplane.pure_codec import JUDGED
from tests.dataplane.benches import Egress, Ingress, gre, make_record, outer, rows
from tests.dataplane.packets import Packet

INNER = Packet().ip(b"payload")


def egress_arguments() -> dict[str, Any]:
    bench = Egress([INNER], make_record())
    return {
        "arena": bench.arena,
        "frames": bench.frame_table,
        "first": 0,
        "count": 1,
        "tunnels": bench.tables.records,
        "states": bench.tables.tx_states,
        "tunnel": 1,
        "datagrams": bench.datagram_table,
        "headers_begin": bench.headers_begin,
        "headers_end": len(bench.arena),
    }


def ingress_arguments() -> dict[str, Any]:
    bench = Ingress([outer(gre(INNER))])
    return {
        "arena": bench.arena,
        "received": bench.received,
        "count": 1,
        "tunnels": bench.tables.records,
        "states": bench.tables.rx_states,
        "descriptors": bench.tables.descriptors,
        "lookup": bench.lookup,
        "sources": bench.sources,
        "tun_writes": bench.tun_write_table,
        "pieces": bench.piece_table,
        "headers": bench.headers,
        "now": 0,
    }


def test_the_arguments_are_right_before_one_is_made_wrong(codec: Any) -> None:
    assert codec.encapsulate(*egress_arguments().values()) == (1, 1, 0)
    assert codec.decapsulate(*ingress_arguments().values()) == (1, 0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("count", 2),
        ("first", 2),
        ("tunnel", 2),
        ("states", bytearray(16)),
        ("headers_begin", 1 << 40),
        ("headers_end", 1 << 40),
        ("headers_end", 0),
    ],
)
def test_encapsulate_refuses_numbers_beyond_its_tables(codec: Any, name: str, value: Any) -> None:
    arguments = egress_arguments() | {name: value}
    with pytest.raises(ValueError, match="encapsulate: a table is smaller"):
        codec.encapsulate(*arguments.values())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("count", 2),
        ("tunnels", bytearray(16)),
        ("states", bytearray(16)),
        ("descriptors", bytearray(4)),
        ("lookup", bytearray(16)),
    ],
)
def test_decapsulate_refuses_numbers_beyond_its_tables(codec: Any, name: str, value: Any) -> None:
    arguments = ingress_arguments() | {name: value}
    with pytest.raises(ValueError, match="decapsulate: a table is smaller"):
        codec.decapsulate(*arguments.values())


@pytest.mark.parametrize("mask", [2, 16, 0xFFFFFFFF, 0x7FFFFFFF])
def test_a_damaged_lookup_table_is_refused(codec: Any, mask: int) -> None:
    arguments = ingress_arguments()
    LookupHeader.from_buffer(arguments["lookup"]).mask = mask
    with pytest.raises(ValueError, match="look-up table is damaged"):
        codec.decapsulate(*arguments.values())


@pytest.mark.parametrize(
    ("field", "value"), [("offset", 63), ("offset", 0xFFFFFFFF), ("length", 0xFFFFFFFF)]
)
def test_packets_outside_the_arena_are_refused(codec: Any, field: str, value: int) -> None:
    arguments = egress_arguments()
    setattr(rows(arguments["frames"], Frame)[0], field, value)
    with pytest.raises(ValueError, match="outside the arena"):
        codec.encapsulate(*arguments.values())
    arguments = ingress_arguments()
    setattr(rows(arguments["received"], Received)[0], field, value)
    with pytest.raises(ValueError, match="outside the arena"):
        codec.decapsulate(*arguments.values())


def test_a_verdict_that_there_is_no_counter_for_is_refused(codec: Any) -> None:
    arguments = ingress_arguments()
    rows(arguments["received"], Received)[0].verdict = JUDGED
    with pytest.raises(ValueError, match="outside the arena"):
        codec.decapsulate(*arguments.values())


@pytest.mark.parametrize("position", [0, 1, 4, 5, 7])
def test_read_only_memory_is_refused(codec: Any, position: int) -> None:
    arguments = list(egress_arguments().values())
    arguments[position] = bytes(arguments[position])
    with pytest.raises((TypeError, BufferError)):
        codec.encapsulate(*arguments)


def test_nothing_keeps_the_buffers(codec: Any) -> None:
    """A bytearray that is still exported cannot be resized."""
    arguments = [*egress_arguments().values(), *ingress_arguments().values()]
    codec.encapsulate(*arguments[:10])
    codec.decapsulate(*arguments[10:])
    for argument in arguments:
        if isinstance(argument, bytearray):
            argument.append(0)
