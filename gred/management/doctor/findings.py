"""What is wrong with a host, from facts alone: what, why it matters, what mends it. Pure.

What could not be seen is no finding. What somebody may want so is a fact and no finding, unless
packets are lost by it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network

from gred.config.model import IPNetwork
from gred.control.errors import wrong_node
from gred.management.doctor.facts import (
    Buffers,
    Capabilities,
    Codec,
    Facts,
    Firewall,
    IPsec,
    KernelGre,
    Receivers,
    Remote,
    Service,
    Tun,
    Tunnel,
    Underlay,
    Unseen,
)
from gred.management.doctor.ruleset import GRE, UDP, Condition, Packet, Ruleset, Stop, stops

_STRICT = 1
_EXIT_STATUS = {
    69: "no /dev/net/tun",
    77: "no permission",
    78: "bad configuration",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing to mend. *kind* is a constant, for machines; *tunnels*: empty, it is the host's."""

    kind: str
    what: str
    why: str
    remedy: str
    tunnels: tuple[str, ...] = ()


def findings(facts: Facts) -> list[Finding]:
    """Return all findings: those of the host first, then those of each tunnel.

    Each once: what is the same for several tunnels is one.
    """
    found = [*_host(facts), *_firewall(facts)]
    if not isinstance(facts.tunnels, Unseen):
        underlays = {underlay.name: underlay for underlay in facts.underlays}
        for tunnel in facts.tunnels:
            found += _tunnel(tunnel, underlays, facts)
    tunnels: dict[Finding, dict[str, None]] = {}
    for finding in found:
        tunnels.setdefault(replace(finding, tunnels=()), {}).update(dict.fromkeys(finding.tunnels))
    return [replace(finding, tunnels=tuple(names)) for finding, names in tunnels.items()]


def _host(facts: Facts) -> Iterator[Finding]:
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


# Packet filters.


def _firewall(facts: Facts) -> Iterator[Finding]:
    if not isinstance(facts.firewall, Firewall):
        return
    for rules in (facts.firewall.nftables, facts.firewall.iptables):
        if isinstance(rules, Ruleset):
            tunnels = () if isinstance(facts.tunnels, Unseen) else facts.tunnels
            for tunnel, hooks, packet in _crossing(tunnels):
                for hook in hooks:
                    for stop in stops(rules, hook, packet):
                        yield from _stopped(stop, hook, packet, tunnel)


def _crossing(
    tunnels: tuple[Tunnel, ...],
) -> Iterator[tuple[Tunnel | None, tuple[str, ...], Packet]]:
    """Yield what packets pass here, and at which hooks."""
    received, sent = ("prerouting", "input"), ("output", "postrouting")
    some = False
    for tunnel in tunnels:
        for remote in tunnel.remotes:
            some = True
            version, device = remote.address.version, remote.device or None
            near = remote.source or tunnel.local
            protocol = GRE if tunnel.port is None else UDP
            come = Packet(version=version, protocol=protocol, port=tunnel.port)
            go = replace(come, port=tunnel.remote_port)
            ends = remote.address, near
            yield tunnel, received, replace(come, source=ends[0], destination=ends[1], input=device)
            yield tunnel, sent, replace(go, source=ends[1], destination=ends[0], output=device)
        for network in tunnel.routes:
            if tunnel.namespace is None and tunnel.between:
                yield from _forwarded(tunnel, network)
    if not some:
        for version in (4, 6):
            yield None, received, Packet(version=version)
            yield None, sent, Packet(version=version)


def _forwarded(
    tunnel: Tunnel, network: IPNetwork
) -> Iterator[tuple[Tunnel, tuple[str, ...], Packet]]:
    """Yield what goes between the tunnel and this host's other networks, where it forwards."""
    if not tunnel.forwarding.get(str(network.version)):
        return
    inner = network[min(1, network.num_addresses - 1)]
    forward = ("forward",)
    version = network.version
    yield (
        tunnel,
        forward,
        Packet(version=version, protocol=None, source=inner, input=tunnel.name),
    )
    yield (
        tunnel,
        forward,
        Packet(version=version, protocol=None, destination=inner, output=tunnel.name),
    )


def _stopped(stop: Stop, hook: str, packet: Packet, tunnel: Tunnel | None) -> Iterator[Finding]:
    forwarded = hook == "forward"
    if not stop.certain and _foreseen(stop, packet, forwarded=forwarded):
        return
    chain = stop.chain
    place = f"{chain.tool} {chain.family} {chain.table} {chain.name}"
    verb = {"drop": "drops", "reject": "rejects"}[stop.verdict]
    may = verb if stop.certain else f"may {verb[:-1]}"
    subject = _subject(hook, packet, tunnel)
    by = f"its policy {stop.verdict}" if stop.rule is None else f"the rule: {stop.rule.text}"
    what = f"{place} {may} {subject}, by {by}"
    if stop.passes:
        shown = "; ".join(rule.text for rule in stop.passes[:3])
        what += f" (accepted is only: {shown}{'; ...' if len(stop.passes) > 3 else ''})"
    why = {
        "drop": "they vanish without a word",
        "reject": "the sender is told that there is no way",
    }[stop.verdict]
    if stop.passes and not forwarded and hook in {"prerouting", "input"}:
        why += "; what a connection of this host's own lets in passes only while it lasts"
    yield Finding(
        kind="firewall_stops" if stop.certain else "firewall_may_stop",
        tunnels=() if tunnel is None else (tunnel.name,),
        what=what,
        why=why,
        remedy=_accept(stop, hook, packet),
    )


def _by_its_owner(stop: Stop, hook: str, packet: Packet) -> str | None:
    """Return the command of who made the rules and would make them again; None: nobody known."""
    if stop.chain.table == "firewalld":
        if hook == "forward":
            return f"firewall-cmd --zone=trusted --add-interface={packet.input or packet.output}"
        opens = "protocol=gre" if packet.port is None else f"port={packet.port}/udp"
        return f"firewall-cmd --add-{opens}" if hook == "input" else None
    names = {stop.chain.name, *(rule.target for rule in stop.first)}
    if any(name.startswith(("ufw-", "ufw6-")) for name in names):
        if hook == "forward":
            way = "in" if packet.input else "out"
            return f"ufw route allow {way} on {packet.input or packet.output}"
        protocol = "gre" if packet.port is None else "udp"
        port = "" if packet.port is None else f" port {packet.port}"
        if hook == "input":
            to = f" to any{port}" if port else ""
            return f"ufw allow proto {protocol} from {packet.source or 'any'}{to}"
        return f"ufw allow out proto {protocol} to {packet.destination or 'any'}{port}"
    return None


def _foreseen(stop: Stop, packet: Packet, *, forwarded: bool) -> bool:
    """Tell whether some rule that may accept is about these very addresses or this interface."""
    subjects = {"source", "destination"} | ({"input", "output"} if forwarded else set())
    return any(
        condition.subject in subjects and condition.holds(packet) and not _takes_all(condition)
        for rule in stop.passes
        for condition in rule.conditions
    )


def _takes_all(condition: Condition) -> bool:
    return condition.negated or any(
        value == "*" or (isinstance(value, IPv4Network | IPv6Network) and value.prefixlen == 0)
        for value in condition.values
    )


def _subject(hook: str, packet: Packet, tunnel: Tunnel | None) -> str:
    if hook == "forward" and tunnel is not None:
        way = "from" if packet.input is not None else "into"
        return f"what is forwarded {way} {tunnel.name}"
    received = hook in {"prerouting", "input"}
    far = packet.source if received else packet.destination
    ends = "" if far is None else f" {'from' if received else 'to'} {far}"
    what = "GRE" if packet.port is None else f"GRE in UDP, port {packet.port},"
    return f"{what}{ends}" + (f" over IPv{packet.version}" if far is None else "")


def _accept(stop: Stop, hook: str, packet: Packet) -> str:
    """Return the command that lets the packets pass, at the place where they are stopped."""
    chain = stop.chain
    if (command := _by_its_owner(stop, hook, packet)) is not None:
        return command
    old = chain.name in {"INPUT", "OUTPUT", "FORWARD", "PREROUTING", "POSTROUTING"}
    by_iptables = chain.tool == "iptables" or (old and chain.family in {"ip", "ip6"})
    version = packet.version
    if by_iptables:
        program = "iptables" if chain.family == "ip" else "ip6tables"
        table = "" if chain.table == "filter" else f" -t {chain.table}"
        words = [f"{program}{table} -I {chain.name}"]
        if hook == "forward":
            words += [f"-i {packet.input}"] if packet.input else [f"-o {packet.output}"]
        else:
            words += (
                [f"-s {packet.source}"] if hook in {"prerouting", "input"} and packet.source else []
            )
            words += (
                [f"-d {packet.destination}"]
                if hook in {"output", "postrouting"} and packet.destination
                else []
            )
            words.append("-p gre" if packet.port is None else f"-p udp --dport {packet.port}")
        return " ".join([*words, "-j ACCEPT"])
    ip = "ip" if version == 4 else "ip6"
    words = [f"nft insert rule {chain.family} {chain.table} {chain.name}"]
    if hook == "forward":
        words += [f"iifname {packet.input}"] if packet.input else [f"oifname {packet.output}"]
    elif hook in {"prerouting", "input"}:
        words += [f"{ip} saddr {packet.source}"] if packet.source else []
    else:
        words += [f"{ip} daddr {packet.destination}"] if packet.destination else []
    carrier = "meta l4proto gre" if packet.port is None else f"udp dport {packet.port}"
    words += [] if hook == "forward" else [carrier]
    return " ".join([*words, "accept"])


# Tunnels.


def _tunnel(tunnel: Tunnel, underlays: dict[str, Underlay], facts: Facts) -> Iterator[Finding]:
    yield from _local(tunnel)
    if tunnel.unresolved:
        yield Finding(
            kind="unresolved",
            tunnels=(tunnel.name,),
            what=f"{tunnel.unresolved} (Remote=)",
            why="nothing is sent before it has one; a gred that runs keeps the last one",
            remedy="resolvectl status; cat /etc/resolv.conf; or write the address into Remote=",
        )
    yield from _loop(tunnel)
    for remote in tunnel.remotes:
        yield from _remote(tunnel, remote, underlays)
    yield from _interface(tunnel, facts)
    if not _is_anothers(tunnel, facts):
        yield from _interface_mtu(tunnel)
    yield from _path_mtu(tunnel)
    yield from _inner(tunnel)
    if (file := tunnel.network_file) is not None and facts.networkd and not file.harmless:
        verb = "matches" if file.certain else "may match"
        yield Finding(
            kind="networkd",
            tunnels=(tunnel.name,),
            what=f"{file.path} (Name={file.names}) {verb} {tunnel.name}",
            why="systemd-networkd takes away addresses and routes that it did not configure itself",
            remedy=f"printf '[Match]\\nName={tunnel.name}\\n[Link]\\nUnmanaged=yes\\n'"
            " >/etc/systemd/network/00-gred.network && networkctl reload",
        )


def _local(tunnel: Tunnel) -> Iterator[Finding]:
    if tunnel.local_missing:
        remedy = "ip address show; then correct Local="
        if tunnel.local_interface is not None:
            remedy = f"ip address show dev {tunnel.local_interface}"
        yield Finding(
            kind="local_missing",
            tunnels=(tunnel.name,),
            what=f"{tunnel.local_missing} (Local=)",
            why="nothing is sent from it, and nothing arrives at it",
            remedy=remedy,
        )


def _loop(tunnel: Tunnel) -> Iterator[Finding]:
    if tunnel.loop and not tunnel.steered:
        remote = tunnel.remotes[0] if tunnel.remotes else None
        far = remote.address if remote else "REMOTE"
        family = "-6 " if remote is not None and remote.address.version == 6 else ""
        verb = "is" if tunnel.loop_certain else "would be, unless there is a better route,"
        yield Finding(
            kind="loop",
            tunnels=(tunnel.name,),
            what=f"{far} {verb} routed into {' > '.join(tunnel.loop)}",
            why="outer packets would come back to the tunnel that sent them: gred sends nothing",
            remedy=f"ip {family}route add {far} via GATEWAY dev DEVICE",
        )


def _remote(tunnel: Tunnel, remote: Remote, underlays: dict[str, Underlay]) -> Iterator[Finding]:
    if remote.no_route and not tunnel.steered:
        family = "-6 " if remote.address.version == 6 else ""
        yield Finding(
            kind="no_route",
            tunnels=(tunnel.name,),
            what=f"there is no route to {remote.address}: {remote.no_route}",
            why="nothing can be sent there",
            remedy=f"ip {family}route add {remote.address} via GATEWAY dev DEVICE",
        )
    if remote.address.version == 4 and remote.back and not tunnel.loop:
        for name in dict.fromkeys((remote.device, tunnel.local_device)):
            underlay = underlays.get(name)
            if underlay is None or not underlay.hears or remote.back == name:
                continue
            if underlay.rp_filter == _STRICT:
                yield Finding(
                    kind="rp_filter_underlay",
                    tunnels=(tunnel.name,),
                    what=f"rp_filter is strict on {name}, and the route to {remote.address} leads"
                    f" to {remote.back}",
                    why=f"what {remote.address} sends to {name} is dropped before gred sees it",
                    remedy=f"sysctl -w net.ipv4.conf.{name}.rp_filter=2",
                )
    if isinstance(remote.ipsec, IPsec):
        yield from _ipsec(tunnel, remote, remote.ipsec)


def _ipsec(tunnel: Tunnel, remote: Remote, ipsec: IPsec) -> Iterator[Finding]:
    far = remote.address
    remedy = "ip xfrm policy; swanctl --list-conns"
    if ipsec.policy == "block":
        yield Finding(
            kind="ipsec_blocks",
            tunnels=(tunnel.name,),
            what=f"an IPsec policy blocks GRE to {far}",
            why="every send is refused (EPERM): nothing leaves",
            remedy=remedy,
        )
    elif ipsec.policy == "protect" and not ipsec.state:
        yield Finding(
            kind="ipsec_no_state",
            tunnels=(tunnel.name,),
            what=f"a policy wants IPsec for GRE to {far}, and there is no state (SA) yet",
            why="packets vanish, and sends succeed all the same, until the IKE daemon has one",
            remedy="swanctl --list-sas; swanctl --initiate --child NAME",
        )
    if ipsec.inbound == "block" or (ipsec.inbound == "protect" and ipsec.policy == "none"):
        how = "blocks GRE" if ipsec.inbound == "block" else "wants IPsec for GRE"
        more = "" if ipsec.inbound == "block" else ", and none is for what is sent"
        yield Finding(
            kind="ipsec_inbound",
            tunnels=(tunnel.name,),
            what=f"an IPsec policy {how} from {far}{more}",
            why="what arrives in clear text is dropped before gred sees it",
            remedy=remedy,
        )


def _is_anothers(tunnel: Tunnel, facts: Facts) -> bool:
    """Tell whether the interface cannot be gred's, as none runs."""
    running = facts.receivers.running if isinstance(facts.receivers, Receivers) else None
    return bool(tunnel.exists) and running == () and tunnel.namespace is None


def _interface(tunnel: Tunnel, facts: Facts) -> Iterator[Finding]:
    ip = "ip" if tunnel.namespace is None else f"ip -n {tunnel.namespace}"
    if _is_anothers(tunnel, facts):
        yield Finding(
            kind="name_taken",
            tunnels=(tunnel.name,),
            what=f"there is an interface {tunnel.name}, and no gred runs here",
            why="gred cannot make its own of that name: the tunnel stays down",
            remedy=f"{ip} -d link show dev {tunnel.name}; then {ip} link delete dev {tunnel.name}",
        )
        return
    if tunnel.exists and tunnel.up is False:
        yield Finding(
            kind="interface_down",
            tunnels=(tunnel.name,),
            what=f"the interface {tunnel.name} was set down",
            why="nothing passes: the tunnel is disabled",
            remedy=f"{ip} link set dev {tunnel.name} up",
        )
    yield from _carrier(tunnel, ip)
    if tunnel.missing:
        yield Finding(
            kind="interface_incomplete",
            tunnels=(tunnel.name,),
            what=f"of {tunnel.name}: {tunnel.missing}",
            why="packets for them do not enter the tunnel, or are not taken as this host's own",
            remedy="systemctl restart gred; gred check shows all that the interface is to have",
        )
    for sentence in tunnel.overlaps:
        yield Finding(
            kind="address_shared",
            tunnels=(tunnel.name,),
            what=sentence,
            why="packets may leave by the other interface, and never enter the tunnel",
            remedy="give the tunnel another Address=",
        )


def _carrier(tunnel: Tunnel, ip: str) -> Iterator[Finding]:
    name = tunnel.name
    if tunnel.carrier is False and tunnel.follows_carrier:
        yield Finding(
            kind="silent",
            tunnels=(name,),
            what=f"{name} has no carrier: {tunnel.asks} does not answer its keepalives",
            why="routes through it are dead until somebody answers, and packets for it are dropped",
            remedy="journalctl -u gred -g tunnel_silent says more; gred doctor at the other end;"
            " where it answers none by nature: KeepaliveTarget=, or Carrier=always",
        )
    elif tunnel.carrier is False:
        yield Finding(
            kind="no_carrier",
            tunnels=(name,),
            what=f"{name} has no carrier: somebody took it away",
            why="what is sent into it is dropped by the kernel, and routing daemons avoid it",
            remedy=f"{ip} link set dev {name} carrier on",
        )
    if tunnel.follows_carrier and tunnel.ipv6_follows_carrier is False:
        setting = "net.ipv6.conf.{}.ignore_routes_with_linkdown=1"
        enter = "" if tunnel.namespace is None else f"ip netns exec {tunnel.namespace} "
        names = ["default", name] if tunnel.exists else ["default"]
        yield Finding(
            kind="linkdown_ipv6",
            tunnels=(name,),
            what=f"IPv6 routes through {name} stay in use while it has no carrier",
            why="when the other end is silent, IPv6 goes on into the dead tunnel",
            remedy=f"{enter}sysctl -w {' '.join(setting.format(one) for one in names)};"
            " default in /etc/sysctl.d, as gred.service may not set it",
        )


def _interface_mtu(tunnel: Tunnel) -> Iterator[Finding]:
    ip = "ip" if tunnel.namespace is None else f"ip -n {tunnel.namespace}"
    known = tunnel.mtu_configured is not None or any(r.mtu for r in tunnel.remotes)
    fixed = tunnel.mtu_configured
    if tunnel.mtu is not None and known and not tunnel.loop:
        # One that is smaller than computed follows what gred has learned of the path.
        changed = tunnel.mtu != fixed if fixed is not None else tunnel.mtu > tunnel.mtu_computed
        if changed:
            source = "MTUBytes=" if fixed is not None else "the route less all headers"
            yield Finding(
                kind="interface_mtu",
                tunnels=(tunnel.name,),
                what=f"the MTU of {tunnel.name} is {tunnel.mtu}, not {tunnel.mtu_computed}"
                f" ({source})",
                why="packets too large for the path enter the tunnel, or fewer bytes than could",
                remedy=f"{ip} link set dev {tunnel.name} mtu {tunnel.mtu_computed}",
            )


def _path_mtu(tunnel: Tunnel) -> Iterator[Finding]:
    fixed = tunnel.mtu_configured
    for remote in tunnel.remotes:
        limits = [(remote.mtu, "the route's MTU"), (remote.learned_mtu, "the path's MTU")]
        if isinstance(remote.ipsec, IPsec) and remote.ipsec.policy == "protect":
            limits.append((remote.ipsec.largest, "what IPsec leaves"))
        tightest = min(((mtu, name) for mtu, name in limits if mtu), default=None)
        if fixed is None or tightest is None or tunnel.fragments:
            continue
        limit, name = tightest
        if fixed + tunnel.overhead > limit:
            yield Finding(
                kind="mtu_above_path",
                tunnels=(tunnel.name,),
                what=f"MTUBytes={fixed} makes outer packets of {fixed + tunnel.overhead} bytes, and"
                f" {name} to {remote.address} is {limit}",
                why="full-size packets do not get there: small ones pass, large ones vanish",
                remedy=f"set MTUBytes={limit - tunnel.overhead}, or MTUBytes=auto",
            )


def _inner(tunnel: Tunnel) -> Iterator[Finding]:
    ipv4 = [network for network in tunnel.elsewhere if network.version == 4]
    if tunnel.rp_filter == _STRICT and ipv4:
        yield Finding(
            kind="rp_filter_tunnel",
            tunnels=(tunnel.name,),
            what=f"rp_filter is strict on {tunnel.name}, and {ipv4[0]} is routed elsewhere",
            why="what arrives from there through the tunnel is dropped by this host",
            remedy=f"sysctl -w net.ipv4.conf.{tunnel.name}.rp_filter=2",
        )
    if not tunnel.between:
        return
    enter = "" if tunnel.namespace is None else f"ip netns exec {tunnel.namespace} "
    for version, enabled in tunnel.forwarding.items():
        if not enabled:
            networks = [str(one) for one in tunnel.routes if str(one.version) == version]
            name = "net.ipv4.ip_forward" if version == "4" else "net.ipv6.conf.all.forwarding"
            yield Finding(
                kind="forwarding_off",
                tunnels=(tunnel.name,),
                what=f"{networks[0]} is routed into {tunnel.name}, and this host does not forward"
                f" IPv{version}",
                why="only this host itself reaches it: packets of its other networks are dropped",
                remedy=f"{enter}sysctl -w {name}=1",
            )
