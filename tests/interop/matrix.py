"""What is tried against the kernel's GRE: tunnels, checks and scenarios, as values.

Read by three: the guest, which tries them; pytest, which shows each cell as a test; the report,
which prints the table. Another kind of tunnel is another line in ``TUNNELS``.
"""

import itertools
from dataclasses import dataclass, field
from typing import Literal

_numbers = itertools.count(1)

Path = Literal["wire", "unfinished", "rough", "narrow"]
"""Between gred and the kernel: a wire whose kernel end finishes checksums and segments before
sending; one whose end leaves that to the receiver, as veth and virtio do; one where netem is at
work; a router with a smaller MTU beyond it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tunnel:
    """One tunnel between gred and the kernel, in the words of both."""

    name: str
    """Of the interface, at both ends."""
    linux: str = ""
    """Options of ip-link(8), without local and remote."""
    gred: str = ""
    """Options of the configuration file, without Local, Remote and Address; {linux} is the inner
    IPv4 address of the other end."""
    kind: str = "gre"
    """Type of ip-link(8)."""
    outer: Literal[4, 6] = 4
    """IP version of the underlay."""
    path: Path = "wire"
    number: int = field(default_factory=lambda: next(_numbers))
    """Every tunnel has outer and inner networks of its own, made from it."""

    def underlay(self, end: Literal["gred", "linux"]) -> str:
        """Return the outer address of *end*."""
        last = 1 if end == "gred" else 2
        # Behind the router is another network.
        net = 19 if self.path == "narrow" and end == "linux" else 18
        if self.outer == 4:
            return f"198.{net}.{self.number}.{last}"
        return f"2001:db8:{net}:{self.number}::{last}"

    def overlay(self, end: Literal["gred", "linux"], version: int) -> str:
        """Return the inner address of *end*."""
        last = 1 if end == "gred" else 2
        if version == 4:
            return f"10.47.{self.number}.{last}"
        return f"fd47:{self.number}::{last}"


TAP = "Mode=gretap"
ALL_GRED = "Key=4711 Checksum=yes SerializeTunneledPackets=yes"
ALL_LINUX = "key 4711 csum seq"
UDP = "Transport=udp"
FOU = "encap fou encap-sport auto encap-dport 4754"
NO_LIMIT = "encaplimit none"  # without the Tunnel Encapsulation Limit, RFC 2473 §4.1.1

FORMS = (
    Tunnel(name="plain"),
    Tunnel(name="key", linux="key 42", gred="Key=42"),
    Tunnel(name="key-zero", linux="key 0", gred="Key=0"),
    Tunnel(name="key-quad", linux="key 10.0.0.1", gred="Key=10.0.0.1"),
    Tunnel(name="keys", linux="ikey 7 okey 8", gred="InputKey=8 OutputKey=7"),
    Tunnel(name="csum", linux="csum", gred="Checksum=yes"),
    Tunnel(name="ocsum", linux="ocsum", gred="InputChecksum=require OutputChecksum=no"),
    Tunnel(name="seq", linux="seq", gred="SerializeTunneledPackets=yes"),
    Tunnel(name="iseq", linux="iseq", gred="OutputSequence=yes InputSequence=no"),
    Tunnel(name="key-csum-seq", linux=ALL_LINUX, gred=ALL_GRED),
    Tunnel(name="inherit", linux="ttl inherit tos inherit", gred="TTL=inherit TOS=inherit"),
    Tunnel(name="no-offload", gred="Offload=no"),
    Tunnel(name="plain-v6", kind="ip6gre", outer=6, linux=NO_LIMIT),
    Tunnel(name="key-v6", kind="ip6gre", outer=6, linux=f"{NO_LIMIT} key 42", gred="Key=42"),
    Tunnel(name="csum-v6", kind="ip6gre", outer=6, linux=f"{NO_LIMIT} csum", gred="Checksum=yes"),
    Tunnel(name="kcs-v6", kind="ip6gre", outer=6, linux=f"{NO_LIMIT} {ALL_LINUX}", gred=ALL_GRED),
    Tunnel(name="limit-v6", kind="ip6gre", outer=6, gred="EncapsulationLimit=4"),
    Tunnel(name="tap", kind="gretap", gred=TAP),
    Tunnel(name="tap-key", kind="gretap", linux="key 42", gred=f"{TAP} Key=42"),
    Tunnel(name="tap-kcs", kind="gretap", linux=ALL_LINUX, gred=f"{TAP} {ALL_GRED}"),
    Tunnel(name="tap-v6", kind="ip6gretap", outer=6, linux=NO_LIMIT, gred=TAP),
    Tunnel(
        name="tap-kcs-v6",
        kind="ip6gretap",
        outer=6,
        linux=f"{NO_LIMIT} {ALL_LINUX}",
        gred=f"{TAP} {ALL_GRED}",
    ),
    Tunnel(name="offload", path="unfinished"),
    Tunnel(name="offload-key", path="unfinished", linux="key 42", gred="Key=42"),
    Tunnel(name="offload-v6", path="unfinished", kind="ip6gre", outer=6, linux=NO_LIMIT),
    Tunnel(name="offload-tap", path="unfinished", kind="gretap", gred=TAP),
    Tunnel(name="udp", path="unfinished", linux=FOU, gred=UDP),
    Tunnel(name="udp-kcs", linux=f"{ALL_LINUX} {FOU}", gred=f"{UDP} {ALL_GRED} SourcePort=4754"),
    Tunnel(name="udp-v6", kind="ip6gre", outer=6, linux=f"{NO_LIMIT} {FOU}", gred=UDP),
    Tunnel(name="udp-tap", kind="gretap", linux=f"key 7 {FOU}", gred=f"{UDP} {TAP} Key=7"),
)
"""Tried with every check."""

CHECKS = {
    "ping4": "ping, IPv4",
    "ping6": "ping, IPv6",
    "tcp4": "TCP, IPv4",
    "tcp6": "TCP, IPv6",
    "multicast4": "multicast, IPv4",
    "multicast6": "multicast, IPv6",
}
"""Columns of the table, by the name of their function in ``guest.checks``."""

SPECIAL = (
    Tunnel(name="fixed", linux="ttl 44 tos 0x48", gred="TTL=33 TOS=0x28"),
    Tunnel(name="ecn"),
    Tunnel(name="half-summed", path="unfinished", linux="csum", gred="Checksum=yes"),
    Tunnel(name="fragile", linux="nopmtudisc", gred="DiscoverPathMTU=no"),
    Tunnel(name="disturbed", path="rough"),
    Tunnel(name="disturbed-seq", path="rough", linux="seq", gred="SerializeTunneledPackets=yes"),
    Tunnel(name="secret", gred="MTUBytes=1400"),
    Tunnel(name="asked", linux="key 9", gred="Key=9 Keepalive=1s"),
    Tunnel(name="pinged", linux="key 10", gred="Key=10 Keepalive=1s KeepaliveTarget={linux}"),
    Tunnel(name="reborn", linux="key 8 seq", gred="Key=8 SerializeTunneledPackets=yes"),
    Tunnel(name="narrow", path="narrow"),
    Tunnel(name="narrow-mtu", path="narrow", linux="key 1", gred="Key=1 MTUBytes=1372"),
    Tunnel(name="swallowed", path="narrow", gred="Keepalive=1s"),
    Tunnel(name="narrow-open", path="narrow", linux="nopmtudisc", gred="DiscoverPathMTU=no"),
)
"""For scenarios alone."""

SCENARIOS = {
    "whole_mtu": "Both ends compute the expected MTU, and packets of it cross whole",
    "ten_megabytes": "10 MB over TCP arrive intact each way",
    "ten_megabytes_all": "10 MB over TCP with key, checksum and sequence numbers",
    "half_summed": "GRE checksums that veth leaves unfinished: TCP passes, echoes are dropped",
    "default_header": "gred sends TTL 64, the inner TOS and DF",
    "default_header_v6": "Over IPv6 gred sends hop limit 64 and the inner traffic class with CE",
    "inherited_header": "TTL and TOS inherited by gred and by the kernel",
    "fixed_header": "TTL and TOS fixed by gred and by the kernel; ECN bits are the inner ones",
    "copied_df": "Without DiscoverPathMTU the outer DF bit is the inner one",
    "ecn_copied": "Outer ECN of gred is the inner one, CE included (RFC 6040)",
    "ecn_marked_to_gred": "Congestion marked outside arrives inside, kernel to gred",
    "ecn_marked_to_linux": "Congestion marked outside arrives inside, gred to kernel",
    "ecn_refused": "Congestion marked outside a packet that is not ECN-capable drops it",
    "ipsec": "An IPsec policy for GRE encrypts every packet, from one moment to the next",
    "keepalive_answered": "The kernel answers gred's keepalives when it forwards; else none",
    "inner_address_pinged": "gred pings the kernel, which answers no keepalives",
    "peer_restarts": "A numbered peer that begins anew costs one packet at most",
    "loss": "TCP survives loss",
    "reordering": "TCP survives reordering",
    "duplication": "TCP survives duplication",
    "loss_with_sequence": "TCP survives loss with sequence numbers",
    "reordering_with_sequence": "TCP survives reordering with sequence numbers",
    "duplicates_delivered": "Without sequence numbers duplicates are delivered",
    "duplicates_dropped": "With sequence numbers gred drops duplicates",
    "late_dropped": "With sequence numbers gred delivers in order or not at all",
    "narrow_fixed_mtu": "A narrow path, MTUBytes configured: TCP each way",
    "narrow_fragments": "A narrow path, DF clear: routers fragment, both ends reassemble",
    "narrow_to_gred": "A narrow path, DF set: the kernel discovers the path MTU to gred",
    "narrow_to_linux": "A narrow path, DF set: gred discovers the path MTU to the kernel",
    "narrow_swallowed": "A narrow path, ICMP filtered: gred finds what passes to the kernel",
    "ends_well": "After all this gred stops with exit status 0 and has met no bug",
}
"""Sentences of the report, by the name of their function in ``guest.scenarios``, in this order."""

TUNNELS = (*FORMS, *SPECIAL)
TUNNEL = {tunnel.name: tunnel for tunnel in TUNNELS}


@dataclass(frozen=True, slots=True)
class Cell:
    """One result: a form with a check, or a scenario."""

    name: str

    @property
    def form(self) -> Tunnel | None:
        """The tunnel of a check; ``None`` for a scenario, which picks its own."""
        return TUNNEL.get(self.name.partition(":")[0])

    @property
    def function(self) -> str:
        """Name of the function in the guest."""
        return self.name.rpartition(":")[2]


CELLS = (
    *(Cell(f"{form.name}:{check}") for form in FORMS for check in CHECKS),
    *(Cell(scenario) for scenario in SCENARIOS),
)


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a cell."""

    cell: str
    passed: bool
    detail: str
    """Why it failed; or a figure worth knowing."""
    seconds: float
