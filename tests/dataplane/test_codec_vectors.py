"""Whole packets, frozen in vectors/*.json; they were written by scapy, not by gred.

A record names what differs from a plain IPv4 tunnel from 192.168.1.10 to 192.168.1.13; packets are
hexadecimal. ``datagram`` is what follows the outer header on egress, and the whole outer packet on
ingress. ``frame`` is null where ``verdict`` is a refusal.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from gred.dataplane.layout import TunnelFlag
from tests.dataplane.benches import LOCAL, Egress, Ingress, make_record

VECTORS = Path(__file__).parent / "vectors"


def load(name: str) -> list[Any]:
    cases = json.loads((VECTORS / f"{name}.json").read_text())
    return [pytest.param(case, id=case["name"]) for case in cases]


def record_of(fields: dict[str, Any]) -> Any:
    flags = TunnelFlag(0)
    for name in fields["flags"]:
        flags |= TunnelFlag[name]
    return make_record(**{"local": LOCAL, **fields, "flags": flags})


@pytest.mark.parametrize("case", load("encapsulate"))
def test_encapsulate(codec: Any, case: dict[str, Any]) -> None:
    bench = Egress([bytes.fromhex(case["frame"])], record_of(case["record"]))
    (sent,) = bench.all(codec)
    assert sent.data.hex() == case["datagram"]
    assert (sent.tos, sent.ttl) == (case["tos"], case["ttl"])
    assert sent.dont_fragment == case["dont_fragment"]


@pytest.mark.parametrize("case", load("decapsulate"))
def test_decapsulate(codec: Any, case: dict[str, Any]) -> None:
    bench = Ingress([bytes.fromhex(case["datagram"])], [record_of(case["record"])])
    frames = [frame.hex() for frame in bench.frames(codec)]
    assert bench.verdicts[0].name == case["verdict"]
    assert frames == ([case["frame"]] if case["frame"] else [])
