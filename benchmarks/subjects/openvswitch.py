"""Open vSwitch with its userspace datapath: the GRE in user space that Linux distributions ship.

In each namespace runs an ovsdb-server and an ovs-vswitchd with directories and sockets of their
own; the system's Open vSwitch, should there be one, is not touched.
"""

from pathlib import Path

from benchmarks.lab import End, Lab
from benchmarks.process import Process, missing_programs, run
from benchmarks.subjects.base import DaemonSubject, Running, inner_addresses, key, missing_tun

SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
MTU = 1500 - 20 - 8 - 14  # outer IPv4 header, GRE header with key, inner Ethernet header


class OpenVSwitch(DaemonSubject):
    """A netdev bridge on the wire and one with a GRE port.

    The port carries Ethernet frames, as it does by default. With plain IP (packet_type=legacy_l3)
    its packets are 14 bytes shorter, yet one TCP stream was a fifth slower: the peer is shown at
    its best.
    """

    name = "ovs"
    title = "Open vSwitch, userspace GRE"

    def __init__(self) -> None:
        super().__init__()
        self._switches: list[Process] = []

    def missing(self) -> str | None:
        """Look for the programs and for the schema of their database."""
        absent = missing_programs("ovs-vsctl", "ovs-vswitchd", "ovsdb-server", "ovsdb-tool")
        if absent is None and not SCHEMA.exists():
            absent = f"no {SCHEMA}: install openvswitch-switch"
        return absent or missing_tun()

    def set_up(self, lab: Lab, tunnels: int) -> Running:
        """Start both switches and wire them."""
        assert tunnels == 1
        self.daemons = []
        self._switches = []
        inner_a, inner_b = inner_addresses(0)
        self._switch(lab, lab.a, lab.b, inner_a)
        self._switch(lab, lab.b, lab.a, inner_b)
        # The first packets are spent on the outer ARP exchange.
        lab.a.wait_for(inner_b)
        return Running(inner_a, inner_b, tuple(switch.pid for switch in self._switches))

    def _switch(self, lab: Lab, end: End, peer: End, inner: str) -> None:
        directory = lab.directory / f"ovs-{end.device}"
        directory.mkdir()
        socket = f"unix:{directory}/db.sock"
        environment = {
            "OVS_RUNDIR": str(directory),
            "OVS_DBDIR": str(directory),
            "OVS_LOGDIR": str(directory),
        }
        run(["ovsdb-tool", "create", f"{directory}/conf.db", str(SCHEMA)])
        database = end.start(
            "ovsdb-server", f"{directory}/conf.db", f"--remote=p{socket}",
            f"--unixctl={directory}/db.ctl", f"--pidfile={directory}/db.pid",
            environment=environment,
        )  # fmt: skip
        self.daemons.append(database)
        vsctl = ["ovs-vsctl", f"--db={socket}", "--timeout=10", "--retry"]
        run([*vsctl, "--no-wait", "init"])
        switch = end.start(
            "ovs-vswitchd", socket, "--disable-system",
            f"--unixctl={directory}/vswitchd.ctl", f"--pidfile={directory}/vswitchd.pid",
            environment=environment,
        )  # fmt: skip
        self.daemons.append(switch)
        self._switches.append(switch)
        # The underlay address belongs to the bridge, or the kernel would answer beside it.
        end.ip("address", "flush", "dev", end.device)
        run([
            *vsctl,
            "--", "add-br", "br-phy", "--", "set", "bridge", "br-phy", "datapath_type=netdev",
            "--", "add-port", "br-phy", end.device,
            "--", "add-br", "br-int", "--", "set", "bridge", "br-int", "datapath_type=netdev",
            "--", "set", "interface", "br-int", f"mtu_request={MTU}",
            "--", "add-port", "br-int", "gre0",
            "--", "set", "interface", "gre0", "type=gre",
            f"options:remote_ip={peer.address}", f"options:key={key(0)}",
        ])  # fmt: skip
        end.ip("address", "add", f"{end.address}/24", "dev", "br-phy")
        end.ip("link", "set", "br-phy", "addrgenmode", "none", "up")
        end.ip("address", "add", f"{inner}/30", "dev", "br-int")
        end.ip("link", "set", "br-int", "addrgenmode", "none", "mtu", str(MTU), "up")
