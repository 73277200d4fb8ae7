"""A receiver that does not keep up: nothing is lost uncounted, and nobody is blamed for long."""

import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gred.lab.daemon import Daemon
from gred.lab.hosts import Host
from tests.netns.conftest import LEFT, RIGHT
from tests.netns.daemons import Daemons, drops, events, wait_for, wait_for_event

BURST = 1_000  # datagrams at once
MOST = 50_000  # many more than a receive buffer holds
DATA = bytes(1000)
PAUSE = 0.05  # seconds between datagrams that only keep the tunnel busy


def section(host: Host, underlay: int) -> str:
    ends, own = ((LEFT, RIGHT), 1) if host.name == "left" else ((RIGHT, LEFT), 2)
    return (
        f"[Tunnel t]\nLocal={ends[0][underlay]}\nRemote={ends[1][underlay]}\n"
        f"Address=10.9.1.{own}/24\nOffload=no\n"
    )


def receivers(host: Host, underlay: int) -> list[list[str]]:
    """Return the rows of /proc/net/raw or raw6: queues in the fifth column, drops in the last."""
    table = Path("/proc/thread-self/net", ("raw", "raw6")[underlay])
    return [row.split() for row in host.inside(table.read_text).splitlines()[1:]]


def unread(host: Host, underlay: int) -> int:
    return sum(int(row[-1]) for row in receivers(host, underlay))


def is_drained(host: Host, underlay: int) -> bool:
    return all(row[4].endswith(":00000000") for row in receivers(host, underlay))


@contextmanager
def stopped(daemon: Daemon) -> Iterator[None]:
    daemon.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        daemon.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("underlay", [0, 1], ids=["ipv4", "ipv6"])
def test_what_a_stopped_receiver_misses_is_counted_and_refused_no_longer_than_it_lasts(
    hosts: tuple[Host, Host], daemons: Daemons, underlay: int
) -> None:
    left, right = hosts
    left.sysctl("net.ipv6.conf.default.disable_ipv6", "1")  # tunnels stay silent by themselves
    right.sysctl("net.ipv6.conf.default.disable_ipv6", "1")
    receiver = daemons.start(right, section(right, underlay))
    sender = daemons.start(left, section(left, underlay))
    before = unread(right, underlay)
    sent = 0

    def settled() -> bool:
        taken = left.statistics("t")
        return sent == taken["tx_packets"] + taken["tx_dropped"]

    with (
        right.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink,  # so that nothing comes back
        left.socket(socket.AF_INET, socket.SOCK_DGRAM) as source,
    ):
        sink.bind(("10.9.1.2", 9))

        def keep_busy() -> None:
            nonlocal sent
            source.sendto(DATA, ("10.9.1.2", 9))
            sent += 1
            time.sleep(PAUSE)

        def is_told(name: str, after: int) -> bool:
            keep_busy()
            return any(event["event"] == name for event in events(sender)[after:])

        with stopped(receiver):
            while unread(right, underlay) == before:
                assert sent < MOST, "the receive buffer does not fill"
                for _ in range(BURST):
                    source.sendto(DATA, ("10.9.1.2", 9))
                sent += BURST
                wait_for(settled, "the sender has read everything")
            seen = len(events(sender))
            if underlay == 0:  # IPv6 says nothing of a full buffer
                wait_for(lambda: is_told("tunnel_refused", 0), "the refusal", timeout=20.0)
        if underlay == 0:
            wait_for(lambda: is_told("tunnel_up", seen), "the end of the refusal", timeout=30.0)
    said = [event["event"] for event in events(sender) if event["event"].startswith("tunnel_")]
    assert said == (
        ["tunnel_up", "tunnel_refused", "tunnel_up"] if underlay == 0 else ["tunnel_up"]
    )
    wait_for(settled, "the sender has read everything")
    wait_for(lambda: is_drained(right, underlay), "the receiver has read everything")
    lost = unread(right, underlay) - before
    dropped = left.statistics("t")["tx_dropped"]
    arrived = sent - dropped - lost
    wait_for(lambda: right.statistics("t")["rx_packets"] == arrived, "nothing else is lost")
    assert sender.stop() == receiver.stop() == 0
    counted = drops(receiver)
    assert lost > 0
    assert counted == {(None, "rx_overrun"): lost}
    assert drops(sender) == {}
    told = [event for event in events(sender) if event["event"] == "interface_drops"]
    assert sum(event["tx_dropped"] for event in told) == dropped
    (line,) = [event for event in events(receiver) if event["event"] == "drops"][:1]
    assert line["level"] == "warning"
    assert "faster than gred read them" in line["detail"]


def test_what_the_queue_of_an_interface_loses_is_told(
    hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    """A sender that does not keep up with its own host."""
    left, _right = hosts
    sender = daemons.start(left, section(left, 0))
    with stopped(sender), left.socket(socket.AF_INET, socket.SOCK_DGRAM) as source:
        for _ in range(3000):
            source.sendto(b"x", ("10.9.1.2", 9))
    dropped = left.statistics("t")["tx_dropped"]
    assert dropped > 0
    wait_for(lambda: left.statistics("t")["tx_packets"] == 3000 - dropped, "gred has read the rest")
    assert sender.stop() == 0, sender.log()
    assert wait_for_event(sender, "interface_drops", tunnel="t")["tx_dropped"] == dropped
