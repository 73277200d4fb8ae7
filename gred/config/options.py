"""The option table. One line per option; nothing else in gred lists them.

conf/gred.conf and docs/configuration.md repeat the sentences for people, and a test compares them.
Option names are systemd.netdev(5)'s where the meaning is equal.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gred.config import listening
from gred.config import values as kinds
from gred.config.model import UDP_PORT
from gred.config.values import Kind


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a section.

    *fields* are the fields of the model that it sets; two options that set one field exclude each
    other. *default* is text that *kind* reads. *ip_word* is what ip-tunnel(8) calls it, where that
    is another word: it is suggested when somebody writes it.
    """

    name: str
    fields: tuple[str, ...]
    default: str
    kind: Kind
    sentence: str
    ip_word: str = ""

    def read(self, text: str) -> dict[str, Any]:
        """Return the value of each field; raise BadValueError."""
        value = self.kind.read(text)
        return dict(zip(self.fields, value if len(self.fields) > 1 else (value,), strict=True))

    def write(self, values: Mapping[str, Any]) -> str | None:
        """Return the text for *values* by field, or None if this option cannot express them."""
        found = tuple(values[field] for field in self.fields)
        return self.kind.write(found if len(found) > 1 else found[0])


_LOG_FORMATS = kinds.choice(auto="auto", console="console", logfmt="logfmt", json="json")
_CHECKSUM_POLICIES = kinds.choice(require="require", accept="accept", refuse="refuse")
_MODES = kinds.choice(gre="gre", gretap="gretap")
_OFFLOAD = kinds.choice(auto=True, no=False)
_PACKET_SOCKET = kinds.choice(auto=True, no=False)
_TRANSPORT = kinds.choice(ip="ip", udp="udp")
_PORT = kinds.number(1, 65535)
_SOURCE_PORT = kinds.number(1, 65535, none="auto")
_IPSEC = kinds.choice(no="no", require="require")
_CARRIER = kinds.choice(keepalive="keepalive", always="always")
_PROBE = kinds.choice(auto="auto", yes="yes", no="no")
_KEEPALIVE = kinds.span(0.1, 32767, none="no")
_HOOK_TIMEOUT = kinds.span(0.1, 3600)
_RESOLVE = kinds.span(1, 3600, none="no")
_RETRIES = kinds.number(1, 255)
_TTL = kinds.number(1, 255, none="inherit")
_TOS = kinds.number(0, 255, none="inherit", hexadecimal=True)
_MTU = kinds.number(kinds.MTU_MIN, kinds.MTU_MAX, none="auto")
_MARK = kinds.number(1, kinds.MARK_MAX, none="none", hexadecimal=True)
_FLOW_LABEL = kinds.number(0, kinds.FLOW_LABEL_MAX, none="auto", hexadecimal=True)
_LIMIT = kinds.number(0, 255, none="none")
_KEYS = kinds.both(kinds.KEY)
_SEQUENCES = kinds.both(kinds.BOOLEAN)

# fmt: off
# ruff: noqa: E501  (a table is read by its columns: one line per option)
DAEMON_OPTIONS: tuple[Option, ...] = (
    Option("LogFormat", ("log_format",), "auto", _LOG_FORMATS, "Form of the log lines: auto is console on a terminal and a machine's form in a service."),
    Option("ControlSocket", ("control_socket",), "auto", kinds.SOCKET, "Where gred status, events and reload ask the daemon; auto is in its runtime directory, /run/gred."),
    Option("MetricsListen", ("metrics_listen",), "none", listening.LISTEN, "Where Prometheus gets metrics by HTTP (/metrics), and others whether gred lives (/healthz) and is ready (/ready); there is no password."),
    Option("MetricsTextfile", ("metrics_textfile",), "none", listening.TEXTFILE, "File that the same metrics are written to every 15 seconds, for the textfile collector of node_exporter."),
)

TUNNEL_OPTIONS: tuple[Option, ...] = (
    Option("Mode", ("mode",), "gre", _MODES, "What the tunnel carries: gre carries IP packets, gretap Ethernet frames; over IPv4 or IPv6, as the outer addresses are."),
    Option("Local", ("local", "local_interface"), "any", kinds.LOCAL, "Outer address of this end; %eth0 follows the address of eth0, and any leaves the choice to the route."),
    Option("Remote", ("remote", "remote_name"), "any", kinds.REMOTE, "Outer address of the other end, or its name; any receives from everybody and cannot send."),
    Option("ResolveInterval", ("resolve_interval",), "1min", _RESOLVE, "How often the name in Remote= is resolved again, besides at once when the other end is lost; no is only then."),
    Option("Transport", ("transport",), "ip", _TRANSPORT, "What carries GRE: ip is IP protocol 47, udp is GRE-in-UDP (RFC 8086), which passes firewalls and clouds that drop protocol 47; costs 8 bytes of MTU."),
    Option("Port", ("port",), str(UDP_PORT), _PORT, "With Transport=udp: UDP port that is received from; tunnels share it."),
    Option("RemotePort", ("remote_port",), str(UDP_PORT), _PORT, "With Transport=udp: UDP port of the other end that is sent to.", "encap-dport"),
    Option("SourcePort", ("source_port",), "auto", _SOURCE_PORT, "With Transport=udp: UDP port that is sent from; auto is one of 16 ports from 49152 on, chosen by the inner flow, so that routers and network cards on the way see many flows.", "encap-sport"),
    Option("UDPChecksum", ("udp_checksum",), "yes", kinds.BOOLEAN, "With Transport=udp: whether packets are sent with a UDP checksum; with no, packets without one are also taken over IPv6, and packets are not sent in large segments.", "encap-csum"),
    Option("Device", ("underlay_device",), "none", kinds.DEVICE, "Interface or VRF that outer packets leave through, whatever other routes there are; packets are received from any.", "dev"),
    Option("FirewallMark", ("firewall_mark",), "none", _MARK, "Mark of outer packets, for routing rules (ip rule fwmark) and the firewall.", "fwmark"),
    Option("Namespace", ("namespace",), "none", kinds.NAMESPACE, "Network namespace of the tunnel interface, when it is not that of the outer packets; needs CAP_SYS_ADMIN.", "netns"),
    Option("MACAddress", ("mac_address",), "none", kinds.MAC_ADDRESS, "Ethernet address of a gretap interface; without it the kernel makes up another one at each start."),
    Option("Address", ("addresses",), "none", kinds.INTERFACES, "Addresses of the tunnel interface, each with the prefix of its network."),
    Option("Route", ("routes",), "none", kinds.NETWORKS, "Networks that are routed into the tunnel."),
    Option("Repair", ("repair",), "yes", kinds.BOOLEAN, "Whether addresses, routes and MTU of the interface are put back when somebody else removes or changes them; no only says so."),
    Option("Key", ("input_key", "output_key"), "none", _KEYS, "Key in both directions: sent in every packet, and required of every packet received."),
    Option("InputKey", ("input_key",), "none", kinds.KEY, "Key required of packets received, when it is not the one sent; excludes Key=.", "ikey"),
    Option("OutputKey", ("output_key",), "none", kinds.KEY, "Key of packets sent, when it is not the one required; excludes Key=.", "okey"),
    Option("Checksum", ("input_checksum", "output_checksum"), "no", kinds.CHECKSUM, "Yes sends checksums and requires them; no sends none, and still verifies one that arrives.", "csum"),
    Option("InputChecksum", ("input_checksum",), "accept", _CHECKSUM_POLICIES, "Checksums on receipt: require drops packets without one, refuse drops packets with one; a wrong one is always dropped; excludes Checksum=.", "icsum"),
    Option("OutputChecksum", ("output_checksum",), "no", kinds.BOOLEAN, "Whether packets are sent with a checksum; excludes Checksum=.", "ocsum"),
    Option("SerializeTunneledPackets", ("input_sequence", "output_sequence"), "no", _SEQUENCES, "Sequence numbers in both directions: packets are numbered, and received ones must be numbered and in order.", "seq"),
    Option("InputSequence", ("input_sequence",), "no", kinds.BOOLEAN, "Whether packets received must be numbered and in order; excludes SerializeTunneledPackets=.", "iseq"),
    Option("OutputSequence", ("output_sequence",), "no", kinds.BOOLEAN, "Whether packets sent are numbered; excludes SerializeTunneledPackets=.", "oseq"),
    Option("TTL", ("ttl",), "64", _TTL, "TTL or hop limit of outer packets; inherit copies the inner one, which stops routing protocols that send with TTL 1.", "hoplimit"),
    Option("TOS", ("tos",), "inherit", _TOS, "TOS or traffic class of outer packets; inherit copies the inner one; the two ECN bits follow RFC 6040 in any case.", "tclass"),
    Option("DiscoverPathMTU", ("discover_path_mtu",), "yes", kinds.BOOLEAN, "Whether outer packets have Don't Fragment set; with no, routers on the way may fragment them.", "pmtudisc"),
    Option("ProbeMTU", ("probe_mtu",), "auto", _PROBE, "Whether padded keepalives find out what the path carries where no ICMP error says so: auto while Keepalive= is answered, yes also without Keepalive=."),
    Option("IgnoreDontFragment", ("ignore_dont_fragment",), "no", kinds.BOOLEAN, "Whether outer packets may be fragmented even if the inner one has Don't Fragment set; needs DiscoverPathMTU=no.", "ignore-df"),
    Option("IPv6FlowLabel", ("flow_label",), "auto", _FLOW_LABEL, "Flow label of outer IPv6 headers; auto gives each inner flow one of its own, by which routers balance.", "flowlabel"),
    Option("EncapsulationLimit", ("encapsulation_limit",), "none", _LIMIT, "How many more tunnels outer IPv6 packets may enter (RFC 2473); costs 16 bytes of MTU; one received is accepted in any case.", "encaplimit"),
    Option("MTUBytes", ("mtu",), "auto", _MTU, "MTU of the tunnel interface; auto is the MTU of the route to the remote less all outer headers.", "mtu"),
    Option("Protocol", ("protocol",), "none", kinds.PROTOCOL, "One more protocol type (EtherType) that is carried beside IPv4 and IPv6, mpls being 0x8847; there is no offload then."),
    Option("Peers", ("peers",), "none", kinds.PEERS, "Without Remote=: which outer address an inner address or network is behind, as INNER@OUTER; the longest prefix wins, and a multicast network may be behind several, which all get a copy."),
    Option("LearnPeers", ("learn_peers",), "no", kinds.BOOLEAN, "Without Remote=: whether the outer address of an inner one is learned from packets that arrive; needs a key; one that was heard within 30 seconds keeps what it has."),
    Option("AllowedSources", ("allowed_sources",), "none", kinds.NETWORKS, "Inner networks that packets of the other end may come from; what comes from elsewhere is dropped as spoofed. Without it they may come from anywhere."),
    Option("ClampMSS", ("clamp_mss",), "yes", kinds.BOOLEAN, "Whether TCP handshakes in both directions are made to promise no larger segments than the tunnel takes."),
    Option("Offload", ("offload",), "auto", _OFFLOAD, "Whether TCP and UDP cross the interface in large segments; auto uses what the kernel offers."),
    Option("PacketSocket", ("packet_socket",), "auto", _PACKET_SOCKET, "Whether packets that follow one another leave through a packet socket, the way that the kernel has just sent the first of them; auto allows it where no netfilter rule looks at outgoing packets."),
    Option("IPsec", ("ipsec",), "no", _IPSEC, "With require nothing leaves and nothing is taken that IPsec (ESP) does not protect; an IKE daemon or an administrator protects GRE between the two ends, and gred holds the tunnel shut until then."),
    Option("Keepalive", ("keepalive",), "no", _KEEPALIVE, "How often to ask the other end for a sign of life, as Cisco's keepalive does; the other end need only route the answer back."),
    Option("KeepaliveRetries", ("keepalive_retries",), "3", _RETRIES, "How many keepalives in a row may stay without an answer until the other end is taken for dead."),
    Option("KeepaliveTarget", ("keepalive_target",), "none", kinds.TARGET, "Inner address of the other end that is pinged (ICMP echo) instead, where it answers no keepalives."),
    Option("KeepaliveReply", ("keepalive_reply",), "yes", kinds.BOOLEAN, "Whether keepalives of the other end are answered, in the form of whichever vendor."),
    Option("Carrier", ("carrier",), "keepalive", _CARRIER, "With Keepalive=, keepalive takes the carrier of the interface away while the other end is dead, so that routes lead elsewhere; always leaves it."),
    Option("PostUp", ("post_up",), "none", kinds.COMMAND, "Program that is run, without a shell, when the interface is there with its addresses and routes; facts are in its environment."),
    Option("PreDown", ("pre_down",), "none", kinds.COMMAND, "Program that is run before gred takes the interface down; all of them together have five seconds."),
    Option("OnStateChange", ("on_state_change",), "none", kinds.COMMAND, "Program that is run when the tunnel has another state; one at a time, and of states that follow one another meanwhile the newest."),
    Option("HookTimeout", ("hook_timeout",), "10s", _HOOK_TIMEOUT, "How long a program of PostUp=, PreDown= or OnStateChange= may take; then it and what it started are ended."),
)
# fmt: on

SECTIONS: dict[str, dict[str, Option]] = {
    "Daemon": {option.name: option for option in DAEMON_OPTIONS},
    "Tunnel": {option.name: option for option in TUNNEL_OPTIONS},
}
