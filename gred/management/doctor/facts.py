"""What can be known of a host and its tunnels without changing anything: values, no judgement.

Every field of these is a key of ``gred doctor --json``, documented in docs/doctor.md. Fields are
added and never change their meaning. Nothing here asks, nothing decides whether a fact is good.
"""

from dataclasses import dataclass, field

from gred.config.model import IPAddress, IPNetwork
from gred.management.doctor.ruleset import Ruleset


@dataclass(frozen=True, slots=True)
class Unseen:
    """Stands in the place of a fact that could not be seen; no finding against the host."""

    unseen: str
    """Why, in a few words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tun:
    """/dev/net/tun."""

    present: bool
    wrong: str = ""
    """What it is in the place of the device; empty: it is the device."""
    opens: bool | None = None
    """Whether this process may open it; None: not tried, the driver is not loaded."""
    error: str = ""
    """What the system said when it did not open."""
    service_user: bool | None = None
    """Whether user gred may, by owner, group and mode; None: there is no such user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What gred needs of the process that looks, which need not be the service."""

    user: str
    missing: tuple[str, ...] = ()
    """Of net_admin and net_raw, and sys_admin where a tunnel has a namespace."""
    initial: bool = True
    """Whether it is in the initial user namespace, where they count for everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """Which half of each twin this program runs."""

    implementation: str
    """c or python."""
    chosen: bool = False
    """Whether GRED_NO_EXTENSIONS asks for the slow one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelLink:
    """An interface of the kernel's own GRE that is up."""

    name: str
    kind: str
    version: int
    takes_all: bool
    """Whether it takes what no other of the kernel's does, as gre0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelGre:
    """The kernel's own GRE in this network namespace."""

    modules: tuple[str, ...] = ()
    """Of ip_gre, ip6_gre, gre and fou those that are loaded."""
    links: tuple[KernelLink, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A raw socket for protocol 47: who has it gets a copy of every packet."""

    version: int
    user: str
    inode: int
    pid: int | None = None
    """None: this process may not see whose it is."""
    program: str = ""
    gred: bool = False
    """Whether it is known to be a gred's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A gred that runs in this network namespace, and its tunnels."""

    pid: int
    tunnels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Receivers:
    """Who takes GRE in this network namespace."""

    holders: tuple[Holder, ...] = ()
    running: tuple[Running, ...] = ()
    rivals: dict[str, str] = field(default_factory=dict)
    """Configured tunnels whose packets somebody else takes -> a sentence on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Firewall:
    """The packet filters of this network namespace."""

    nftables: Ruleset | Unseen = field(default_factory=Ruleset)
    iptables: Ruleset | Unseen = field(default_factory=Ruleset)
    """iptables-legacy, beside nftables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Buffers:
    """Room for what has arrived and was not read."""

    asked: int
    """Bytes that gred asks for."""
    limit: int
    """net.core.rmem_max: what it gets without CAP_NET_ADMIN in the initial user namespace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Underlay:
    """A device that outer packets leave by."""

    name: str
    mtu: int
    rp_filter: int
    """The larger of net.ipv4.conf.all.rp_filter and its own: 0 off, 1 strict, 2 loose."""
    offloads: dict[str, bool] | Unseen = field(default_factory=dict)
    """tso, gso, gro, lro: whether they are on."""
    physical: bool = False
    """Whether a driver of real or virtual hardware is behind it, as /sys tells."""
    hears: bool = True
    """Whether packets of others come in by it; not by the loopback, a dummy or a VRF."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IPsec:
    """What IPsec does to GRE to a remote."""

    policy: str
    """none, block, protect or allow; of what is sent."""
    inbound: str = "none"
    """The same of what is received."""
    state: bool = False
    """Whether the states that the policy wants are there."""
    largest: int | None = None
    """Longest outer packet that the kernel takes, in bytes; None: refused, or not asked: without
    policies, or where the kernel would have the IKE daemon negotiate."""
    error: str = ""
    """What the kernel said when it was asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """One other end of a tunnel, and the way there."""

    address: IPAddress
    no_route: str = ""
    """Why there is no route, in the kernel's words; empty: there is one."""
    device: str = ""
    gateway: IPAddress | None = None
    source: IPAddress | None = None
    mtu: int | None = None
    """Of the route, in bytes."""
    learned_mtu: int | None = None
    """What the kernel has learned of the path. gred does not use it."""
    back: str = ""
    """Device of the route to the remote without mark and device: what rp_filter compares with."""
    ipsec: IPsec | Unseen = field(default_factory=lambda: IPsec(policy="none"))


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkFile:
    """A .network file of systemd-networkd that matches the interface of a tunnel."""

    path: str
    names: str
    """Its Name=."""
    certain: bool = True
    """False where it has conditions that are not looked at."""
    harmless: str = ""
    """The option that has networkd leave addresses alone; empty: it removes them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tunnel:
    """A configured tunnel, as it is and as it would be."""

    name: str
    where: str
    """File and line of its section."""
    mode: str
    port: int | None = None
    """UDP port that it receives from; None: it is protocol 47."""
    remote_port: int | None = None
    """UDP port that it sends to."""
    namespace: str | None = None
    local: IPAddress | None = None
    local_interface: str | None = None
    """Interface that is to have the local address, where Local= names one."""
    local_device: str = ""
    """Interface that has the local address now."""
    local_missing: str = ""
    """Why there is no local address; empty: there is, or any will do."""
    unresolved: str = ""
    """Why the name of its remote has no address; empty: it has, or there is no name."""
    remotes: tuple[Remote, ...] = ()
    loop: tuple[str, ...] = ()
    """Tunnels that its outer packets pass until they are back at it."""
    loop_certain: bool = False
    """Whether that is so now; otherwise it would be, unless there is a better route."""
    steered: bool = False
    """Whether routing rules select GRE: then a look-up may not show the way that packets take."""
    exists: bool | None = None
    """Whether its interface exists; None: not seen."""
    up: bool | None = None
    carrier: bool | None = None
    """Whether the interface has one; None: not seen, or it is down."""
    asks: str = ""
    """Whom it asks for signs of life: an address, or how many; empty: nobody (Keepalive=)."""
    follows_carrier: bool = False
    """Whether it has no carrier while nobody answers (Carrier=keepalive)."""
    ipv6_follows_carrier: bool | None = None
    """Whether its IPv6 routes are dead then; None: it carries no IPv6, or that was not seen."""
    missing: str = ""
    """Addresses, routes and the like that the interface lacks, in words."""
    mtu_configured: int | None = None
    mtu_computed: int = 0
    """From the route, or as configured."""
    mtu: int | None = None
    """Of the interface; None: it does not exist."""
    overhead: int = 0
    """Bytes of outer headers."""
    fragments: bool = False
    """Whether outer packets may be fragmented (DiscoverPathMTU=no)."""
    routes: tuple[IPNetwork, ...] = ()
    rp_filter: int | None = None
    """As an underlay's; of an interface that does not exist, what it would get."""
    elsewhere: tuple[IPNetwork, ...] = ()
    """Networks of the tunnel that this host routes elsewhere."""
    overlaps: tuple[str, ...] = ()
    """Addresses that other interfaces have too, in words."""
    forwarding: dict[str, bool] = field(default_factory=dict)
    """IP versions (4, 6) of its routes -> whether this host forwards."""
    between: bool = False
    """Whether this host has addresses on interfaces beside tunnels, loopback and underlay."""
    network_file: NetworkFile | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """gred.service."""

    unit: str = ""
    """Path of the unit; empty: it is not installed."""
    enabled: bool | None = None
    state: str = ""
    """ActiveState of systemctl show: active, inactive, failed...; empty: systemd was not asked."""
    pid: int | None = None
    since: str = ""
    """When it reached that state; ISO 8601 with zone."""
    exit_status: int | None = None
    """How its program ended, where it failed."""
    missing: tuple[str, ...] = ()
    """Capabilities that its process, or else its unit, lacks."""
    configuration_newer: bool = False
    """Whether the configuration was written after the service started."""
    complaints: tuple[str, ...] = ()
    """What its user cannot read or see, a sentence each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """The configuration that was looked at."""

    file: str
    read: bool = True
    """False without problems: it is not there, or may not be read."""
    unseen: str = ""
    """Why it was not read, where that is no fault of its own."""
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What was assumed in reading it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All of it."""

    configuration: Configuration
    tun: Tun | Unseen
    capabilities: Capabilities | Unseen
    codec: Codec | Unseen
    kernel_gre: KernelGre | Unseen
    receivers: Receivers | Unseen
    firewall: Firewall | Unseen
    buffers: Buffers | Unseen
    service: Service | Unseen
    networkd: bool = False
    """Whether systemd-networkd has run since boot."""
    underlays: tuple[Underlay, ...] = ()
    tunnels: tuple[Tunnel, ...] | Unseen = ()
