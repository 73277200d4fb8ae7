"""The twins agree in every byte of every buffer, whatever they are given."""

from types import ModuleType
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gred.dataplane import pure_codec
from gred.dataplane.layout import TunnelFlag
from gred.wire.gre import GreHeader
from gred.wire.vnet import VnetHeader
from tests import require
from tests.dataplane.benches import Egress, Ingress, make_record, outer
from tests.dataplane.chance import Chance
from tests.dataplane.packets import pattern

thorough = settings(max_examples=1500, deadline=None, database=None)
chances = st.randoms(use_true_random=True).map(Chance)


@pytest.fixture(scope="module")
def native() -> ModuleType:
    require.extension()
    from gred.dataplane import _codec

    return _codec


def compare_egress(native: ModuleType, options: dict[str, Any]) -> None:
    ours, theirs = Egress(**options), Egress(**options)
    first = 0
    for _ in range(4):  # a stop and going on again are compared too
        found = ours.run(pure_codec, first)
        assert theirs.run(native, first) == found
        assert theirs.memory == ours.memory
        first = found[1]


def compare_ingress(native: ModuleType, options: dict[str, Any]) -> None:
    ours, theirs = Ingress(**options), Ingress(**options)
    assert theirs.run(native) == ours.run(pure_codec)
    assert theirs.memory == ours.memory


@thorough
@given(chance=chances)
def test_encapsulate_agrees(native: ModuleType, chance: Chance) -> None:
    compare_egress(native, chance.egress())


@thorough
@given(chance=chances)
def test_decapsulate_agrees(native: ModuleType, chance: Chance) -> None:
    compare_ingress(native, chance.ingress())


@thorough
@given(chance=chances)
def test_coalescing_agrees(native: ModuleType, chance: Chance) -> None:
    compare_ingress(native, chance.coalescing())


@pytest.mark.parametrize("length", range(301))
def test_encapsulate_agrees_at_every_length(native: ModuleType, length: int) -> None:
    flags = TunnelFlag.OUTPUT_CHECKSUM | TunnelFlag.ETHERNET
    for skew in range(0, 8, 3):
        record = make_record(flags=flags, vnet_header=10)
        frame = VnetHeader(1, 0, 0, 0, length // 2, 0), pattern(length, seed=length)
        compare_egress(native, {"frames": [frame], "record": record, "skew": skew})


@pytest.mark.parametrize("length", range(301))
def test_decapsulate_agrees_at_every_length(native: ModuleType, length: int) -> None:
    for skew in range(0, 8, 3):
        datagram = outer(GreHeader(protocol_type=0x6558, checksum=0).build(pattern(length)))
        record = make_record(flags=TunnelFlag.ETHERNET | TunnelFlag.WRITE_TSO, vnet_header=10)
        compare_ingress(native, {"datagrams": [datagram], "records": [record], "skew": skew})


@pytest.mark.parametrize("flag", [TunnelFlag.BLOCKED, TunnelFlag.NO_REMOTE])
def test_encapsulate_agrees_when_sending_is_stopped(native: ModuleType, flag: TunnelFlag) -> None:
    compare_egress(native, {"frames": [b"", b"\x45"], "record": make_record(flags=flag)})


@thorough
@given(data=st.binary(max_size=400), skew=st.integers(0, 15))
@example(data=b"\xff" * 400, skew=1)
@example(data=b"\0" * 7, skew=0)
def test_checksums_agree(native: ModuleType, data: bytes, skew: int) -> None:
    view = memoryview(bytes(skew) + data)[skew:]
    assert native.checksum(view) == pure_codec.checksum(view)


@pytest.mark.parametrize("length", range(301))
def test_checksums_agree_at_every_length_and_alignment(native: ModuleType, length: int) -> None:
    for skew in range(8):
        view = memoryview(bytes(skew) + pattern(length, seed=skew))[skew:]
        assert native.checksum(view) == pure_codec.checksum(view)
