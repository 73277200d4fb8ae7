"""AllowedSources= between two hosts: who sends as somebody else is not heard, and named."""

from gred.lab.hosts import Host
from gred.lab.traffic import ping
from tests.netns.daemons import Daemons, drops, events, wait_for_event
from tests.netns.test_reload import config, configuration, reload

ALLOWED = "AllowedSources=10.7.2.0/24, fd07::/64"


def test_who_sends_as_somebody_else_is_not_heard(
    hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    one, other = hosts
    near = daemons.start(one, config(0, ALLOWED))
    daemons.start(other, config(1))
    assert ping(other, "10.7.2.1").received == 3
    other.ip("address", "add", "10.66.0.9/32", "dev", "t2")
    one.ip("route", "add", "10.66.0.9/32", "dev", "t2")
    assert ping(other, "10.7.2.1", source="10.66.0.9").received == 0
    refused = wait_for_event(near, "packet_refused", tunnel="t2", reason="spoofed")
    assert refused["detail"] == "from 10.66.0.9"
    assert ping(other, "10.7.2.1").received == 3
    # It changes while packets pass.
    reload(near, configuration(daemons, one), config(0, f"{ALLOWED}, 10.66.0.0/16"))
    assert ping(other, "10.7.2.1", source="10.66.0.9").received == 3
    near.stop()
    assert drops(near)["t2", "rx_spoofed"] >= 3


def test_an_end_that_is_only_refused_is_a_mismatch(
    hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    one, other = hosts
    near = daemons.start(one, config(0, "AllowedSources=192.0.2.0/24"))
    daemons.start(other, config(1))
    assert ping(other, "10.7.2.1").received == 0
    event = wait_for_event(near, "tunnel_mismatch", tunnel="t2")
    assert "which AllowedSources= does not have" in event["detail"]
    assert [one["event"] for one in events(near) if one["event"] == "tunnel_mismatch"]
