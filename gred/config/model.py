"""What a configuration says, as frozen values. No text, no file, no check across tunnels.

Equality looks at what is configured, not at where it was written: a comment added above a tunnel
does not make it another tunnel.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import Literal

IPAddress = IPv4Address | IPv6Address
IPInterface = IPv4Interface | IPv6Interface
IPNetwork = IPv4Network | IPv6Network
UDP_PORT = 4754  # of GRE-in-UDP, RFC 8086 section 3.2.1
Mode = Literal["gre", "gretap"]
ChecksumPolicy = Literal["require", "accept", "refuse"]
Transport = Literal["ip", "udp"]
Carrier = Literal["keepalive", "always"]
ProbeMtu = Literal["auto", "yes", "no"]
Command = tuple[str, ...]
Ipsec = Literal["no", "require"]
LogFormat = Literal["auto", "console", "logfmt", "json"]


@dataclass(frozen=True, slots=True)
class Location:
    """Where something was written: a file and a line, counted from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelConfig:
    """One ``[Tunnel NAME]`` section.

    ``None`` means any for an address, inherit for TTL and TOS, auto for the MTU and the flow label,
    and none for anything else.
    """

    name: str
    """Name of the tunnel and of its interface; at most 15 bytes."""

    location: Location = field(compare=False)
    """Where the section begins."""

    places: Mapping[str, Location] = field(default_factory=dict, compare=False, repr=False)
    """Where each option that was written stands, by option name; see ``place``."""

    notes: tuple[str, ...] = field(default=(), compare=False, repr=False)
    """What was assumed in reading it, for ``gred check``."""

    mode: Mode = "gre"
    """What the tunnel carries: IP packets, or with gretap Ethernet frames."""

    local: IPAddress | None = None
    """Outer source address of what is sent, outer destination of what is received."""

    local_interface: str | None = None
    """Interface whose address stands for *local*, which is None then."""

    remote: IPAddress | None = None
    """Outer destination address of what is sent, outer source of what is received."""

    remote_name: str | None = None
    """Host whose address stands for *remote*, which is None as it is read."""

    resolve_interval: float | None = 60.0
    """Seconds after which *remote_name* is resolved again; None: when the other end is lost."""

    transport: Transport = "ip"
    """What carries GRE: IP protocol 47, or UDP (RFC 8086)."""

    port: int = UDP_PORT
    """UDP: where it is received; 1..65535."""

    remote_port: int = UDP_PORT
    """UDP: where it is sent to; 1..65535."""

    source_port: int | None = None
    """UDP: where it is sent from; None: one of several ports, by flow."""

    udp_checksum: bool = True
    """UDP: whether what is sent has a checksum, and over IPv6 whether what is received must."""

    underlay_device: str | None = None
    """Interface that outer packets leave through, or VRF that they are routed in."""

    firewall_mark: int | None = None
    """Mark of outer packets, for routing rules and netfilter; 1..4294967295."""

    namespace: str | None = None
    """Network namespace of the interface: a name under /run/netns, a path or a process."""

    mac_address: str | None = None
    """Ethernet address of the interface in gretap mode, as xx:xx:xx:xx:xx:xx; None is random."""

    addresses: tuple[IPInterface, ...] = ()
    """Addresses of the interface, each with the prefix of its network."""

    routes: tuple[IPNetwork, ...] = ()
    """Networks that are routed into the tunnel."""

    repair: bool = True
    """Whether addresses, routes and MTU are put back that somebody else has removed or changed."""

    input_key: int | None = None
    """Key a received packet must carry; with None it must carry no key. RFC 2890 section 2.1."""

    output_key: int | None = None
    """Key put into each packet sent; with None no key is sent. RFC 2890 section 2.1."""

    input_checksum: ChecksumPolicy = "accept"
    """What becomes of the checksum on receipt; one that is present and wrong never passes, and
    refuse drops packets that have one at all."""

    output_checksum: bool = False
    """Whether each packet sent carries a checksum. RFC 2784 section 2.3."""

    input_sequence: bool = False
    """Whether a received packet must carry a sequence number and be in order."""

    output_sequence: bool = False
    """Whether packets sent are numbered, from 0. RFC 2890 section 2.2."""

    ttl: int | None = 64
    """TTL or hop limit of the outer header, 1..255; None copies the inner one."""

    tos: int | None = None
    """TOS or traffic class of the outer header, 0..255; None copies the inner one. The two ECN
    bits follow RFC 6040 in any case."""

    discover_path_mtu: bool = True
    """Whether outer packets have DF set; without it they may be fragmented on their way."""

    probe_mtu: ProbeMtu = "auto"
    """Whether padded keepalives find out what the path carries; auto is with *keepalive*."""

    ignore_dont_fragment: bool = False
    """Whether the inner DF is not copied to outer packets where *discover_path_mtu* is off."""

    flow_label: int | None = None
    """Flow label of outer IPv6 headers, 0..0xFFFFF; None leaves it to the kernel."""

    encapsulation_limit: int | None = None
    """Tunnel encapsulation limit sent in outer IPv6 headers, 0..255. RFC 2473 section 4.1.1."""

    mtu: int | None = None
    """MTU of the interface in bytes; None follows the route to the remote."""

    protocol: int | None = None
    """One more protocol type (EtherType) that is carried beside IPv4 and IPv6."""

    peers: tuple[tuple[IPNetwork, IPAddress], ...] = ()
    """Without a remote: which outer address an inner network is behind."""

    learn_peers: bool = False
    """Without a remote: whether that is learned from the packets that arrive."""

    allowed_sources: tuple[IPNetwork, ...] = ()
    """Inner networks that packets of the other end may come from; none: they may from all."""

    clamp_mss: bool = True
    """Whether the MSS of TCP handshakes is lowered to what the tunnel takes."""
    offload: bool = True
    """Whether to let the kernel hand over and take TCP and UDP in large segments, where it can."""
    packet_socket: bool = True
    """Whether outer packets may follow others through a packet socket, where no netfilter rule
    looks at them."""

    ipsec: Ipsec = "no"
    """Whether outer packets must be protected by IPsec, in both directions."""

    keepalive: float | None = None
    """Seconds between keepalives, each of which the other end answers; None asks for no answer."""

    keepalive_retries: int = 3
    """How many keepalives in a row may stay without an answer until the other end is dead."""

    keepalive_target: IPAddress | None = None
    """Inner address that is pinged instead; None asks with keepalives."""

    keepalive_reply: bool = True
    """Whether keepalives of the other end are answered."""

    carrier: Carrier = "keepalive"
    """Whether the interface has a carrier always, or while keepalives are answered."""

    post_up: Command = ()
    """What is run when the interface is there: a program's path and its arguments; or nothing."""

    pre_down: Command = ()
    """What is run before the interface goes because gred stops or lets the tunnel go."""

    on_state_change: Command = ()
    """What is run when the tunnel has another state."""

    hook_timeout: float = 10.0
    """Seconds that a program of those may take until it is ended."""

    @property
    def family(self) -> Literal[4, 6]:
        """IP version of the outer header; 4 when both addresses are open, and nobody is a peer.

        Where *remote_name* is not resolved yet it may become the other one.
        """
        address = self.remote if self.remote is not None else self.local
        if address is None and self.peers:
            address = self.peers[0][1]
        return 6 if address is not None and address.version == 6 else 4

    @property
    def has_remote(self) -> bool:
        """Whether there is one other end, its address known or not."""
        return self.remote is not None or self.remote_name is not None

    @property
    def far_end(self) -> str:
        """The other end in words: its address, as long as none is known its name, or any."""
        return str(self.remote or self.remote_name or "any")

    @property
    def echo_source(self) -> IPAddress | None:
        """Own inner address that *keepalive_target* is pinged from; None: there is none."""
        if self.keepalive_target is None:
            return None
        version = self.keepalive_target.version
        own = [one for one in self.addresses if one.version == version]
        near = (one.ip for one in own if self.keepalive_target in one.network)
        return next(near, own[0].ip if own else None)

    def place(self, option: str) -> Location:
        """Return the line of *option*, or the line of the section when it was not written."""
        return self.places.get(option, self.location)


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """An address and a port, or without an address the *path* of a unix socket."""

    address: IPAddress | None = None
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        """Return it as it is configured."""
        if self.address is None:
            return f"unix:{self.path}"
        host = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonConfig:
    """The ``[Daemon]`` section."""

    log_format: LogFormat = "auto"
    """Form of the log lines; auto is console on a terminal and a machine's form in a service."""

    control_socket: str = "auto"
    """Where ``gred status`` and its like ask: a path, auto or none."""

    metrics_listen: ListenAddress | None = None
    """Where Prometheus asks; None: nowhere."""

    metrics_textfile: str | None = None
    """File that node_exporter's textfile collector reads; None: none is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A whole configuration: main file and drop-ins."""

    daemon: DaemonConfig
    """What holds for the whole process."""

    tunnels: tuple[TunnelConfig, ...]
    """The tunnels, in the order they were written; names are unique."""

    file: str = field(default="", compare=False)
    """The main file; empty when it was not read from one."""
