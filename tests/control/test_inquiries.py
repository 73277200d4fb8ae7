"""Other ends that are asked whether packets get there, where errors deny it, among fakes."""

from ipaddress import ip_address

from gred.control.tunnel import Tunnel, TunnelState
from gred.dataplane.plane import UnderlayError
from gred.dataplane.traffic import Traffic
from gred.wire.icmp import ErrorKind
from gred.wire.keepalive import read_request
from tests.control.fakes import REMOTE, House, tunnel
from tests.control.test_keepalives import arrive, house, on_a_loop
from tests.waiting import until

STRANGER, THERE = ip_address("203.0.113.9"), ip_address(REMOTE)
FORGED = UnderlayError("t1", ErrorKind.PROHIBITED, STRANGER)


def receive(made: House, packets: int) -> None:
    """Let *packets* more arrive."""
    attachment = made.plane.attachment("t1")
    sent, received = attachment.moved
    attachment.moved = Traffic(sent + packets, received + packets)


def doubts(one: Tunnel) -> bool:
    """Tell whether an error about *one* may be true."""
    return one.refusal.is_open


@on_a_loop
async def test_an_answer_proves_an_error_wrong() -> None:
    async with house(tunnel("t1")) as made:
        one, attachment = made.daemon.tunnels["t1"], made.plane.attachment("t1")
        receive(made, 1)
        made.plane.report(FORGED)
        assert doubts(one)
        receive(made, 1)
        await until(lambda: bool(attachment.injected))
        ((_protocol, packet, remote),) = attachment.injected
        assert remote == THERE
        request = read_request(packet)
        assert request is not None
        arrive(made, request.answer, STRANGER)
        assert doubts(one), "whose answer is that?"
        arrive(made, request.answer, THERE)
        assert not doubts(one)
        assert one.state is TunnelState.UP


@on_a_loop
async def test_an_old_answer_proves_nothing() -> None:
    async with house(tunnel("t1")) as made:
        one = made.daemon.tunnels["t1"]
        receive(made, 1)
        made.plane.report(FORGED)
        arrive(made, bytes(36), THERE)
        assert doubts(one)


@on_a_loop
async def test_where_nothing_arrives_nobody_is_asked() -> None:
    async with house(tunnel("t1")) as made:
        attachment = made.plane.attachment("t1")
        made.plane.report(FORGED)
        await until(lambda: made.daemon.tunnels["t1"].state is TunnelState.REFUSED)
        assert attachment.injected == []
