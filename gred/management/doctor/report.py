"""Facts and findings as text, one bullet a fact, and as JSON. Pure.

The keys of the JSON are the names of the fields in facts.py; see docs/doctor.md.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, TypeVar

from gred import __version__
from gred.management.doctor.facts import (
    Buffers,
    Capabilities,
    Codec,
    Configuration,
    Facts,
    Holder,
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
from gred.management.doctor.finding import Finding
from gred.management.doctor.ruleset import Ruleset

T = TypeVar("T")

SCHEMA = 1  # grows when a key changes its meaning or goes; not when one is added

_SHOWN = 3  # names, in a list
_RP_FILTER = {0: "off", 1: "strict", 2: "loose"}


def as_json(facts: Facts, findings: Sequence[Finding]) -> str:
    """Return one object: schema, version, facts, findings."""
    return json.dumps(
        {
            "schema": SCHEMA,
            "version": __version__,
            "facts": _plain(facts),
            "findings": [dataclasses.asdict(finding) for finding in findings],
        },
        indent=2,
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Ruleset):
        # Not the rules: who wants them has their own tools for that.
        return {
            "chains": len(value.chains),
            "rules": sum(len(chain.rules) for chain in value.chains),
        }
    if dataclasses.is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name)) for one in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, IPv4Address | IPv6Address | IPv4Network | IPv6Network):
        return str(value)
    return value


def as_text(facts: Facts, findings: Sequence[Finding]) -> str:
    """Return bullets of facts, those of each tunnel under its name, and the findings."""
    lines = ["Facts:", *(f"  * {line}" for line in _host(facts))]
    if isinstance(facts.tunnels, Unseen):
        lines.append(f"  * tunnels: could not see: {facts.tunnels.unseen}")
    else:
        for tunnel in facts.tunnels:
            lines += ["", f"[Tunnel {tunnel.name}] ({tunnel.where})"]
            lines += [f"  * {line}" for line in _tunnel(tunnel)]
    lines += ["", "Findings:" if findings else "No findings."]
    for number, finding in enumerate(findings, 1):
        place = f"[Tunnel {_some(finding.tunnels)}] " if finding.tunnels else ""
        lines += [
            f"  {number}. {place}{finding.what}",
            f"     why it matters: {finding.why}",
            f"     to mend it:     {finding.remedy}",
        ]
    return "\n".join(map(_printable, lines))


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _printable(line: str) -> str:
    """Return *line* as any terminal may show it: names and comments are others' text."""
    return "".join(
        one if " " <= one <= "~" else one.encode("unicode_escape", "surrogatepass").decode()
        for one in line
    )


def _host(facts: Facts) -> Iterator[str]:
    yield from _configuration(facts.configuration, facts.tunnels)
    yield "/dev/net/tun: " + _told(facts.tun, _tun)
    yield "capabilities: " + _told(facts.capabilities, _capabilities)
    yield "codec: " + _told(facts.codec, _codec)
    yield "kernel GRE: " + _told(facts.kernel_gre, _kernel_gre)
    if isinstance(facts.receivers, Unseen):
        yield f"receivers of GRE: could not see: {facts.receivers.unseen}"
    else:
        yield from _receivers(facts.receivers)
    if isinstance(facts.firewall, Unseen):
        yield f"packet filters: could not see: {facts.firewall.unseen}"
    else:
        yield "nftables: " + _told(facts.firewall.nftables, _rules)
        yield "iptables-legacy: " + _told(facts.firewall.iptables, _rules)
    capabilities = facts.capabilities
    yield "receive buffer: " + _told(facts.buffers, lambda seen: _buffers(seen, capabilities))
    yield "service: " + _told(facts.service, _service)
    yield "systemd-networkd: " + ("has run since boot" if facts.networkd else "does not run here")
    for underlay in facts.underlays:
        yield f"underlay {underlay.name}: {_underlay(underlay)}"


def _told(fact: T | Unseen, words: Callable[[T], str]) -> str:
    """Return *fact* in *words*, or why it was not seen."""
    return f"could not see: {fact.unseen}" if isinstance(fact, Unseen) else words(fact)


def _configuration(
    configuration: Configuration, tunnels: tuple[Tunnel, ...] | Unseen
) -> Iterator[str]:
    file = configuration.file
    if configuration.problems:
        yield f"configuration: {file} is wrong, nothing is said of its tunnels:"
        yield from (f"  {problem}" for problem in configuration.problems)
    elif not configuration.read:
        why = f"could not see {file}: {configuration.unseen}"
        missing = why if configuration.unseen else f"there is no {file}"
        yield f"configuration: {missing}; nothing is said of tunnels, their routes and interfaces"
    else:
        number = 0 if isinstance(tunnels, Unseen) else len(tunnels)
        yield f"configuration: {file}, {_many(number, 'tunnel')}"
        yield from (f"  {note}" for note in configuration.notes)


def _tun(tun: Tun) -> str:
    if not tun.present:
        return "is not there"
    if tun.wrong:
        return f"is {tun.wrong}"
    words = {
        True: "opens",
        False: f"does not open for this user: {tun.error}",
        None: "is there; not opened, as the kernel would load its driver",
    }[tun.opens]
    user = {None: "", True: "; user gred may open it", False: "; user gred may not open it"}
    return words + user[tun.service_user]


def _capabilities(own: Capabilities) -> str:
    inner = "" if own.initial else ", in a user namespace"
    if not own.missing:
        return f"{own.user} has what gred needs here{inner}"
    names = ", ".join(f"CAP_{name.upper()}" for name in own.missing)
    return f"{own.user} lacks {names}{inner}" + (
        "" if own.user == "root" else "; no finding: the service has its own"
    )


def _codec(codec: Codec) -> str:
    if codec.implementation == "c":
        return "C extension"
    return "pure Python" + (" (GRED_NO_EXTENSIONS=1)" if codec.chosen else "")


def _kernel_gre(kernel: KernelGre) -> str:
    modules = ", ".join(kernel.modules)
    links = ", ".join(f"{link.name} ({link.kind})" for link in kernel.links)
    return (f"modules {modules}" if modules else "no module loaded") + (
        f"; up: {links}" if links else ""
    )


def _receivers(receivers: Receivers) -> Iterator[str]:
    for running in receivers.running:
        names = ", ".join(running.tunnels) or "none"
        yield f"gred runs: process {running.pid}, tunnels {names}"
    if not receivers.running:
        yield "gred does not run in this network namespace"
    owners: dict[str, int] = {}
    for holder in receivers.holders:
        owner = _owner(holder)
        owners[owner] = owners.get(owner, 0) + 1
    shown = ", ".join(f"{owner} {number}" for owner, number in owners.items())
    yield f"raw sockets for protocol 47: {shown or 'none'}"


def _owner(holder: Holder) -> str:
    if holder.pid is not None:
        return f"{holder.program} (process {holder.pid})"
    if holder.gred:
        return f"gred (user {holder.user})"
    return f"user {holder.user} (could not see the process)"


def _rules(rules: Ruleset) -> str:
    number = sum(len(chain.rules) for chain in rules.chains)
    hooked = sum(bool(chain.hook) for chain in rules.chains)
    if not rules.chains:
        return "no rules"
    return f"{_many(number, 'rule')}, {_many(hooked, 'chain')} at hooks"


def _many(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _buffers(buffers: Buffers, capabilities: Capabilities | Unseen) -> str:
    bound = isinstance(capabilities, Capabilities) and not capabilities.initial
    return f"gred asks for {buffers.asked} bytes; net.core.rmem_max is {buffers.limit}" + (
        ", which bounds it in a user namespace" if bound else ", and does not bound CAP_NET_ADMIN"
    )


def _service(service: Service) -> str:
    if not service.unit:
        return "not installed"
    enabled = {None: "", True: ", enabled", False: ", not enabled"}[service.enabled]
    state = service.state or "state not seen (systemd is not the first process)"
    since = f" since {service.since}" if service.since else ""
    pid = f", process {service.pid}" if service.pid else ""
    return f"{service.unit}{enabled}, {state}{since}{pid}"


def _underlay(underlay: Underlay) -> str:
    features = _told(underlay.offloads, _offloads)
    return f"mtu {underlay.mtu}, rp_filter {_rp_filter(underlay.rp_filter)}, {features}"


def _offloads(offloads: dict[str, bool]) -> str:
    return ", ".join(f"{name} {'on' if on else 'off'}" for name, on in offloads.items())


def _rp_filter(value: int) -> str:
    return _RP_FILTER.get(value, str(value))


def _tunnel(tunnel: Tunnel) -> Iterator[str]:
    yield f"local: {_local(tunnel)}"
    if not tunnel.remotes:
        yield "remote: any, learned from what arrives"
    for remote in tunnel.remotes:
        yield f"remote {remote.address}: {_remote(remote)}"
        if isinstance(remote.ipsec, Unseen):
            yield f"IPsec to {remote.address}: could not see: {remote.ipsec.unseen}"
        elif (remote.ipsec.policy, remote.ipsec.inbound) != ("none", "none") or remote.ipsec.error:
            yield f"IPsec to {remote.address}: {_ipsec(remote.ipsec)}"
    if tunnel.steered:
        yield "routing rules select GRE: packets may take another way than a look-up shows"
    yield f"interface: {_interface(tunnel)}"
    yield f"MTU: {_mtu(tunnel)}"
    if tunnel.rp_filter is not None:
        yield f"rp_filter inside: {_rp_filter(tunnel.rp_filter)}"
    for version, enabled in tunnel.forwarding.items():
        beside = "" if tunnel.between else "; this host has no other network to forward from"
        yield f"forwarding of IPv{version}: {'on' if enabled else 'off'}{beside}"
    if tunnel.elsewhere:
        yield f"routed elsewhere: {', '.join(map(str, tunnel.elsewhere))}"
    if (file := tunnel.network_file) is not None:
        verb = "matches" if file.certain else "may match"
        but = f"; harmless by {file.harmless}" if file.harmless else ""
        yield f"networkd: {file.path} {verb} it (Name={file.names}){but}"


def _local(tunnel: Tunnel) -> str:
    if tunnel.local_missing:
        return tunnel.local_missing
    if tunnel.local is None:
        return "any"
    return f"{tunnel.local}" + (f" on {tunnel.local_device}" if tunnel.local_device else "")


def _remote(remote: Remote) -> str:
    if remote.no_route:
        return f"no route: {remote.no_route}"
    via = f" via {remote.gateway}" if remote.gateway else ""
    source = f" src {remote.source}" if remote.source else ""
    learned = f", the kernel has learned of {remote.learned_mtu}" if remote.learned_mtu else ""
    return f"{via} dev {remote.device}{source} mtu {remote.mtu}{learned}".strip()


def _ipsec(ipsec: IPsec) -> str:
    words = f"out {ipsec.policy}, in {ipsec.inbound}"
    if ipsec.policy == "protect":
        words += ", state there" if ipsec.state else ", no state"
    if ipsec.largest is not None:
        words += f", longest packet {ipsec.largest}"
    return words + (f" ({ipsec.error})" if ipsec.error else "")


def _interface(tunnel: Tunnel) -> str:
    place = "" if tunnel.namespace is None else f" in network namespace {tunnel.namespace}"
    if tunnel.exists is None:
        return f"could not see{place}"
    if not tunnel.exists:
        return f"does not exist{place}"
    state = {None: "", True: ", up", False: ", down"}[tunnel.up]
    if tunnel.carrier is False:
        state += ", no carrier"
    return f"exists{place}{state}" + (f", {tunnel.missing}" if tunnel.missing else "")


def _mtu(tunnel: Tunnel) -> str:
    configured = "auto" if tunnel.mtu_configured is None else tunnel.mtu_configured
    words = f"configured {configured}, computed {tunnel.mtu_computed}"
    actual = "" if tunnel.mtu is None else f", of the interface {tunnel.mtu}"
    return f"{words}{actual} ({tunnel.overhead} of headers)"
