"""What is told of a packet that may be another receiver's."""

import asyncio
from ipaddress import ip_address

import pytest

from gred.control.neighbours import Neighbours
from gred.control.receivers import Others, Party
from gred.control.twins import Claim
from gred.dataplane.punt import Report
from gred.wire.drop import DropReason

HERE, THERE = ip_address("192.0.2.1"), ip_address("192.0.2.2")


def report(reason: DropReason, key: int | None = None) -> Report:
    return Report(
        tunnel=None, reason=reason, source=THERE, destination=HERE, key=key, detail="it came"
    )


@pytest.fixture
def neighbours() -> Neighbours:
    loop = asyncio.new_event_loop()
    loop.close()
    return Neighbours(
        loop, None, lambda _: None, changed=lambda: None, present=lambda _present, _what: None
    )


def test_without_others_every_refused_packet_is_what_it_is(neighbours: Neighbours) -> None:
    assert not neighbours.may_have(report(DropReason.NO_TUNNEL))
    assert not neighbours.may_have(report(DropReason.KEY_MISMATCH, 7))


def test_beside_others_one_of_no_tunnel_may_be_theirs(neighbours: Neighbours) -> None:
    neighbours.others = Others(versions=frozenset({4}))
    assert neighbours.may_have(report(DropReason.NO_TUNNEL))
    assert not neighbours.may_have(report(DropReason.CSUM_ERR)), "a damaged one is ours"
    neighbours.others = Others(versions=frozenset({6}))
    assert not neighbours.may_have(report(DropReason.NO_TUNNEL))


def test_what_the_data_plane_knows_to_be_theirs_is(neighbours: Neighbours) -> None:
    assert neighbours.may_have(report(DropReason.FOREIGN, 7))


@pytest.mark.parametrize("local", [HERE, None])
def test_a_wrong_key_is_anothers_only_if_that_one_has_it(
    neighbours: Neighbours, local: object
) -> None:
    """Else a mistake in a configuration would be told nowhere."""
    theirs = Claim(4, HERE if local else None, THERE, 7)
    party = Party(77, (1.0, "a"), (("x", theirs),))
    neighbours.others = Others(versions=frozenset({4}), parties=(party,))
    assert neighbours.may_have(report(DropReason.KEY_MISMATCH, 7))
    assert not neighbours.may_have(report(DropReason.KEY_MISMATCH, 8))
    assert not neighbours.may_have(report(DropReason.KEY_MISMATCH))
