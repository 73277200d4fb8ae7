"""layout.h and layout.py say the same."""

import ctypes
import re
from pathlib import Path
from typing import Any

import pytest

import gred.dataplane
from gred.dataplane import layout, pure_codec
from gred.wire.drop import DropReason
from tests import require

HEADER = Path(gred.dataplane.__file__).parent / "native" / "layout.h"
STRUCTURES = [
    "TunnelRecord",
    "Frame",
    "Peer",
    "Datagram",
    "Destination",
    "Way",
    "Received",
    "Outgoing",
    "Piece",
]


def test_the_extension_measures_what_python_measures() -> None:
    require.extension()
    from gred.dataplane import _codec

    assert {name: pure_codec.LAYOUT[name] for name in _codec.LAYOUT} == _codec.LAYOUT


def test_every_field_is_measured() -> None:
    """A field that is only in layout.py would be compared with nothing."""
    require.extension()
    from gred.dataplane import _codec

    missing = pure_codec.LAYOUT.keys() - _codec.LAYOUT.keys()
    assert not {name for name in missing if "reserved" not in name}


def test_drop_reasons_have_one_order(codec: Any) -> None:
    assert len(codec.DROP_REASONS) > DropReason.EOIP
    assert list(codec.DROP_REASONS) == [
        DropReason(number).name for number in range(len(codec.DROP_REASONS))
    ]


def test_there_is_a_counter_for_every_reason() -> None:
    assert max(DropReason) < layout.DROP_COUNTERS


@pytest.mark.parametrize(
    ("kind", "prefix"), [(layout.TunnelFlag, ""), (layout.Stage, "STAGE_"), (layout.Kind, "KIND_")]
)
def test_names_and_numbers_are_those_of_layout_h(kind: Any, prefix: str) -> None:
    text = HEADER.read_text()
    for member in kind:
        found = re.search(rf"\b{prefix}{member.name} = (?:1u << )?(\d+)", text)
        assert found, f"{prefix}{member.name} is not in layout.h"
        number = int(found[1])
        assert member == (1 << number if kind is layout.TunnelFlag else number)


@pytest.mark.parametrize("name", STRUCTURES)
def test_structures_need_no_padding_at_their_end(name: str) -> None:
    """A table is an array: its stride is the sum of the fields."""
    structure = getattr(layout, name)
    assert ctypes.sizeof(structure) == sum(ctypes.sizeof(kind) for _, kind in structure._fields_)
