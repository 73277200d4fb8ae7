"""Open vSwitch with its userspace datapath on one host of a laboratory.

Its database, sockets and pid files are its own; the system's Open vSwitch, should there be one, is
not touched. Two bridges: ``br-phy`` has the wire and the underlay address, ``br-int`` the GRE ports
and the inner addresses. Knows nothing of gred.
"""

import time
from pathlib import Path

from gred.lab.hosts import UNDERLAY, Host, Lab, LabError

SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
OUTSIDE, INSIDE = "br-phy", "br-int"
_ROUTER = "02:00:00:00:00:fe"  # whoever is behind an L3 port: it has no Ethernet header to see


class Switch:
    """A switch on *host*, whose wire has no address yet. The laboratory ends its processes."""

    def __init__(self, lab: Lab, host: Host, *addresses: str, mtu: int) -> None:
        self._lab = lab
        self._host = host
        directory = lab.directory() / f"ovs-{host.name}"
        directory.mkdir()
        self._directory = directory
        self._socket = f"unix:{directory}/db.sock"
        self._environment = {
            "OVS_RUNDIR": str(directory),
            "OVS_DBDIR": str(directory),
            "OVS_LOGDIR": str(directory),
        }
        lab.run(["ovsdb-tool", "create", f"{directory}/conf.db", str(SCHEMA)])
        self._start(
            "ovsdb-server", f"{directory}/conf.db", f"--remote=p{self._socket}",
            f"--unixctl={directory}/db.ctl",
        )  # fmt: skip
        self._vsctl("--no-wait", "init")
        self._start(
            "ovs-vswitchd", self._socket, "--disable-system", f"--unixctl={directory}/switch.ctl"
        )
        for bridge in (OUTSIDE, INSIDE):
            self._vsctl("add-br", bridge, "--", "set", "bridge", bridge, "datapath_type=netdev")
        self._vsctl("add-port", OUTSIDE, UNDERLAY)
        self._vsctl("set", "interface", INSIDE, f"mtu_request={mtu}")
        for address in addresses:
            host.address(address, OUTSIDE)
        host.ip("link", "set", OUTSIDE, "up")
        host.ip("link", "set", INSIDE, "mtu", str(mtu), "up")
        self._mac = host.ip("-o", "link", "show", "dev", INSIDE).split("link/ether ")[1].split()[0]

    def add_port(self, name: str, options: str, networks: dict[str, str], *, layer: int) -> None:
        """Add a GRE port that carries Ethernet frames (*layer* 2) or plain IP (3).

        *options* are those of the interface, ``remote_ip=...``. *networks* are the switch's own
        address in each inner network, with prefix length, and the neighbour's.
        """
        kind = "legacy_l3" if layer == 3 else "legacy_l2"
        self._vsctl(
            "add-port", INSIDE, name, "--", "set", "interface", name, "type=gre",
            f"options:packet_type={kind}", *(f"options:{option}" for option in options.split()),
        )  # fmt: skip
        address = f"mod_dl_dst:{self._mac}," if layer == 3 else ""
        self._flow(f"in_port={name},actions={address}output:LOCAL")
        for own, neighbour in networks.items():
            self._host.address(own, INSIDE)
            if layer == 3:
                self._host.ip("neigh", "add", neighbour, "lladdr", _ROUTER, "dev", INSIDE)
            for match in _towards(neighbour):
                self._flow(f"priority=2,in_port=LOCAL,{match},actions=output:{name}")

    def log(self) -> str:
        """Return what the switch logged."""
        return (self._directory / "ovs-vswitchd.log").read_text(errors="replace")

    def _flow(self, flow: str) -> None:
        bridge = f"unix:{self._directory}/{INSIDE}.mgmt"
        self._lab.run(["ovs-ofctl", "add-flow", bridge, flow])

    def _vsctl(self, *command: str) -> None:
        """Change the database. Waits until the switch has followed: raises LabError otherwise."""
        options = f"--db={self._socket}", "--timeout=20", "--retry"
        self._lab.run(["ovs-vsctl", *options, *command])

    def _start(self, program: str, *arguments: str) -> None:
        pid_file = self._directory / f"{program}.pid"
        log = self._directory / f"{program}.log"
        with log.open("wb") as output:
            process = self._host.start(
                [program, *arguments, f"--pidfile={pid_file}"],
                environment=self._environment,
                stdout=output,
                stderr=output,
            )
        deadline = time.monotonic() + 20
        while not pid_file.exists():  # written when it is ready to be talked to
            if process.poll() is not None or time.monotonic() > deadline:
                raise LabError(f"{program} does not start: {log.read_text(errors='replace')}")
            time.sleep(0.02)


def _towards(address: str) -> tuple[str, ...]:
    """Return flow matches for what is sent to *address* and for who asks where it is."""
    if ":" in address:
        return f"ipv6,ipv6_dst={address}", f"icmp6,icmp_type=135,nd_target={address}"
    return f"ip,nw_dst={address}", f"arp,arp_tpa={address}"
