"""Tunnel records and the look-up table, asked as the codec asks it."""

import ctypes
from ipaddress import ip_address
from typing import Any

import pytest

from gred.dataplane.layout import TunnelFlag, TunnelRecord
from gred.dataplane.receivers import wire_address
from gred.dataplane.tunnels import NO_PATH_LIMIT, TunnelParameters, TunnelTable
from gred.wire.drop import DropReason
from gred.wire.gre import GreHeader
from tests.dataplane.benches import Ingress, outer

HERE, THERE, ELSEWHERE = "192.168.1.10", "192.168.1.13", "192.168.1.99"


def parameters(local: str | None, remote: str | None, **fields: Any) -> TunnelParameters:
    return TunnelParameters(
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
        table.record(index).output_next = 7
        table.remove(index)
        assert table.add(parameters(HERE, ELSEWHERE)) == index
        record = table.record(index)
        assert (record.output_next, record.fd, record.path_mtu) == (0, -1, NO_PATH_LIMIT)
        assert table.counters(index).tx_drops == {}

    def test_what_only_receives_changes_nothing_that_it_delivers(self) -> None:
        assert TunnelFlag.CLAMP_MSS in parameters(HERE, THERE).flags()
        assert TunnelFlag.CLAMP_MSS in parameters(HERE, None, learn_peers=True).flags()
        assert TunnelFlag.CLAMP_MSS not in parameters(HERE, None).flags()
        assert TunnelFlag.CLAMP_MSS not in parameters(None, None).flags()

    def test_changed_parameters_keep_counters_sequence_and_device(self) -> None:
        table = TunnelTable()
        index = table.add(parameters(HERE, THERE))
        record = table.record(index)
        record.output_next, record.rx_packets = 7, 9
        table.set_flag(index, TunnelFlag.WRITE_TSO, to=True)
        table.set_flag(index, TunnelFlag.BLOCKED, to=True)
        table.configure(index, parameters(HERE, THERE, output_key=5, mtu=1300))
        assert (record.output_next, record.rx_packets, record.output_key) == (7, 9, 5)
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


class TestLookup:
    """Both twins look up in the table as it is after each change."""

    def found(self, codec: Any, table: TunnelTable, key: int | None = None) -> tuple[int, str]:
        """Return the tunnel of a packet from THERE to HERE, and the verdict."""
        header = GreHeader(protocol_type=0x0800, key=key).pack()
        bench = Ingress([outer(header + bytes(20))])
        bench.tunnels = bytearray(table.memory[: 1024 * ctypes.sizeof(TunnelRecord)])
        bench.lookup = bytearray(table.lookup)
        bench.run(codec)
        return bench.entries[0].tunnel, bench.verdicts[0].name

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
