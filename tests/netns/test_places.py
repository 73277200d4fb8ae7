"""Places that are less than a whole Linux: containers, sandboxes, namespaces of users.

Each is imitated by what it takes away. The tunnel works there, with less where it must, and that is
said; or one line says what is missing.
"""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gred.control.errors import ExitCode
from gred.lab.daemon import DaemonError
from gred.lab.hosts import NAMESPACES, UNDERLAY, Host, Lab
from gred.lab.traffic import ping, transfer
from tests import require
from tests.netns import sandbox
from tests.netns.conftest import LEFT, RIGHT
from tests.netns.daemons import PACKET_SOCKET, Daemons, events, wait_for, wait_for_event

# What a container of Docker has, and --cap-add NET_ADMIN.
DOCKER_CAPABILITIES = (
    *("chown", "dac_override", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap"),
    *("net_bind_service", "net_raw", "sys_chroot", "mknod", "audit_write", "setfcap", "net_admin"),
)
INET6, NETLINK, PACKET, NETFILTER = 10, 16, 17, 12
# As gVisor and other kernels that are not Linux: options that they do not know.
LEVELS = {"socket": 1, "ip": 0, "ipv6": 41}
UNKNOWN = {
    "socket": (26, 32, 33, 37),  # SO_ATTACH_FILTER, SO_SNDBUFFORCE, SO_RCVBUFFORCE, SO_TIMESTAMPING
    "ip": (10, 11, 49),  # IP_MTU_DISCOVER, IP_RECVERR, IP_MULTICAST_ALL
    "ipv6": (23, 25, 33, 70),  # IPV6_MTU_DISCOVER, IPV6_RECVERR, FLOWINFO_SEND, AUTOFLOWLABEL
}


def section(host: Host, *, version: int = 4, inner: str = "10.9.1.{}/24", options: str = "") -> str:
    ends, own = ((LEFT, RIGHT), 1) if host.name == "left" else ((RIGHT, LEFT), 2)
    index = 0 if version == 4 else 1
    return (
        f"[Tunnel t]\nLocal={ends[0][index]}\nRemote={ends[1][index]}\n"
        f"Address={inner.format(own)}\n{options}\n"
    )


def unshared(script: str) -> list[str]:
    """Return a wrapper that runs the rest after *script*, with mounts of its own."""
    unshare = require.program("unshare", package="util-linux")
    return [unshare, "--mount", "sh", "-c", f'{script} && exec "$@"', "sh"]


def docker() -> list[str]:
    setpriv = require.program("setpriv", package="util-linux")
    kept = ",".join(["-all", *(f"+{name}" for name in DOCKER_CAPABILITIES)])
    return [
        *unshared(
            "mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys"
            " && mount -t tmpfs tmpfs /sys -o ro"
        ),
        *sandbox.wrapper(*sandbox.DOCKER),
        *(setpriv, f"--bounding-set={kept}", f"--inh-caps={kept}", "--no-new-privs"),
    ]


def refused(*rules: str) -> list[str]:
    return sandbox.wrapper(*rules)


def unknown_options(number: str = "ENOPROTOOPT") -> list[str]:
    return sandbox.wrapper(
        *(
            f"setsockopt:1={LEVELS[level]},2={option}:{number}"
            for level, options in UNKNOWN.items()
            for option in options
        )
    )


PLACES: dict[str, Callable[[], list[str]]] = {
    "docker": docker,
    "no /sys": lambda: unshared("mount -t tmpfs tmpfs /sys"),
    "read-only /proc/sys": lambda: unshared(
        "mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys"
    ),
    "hidepid": lambda: unshared("mount -t proc -o hidepid=2 proc /proc"),
    "no IPv6": lambda: refused(f"socket:0={INET6}:EAFNOSUPPORT"),
    "no packet socket": lambda: refused(f"socket:0={PACKET}:EPERM"),
    "no packet sockets at all": lambda: refused(f"socket:0={PACKET}:EAFNOSUPPORT"),
    "no netfilter": lambda: refused(f"socket:0={NETLINK},2={NETFILTER}:EPROTONOSUPPORT"),
    "netfilter is not for us": lambda: refused(f"socket:0={NETLINK},2={NETFILTER}:EPERM"),
    "options are unknown": unknown_options,
    "options are refused": lambda: unknown_options("EPERM"),
}


@pytest.mark.parametrize("place", PLACES)
def test_the_tunnel_works(hosts: tuple[Host, Host], daemons: Daemons, place: str) -> None:
    left, right = hosts
    daemons.start(right, section(right))
    daemons.start(left, section(left), wrapper=PLACES[place]())
    assert ping(left, "10.9.1.2").received == 3
    assert ping(right, "10.9.1.1").received == 3
    assert transfer(left, right, "10.9.1.2", size=200_000).intact


@pytest.mark.parametrize("place", ["docker", "options are unknown", "no packet socket"])
def test_the_tunnel_works_over_ipv6(hosts: tuple[Host, Host], daemons: Daemons, place: str) -> None:
    left, right = hosts
    daemons.start(right, section(right, version=6))
    daemons.start(left, section(left, version=6), wrapper=PLACES[place]())
    assert ping(left, "10.9.1.2").received == 3
    assert transfer(right, left, "10.9.1.1", size=200_000).intact


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("docker", "yes"),
        ("no packet socket", "no (Operation not permitted)"),
        ("options are unknown", "no (Protocol not available)"),
        ("netfilter is not for us", "no (cannot see nftables rules: Operation not permitted)"),
    ],
)
def test_what_it_does_without_is_said(
    hosts: tuple[Host, Host], daemons: Daemons, implementation: str, place: str, said: str
) -> None:
    left, _right = hosts
    if implementation == "python" and place != "netfilter is not for us":
        said = PACKET_SOCKET[implementation]
    daemon = daemons.start(left, section(left), wrapper=PLACES[place]())
    assert wait_for_event(daemon, "started")["packet_socket"] == said
    assert wait_for_event(daemon, "tunnel_up")["packet_socket"] == said


def test_options_that_it_does_without_are_named(hosts: tuple[Host, Host], daemons: Daemons) -> None:
    daemon = daemons.start(hosts[0], section(hosts[0]), wrapper=unknown_options())
    told = wait_for_event(daemon, "started")["socket_options"]
    assert told == "without IP_MTU_DISCOVER, IP_MULTICAST_ALL, IP_RECVERR"


def test_an_option_that_a_tunnel_cannot_do_without_is_an_error(
    hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    """A mark that is not set would let packets leave where they must not."""
    wrapper = sandbox.wrapper("setsockopt:1=1,2=36:ENOPROTOOPT")
    daemon = daemons.start(hosts[0], section(hosts[0], options="FirewallMark=7"), wrapper=wrapper)
    assert "Protocol not available" in wait_for_event(daemon, "tunnel_down")["detail"]
    assert not [event for event in events(daemon) if event["event"] == "tunnel_up"]


@pytest.fixture
def without_ipv6(hosts: tuple[Host, Host]) -> Iterator[None]:
    """As with the usual sysctls: addresses are gone everywhere, sockets are not."""
    for setting in ("all", "default"):
        hosts[0].sysctl(f"net.ipv6.conf.{setting}.disable_ipv6", "1")
    yield
    for setting in ("default", "all"):
        hosts[0].sysctl(f"net.ipv6.conf.{setting}.disable_ipv6", "0")
    hosts[0].address(f"{LEFT[1]}/64")


@pytest.mark.usefixtures("without_ipv6")
def test_with_ipv6_switched_off_ipv4_works(hosts: tuple[Host, Host], daemons: Daemons) -> None:
    left, right = hosts
    daemons.start(right, section(right))
    daemons.start(left, section(left))
    assert ping(left, "10.9.1.2").received == 3


def test_without_raw_sockets_it_says_so(hosts: tuple[Host, Host], daemons: Daemons) -> None:
    """As in a container that was started with --cap-drop NET_RAW."""
    setpriv = require.program("setpriv", package="util-linux")
    wrapper = [setpriv, "--bounding-set=-net_raw", "--inh-caps=-net_raw"]
    daemon = daemons.launch(hosts[0], section(hosts[0]), wrapper=wrapper)
    with pytest.raises(DaemonError):
        daemon.wait_ready()
    assert daemon.status == ExitCode.NO_PERMISSION
    told = wait_for_event(daemon, "start_failed")["detail"]
    assert "CAP_NET_RAW" in told
    assert "--cap-add NET_RAW" in told


# Root of a user namespace, as in rootless containers.


@pytest.fixture
def rootless(lab: Lab, hosts: tuple[Host, Host]) -> Iterator[tuple[Host, list[str]]]:
    """A host that belongs to a user namespace, wired to the right one; how to be its root."""
    unshare = require.program("unshare", package="util-linux")
    name = f"{hosts[1].namespace}-rootless"
    sleeper = subprocess.Popen([unshare, "--user", "--map-root-user", "--net", "sleep", "600"])
    try:
        own = Path("/proc/self/ns/net").readlink()
        theirs = Path(f"/proc/{sleeper.pid}/ns/net")
        wait_for(lambda: theirs.readlink() != own, "a network namespace")
        lab.run(["ip", "netns", "attach", name, str(sleeper.pid)])
        host = Host(lab, "left", name)
        host.ip("link", "set", "lo", "up")
        hosts[1].ip(
            "link", "add", "under2", "type", "veth", "peer", "name", UNDERLAY, "netns", name
        )
        hosts[1].ip("link", "set", "under2", "up")
        hosts[1].address("198.51.100.2/24", "under2")
        host.ip("link", "set", UNDERLAY, "up")
        host.address("198.51.100.1/24")
        wait_for(lambda: host.state(UNDERLAY) == "UP", "the carrier")
        yield host, ["nsenter", "--user", "--target", str(sleeper.pid)]
    finally:
        sleeper.kill()
        sleeper.wait()
        if (NAMESPACES / name).exists():
            lab.run(["ip", "netns", "delete", name])


def test_root_of_a_user_namespace_is_root_enough(
    hosts: tuple[Host, Host], rootless: tuple[Host, list[str]], daemons: Daemons
) -> None:
    host, enter = rootless
    right = hosts[1]
    ends = "[Tunnel t]\nLocal=198.51.100.{}\nRemote=198.51.100.{}\nAddress=10.9.1.{}/24\n"
    daemons.start(right, ends.format(2, 1, 2))
    daemons.start(host, ends.format(1, 2, 1), wrapper=enter)
    assert ping(host, "10.9.1.2").received == 3
    assert transfer(host, right, "10.9.1.2", size=200_000).intact
