"""What is wrong with the host itself: devices, rights, the kernel's GRE, the service. Pure."""

from collections.abc import Iterator

from gred.control.errors import wrong_node
from gred.management.doctor.facts import (
    Buffers,
    Capabilities,
    Codec,
    Facts,
    KernelGre,
    Receivers,
    Service,
    Tun,
    Underlay,
    Unseen,
)
from gred.management.doctor.finding import Finding

_EXIT_STATUS = {
    69: "no /dev/net/tun",
    77: "no permission",
    78: "bad configuration",
}


def host_findings(facts: Facts) -> Iterator[Finding]:
    """Find what is wrong with the host, whatever its tunnels are."""
    if isinstance(facts.tun, Tun):
        yield from _tun(facts.tun, facts.capabilities)
    if isinstance(facts.capabilities, Capabilities):
        yield from _capabilities(facts.capabilities, facts.buffers)
    if isinstance(facts.codec, Codec):
        yield from _codec(facts.codec)
    if isinstance(facts.kernel_gre, KernelGre):
        yield from _kernel_gre(facts.kernel_gre)
    if isinstance(facts.receivers, Receivers):
        yield from _receivers(facts.receivers)
    if isinstance(facts.service, Service):
        yield from _service(facts.service)
    for underlay in facts.underlays:
        if underlay.physical and isinstance(underlay.offloads, dict):
            yield from _offloads(underlay, underlay.offloads)


def _tun(tun: Tun, capabilities: Capabilities | Unseen) -> Iterator[Finding]:
    if not tun.present:
        yield Finding(
            kind="tun_absent",
            what="/dev/net/tun is not there",
            why="gred's interfaces are made with it; gred exits with 69",
            remedy="modprobe tun; in a container: --device /dev/net/tun",
        )
    elif tun.wrong:
        yield Finding(
            kind="tun_wrong",
            what=wrong_node(tun.wrong).split(" (", 1)[0],
            why="gred's interfaces are made with it; gred exits with 69",
            remedy="rm -r /dev/net/tun; mknod -m 666 /dev/net/tun c 10 200;"
            " in a container: --device /dev/net/tun",
        )
    elif (
        tun.opens is False
        and isinstance(capabilities, Capabilities)
        and capabilities.user == "root"
    ):
        yield Finding(
            kind="tun_refused",
            what=f"/dev/net/tun does not open: {tun.error}",
            why="gred's interfaces are made with it; gred exits with 77",
            remedy="in a container: --device /dev/net/tun; elsewhere the device must be on no file"
            " system mounted nodev",
        )
    if tun.service_user is False:
        yield Finding(
            kind="tun_service_user",
            what="user gred may not open /dev/net/tun",
            why="the service exits with 77",
            remedy="chmod 666 /dev/net/tun",
        )


def _capabilities(own: Capabilities, buffers: Buffers | Unseen) -> Iterator[Finding]:
    if own.missing and own.user == "root":
        names = " and ".join(f"CAP_{name.upper()}" for name in own.missing)
        yield Finding(
            kind="capability_missing",
            what=f"root lacks {names} here",
            why="gred makes no interface without NET_ADMIN, sends nothing without NET_RAW, and"
            " enters no network namespace without SYS_ADMIN",
            remedy="in a container: "
            + " ".join(f"--cap-add {name.upper()}" for name in own.missing),
        )
    if not own.initial and isinstance(buffers, Buffers) and buffers.limit < buffers.asked:
        yield Finding(
            kind="receive_buffer",
            what=f"receive buffers are limited to {buffers.limit} bytes, gred asks for"
            f" {buffers.asked}",
            why="in a user namespace gred may not go beyond net.core.rmem_max: a burst is lost as"
            " rx_overrun",
            remedy=f"on the host: sysctl -w net.core.rmem_max={buffers.asked}",
        )


def _codec(codec: Codec) -> Iterator[Finding]:
    if codec.implementation != "c" and not codec.chosen:
        yield Finding(
            kind="slow_codec",
            what="the C extension is not built: this gred runs its pure-Python twin",
            why="it is 12 times slower",
            remedy="apt install gcc python3-dev, then make clean venv, or make install",
        )


def _kernel_gre(kernel: KernelGre) -> Iterator[Finding]:
    answered = set()
    for link in kernel.links:
        if link.takes_all:
            answered.add(link.version)
            yield Finding(
                kind="kernel_takes_all",
                what=f"the kernel's interface {link.name} is up",
                why=f"it takes every GRE packet over IPv{link.version} that no other interface of"
                " the kernel's does: what gred receives arrives twice",
                remedy=f"ip link set dev {link.name} down",
            )
    for module, version in (("ip_gre", 4), ("ip6_gre", 6)):
        if module in kernel.modules and version not in answered:
            yield Finding(
                kind="kernel_answers",
                what=f"the kernel's module {module} is loaded",
                why='the kernel answers GRE that none of its own interfaces takes with "port'
                " unreachable\", gred's included: peers may log it, or give up",
                remedy=f"modprobe -r {module}; where the kernel has tunnels of its own: "
                + (
                    "nft add rule inet filter output icmp type destination-unreachable icmp code"
                    " port-unreachable drop"
                    if version == 4
                    else "nft add rule inet filter output icmpv6 type destination-unreachable"
                    " icmpv6 code port-unreachable drop"
                ),
            )


def _receivers(receivers: Receivers) -> Iterator[Finding]:
    versions: dict[tuple[int, str], set[int]] = {}
    for holder in receivers.holders:
        if holder.pid is not None and not holder.gred:
            versions.setdefault((holder.pid, holder.program), set()).add(holder.version)
    for (pid, program), where in versions.items():
        over = " and ".join(f"IPv{version}" for version in sorted(where))
        yield Finding(
            kind="other_receiver",
            what=f"{program} (process {pid}) has a raw socket for protocol 47 over {over}",
            why="it gets a copy of every GRE packet: what both deliver or answer is there twice",
            remedy=f"stop it unless you know it (ps -fp {pid})",
        )
    for tunnel, sentence in receivers.rivals.items():
        what, _, remedy = sentence.partition(": ")
        yield Finding(
            kind="rival",
            tunnels=(tunnel,),
            what=what,
            why="everything would arrive twice: gred holds this tunnel down as twin",
            remedy=remedy,
        )


def _service(service: Service) -> Iterator[Finding]:
    for complaint in service.complaints:
        what, _, remedy = complaint.rpartition(" (")
        yield Finding(
            kind="service_cannot_see",
            what=what,
            why="the service does not start with it, or starts without it",
            remedy=remedy.rstrip(")"),
        )
    if service.missing:
        names = " and ".join(f"CAP_{name.upper()}" for name in service.missing)
        yield Finding(
            kind="service_capabilities",
            what=f"the service lacks {names}",
            why="it makes no interface without NET_ADMIN and sends nothing without NET_RAW",
            remedy="systemctl edit gred: [Service] AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW",
        )
    if service.state == "failed":
        status = service.exit_status or 0
        known = f", {_EXIT_STATUS[status]}" if status in _EXIT_STATUS else ""
        yield Finding(
            kind="service_failed",
            what=f"gred.service has failed (exit status {status}{known})",
            why="its tunnels are down",
            remedy="journalctl -u gred -n 20 says why; then systemctl restart gred",
        )
    if service.configuration_newer:
        yield Finding(
            kind="configuration_newer",
            what="the configuration was written after gred.service started",
            why="the service runs the one before",
            remedy="gred check >/dev/null && systemctl restart gred",
        )


def _offloads(underlay: Underlay, offloads: dict[str, bool]) -> Iterator[Finding]:
    if offloads.get("gro") is False:
        yield Finding(
            kind="gro_off",
            what=f"{underlay.name} merges no received packets (GRO is off)",
            why="each packet of a TCP stream then crosses the host, and gred, by itself",
            remedy=f"ethtool -K {underlay.name} gro on",
        )
