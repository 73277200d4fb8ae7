"""GRE-in-UDP between two hosts: Transport=udp."""

import json
import socket
from contextlib import closing
from pathlib import Path

import pytest
from scapy.layers.inet import UDP
from scapy.layers.l2 import GRE, Ether

from gred.lab.hosts import Host
from gred.lab.traffic import ping, transfer
from gred.lab.waiting import wait_for
from tests.netns.capture import wire
from tests.netns.conftest import LEFT, RIGHT
from tests.netns.daemons import Daemons, drops, events, wait_for_event
from tests.netns.test_reload import configuration, reload
from tests.nft import nft

PORT = 4754
SIZE = 2_000_000


def config(here: int, options: str = "", *, version: int = 4) -> str:
    pick = 0 if version == 4 else 1
    near, far = (LEFT, RIGHT) if here == 0 else (RIGHT, LEFT)
    return (
        f"[Tunnel t1]\nTransport=udp\nLocal={near[pick]}\nRemote={far[pick]}\n"
        f"Address=10.7.1.{here + 1}/24\n{options}\n"
    )


OPTIONS = {
    "plain": ("", 4),
    "everything": ("Key=1\nChecksum=yes\nSerializeTunneledPackets=yes", 4),
    "gretap": ("Mode=gretap\nKey=7", 4),
    "IPv6": ("", 6),
    "gretap over IPv6": ("Mode=gretap\nChecksum=yes", 6),
    "without a checksum": ("UDPChecksum=no", 4),
    "without a checksum over IPv6": ("UDPChecksum=no", 6),
    "fragments": ("DiscoverPathMTU=no\nIgnoreDontFragment=yes\nMTUBytes=3000", 4),
    "one port": ("SourcePort=4754", 4),
    "one port over IPv6": ("SourcePort=4754", 6),
    "another port": ("Port=5000\nRemotePort=5000\nSourcePort=5001", 4),
    "no offload": ("Offload=no", 4),
    "a limit": ("EncapsulationLimit=4\nSourcePort=4754", 6),
    "a mark and a device": ("FirewallMark=7\nDevice=under0", 6),
    "a label": ("IPv6FlowLabel=0x12345", 6),
}


# What the kernel merges on its way in is the harder case.
UNMERGED = ("plain", "everything", "gretap over IPv6")


@pytest.mark.parametrize(
    ("options", "merged"),
    [*((options, "on") for options in OPTIONS), *((options, "off") for options in UNMERGED)],
)
def test_what_is_sent_arrives(
    hosts: tuple[Host, Host], daemons: Daemons, options: str, merged: str
) -> None:
    more, version = OPTIONS[options]
    one, other = hosts
    for host in hosts:
        assert host.start(["ethtool", "-K", "under0", "gro", merged]).wait(10) == 0
    near = daemons.start(one, config(0, more, version=version))
    far = daemons.start(other, config(1, more, version=version))
    assert ping(one, "10.7.1.2").received == 3
    assert ping(other, "10.7.1.1", size=1200).received == 3
    assert transfer(one, other, "10.7.1.2", size=SIZE).intact
    assert transfer(other, one, "10.7.1.1", size=SIZE).intact
    near.stop()
    far.stop()
    assert not {reason for _tunnel, reason in drops(near)} - {"rx_no_tunnel"}


def test_tunnels_share_the_port(hosts: tuple[Host, Host], daemons: Daemons) -> None:
    """Beside one of protocol 47 with the same ends and the same key."""
    one, other = hosts

    def both(here: int) -> str:
        ends = config(here)
        more = ends.replace("t1", "t2").replace("10.7.1", "10.7.2") + "Key=9\n"
        plain = more.replace("t2", "t3").replace("10.7.2", "10.7.3").replace("udp", "ip")
        return ends + more + plain

    daemons.start(one, both(0))
    daemons.start(other, both(1))
    for number in (1, 2, 3):
        assert ping(one, f"10.7.{number}.2").received == 3


def test_the_mtu_leaves_room_for_the_header(hosts: tuple[Host, Host], daemons: Daemons) -> None:
    one, other = hosts
    daemons.start(one, config(0, "Key=1"))
    daemons.start(other, config(1, "Key=1"))
    mtu = json.loads(one.ip("-json", "link", "show", "t1"))[0]["mtu"]
    assert mtu == 1500 - 20 - 8 - 8
    assert ping(one, "10.7.1.2", size=mtu - 28).received == 3


def test_many_remotes(hosts: tuple[Host, Host], daemons: Daemons) -> None:
    one, other = hosts
    hub = (
        f"[Tunnel t1]\nTransport=udp\nLocal={LEFT[0]}\nKey=5\nAddress=10.7.1.1/24\nLearnPeers=yes\n"
    )
    daemons.start(one, hub)
    daemons.start(other, config(1, "Key=5"))
    assert ping(other, "10.7.1.1").received == 3
    assert ping(one, "10.7.1.2").received == 3


def test_keepalives_and_probes(hosts: tuple[Host, Host], daemons: Daemons) -> None:
    one, other = hosts
    near = daemons.start(one, config(0, "Keepalive=200ms\nKey=4"))
    far = daemons.start(other, config(1, "Keepalive=200ms\nKey=4"))
    for daemon in (near, far):
        wait_for_event(daemon, "tunnel_up")
    assert ping(one, "10.7.1.2").received == 3
    said = len(events(near))
    nft(other, "add table ip t", "add chain ip t in { type filter hook input priority 0; }")
    nft(other, f"add rule ip t in udp dport {PORT} drop")
    wait_for_event(near, "tunnel_silent", after=said)
    nft(other, "delete table ip t")
    wait_for_event(near, "tunnel_up", after=said)


def test_a_key_changes_by_reload(hosts: tuple[Host, Host], daemons: Daemons) -> None:
    one, other = hosts
    near = daemons.start(one, "[Daemon]\nLogFormat=json\n" + config(0, "Key=1"))
    far = daemons.start(other, "[Daemon]\nLogFormat=json\n" + config(1, "Key=1"))
    for options in ("Key=2", "Key=2\nPort=6000\nRemotePort=6000", "Key=2\nSourcePort=4754", ""):
        for daemon, host, here in ((near, one, 0), (far, other, 1)):
            text = "[Daemon]\nLogFormat=json\n" + config(here, options)
            reload(daemon, configuration(daemons, host), text)
        assert ping(one, "10.7.1.2").received == 3
        ports = {6000} if "6000" in options else {PORT}
        assert listening(one) == ports
    for daemon, host, here in ((near, one, 0), (far, other, 1)):
        text = "[Daemon]\nLogFormat=json\n" + config(here).replace("udp", "ip")
        reload(daemon, configuration(daemons, host), text)
    assert ping(one, "10.7.1.2").received == 3
    assert listening(one) == set()


def listening(host: Host) -> set[int]:
    """Return the ports below those that are chosen by flow."""
    table = host.inside(lambda: Path("/proc/thread-self/net/udp").read_text())
    lines = table.splitlines()[1:]
    ports = {int(line.split()[1].rpartition(":")[2], 16) for line in lines}
    return {port for port in ports if port < 32768}


class TestTrouble:
    """What goes wrong, in words."""

    def test_another_program_has_the_port(self, hosts: tuple[Host, Host], daemons: Daemons) -> None:
        one, _other = hosts
        with closing(one.socket(socket.AF_INET, socket.SOCK_DGRAM)) as taken:
            taken.bind(("0.0.0.0", PORT))  # noqa: S104
            near = daemons.start(one, config(0))
            event = wait_for_event(near, "tunnel_down", tunnel="t1")
            assert f"cannot receive from UDP port {PORT}: another program does" in event["detail"]
        wait_for_event(near, "tunnel_up", tunnel="t1")

    def test_a_second_gred_is_refused_the_port(
        self, hosts: tuple[Host, Host], daemons: Daemons
    ) -> None:
        one, other = hosts
        daemons.start(one, config(0, "SourcePort=4754"))
        daemons.start(other, config(1))
        text = config(0, "SourcePort=4754").replace("t1", "t9").replace("10.7.1", "10.7.9")
        second = daemons.start(one, text + "Key=9\n")
        event = wait_for_event(second, "tunnel_down", tunnel="t9")
        assert "another program does" in event["detail"]
        assert ping(one, "10.7.1.2").received == 3

    def test_nobody_is_there(self, hosts: tuple[Host, Host], daemons: Daemons) -> None:
        one, _other = hosts
        near = daemons.start(one, config(0))
        assert not ping(one, "10.7.1.2", count=1).received

        def refused() -> bool:
            ping(one, "10.7.1.2", count=1, timeout=0.2)
            return any(event["event"] == "tunnel_refused" for event in events(near))

        wait_for(refused, "tunnel_refused")
        event = wait_for_event(near, "tunnel_refused", tunnel="t1")
        assert f"{RIGHT[0]} runs nothing that takes GRE at UDP port {PORT}" in event["detail"]

    def test_one_end_is_of_protocol_47(self, hosts: tuple[Host, Host], daemons: Daemons) -> None:
        one, other = hosts
        near = daemons.start(one, config(0))
        far = daemons.start(other, config(1).replace("udp", "ip"))
        assert not ping(one, "10.7.1.2", count=1).received
        near.stop()
        far.stop()


def test_flows_have_ports_of_their_own(hosts: tuple[Host, Host], daemons: Daemons) -> None:
    one, other = hosts
    daemons.start(one, config(0, "Key=3"))
    daemons.start(other, config(1, "Key=3"))
    ports: dict[int, set[int]] = {}
    with wire(other, "under0") as seen:
        for port in (*range(40), *range(40)):
            with closing(one.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sender:
                sender.bind(("10.7.1.1", 20000 + port))
                sender.sendto(b"hello", ("10.7.1.2", 9))
            frame = seen.frame(lambda data: b"hello" in data and data[23] == socket.IPPROTO_UDP)
            assert frame is not None
            packet = Ether(frame)
            assert packet[UDP].dport == PORT
            gre = GRE(bytes(packet[UDP].payload))
            assert gre.key == 3
            ports.setdefault(gre[UDP].sport, set()).add(packet[UDP].sport)
    assert all(len(used) == 1 for used in ports.values()), "a flow keeps its port"
    every = set().union(*ports.values())
    assert 4 < len(every) <= 16
    assert min(every) >= 49152
