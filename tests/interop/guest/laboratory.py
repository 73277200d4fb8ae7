"""gred in one namespace, the kernel's GRE in another, and between them all the paths of the matrix.

    gred ── wire ────────── linux    the kernel end finishes checksums and segments itself
    gred ── unfinished ──── linux    offloads as veth has them
    gred ── rough ───────── linux    netem, when a scenario asks for it
    gred ── near ── router ── far ── linux    far has the smaller MTU

One gred daemon has all the tunnels.
"""

import contextlib
from collections.abc import Iterator

from gred.lab.daemon import Daemon
from gred.lab.hosts import Host, Lab
from tests.interop.matrix import TUNNELS, Tunnel

FAR_MTU = 1400
READY_S = 90.0  # emulated, with every module read over 9p
_DEVICES = {
    "wire": ("wire", "wire"),
    "unfinished": ("unfinished", "unfinished"),
    "rough": ("rough", "rough"),
    "narrow": ("near", "far"),
}


class Laboratory:
    """The hosts, and the daemon that has every tunnel of the matrix."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.gred = lab.host("gred")
        self.linux = lab.host("linux")
        self.router = lab.host("router")
        for device in ("wire", "unfinished", "rough"):
            lab.wire(self.gred, self.linux, device=device)
        lab.wire(self.gred, self.router, device="near")
        lab.wire(self.router, self.linux, device="far", mtu=FAR_MTU)
        for host, device in (
            (self.linux, "wire"),
            (self.linux, "rough"),
            (self.linux, "far"),
            # gred's packets leave a raw socket finished; the router forwards what it was sent.
        ):
            self.run(host, "ethtool", "-K", device, "tx", "off", "tso", "off", "gso", "off")
        for version in ("ipv4.conf.all", "ipv6.conf.all"):
            self.router.sysctl(f"net.{version}.forwarding", "1")
        self._hardware = {
            host: _hardware_address(host, "rough") for host in (self.gred, self.linux)
        }
        self._batches: dict[Host, list[str]] = {}
        self.run(self.linux, "modprobe", "-a", "fou", "fou6")
        for family in ("", " -6"):  # where the kernel receives GRE-in-UDP
            self._ip(self.linux, f"fou add port 4754 ipproto 47{family}")
        for tunnel in TUNNELS:
            self._underlay(tunnel)
            self._kernel_tunnel(tunnel)
        for host, lines in self._batches.items():
            self._run_batch(host, lines)
        self.configuration = "".join(_section(tunnel) for tunnel in TUNNELS)
        self.daemon: Daemon | None = None

    def start_gred(self) -> None:
        """Start gred with every tunnel and wait until it is ready. Raises DaemonError."""
        path = self.lab.directory() / "gred.conf"
        path.write_text(f"[Daemon]\nLogFormat=logfmt\n{self.configuration}")
        self.daemon = Daemon(self.lab, self.gred, path)
        self.daemon.wait_ready(READY_S)

    def make_anew(self, tunnel: Tunnel) -> None:
        """Delete the kernel's end of *tunnel* and make it again."""
        self.linux.ip("link", "delete", tunnel.name)
        self._batches.clear()
        self._kernel_tunnel(tunnel)
        self._run_batch(self.linux, self._batches[self.linux])

    def log(self) -> str:
        """Return what gred logged, if it was started."""
        return self.daemon.log() if self.daemon is not None else ""

    def device(self, tunnel: Tunnel, host: Host) -> str:
        """Return the name of the underlay device of *tunnel* on *host*, gred or linux."""
        return _DEVICES[tunnel.path][host is self.linux]

    def run(self, host: Host, *command: str) -> str:
        """Run *command* on *host*. Raises LabError."""
        return self.lab.run(["ip", "netns", "exec", host.namespace, *command])

    @contextlib.contextmanager
    def netem(self, *hosts: Host, how: str) -> Iterator[None]:
        """Disturb what *hosts* send on the rough wire, in the words of tc-netem(8)."""
        with contextlib.ExitStack() as undo:
            for host in hosts:
                self.run(host, "tc", "qdisc", "add", "dev", "rough", "root", "netem", *how.split())
                undo.callback(self.run, host, "tc", "qdisc", "del", "dev", "rough", "root")
            yield

    @contextlib.contextmanager
    def outer_tos(self, host: Host, device: str, value: int) -> Iterator[None]:
        """Overwrite the TOS of every IPv4 packet that *host* sends on *device*."""
        self.run(host, "tc", "qdisc", "add", "dev", device, "clsact")
        try:
            self.run(
                host, "tc", "filter", "add", "dev", device, "egress", "protocol", "ip",
                "matchall", "action", "pedit", "munge", "ip", "tos", "set", str(value),
                "pipe", "action", "csum", "ip4h",
            )  # fmt: skip
            yield
        finally:
            self.run(host, "tc", "qdisc", "del", "dev", device, "clsact")

    @contextlib.contextmanager
    def ipsec(self, tunnel: Tunnel) -> Iterator[None]:
        """Have both hosts encrypt the GRE packets of *tunnel*: ESP in transport mode."""
        ours, theirs = tunnel.underlay("gred"), tunnel.underlay("linux")
        ways = ((ours, theirs, "0x101"), (theirs, ours, "0x102"))
        how = "mode transport aead rfc4106(gcm(aes))"
        with contextlib.ExitStack() as undo:
            for host, own in ((self.linux, theirs), (self.gred, ours)):
                for source, destination, spi in ways:
                    ends = f"src {source} dst {destination}"
                    direction = "out" if source == own else "in"
                    state, key = f"{ends} proto esp spi {spi}", f"{spi}{'5a' * 20}"[:42]
                    policy = f"{ends} proto gre dir {direction}"
                    self._xfrm(host, f"state add {state} {how} {key} 128")
                    undo.callback(self._xfrm, host, f"state delete {state}")
                    self._xfrm(host, f"policy add {policy} tmpl {ends} proto esp mode transport")
                    undo.callback(self._xfrm, host, f"policy delete {policy}")
            yield

    def _xfrm(self, host: Host, words: str) -> None:
        host.ip("xfrm", *words.split())

    def _underlay(self, tunnel: Tunnel) -> None:
        length = 24 if tunnel.outer == 4 else 64
        ours, theirs = tunnel.underlay("gred"), tunnel.underlay("linux")
        here, there = (self.device(tunnel, host) for host in (self.gred, self.linux))
        self._ip(self.gred, f"address add {ours}/{length} dev {here}")
        self._ip(self.linux, f"address add {theirs}/{length} dev {there}")
        if tunnel.path == "rough":
            # netem must not disturb the look-up: the kernel remembers a failed one for its tunnel.
            for host, other, address in (
                (self.gred, self.linux, theirs),
                (self.linux, self.gred, ours),
            ):
                where = f"lladdr {self._hardware[other]} dev rough nud permanent"
                self._ip(host, f"neigh add {address} {where}")
        if tunnel.path == "narrow":
            near, far = f"{ours[:-1]}254", f"{theirs[:-1]}254"
            self._ip(self.router, f"address add {near}/{length} dev near")
            self._ip(self.router, f"address add {far}/{length} dev far")
            self._ip(self.gred, f"route add {theirs} via {near}")
            self._ip(self.linux, f"route add {ours} via {far}")
        if tunnel.name == "swallowed":
            # The router's errors never leave it.
            self._ip(self.router, f"rule add ipproto icmp to {ours} blackhole")

    def _kernel_tunnel(self, tunnel: Tunnel) -> None:
        name = tunnel.name
        ends = f"local {tunnel.underlay('linux')} remote {tunnel.underlay('gred')}"
        self._ip(self.linux, f"link add {name} type {tunnel.kind} {ends} {tunnel.linux}")
        self._ip(self.linux, f"link set {name} multicast on up")
        self._ip(self.linux, f"address add {tunnel.overlay('linux', 4)}/24 dev {name}")
        self._ip(self.linux, f"address add {tunnel.overlay('linux', 6)}/64 dev {name}")

    def _ip(self, host: Host, line: str) -> None:
        """Have *line* done by ip-batch: to start a program for each takes a minute, emulated."""
        self._batches.setdefault(host, []).append(line)

    def _run_batch(self, host: Host, lines: list[str]) -> None:
        path = self.lab.directory() / f"{host.name}.batch"
        path.write_text("\n".join(lines) + "\n")
        host.ip("-batch", str(path))


def _section(tunnel: Tunnel) -> str:
    options = "\n".join(tunnel.gred.format(linux=tunnel.overlay("linux", 4)).split())
    return (
        f"\n[Tunnel {tunnel.name}]\n"
        f"Local={tunnel.underlay('gred')}\n"
        f"Remote={tunnel.underlay('linux')}\n"
        f"Address={tunnel.overlay('gred', 4)}/24, {tunnel.overlay('gred', 6)}/64\n"
        f"{options}\n"
    )


def _hardware_address(host: Host, device: str) -> str:
    return host.ip("-o", "link", "show", "dev", device).split("link/ether ")[1].split()[0]
