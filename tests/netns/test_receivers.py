"""Two that take GRE in one network namespace."""

from gred.lab.daemon import Daemon
from gred.lab.hosts import Host
from gred.lab.traffic import ping
from tests.netns.conftest import LEFT, RIGHT
from tests.netns.daemons import (
    ENVIRONMENT,
    Daemons,
    drops,
    events,
    wait_for,
    wait_for_event,
)

ENDS = f"Local={LEFT[0]}\nRemote={RIGHT[0]}\n"
FAR = f"[Tunnel t]\nLocal={RIGHT[0]}\nRemote={LEFT[0]}\nAddress=10.9.1.2/24\n"


def test_of_two_with_one_pair_the_second_waits_until_the_first_goes(
    hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    left, right = hosts
    daemons.start(right, FAR)
    first = daemons.start(left, f"[Tunnel t]\n{ENDS}Address=10.9.1.1/24\n")
    second = daemons.start(left, f"[Tunnel u]\n{ENDS}Address=10.9.1.9/24\n")
    held = wait_for_event(second, "tunnel_twin", tunnel="u")["detail"]
    assert f"another gred (process {first.pid}" in held
    assert "[Tunnel t])" in held
    assert wait_for_event(second, "other_receiver", level="warning")
    assert ping(left, "10.9.1.2").received == 3
    assert left.statistics("u")["rx_packets"] == 0, "nothing arrives twice"
    assert first.stop() == 0
    wait_for_event(second, "tunnel_up", tunnel="u")
    assert wait_for_event(second, "other_receiver_gone")


def test_of_two_with_one_pair_that_start_at_one_moment_one_is_held_down(
    hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    """Neither finds the other at its first look."""
    left, right = hosts
    daemons.start(right, FAR)
    both = []
    for name in "tu":
        path = daemons.lab.directory() / f"{name}.conf"
        path.write_text(f"[Daemon]\nLogFormat=json\n[Tunnel {name}]\n{ENDS}Address=10.9.1.1/24\n")
        both.append(
            Daemon(daemons.lab, left, path, environment=ENVIRONMENT[daemons.implementation])
        )
    daemons.running += both
    for daemon in both:
        daemon.wait_ready()

    def held() -> list[str]:
        return [
            event["tunnel"]
            for daemon in both
            for event in events(daemon)
            if event["event"] == "tunnel_twin"
        ]

    (twin,) = wait_for(held, "tunnel_twin")
    before = left.statistics(twin)["rx_packets"]
    other = "t" if twin == "u" else "u"
    taken = left.statistics(other)["rx_packets"]
    ping(right, "10.9.1.1", timeout=0.2)  # the answer may leave through the one that is held
    wait_for(lambda: left.statistics(other)["rx_packets"] >= taken + 3, "three packets")
    assert left.statistics(twin)["rx_packets"] == before, "nothing arrives twice"
    assert held() == [twin]


def test_of_two_with_other_remotes_neither_calls_the_others_packets_an_error(
    hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    left, right = hosts
    left.address("192.0.2.31/24")
    try:
        daemons.start(
            right, FAR + (f"[Tunnel u]\nLocal={RIGHT[0]}\nRemote=192.0.2.31\nAddress=10.9.2.2/24\n")
        )
        first = daemons.start(left, f"[Tunnel t]\n{ENDS}Address=10.9.1.1/24\n")
        second = daemons.start(
            left, f"[Tunnel u]\nLocal=192.0.2.31\nRemote={RIGHT[0]}\nAddress=10.9.2.1/24\n"
        )
        wait_for_event(first, "other_receiver")
        wait_for_event(second, "other_receiver")
        for _ in range(5):
            assert ping(left, "10.9.1.2").received == ping(left, "10.9.2.2").received == 3
        for daemon in (first, second):
            assert daemon.stop() == 0
            assert not drops(daemon)
            assert "packet_refused" not in {event["event"] for event in events(daemon)}
            assert "tunnel_twin" not in {event["event"] for event in events(daemon)}
    finally:
        left.ip("addr", "del", "192.0.2.31/24", "dev", "under0")


def test_a_key_that_another_has_is_no_error_and_one_that_nobody_has_is(
    hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    left, right = hosts
    ends = f"Local={RIGHT[0]}\nRemote={LEFT[0]}\n"
    daemons.start(
        right,
        "".join(
            f"[Tunnel t{key}]\n{ends}Key={key}\nAddress=10.9.{key}.2/24\n" for key in (1, 2, 3)
        ),
    )
    daemons.start(left, f"[Tunnel t]\n{ENDS}Key=1\nAddress=10.9.1.1/24\n")
    # It finds the other, whose packets it gets, too, before it takes any.
    second = daemons.start(left, f"[Tunnel u]\n{ENDS}Key=2\nAddress=10.9.2.1/24\n")
    for _ in range(5):
        assert ping(left, "10.9.1.2").received == ping(left, "10.9.2.2").received == 3
    assert ping(right, "10.9.3.1", count=2, timeout=0.1).received == 0
    assert second.stop() == 0
    assert set(drops(second)) == {("u", "rx_key_mismatch")}
    assert drops(second)["u", "rx_key_mismatch"] < 15
    refused = [event for event in events(second) if event["event"] == "packet_refused"]
    assert {event["key"] for event in refused} <= {3}
