"""What is learned of a batch, and what is told of it; among fakes, with a clock of its own."""

from dataclasses import dataclass, field
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any

import pytest

from gred.dataplane.attachment import CLAIMS_PER_SECOND
from gred.dataplane.batch import Arrivals, table
from gred.dataplane.layout import Destination, TunnelFlag, TunnelRecord
from gred.dataplane.learning import (
    LESSONS_PER_SECOND,
    Learning,
    PeerClaimed,
    PeerLearned,
)
from gred.dataplane.peers import HOLD, PeerMap
from gred.dataplane.punt import Allowance
from tests.dataplane.packets import Udp

HOME, AWAY, THIRD = "192.0.2.2", "192.0.2.99", "192.0.2.77"
INNER = "10.9.9.9"
TUNNELS = 4
SIZE = len(bytes(TunnelRecord()))
STRIDE = 2048  # from packet to packet in the arena


@dataclass
class House:
    """Tunnels 1 to 3 that learn, and batches for them."""

    now: float = 1000.0
    told: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.batch = Arrivals()
        self.records = table(TunnelRecord, TUNNELS)
        self.attachments: dict[int, Any] = {}
        for index in range(1, TUNNELS):
            record = TunnelRecord.from_buffer(self.records, index * SIZE)
            record.flags = TunnelFlag.LEARNS
            self.attachments[index] = SimpleNamespace(
                index=index,
                peers=PeerMap([], Destination(family=4), learns=True),
                device=SimpleNamespace(name=f"hub{index}"),
                claims=Allowance(CLAIMS_PER_SECOND, 1.0),
            )
        clock: Any = SimpleNamespace(time=lambda: self.now)
        self.learning = Learning(clock, self.attachments, self.told.append)

    def hear(self, *packets: tuple[str, str], tunnel: int = 1) -> None:
        """Let packets of (inner source, outer source) arrive in one batch."""
        for index, (inner, outer) in enumerate(packets):
            entry = self.batch.datagram(index)
            packet = Udp(source=ip_address(inner).packed).build()
            at = index * STRIDE
            self.batch.arena[at : at + len(packet)] = packet
            entry.tunnel, entry.family = tunnel, 4
            entry.inner_offset, entry.inner_length = at, len(packet)
            entry.source[:4] = ip_address(outer).packed
        self.learning.learn(self.batch, len(packets), self.records)

    def remote(self, tunnel: int = 1) -> str | None:
        found = self.attachments[tunnel].peers.learned(ip_address(INNER).packed)
        return None if found is None else str(ip_address(found))


def learned(remote: str, before: str | None = None) -> PeerLearned:
    known = None if before is None else ip_address(before)
    return PeerLearned("hub1", ip_address(INNER), ip_address(remote), known)


def test_an_address_is_learned_once_and_told() -> None:
    house = House()
    house.hear((INNER, HOME), (INNER, HOME))
    house.hear((INNER, HOME))
    assert house.told == [learned(HOME)]
    assert house.remote() == HOME


def test_one_packet_moves_nothing_and_the_claim_is_told_now_and_then() -> None:
    house = House()
    house.hear((INNER, HOME))
    house.hear((INNER, HOME), (INNER, AWAY))
    house.hear((INNER, THIRD))
    claim = PeerClaimed("hub1", ip_address(INNER), ip_address(HOME), ip_address(AWAY))
    assert house.told == [learned(HOME), claim]
    house.now += HOLD - 1
    house.hear((INNER, THIRD))
    assert house.told[2:] == [
        PeerClaimed("hub1", ip_address(INNER), ip_address(HOME), ip_address(THIRD))
    ]
    assert house.remote() == HOME


def test_who_was_silent_is_found_elsewhere_and_that_is_told() -> None:
    house = House()
    house.hear((INNER, HOME))
    house.now += HOLD - 1
    house.hear((INNER, HOME))
    house.now += HOLD - 1
    house.hear((INNER, AWAY))
    assert house.remote() == HOME
    house.now += 1
    house.hear((INNER, AWAY))
    assert house.remote() == AWAY
    assert house.told[-1] == learned(AWAY, before=HOME)


def test_what_one_tunnel_learns_is_not_the_others() -> None:
    house = House()
    house.hear((INNER, HOME), tunnel=2)
    assert [house.remote(tunnel) for tunnel in (1, 2, 3)] == [None, HOME, None]


def test_a_flood_of_sources_is_learned_from_no_faster_than_that() -> None:
    house = House()
    for start in range(0, 3 * int(LESSONS_PER_SECOND), 100):
        house.hear(*((str(ip_address(0x0A000001 + start + number)), HOME) for number in range(100)))
    assert len(house.told) == LESSONS_PER_SECOND


def test_tunnels_that_are_not_in_the_batch_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House()
    asked: list[int] = []
    monkeypatch.setattr(house.learning, "_teach", lambda one, *_: asked.append(one.index))
    house.hear((INNER, HOME), (INNER, HOME), tunnel=3)
    assert asked == [3]
