"""The slow path: what it has sent itself and fails again is counted, and that is all."""

import errno
from typing import Any

import pytest

from gred.dataplane import io
from gred.dataplane.attachment import Attachment
from gred.dataplane.icmp_errors import UnderlayError
from gred.wire.drop import DropReason
from tests.dataplane.packets import Udp, pattern
from tests.dataplane.test_plane import LEFT, RIGHT, Bench, Play, play
from tests.waiting import until

__all__ = ["play"]

BIG = Udp(payload=pattern(1372), identification=9).build()
SMALL6 = Udp(version=6, payload=pattern(1200)).build()
FIELDS: dict[str, Any] = {"output_sequence": True}


class Path:
    """Refuses every datagram for its size, and carries less each time it is asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *mtus: int) -> None:
        self.mtus = list(mtus)
        self.tried = 0
        monkeypatch.setattr(io, "send_datagrams", self.send_datagrams)
        monkeypatch.setattr(Attachment, "kernel_mtu", self.kernel_mtu)

    def send_datagrams(self, *_: object) -> tuple[int, int]:
        self.tried += 1
        return 0, errno.EMSGSIZE

    def kernel_mtu(self, _remote: object, _now: float) -> int:
        return self.mtus.pop(0) if len(self.mtus) > 1 else self.mtus[0]


def test_a_fragment_that_is_refused_again_is_counted_and_not_helped_again(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(bench: Bench) -> None:
        left, attachment = bench.tunnel(LEFT, RIGHT, **FIELDS)
        path = Path(monkeypatch, 1000, 500)
        left.far.send(BIG)
        await until(lambda: attachment.counters().tx_drops)
        counters = attachment.counters()
        assert path.tried == 1 + 2, "the packet, and each of its two fragments once"
        assert counters.tx_drops == {DropReason.TOO_BIG: 2}
        assert (counters.tx_packets, counters.tx_bytes) == (0, 0)
        told = [report for report in bench.reports if isinstance(report, UnderlayError)]
        assert [(one.tunnel, one.mtu) for one in told] == [("gre0", 500)]

    play(scenario)


def test_a_fragment_of_what_the_codec_refused_has_had_its_help(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(bench: Bench) -> None:
        left, attachment = bench.tunnel(LEFT, RIGHT, path_mtu=1000, **FIELDS)
        path = Path(monkeypatch, 500)
        left.far.send(BIG)
        await until(lambda: attachment.counters().tx_drops)
        counters = attachment.counters()
        assert path.tried == 2
        assert counters.tx_drops == {DropReason.TOO_BIG: 2}
        assert (counters.tx_packets, counters.tx_bytes) == (0, 0)

    play(scenario)


@pytest.mark.parametrize(("fields", "tries"), [({}, 2), ({"path_mtu": 1000}, 1)])
def test_what_is_sent_whole_and_refused_again_is_counted(
    play: Play, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], tries: int
) -> None:
    async def scenario(bench: Bench) -> None:
        left, attachment = bench.tunnel(LEFT, RIGHT, **fields)
        path = Path(monkeypatch, 1000, 500)
        left.far.send(SMALL6)
        await until(lambda: attachment.counters().tx_drops)
        counters = attachment.counters()
        assert path.tried == tries
        assert counters.tx_drops == {DropReason.TOO_BIG: 1}
        assert (counters.tx_packets, counters.tx_bytes) == (0, 0)

    play(scenario)
