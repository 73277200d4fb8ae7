"""Tunnel records and the look-up table, asked as the codec asks it."""

import ctypes
from dataclasses import replace
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any, Literal, cast

import pytest

from gred.dataplane.layout import Descriptor, Received, Transport, TunnelFlag, TunnelRecord
from gred.dataplane.receivers import Receivers, Taken, wire_address
from gred.dataplane.tunnels import NO_PATH_LIMIT, TunnelParameters, TunnelTable
from gred.wire.drop import DropReason
from gred.wire.gre import GreHeader
from tests.dataplane.benches import Ingress, Tables, Tunnel, outer, rows
from tests.dataplane.packets import Packet

HERE, THERE, ELSEWHERE = "192.168.1.10", "192.168.1.13", "192.168.1.99"


def parameters(local: str | None, remote: str | None, **fields: Any) -> TunnelParameters:
    family: Literal[4, 6] = 6 if ":" in f"{local}{remote}" else 4
    return TunnelParameters(
        family=family,
        local=ip_address(local) if local else None,
        remote=ip_address(remote) if remote else None,
        **fields,
    )


def test_none_means_zero_on_the_wire() -> None:
    assert wire_address(None) == bytes(16)
    assert wire_address(ip_address("1.2.3.4")) == bytes([1, 2, 3, 4]) + bytes(12)
    assert wire_address(ip_address("::1")) == bytes(15) + b"\1"


@pytest.mark.parametrize(
    ("fields", "flag"),
    [
        ({"output_key": 0}, TunnelFlag.OUTPUT_KEY),
        ({"input_key": 0}, TunnelFlag.INPUT_KEY),
        ({"output_checksum": True}, TunnelFlag.OUTPUT_CHECKSUM),
        ({"input_checksum": "require"}, TunnelFlag.INPUT_CHECKSUM_REQUIRED),
        ({"input_checksum": "refuse"}, TunnelFlag.INPUT_CHECKSUM_REFUSED),
        ({"output_sequence": True}, TunnelFlag.OUTPUT_SEQUENCE),
        ({"input_sequence": True}, TunnelFlag.INPUT_SEQUENCE),
        ({"ttl": None}, TunnelFlag.TTL_INHERIT),
    ],
)
def test_each_parameter_sets_its_flag_and_no_other(
    fields: dict[str, Any], flag: TunnelFlag
) -> None:
    plain = parameters(HERE, THERE).flags()
    assert parameters(HERE, THERE, **fields).flags() == plain | flag
    assert not plain & flag


def test_a_tunnel_without_remote_cannot_send() -> None:
    assert TunnelFlag.NO_REMOTE in parameters(HERE, None).flags()


def test_the_family_is_that_of_the_addresses() -> None:
    assert parameters("fd00::1", None).family == 6
    assert parameters(None, "fd00::1").family == 6
    assert parameters(None, None).family == 4


class TestRecords:
    def test_record_0_is_never_given_away(self) -> None:
        table = TunnelTable()
        assert [table.add(parameters(HERE, THERE)) for _ in range(3)] == [1, 2, 3]

    def test_a_freed_record_begins_anew(self) -> None:
        table = TunnelTable()
        index = table.add(parameters(HERE, THERE))
        table.count_drop(index, "tx", DropReason.NO_BUFS)
        table.workers[0].tx(index).output_next = 7
        table.workers[0].write_to(index, 5)
        table.remove(index)
        assert table.add(parameters(HERE, ELSEWHERE)) == index
        assert table.output_next(index) == 0
        assert Descriptor.from_buffer(table.workers[0].descriptors, index * 4).fd == -1
        assert table.record(index).path_mtu == NO_PATH_LIMIT
        assert table.counters(index).tx_drops == {}

    def test_what_only_receives_changes_nothing_that_it_delivers(self) -> None:
        assert TunnelFlag.CLAMP_MSS in parameters(HERE, THERE).flags()
        assert TunnelFlag.CLAMP_MSS in parameters(HERE, None, learn_peers=True).flags()
        assert TunnelFlag.CLAMP_MSS not in parameters(HERE, None).flags()
        assert TunnelFlag.CLAMP_MSS not in parameters(None, None).flags()

    def test_changed_parameters_keep_counters_sequence_and_device(self) -> None:
        table = TunnelTable()
        index = table.add(parameters(HERE, THERE))
        record, worker = table.record(index), table.workers[0]
        worker.tx(index).output_next, worker.rx(index).rx_packets = 7, 9
        table.set_flag(index, TunnelFlag.WRITE_TSO, to=True)
        table.set_flag(index, TunnelFlag.BLOCKED, to=True)
        table.configure(index, parameters(HERE, THERE, output_key=5, mtu=1300))
        assert (worker.tx(index).output_next, worker.rx(index).rx_packets) == (7, 9)
        assert record.output_key == 5
        flags = TunnelFlag(record.flags)
        assert TunnelFlag.WRITE_TSO in flags
        assert TunnelFlag.BLOCKED in flags
        assert TunnelFlag.OUTPUT_KEY in flags

    def test_counters_name_what_moved_and_nothing_else(self) -> None:
        table = TunnelTable()
        index = table.add(parameters(HERE, THERE))
        table.count_drop(index, "rx", DropReason.ECN_ERR)
        table.count_drop(index, "rx", DropReason.ECN_ERR)
        assert table.counters(index).rx_drops == {DropReason.ECN_ERR: 2}


class TestWorkers:
    """Another worker is another place to count in."""

    def test_counts_are_sums(self) -> None:
        table = TunnelTable(workers=3)
        index = table.add(parameters(HERE, THERE))
        for number, worker in enumerate(table.workers, start=1):
            worker.tx(index).tx_packets = worker.rx(index).rx_packets = number
            worker.rx(index).rx_drops[DropReason.ECN_ERR] = number
        table.count_drop(index, "tx", DropReason.NO_BUFS)
        counters = table.counters(index)
        assert (counters.tx_packets, counters.rx_packets) == (6, 6)
        assert counters.rx_drops == {DropReason.ECN_ERR: 6}
        assert counters.tx_drops == {DropReason.NO_BUFS: 1}
        assert table.traffic(index) == (6, 6)
        table.workers[2].tx(index).output_next = 9
        assert table.output_next(index) == 9

    def test_each_begins_a_freed_record_anew(self) -> None:
        table = TunnelTable(workers=2)
        index = table.add(parameters(HERE, THERE))
        for worker in table.workers:
            worker.tx(index).tx_packets = worker.rx(index).rx_lost = 5
        table.remove(index)
        assert table.add(parameters(HERE, THERE)) == index
        assert table.counters(index).tx_packets == table.counters(index).rx_lost == 0

    def test_each_writes_to_its_own_descriptor_and_keeps_its_own_numbers(self, codec: Any) -> None:
        table = TunnelTable(workers=2)
        index = table.add(parameters(HERE, THERE, input_sequence=True))
        header = GreHeader(protocol_type=0x0800, sequence=7).pack()
        inner = Packet().ip(b"x")
        for descriptor, worker in zip((8, 9), table.workers, strict=True):
            worker.write_to(index, descriptor)
            bench = Ingress([outer(header + inner)] * 2)
            bench.lookup = bytearray(table.lookup)
            bench.tables.records = bytearray(table.memory[: 4 * ctypes.sizeof(TunnelRecord)])
            bench.tables.rx_states = cast("bytearray", worker.rx_states)
            bench.tables.descriptors = cast("bytearray", worker.descriptors)
            assert bench.run(codec) == (1, 1)
            assert bench.tun_write_row(0).fd == descriptor
            assert worker.rx(index).input_next == 8
        counters = table.counters(index)
        assert (counters.rx_packets, counters.rx_drops) == (2, {DropReason.OUT_OF_SEQ: 2})


class TestLookup:
    """Both twins look up in the table as it is after each change."""

    def found(self, codec: Any, table: TunnelTable, key: int | None = None) -> tuple[int, str]:
        """Return the tunnel of a packet from THERE to HERE, and the verdict."""
        header = GreHeader(protocol_type=0x0800, key=key).pack()
        bench = Ingress([outer(header + bytes(20))])
        bench.tables = Tables(Tunnel() for _ in range(1023))
        bench.tables.records = bytearray(table.memory[: 1024 * ctypes.sizeof(TunnelRecord)])
        bench.lookup = bytearray(table.lookup)
        bench.run(codec)
        return bench.entries[0].tunnel, bench.verdicts[0].name

    def test_tunnels_over_another_transport_are_others(self, codec: Any) -> None:
        receivers = Receivers()
        for index, transport in enumerate(Transport, start=1):
            ends = SimpleNamespace(
                local=ip_address(HERE),
                remote=ip_address(THERE),
                input_key=None,
                family=4,
                transport=transport,
            )
            receivers.put(index, ends)
        header = GreHeader(protocol_type=0x0800).pack()
        bench = Ingress([outer(header + bytes(20))] * 2, [Tunnel(), Tunnel()])
        bench.lookup = bytearray(receivers.memory)
        rows(bench.received, Received)[1].transport = Transport.UDP
        bench.run(codec)
        assert [entry.tunnel for entry in bench.entries] == [1, 2]

    @pytest.mark.parametrize(
        ("tunnels", "winner"),
        [
            ([(None, None), (HERE, None), (None, THERE), (HERE, THERE)], 4),
            ([(None, None), (HERE, None), (None, THERE)], 3),
            ([(None, None), (HERE, None)], 2),
            ([(None, None)], 1),
            ([(HERE, THERE), (None, THERE), (HERE, None), (None, None)], 1),
            ([(HERE, ELSEWHERE), (None, None)], 2),
        ],
    )
    def test_the_more_specific_tunnel_wins_in_the_kernels_order(
        self, codec: Any, tunnels: list[tuple[str | None, str | None]], winner: int
    ) -> None:
        table = TunnelTable()
        for local, remote in tunnels:
            table.add(parameters(local, remote))
        assert self.found(codec, table)[0] == winner

    def test_the_key_is_part_of_the_address(self, codec: Any) -> None:
        table = TunnelTable()
        for key in (None, 0, 1, 0xFFFFFFFF):
            table.add(parameters(HERE, THERE, input_key=key))
        found = [self.found(codec, table, key)[0] for key in (None, 0, 1, 0xFFFFFFFF)]
        assert found == [1, 2, 3, 4]

    def test_a_wrong_key_is_told_from_no_tunnel(self, codec: Any) -> None:
        table = TunnelTable()
        table.add(parameters(HERE, THERE, input_key=24))
        assert self.found(codec, table, 42) == (1, "KEY_MISMATCH")
        assert self.found(codec, table) == (1, "KEY_MISMATCH")
        table.remove(1)
        assert self.found(codec, table, 42) == (0, "NO_TUNNEL")

    @pytest.mark.parametrize("key", [None, 0, 42])
    @pytest.mark.parametrize(
        ("local", "remote"), [(HERE, THERE), (None, THERE), (HERE, None), (None, None)]
    )
    def test_a_key_that_somebody_else_has_is_theirs(
        self, codec: Any, key: int | None, local: str | None, remote: str | None
    ) -> None:
        table = TunnelTable()
        table.add(parameters(HERE, THERE, input_key=24))
        near, far = (None if end is None else ip_address(end) for end in (local, remote))
        theirs = Taken(4, near, far, key)
        table.others_take([theirs, Taken(4, None, ip_address(ELSEWHERE), 7)])
        assert self.found(codec, table, key) == (0, "FOREIGN")
        assert self.found(codec, table, 7) == (1, "KEY_MISMATCH")
        assert self.found(codec, table, 24) == (1, "BAD_INNER"), "ours is ours"
        table.others_take([Taken(6, None, None, key)])
        assert self.found(codec, table, key) == (1, "KEY_MISMATCH")
        table.others_take([theirs])
        assert self.found(codec, table, key) == (0, "FOREIGN")

    def test_what_somebody_else_takes_is_ours_where_a_tunnel_has_it(self, codec: Any) -> None:
        table = TunnelTable()
        table.others_take([Taken(4, ip_address(HERE), ip_address(THERE), 7)])
        assert self.found(codec, table, 7) == (0, "NO_TUNNEL"), "told by whoever knows of them"
        table.add(parameters(None, None, input_key=7))
        assert self.found(codec, table, 7) == (1, "BAD_INNER")

    def test_a_thousand_tunnels_are_each_found(self, codec: Any) -> None:
        table = TunnelTable()
        for key in range(1000):
            table.add(parameters(HERE, THERE, input_key=key))
        assert all(self.found(codec, table, key)[0] == key + 1 for key in range(0, 1000, 37))

    def test_of_two_that_fit_alike_the_first_stands_and_the_second_follows(
        self, codec: Any
    ) -> None:
        table = TunnelTable()
        first, second = (table.add(parameters(HERE, THERE)) for _ in range(2))
        assert self.found(codec, table)[0] == first
        table.remove(first)
        assert self.found(codec, table)[0] == second
        table.remove(second)
        assert self.found(codec, table)[0] == 0

    def test_a_tunnel_that_changes_is_found_as_it_is_now(self, codec: Any) -> None:
        table = TunnelTable()
        index = table.add(parameters(HERE, THERE, input_key=1))
        table.configure(index, parameters(None, THERE, input_key=2))
        assert self.found(codec, table, 1) == (1, "KEY_MISMATCH")
        assert self.found(codec, table, 2)[0] == 1
        table.configure(index, parameters(HERE, ELSEWHERE, input_key=2))
        assert self.found(codec, table, 2) == (0, "NO_TUNNEL")

    def test_one_of_a_thousand_that_goes_leaves_the_others_where_they_are(self, codec: Any) -> None:
        table = TunnelTable()
        for key in range(1000):
            table.add(parameters(HERE, THERE, input_key=key))
        for key in range(0, 1000, 3):
            table.remove(key + 1)
        for key in range(0, 1000, 37):
            expected = "KEY_MISMATCH" if key % 3 == 0 else "BAD_INNER"
            tunnel, verdict = self.found(codec, table, key)
            assert verdict == expected
            assert expected == "KEY_MISMATCH" or tunnel == key + 1


def test_sequence_numbers_go_on_in_another_table() -> None:
    before, after = TunnelTable(), TunnelTable()
    one = before.add(parameters(HERE, THERE))
    two = after.add(parameters(HERE, THERE))
    before.workers[0].tx(one).output_next = 7
    before.workers[0].rx(one).input_next, before.workers[0].rx(one).input_seen = 9, 1
    after.resume(two, before.sequence(one))
    assert after.sequence(two) == before.sequence(one)
    assert after.output_next(two) == 7
    after.resume(two, (8, None))
    assert after.output_next(two) == 8
    with pytest.raises(ValueError, match="shorter"):
        after.resume(two, (0, [1]))


def test_a_port_is_said_where_there_is_one() -> None:
    """Raw sockets of IPv6 take a port for a protocol number, and refuse another than theirs."""
    plain = TunnelParameters(family=6, local=None, remote=None, remote_port=4754)
    assert plain.destination_port == 0
    assert replace(plain, transport=Transport.UDP).destination_port == 4754
