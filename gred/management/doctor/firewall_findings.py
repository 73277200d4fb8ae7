"""Which rules of packet filters stop what tunnels send and receive. Pure."""

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network

from gred.config.model import IPNetwork
from gred.management.doctor.facts import Facts, Firewall, Tunnel, Unseen
from gred.management.doctor.finding import Finding
from gred.management.doctor.ruleset import GRE, UDP, Condition, Packet, Ruleset, Stop, stops


def firewall_findings(facts: Facts) -> Iterator[Finding]:
    """Find rules that stop packets which a tunnel sends or waits for."""
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
