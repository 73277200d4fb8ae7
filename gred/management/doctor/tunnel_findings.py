"""What is wrong with one tunnel: its ends, its way, its interface, what it carries. Pure."""

from collections.abc import Iterator

from gred.management.doctor.facts import Facts, IPsec, Receivers, Remote, Tunnel, Underlay
from gred.management.doctor.finding import Finding

_STRICT = 1


def tunnel_findings(
    tunnel: Tunnel, underlays: dict[str, Underlay], facts: Facts
) -> Iterator[Finding]:
    """Find what is wrong with one tunnel."""
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
    if "shield" in {ipsec.policy, ipsec.inbound}:
        way = "to" if ipsec.policy == "shield" else "from"
        yield Finding(
            kind="ipsec_unprotected",
            tunnels=(tunnel.name,),
            what=f"IPsec=require, and no IPsec policy protects GRE {way} {far}",
            why="gred holds the tunnel shut: nothing leaves and nothing is taken",
            remedy=remedy,
        )
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
