"""What becomes of what a tunnel delivers, and what reaches a host: asked of a real kernel."""

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address

import pytest

from gred.control.kernel.echoes import received_echoes
from gred.control.kernel.netlink import Netlink
from gred.control.kernel.sniffer import is_kept_away
from gred.lab.hosts import Host
from gred.lab.traffic import ping
from tests import require
from tests.dataplane.namespaces import in_new_namespace
from tests.netns.daemons import Daemons, events, wait_for_event
from tests.netns.once import implementation  # noqa: F401 - control alone
from tests.netns.test_reload import config
from tests.nft import nft

SETUP = (
    "ip link set lo up",
    "ip link add t1 type veth peer name t1p",
    "ip link set t1p up",
    "ip link set t1 up",
    "ip address add 10.7.0.1/24 dev t1",
    "ip address add fd07::1/64 dev t1 nodad",
    "ip link add d0 type veth peer name d0p",
    "ip link set d0p up",
    "ip link set d0 up",
    "ip address add 10.9.0.1/24 dev d0",
    "ip address add fd09::1/64 dev d0 nodad",
    "sysctl -qw net.ipv4.conf.all.rp_filter=0",
)


@pytest.mark.parametrize(
    ("source", "destination", "commands", "expected"),
    [
        ("10.7.0.2", "10.7.0.1", (), "here"),
        ("10.7.0.2", "10.9.0.7", (), "forwarding"),
        ("10.7.0.2", "10.9.0.7", ("sysctl -qw net.ipv4.ip_forward=1",), ""),
        ("10.7.0.1", "10.9.0.1", (), "own"),
        ("10.7.0.1", "10.9.0.7", (), "own"),
        ("fd07::1", "fd07::9", (), "own"),
        ("10.9.0.7", "10.7.0.1", ("sysctl -qw net.ipv4.conf.all.rp_filter=1",), "filtered"),
        ("10.9.0.7", "10.7.0.1", ("sysctl -qw net.ipv4.conf.all.rp_filter=2",), "elsewhere d0"),
        ("172.16.0.1", "10.7.0.1", (), "elsewhere"),
        ("10.7.0.2", "172.16.0.1", ("sysctl -qw net.ipv4.ip_forward=1",), "route"),
        ("fd07::2", "fd07::1", (), "here"),
        ("fd07::2", "fd09::7", (), "forwarding"),
        ("fd07::2", "fd09::7", ("sysctl -qw net.ipv6.conf.all.forwarding=1",), ""),
        ("fd07::2", "fd99::7", ("sysctl -qw net.ipv6.conf.all.forwarding=1",), "route"),
    ],
)
def test_the_kernel_says_what_it_does(
    source: str, destination: str, commands: tuple[str, ...], expected: str
) -> None:
    require.root()

    def ask() -> str:
        for command in (*SETUP, *commands):
            subprocess.run(command.split(), check=True)
        index = socket.if_nametoindex("t1")
        delivery = Netlink().delivery(index, ip_address(source), ip_address(destination), None)
        here = "here" if delivery.here else ""
        return " ".join(filter(None, (delivery.drop, delivery.way, here)))

    assert in_new_namespace(ask) == expected


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("filtered", [False, True])
def test_what_a_firewall_drops_is_known_from_what_others_get(
    hosts: tuple[Host, Host], version: int, *, filtered: bool
) -> None:
    """A packet socket sees it either way; a socket for protocol 47 only without the firewall."""
    one, other = hosts
    if filtered:
        chain = "add chain inet f i { type filter hook input priority 0; }"
        nft(one, "add table inet f", chain, "add rule inet f i meta l4proto gre drop")
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    remote = "192.0.2.2" if version == 4 else "2001:db8::2"
    local = "192.0.2.1" if version == 4 else "2001:db8::1"
    done = threading.Event()

    def send() -> None:
        with other.socket(family, socket.SOCK_RAW, socket.IPPROTO_GRE) as sender:
            while not done.wait(0.05):
                sender.sendto(bytes.fromhex("00000800") + bytes(20), (local, 0))

    sending = threading.Thread(target=send)
    sending.start()
    try:
        assert one.inside(lambda: is_kept_away(ip_address(remote), 10.0)) is filtered
        assert not one.inside(lambda: is_kept_away(ip_address("192.0.2.77"), 0.3))
        assert not one.inside(lambda: is_kept_away(ip_address("2001:db8::77"), 0.3))
        # What leaves is not taken for what comes.
        assert not other.inside(lambda: is_kept_away(ip_address(remote), 0.3))
    finally:
        done.set()
        sending.join()
        if filtered:
            nft(one, "delete table inet f")


@pytest.mark.parametrize("hook", ["input", "output"])
def test_pings_that_a_firewall_inside_swallows(
    hosts: tuple[Host, Host], daemons: Daemons, hook: str
) -> None:
    """Nothing is refused and nothing is counted: what is delivered is asked about."""
    one, other = hosts
    near = daemons.start(one, config(0))
    daemons.start(other, config(1))
    assert ping(other, "10.7.1.1").received == 3
    which = "iifname t1" if hook == "input" else "oifname t1"
    nft(
        one,
        "add table inet inside",
        f"add chain inet inside here {{ type filter hook {hook} priority 0; }}",
        f"add rule inet inside here {which} drop",
    )
    load = other.start(
        ["ping", "-q", "-i", "0.2", "-c", "500", "10.7.1.1"], stdout=subprocess.DEVNULL
    )
    try:
        event = wait_for_event(near, "tunnel_undelivered", tunnel="t1")
        assert "pings of 10.7.1.2 to 10.7.1.1 arrive and are delivered" in event["detail"]
        assert "a firewall of this host drops them behind t1" in event["detail"]
        before = len(events(near))
        nft(one, "delete table inet inside")
        wait_for_event(near, "tunnel_up", tunnel="t1", after=before)
    finally:
        load.terminate()
        load.wait(10)


SWALLOWED = "this host itself gets none of them"


@contextmanager
def pinging(hosts: tuple[Host, Host]) -> Iterator[None]:
    """Both hosts ping each other through the tunnel meanwhile."""
    loads = [
        host.start(["ping", "-q", "-i", "0.2", "-c", "900", there], stdout=subprocess.DEVNULL)
        for host, there in zip(hosts, ("10.7.1.2", "10.7.1.1"), strict=True)
    ]
    try:
        yield
    finally:
        for load in loads:
            load.terminate()
            load.wait(10)


def test_a_firewall_inside_is_seen_where_packets_leave_as_well(
    hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    one, other = hosts
    near = daemons.start(one, config(0))
    far = daemons.start(other, config(1))
    assert ping(other, "10.7.1.1").received == 3
    nft(
        one,
        "add table inet inside",
        "add chain inet inside here { type filter hook input priority 0; }",
        "add rule inet inside here iifname t1 drop",
    )
    with pinging(hosts):
        event = wait_for_event(near, "tunnel_undelivered", tunnel="t1")
        assert SWALLOWED in event["detail"]
        before = len(events(near))
        nft(one, "delete table inet inside")
        wait_for_event(near, "tunnel_up", tunnel="t1", after=before)
    # The other end, which the same was delivered to meanwhile, takes it.
    assert not any(SWALLOWED in str(event) for event in events(far))


@pytest.mark.parametrize("version", [4, 6])
def test_what_this_host_answers_is_counted(hosts: tuple[Host, Host], version: int) -> None:
    one, other = hosts
    there = "192.0.2.1" if version == 4 else "2001:db8::1"
    hearers = {"requests": one, "replies": other}
    before = {kind: host.inside(lambda: received_echoes(version)) for kind, host in hearers.items()}
    assert ping(other, there).received == 3
    for kind, host in hearers.items():
        after = host.inside(lambda: received_echoes(version))
        assert getattr(after, kind) == getattr(before[kind], kind) + 3


@pytest.mark.parametrize("family", ["ip", "inet"])
def test_what_is_sent_elsewhere_is_not_judged(hosts: tuple[Host, Host], family: str) -> None:
    one = hosts[0]
    nft(
        one,
        f"add table {family} elsewhere",
        f"add chain {family} elsewhere pre {{ type nat hook prerouting priority -100; }}",
    )
    try:
        assert one.inside(lambda: received_echoes(4)) is not None, "no rule"
        nft(one, f"add rule {family} elsewhere pre ip daddr 10.7.1.1 dnat to 10.9.0.9")
        assert one.inside(lambda: received_echoes(4)) is None
        is_seen = one.inside(lambda: received_echoes(6)) is not None
        assert is_seen is (family == "ip")
    finally:
        nft(one, f"delete table {family} elsewhere")
