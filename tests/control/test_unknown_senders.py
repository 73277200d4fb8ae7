"""Who sends what no tunnel takes, and which tunnel that is nearest to."""

from dataclasses import replace
from ipaddress import ip_address, ip_network
from types import SimpleNamespace
from typing import Any

import pytest

from gred.config.model import TunnelConfig
from gred.control.unknown_senders import LIMIT, Nearest, UnknownSenders, members
from gred.dataplane.punt import Report
from gred.wire.drop import DropReason
from tests.control.fakes import LOCAL, OTHER_REMOTE, REMOTE, tunnel

IP, ETHERNET = 0x0800, 0x6558


def report(
    source: str = OTHER_REMOTE,
    *,
    destination: str = LOCAL,
    key: int | None = None,
    protocol: int | None = IP,
    reason: DropReason = DropReason.NO_TUNNEL,
    name: str | None = None,
) -> Report:
    return Report(
        tunnel=name,
        reason=reason,
        source=ip_address(source),
        destination=ip_address(destination),
        key=key,
        detail="flags 0x0000",
        protocol=protocol,
    )


def table(clock: list[float] | None = None) -> UnknownSenders:
    times = clock or [0.0]
    return UnknownSenders(lambda: times[0])


def nearest(told: Report, *configs: TunnelConfig, working: str = "") -> tuple[str, str] | None:
    unknown = table()
    unknown.take(told)
    (sender,) = unknown.senders()
    tunnels: Any = [
        SimpleNamespace(config=config, diagnosis=SimpleNamespace(is_quiet=config.name != working))
        for config in configs
    ]
    return Nearest(tunnels).tunnel(sender)


def test_packets_of_one_kind_are_counted_together() -> None:
    clock = [5.0]
    unknown = table(clock)
    unknown.take(report())
    clock[0] = 9.0
    unknown.take(report(key=7))
    unknown.take(report())
    first, second = unknown.senders()
    assert (first.key, first.count, first.first_seen, first.last_seen) == (None, 2, 5.0, 9.0)
    assert (second.key, second.count) == (7, 1)
    told = members(first, ("t1", "why"), 10.0)
    assert (told["first_seen"], told["last_seen"], told["nearest"]) == (5.0, 1.0, "t1")


def test_what_a_tunnel_took_and_refused_is_not_of_an_unknown_sender() -> None:
    unknown = table()
    unknown.take(report(name="t1", reason=DropReason.CSUM_ERR))
    unknown.take(replace(report(), source=None))
    assert unknown.senders() == []
    unknown.take(report(name="t1", reason=DropReason.KEY_MISMATCH))
    assert len(unknown.senders()) == 1


def test_invented_sources_do_not_drive_out_who_keeps_sending() -> None:
    unknown = table()
    for _ in range(2):
        unknown.take(report(REMOTE))
    for number in range(3 * LIMIT):
        unknown.take(report(f"198.51.{100 + number // 256}.{number % 256}"))
    found = unknown.senders()
    assert len(found) == LIMIT
    assert ip_address(REMOTE) in {one.source for one in found}


@pytest.mark.parametrize(
    ("told", "name", "words"),
    [
        (report(), "t1", f"it comes from {OTHER_REMOTE}, Remote={REMOTE}"),
        (report(REMOTE, key=7), "t1", "it has key 7, t1 takes no key"),
        (
            report(REMOTE, destination="192.0.2.77"),
            "t1",
            f"it is sent to 192.0.2.77, Local={LOCAL}",
        ),
        (replace(report(REMOTE), in_udp=True), "t1", "it comes in UDP, Transport=ip"),
        (report(REMOTE, key=7, protocol=ETHERNET), "t1", "it carries Ethernet, Mode=gre"),
        (report(REMOTE, reason=DropReason.BAD_VERSION, protocol=None), "t1", "bad_version"),
    ],
)
def test_the_nearest_tunnel_and_what_differs(told: Report, name: str, words: str) -> None:
    found = nearest(told, tunnel(), tunnel("t2", remote="192.0.2.50"))
    assert found is not None
    assert found[0] == name
    assert words in found[1]


def test_of_several_tunnels_to_one_remote_the_one_that_differs_least() -> None:
    keyed = replace(tunnel("t2"), input_key=7)
    found = nearest(report(REMOTE, key=7, destination="192.0.2.77"), tunnel(), keyed)
    assert found == ("t2", f"it is sent to 192.0.2.77, Local={LOCAL}")


def test_of_two_that_differ_alike_the_one_that_hears_nothing() -> None:
    both = replace(tunnel(), input_key=1), replace(tunnel("t2"), input_key=2)
    for working, meant in (("t1", "t2"), ("t2", "t1")):
        found = nearest(report(REMOTE, key=77), *both, working=working)
        assert found is not None
        assert found[0] == meant


def test_a_key_that_many_tunnels_have_says_nothing() -> None:
    assert nearest(report(), tunnel(), replace(tunnel("t2"), input_key=None)) is None
    assert nearest(report(key=99), tunnel()) is None


def test_a_remote_of_many_is_one_of_its_tunnel() -> None:
    hub = replace(
        tunnel(remote=None), peers=((ip_network("10.1.0.0/16"), ip_address(OTHER_REMOTE)),)
    )
    found = nearest(report(key=7), hub, tunnel("t2"))
    assert found == ("t1", "it has key 7, t1 takes no key")
