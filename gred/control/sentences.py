"""What refused packets, silence and loss mean, a sentence each: who does what, and what to do.

Pure functions of evidence. Nothing here decides whether it is so.
"""

from ipaddress import ip_address

from gred.config.model import IPAddress, TunnelConfig
from gred.control.kernel.routes import Delivery
from gred.control.kernel.xfrm import Policy
from gred.dataplane.punt import Report
from gred.wire.drop import DropReason
from gred.wire.gre import PROTOCOL_ETHERNET, PROTOCOL_IPV4, PROTOCOL_IPV6

# What a protocol type that no tunnel of ours carries is: assigned numbers of IEEE and IANA.
_PROTOCOLS = {
    0x0806: "ARP without an Ethernet header",
    0x2001: "NHRP",
    0x6559: "Frame Relay",
    0x8100: "VLAN-tagged frames without an Ethernet header",
    0x8847: "MPLS",
    0x8848: "MPLS",
    0x00FE: "OSI (CLNS)",
    0x894F: "NSH",
}
_NO_WAY = {"ENETUNREACH", "EHOSTUNREACH"}
_POLICIES = "ip xfrm policy"
_FOREIGN_KINDS = {
    DropReason.EOIP: "EoIP of MikroTik, which is no GRE tunnel: configure /interface gre there",
    DropReason.PPTP: "PPTP (GRE version 1), which is no GRE tunnel: configure plain GRE there",
    DropReason.ERSPAN: "ERSPAN, mirrored traffic, which is no tunnel: configure plain GRE there",
    DropReason.WCCP: "WCCP, redirected traffic, and this tunnel does not take it: configure plain"
    " GRE there",
    DropReason.MPLS: "MPLS: Protocol=mpls takes it, or let it send IP",
    DropReason.BAD_VERSION: "a version of GRE that is neither 0 nor 1: it is no GRE tunnel",
    DropReason.ROUTING: "GRE with the routing option of RFC 1701, which nobody has implemented: it"
    " is another protocol, or damaged on its way",
    DropReason.RESERVED_BITS: "GRE with reserved bits set, which RFC 2784 has discarded: it is"
    " another protocol, or damaged on its way",
    DropReason.TRUNCATED: "packets that end before their headers do: they are cut on their way",
    DropReason.CSUM_ERR: "packets whose GRE checksum is wrong: they are damaged on their way, or a"
    " middlebox changes them",
    DropReason.BAD_INNER: "packets whose content is not what their protocol type says",
    DropReason.ECN_ERR: "packets that were marked for congestion though what they carry does not"
    " know ECN: a router on the way rewrites TOS",
}


def refused(report: Report, config: TunnelConfig) -> str:
    """Say what it means that packets of the other end are refused for the reason of *report*.

    Empty for a reason that is no matter of how the two ends are configured.
    """
    who = report.source if report.source is not None else config.remote
    match report.reason:
        case DropReason.KEY_MISMATCH:
            return f"{who} {_key_sentence(report.key, config)}"
        case DropReason.CSUM_MISSING:
            return (
                f"{who} sends without checksums, and this end requires them: Checksum=yes there,"
                " or InputChecksum=accept here"
            )
        case DropReason.CSUM_UNEXPECTED:
            return (
                f"{who} sends with checksums, and this end refuses them: Checksum=no there, or"
                " InputChecksum=accept here"
            )
        case DropReason.SEQ_MISSING:
            return (
                f"{who} sends without sequence numbers, and this end requires them:"
                " SerializeTunneledPackets=yes there, or InputSequence=no here"
            )
        case DropReason.OUT_OF_SEQ:
            return (
                f"{who} sends sequence numbers that have been before: packets arrive twice, very"
                " late, or from two senders with the same key"
            )
        case DropReason.UNKNOWN_PROTOCOL:
            return f"{who} {_protocol_sentence(report.protocol, config)}"
        case DropReason.SPOOFED:
            if _is_of_the_link(report.detail):
                return ""  # it announces itself: that proves nothing of its settings
            return (
                f"{who} sends packets {report.detail}, which AllowedSources= does not have: add it"
                " there if that is right"
            )
        case _:
            kind = _FOREIGN_KINDS.get(report.reason)
            return f"{who} sends {kind}" if kind else ""


def unsent(report: Report, config: TunnelConfig, room: int | None) -> str:
    """Say what it means that a packet of the tunnel itself was not sent, by *report*.

    *room*: bytes of an inner packet that the path takes, None: as many as the interface. Empty for
    what the reason says by itself, and for packets of others.
    """
    remote = report.destination
    match report.reason:
        case DropReason.NO_ROUTE if report.detail in _NO_WAY:
            return (
                f"this host has no way to {remote} for GRE ({report.detail}): a routing rule, or a"
                f" route of type unreachable (ip rule; ip route get {remote} ipproto gre)"
            )
        case DropReason.NO_REMOTE if report.detail:
            return (
                f"{report.detail}: no peer has that inner address (Peers=INNER@OUTER, a Route= by"
                " way of a peer, or LearnPeers=yes)"
            )
        case DropReason.NO_BUFS if report.detail and remote is not None:
            return (
                f"the queue of the interface by which GRE leaves is full ({report.detail}): more"
                " is sent than the link carries, or its qdisc is short (tc -s qdisc)"
            )
        case DropReason.TOO_BIG if room is not None and config.mtu is not None:
            if config.mtu > room:
                return (
                    f"longer than the {room} bytes that the path's MTU leaves: MTUBytes="
                    f"{config.mtu} is too large, MTUBytes=auto follows the path"
                )
    return ""


def _is_of_the_link(detail: str) -> bool:
    """Whether what is refused is said to be *from* an address that any IPv6 host speaks from."""
    try:
        source = ip_address(detail.removeprefix("from "))
    except ValueError:
        return False
    return source.version == 6 and (source.is_link_local or source.is_unspecified)


def _key_sentence(key: int | None, config: TunnelConfig) -> str:
    expected, sent = config.input_key, config.output_key
    if key is None:
        return f"sends no key, and this end expects key {expected}: Key={expected} there"
    if expected is None:
        return f"sends with key {key}, and this end has none: Key={key} here, or no key there"
    if key == sent:
        return (
            f"sends with key {key}, which is the key that this end sends with; it expects"
            f" {expected}: the keys are crossed at neither end, swap InputKey= and OutputKey= at"
            " one of them"
        )
    return (
        f"sends with key {key}, and this end expects key {expected}: Key={key} here, or"
        f" Key={expected} there"
    )


def _protocol_sentence(protocol: int | None, config: TunnelConfig) -> str:
    if protocol == PROTOCOL_ETHERNET:
        return (
            "sends Ethernet frames: its tunnel is gretap, this one is gre: Mode=gretap here, or"
            " Mode=gre (a tunnel of kind gre) there"
        )
    if config.mode == "gretap" and protocol in {PROTOCOL_IPV4, PROTOCOL_IPV6}:
        return (
            "sends IP packets: its tunnel is gre, this one is gretap: Mode=gre here, or"
            " Mode=gretap (a tunnel of kind gretap) there"
        )
    if protocol is None:
        return "sends packets of a protocol that this tunnel does not carry"
    named = _PROTOCOLS.get(protocol)
    what = f"{named}, " if named else ""
    return (
        f"sends {what}protocol type 0x{protocol:04x}, which this tunnel does not carry:"
        f" Protocol=0x{protocol:04x} takes it"
    )


def stray(report: Report, config: TunnelConfig, local: IPAddress | None) -> str:
    """Say what it means that packets like those of the other end arrive between other addresses.

    *local*: where outer packets of the tunnel leave from. Empty: they do not fit.
    """
    if report.source is None or report.destination is None:
        return ""
    if report.source == config.remote:
        if local is None or report.destination == local:
            return ""
        return (
            f"{report.source} sends to {report.destination}, and this end is {local}:"
            f" Remote={local} there, or Local={report.destination} here"
        )
    return (
        f"packets like its own arrive from {report.source} and none from {config.remote}: a NAT is"
        f" between, or the other end sends from another address: Remote={report.source} here, or"
        f" Local={config.remote} there"
    )


def unanswered(remote: IPAddress | None, sent: int, seconds: float, opinion: str = "") -> str:
    """Say that *sent* packets in *seconds* brought none back. *opinion*: why, where it is known."""
    who = str(remote) if remote is not None else "the other ends"
    why = opinion or (
        f"{who} sends nothing, its tunnel is configured otherwise, or protocol 47 is dropped"
        " without a word on the way (gred doctor here and there; Keepalive=10s keeps watch)"
    )
    return f"sent {sent} packets in {seconds:.0f} s, received none: {why}"


def kept_away(remote: IPAddress, policy: Policy | None) -> str:
    """Say that what the other end sends reaches this host, and gred does not get it.

    *policy*: what IPsec wants of it, None: nothing.
    """
    if policy is not None and policy.blocks:
        return f"an IPsec policy of this host blocks all GRE that {remote} sends ({_POLICIES})"
    if policy is not None and policy.ends:
        return (
            f"GRE of {remote} arrives in clear text, and an IPsec policy of this host wants it"
            f" protected: protect it there too, or remove the policy here ({_POLICIES})"
        )
    return (
        f"GRE of {remote} reaches this host and is dropped before gred reads it: a firewall here"
        " (nft list ruleset, iptables -S INPUT) or reverse path filtering where it arrives"
        " (sysctl net.ipv4.conf.all.rp_filter)"
    )


def silent_hop(remote: IPAddress, hop: IPAddress) -> str:
    """Say that *hop*, to which packets to *remote* are handed, is not there."""
    who = f"{hop}, the gateway to {remote}," if hop != remote else f"{remote}, on this link,"
    asked = "ARP" if hop.version == 4 else "neighbour discovery"
    return f"{who} does not answer {asked}: it is down, or not on this link (ip neigh show {hop})"


def held_back(remote: IPAddress | None) -> str:
    """Say that IPsec holds every packet back."""
    return (
        f"an IPsec policy of this host holds every packet to {remote} back, as there is no SA yet:"
        " does the IKE daemon run (ip xfrm state)?"
    )


def undelivered(
    source: IPAddress,
    destination: IPAddress,
    delivery: Delivery,
    name: str,
    *,
    is_numbered: bool = True,
) -> str:
    """Say why this host drops what the tunnel *name* delivers, or where what answers it goes.

    *delivery*: the kernel's verdict. *is_numbered*: the tunnel is to have an address. Empty where
    it is delivered, and where an answer to a public address leaves elsewhere: many want just that,
    and send back by the shortest way what a tunnel brought them.
    """
    head = f"packets arrive, and this host drops them: {source} to {destination} "
    match delivery.drop:
        case "":
            return ""
        case "elsewhere" if source.is_global:
            return ""
        case "elsewhere":
            leaves = f"leave by {delivery.way}" if delivery.way else "have no route at all"
            return (
                f"packets of {source} arrive, and answers to it are not routed into {name}, they"
                f" {leaves}: Route= with its network, or Address= with the prefix that both ends"
                f" share (ip route get {source})"
            )
        case "filtered":
            return head + (
                f"does not pass reverse path filtering, as {source} is not routed into {name}:"
                f" Route= with its network, or sysctl net.ipv4.conf.{name}.rp_filter=2"
            )
        case "forwarding" if not is_numbered:
            return head + (
                f"is for no address of this host, and {name} has none: Address={destination}/..."
                " if it is to be this host's"
            )
        case "forwarding":
            setting = "ip_forward" if destination.version == 4 else "conf.all.forwarding"
            return head + (
                f"is for no address of this host, and forwarding is off: Address={destination}/..."
                " if it is to be this host's, else sysctl"
                f" net.ipv{destination.version}.{setting}=1"
            )
        case "own":
            return head + (
                f"comes from an address of this host: {source} is configured at both ends, each"
                " needs its own (Address=)"
            )
        case _:
            return head + f"has no route here: ip route get {destination} from {source} iif {name}"


def unanswered_pings(source: IPAddress, destination: IPAddress, name: str) -> str:
    """Say that this host answers no pings that the tunnel *name* delivers to it."""
    return (
        f"pings of {source} to {destination} arrive and are delivered, and no answer leaves: a"
        f" firewall of this host drops them behind {name} (nft list ruleset, iptables -S), or it"
        " answers none (sysctl net.ipv4.icmp_echo_ignore_all)"
    )


def swallowed(source: IPAddress, destination: IPAddress, name: str) -> str:
    """Say that this host itself does not get the pings or answers that *name* delivers to it."""
    return (
        f"packets of {source} to {destination} arrive and are delivered, and this host itself gets"
        f" none of them: a firewall of this host drops them behind {name} (nft list ruleset,"
        " iptables -S)"
    )


def lossy(remote: IPAddress | None, lost: int, of: int, seconds: float) -> str:
    """Say how many of the other end's packets did not arrive, by their sequence numbers."""
    return (
        f"{lost} of {of} packets of {remote} were lost on the way within {seconds:.0f} s:"
        " the path is full or bad"
    )


def unordered(remote: IPAddress | None, late: int, of: int, seconds: float) -> str:
    """Say how many came late or twice, by their sequence numbers, and were dropped for it."""
    return (
        f"{late} of {of} packets of {remote} came out of order or twice within {seconds:.0f} s and"
        " were dropped: the path reorders (several links, or routers that balance by packet), and"
        " sequence numbers make that a loss: SerializeTunneledPackets=no at both ends"
    )


def doubled(remote: IPAddress | None, late: int, of: int, seconds: float) -> str:
    """Say how many packets came twice, by their sequence numbers."""
    return (
        f"{late} of {of} packets of {remote} were duplicates within {seconds:.0f} s, and were"
        " dropped: something on the way sends them twice (a mirror port, two routers, a bad bridge)"
    )


def lossy_keepalives(remote: IPAddress | None, lost: int, of: int) -> str:
    """Say how many keepalives stayed without an answer, though the other end is alive."""
    return (
        f"{lost} of the last {of} keepalives to {remote} were lost, there or on the way back: the"
        " path loses packets, it is full or bad"
    )
