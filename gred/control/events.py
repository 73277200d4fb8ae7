"""What is worth telling people and machines: one type for each event, its facts as typed fields.

Values only. Names and fields are what log lines, status and whoever follows events are made of:
constants that programs may rely on. Nothing here decides when something is told, or writes a line.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import ClassVar, Literal

from gred.config.model import IPAddress
from gred.wire.drop import DropReason

Level = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened. *tunnel*: the configured name, or None: it concerns no tunnel."""

    NAME: ClassVar[str]
    LEVEL: ClassVar[Level] = "info"
    CAUSED_BY_PACKETS: ClassVar[bool] = False
    """Whether anybody who sends packets can cause many: who writes lines limits them."""

    tunnel: str | None = None

    @property
    def name(self) -> str:
        """What happened, as a constant."""
        return self.NAME

    @property
    def level(self) -> Level:
        """How grave it is."""
        return self.LEVEL

    @property
    def kind(self) -> object:
        """What else tells it from others of its name, where packets cause it."""
        return None

    @property
    def fields(self) -> Mapping[str, object]:
        """The facts, by name; what is not known (None) is left out."""
        named = [one.name for one in fields(self) if one.name not in {"tunnel", "severity"}]
        return {name: value for name in named if (value := getattr(self, name)) is not None}


Listener = Callable[[Event], None]


# --- states of a tunnel ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelUp(Event):
    """It sends and receives. *after*: the state that it was in; None: it has just been made.

    *source*: what the kernel chose where *local* is any. *index*, *offload*: of a new interface.
    *ipsec*: what is done to outer packets.
    """

    NAME = "tunnel_up"

    local: str
    remote: str
    mtu: int
    packet_socket: str
    source: str | None = None
    after: str | None = None
    index: int | None = None
    offload: str | None = None
    ipsec: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelTroubled(Event):
    """It has an interface and is not up; *detail*: who does what, and what to do."""

    LEVEL = "warning"

    state: str
    local: str
    remote: str
    detail: str

    @property
    def name(self) -> str:
        """The state is in the name."""
        return f"tunnel_{self.state}"

    @property
    def fields(self) -> Mapping[str, object]:
        """The facts; the state is in the name."""
        return {"local": self.local, "remote": self.remote, "detail": self.detail}


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelFailed(Event):
    """It could not be brought up, or had to be given up; it is tried again."""

    NAME = "tunnel_down"
    LEVEL = "error"

    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelDown(Event):
    """It was taken down because it is to go."""

    NAME = "tunnel_down"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivesOnly(Event):
    """A tunnel without a remote is up."""

    NAME = "tunnel_receives_only"
    LEVEL = "warning"

    detail: str = "without a remote it only receives; what is sent into it is dropped"


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceDeleted(Event):
    """Its interface is gone, or can be read no more."""

    NAME = "interface_deleted"
    LEVEL = "warning"

    detail: str


# --- what it stands on ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalChanged(Event):
    """Outer packets leave from another address: the interface that Local= names has another."""

    NAME = "local_changed"

    local: str
    before: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteChanged(Event):
    """Outer packets go to another address: *host*, which Remote= names, has another.

    *before*: None where it had none.
    """

    NAME = "remote_changed"

    remote: str
    before: str | None = None
    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvingFailed(Event):
    """The name in Remote= cannot be resolved; the last address stays in use."""

    NAME = "resolving_failed"
    LEVEL = "warning"

    remote: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceChanged(Event):
    """The kernel chooses another source where the local address is any."""

    NAME = "source_changed"

    source: str
    before: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketSocketChanged(Event):
    """Packets follow one another through a packet socket now, or no more."""

    NAME = "packet_socket_changed"

    packet_socket: str
    before: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtectionChanged(Event):
    """IPsec does something else to outer packets."""

    NAME = "ipsec_changed"

    ipsec: str
    before: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MtuChanged(Event):
    """The interface gets another MTU, in bytes."""

    NAME = "mtu_changed"

    mtu: int
    before: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PathMtuChanged(Event):
    """The path carries more or less, in bytes of outer packets. *remote*: one of many."""

    NAME = "path_mtu_changed"

    remote: str | None = None
    path_mtu: int
    before: int
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteMtusChanged(Event):
    """Routes to this many of a tunnel's remotes have an MTU of their own."""

    NAME = "route_mtus_changed"

    remotes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressShared(Event):
    """An address or network of it is on another interface of this host, too."""

    NAME = "address_shared"
    LEVEL = "warning"

    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Repaired(Event):
    """Something that somebody had removed or changed was put back."""

    NAME = "repaired"
    LEVEL = "warning"

    detail: str


# --- the other end --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSilent(Event):
    """One of many remotes answers no keepalives."""

    NAME = "peer_silent"
    LEVEL = "warning"

    remote: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerAnswers(Event):
    """One of many remotes answers keepalives."""

    NAME = "peer_answers"

    remote: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CarrierRefused(Event):
    """The interface could not be given, or denied, its carrier."""

    NAME = "carrier_refused"
    LEVEL = "warning"

    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ipv6RoutesStay(Event):
    """IPv6 routes stay in use while there is no carrier."""

    NAME = "ipv6_routes_stay"
    LEVEL = "warning"

    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerLearned(Event):
    """An inner address is behind a remote that sent from it."""

    NAME = "peer_learned"
    CAUSED_BY_PACKETS = True

    inner: IPAddress
    remote: IPAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerMoved(Event):
    """A learned inner address is behind another remote now."""

    NAME = "peer_moved"
    CAUSED_BY_PACKETS = True

    inner: IPAddress
    remote: IPAddress
    before: IPAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerClaimed(Event):
    """Another remote sent from a learned inner address, whose own was heard just now."""

    NAME = "peer_claimed"
    LEVEL = "warning"

    inner: IPAddress
    remote: IPAddress
    claimant: IPAddress
    detail: str


# --- packets --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketRefused(Event):
    """A packet was refused or lost; addresses and key as of `gred.dataplane.punt.Report`."""

    NAME = "packet_refused"
    CAUSED_BY_PACKETS = True

    reason: DropReason
    source: IPAddress | None = None
    destination: IPAddress | None = None
    key: int | None = None
    detail: str = ""

    @property
    def level(self) -> Level:
        """What another receiver takes is no trouble of ours."""
        return "debug" if self.reason is DropReason.FOREIGN else "info"

    @property
    def kind(self) -> object:
        """One reason must not hide another."""
        return self.reason

    @property
    def fields(self) -> Mapping[str, object]:
        """The facts; the reason in the word that counters have for it."""
        facts = {"source": self.source, "destination": self.destination, "key": self.key}
        known = {name: value for name, value in facts.items() if value is not None}
        return {"reason": self.reason.name.lower(), **known, "detail": self.detail}


@dataclass(frozen=True, slots=True, kw_only=True)
class IcmpErrorIgnored(Event):
    """ICMP errors that are not believed, *count* of them so far; *detail*: why."""

    NAME = "icmp_error_ignored"

    offender: str
    kind_of_error: str
    count: int
    detail: str

    @property
    def fields(self) -> Mapping[str, object]:
        """The facts."""
        told = {"offender": self.offender, "kind": self.kind_of_error}
        return {**told, "count": self.count, "detail": self.detail}


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceDrops(Event):
    """The host dropped packets at the interface's queue before gred could read them."""

    NAME = "interface_drops"

    tx_dropped: int
    detail: str = "the interface's queue was full before gred read it: it needs more CPU"


# --- programs that a tunnel runs ------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class HookOutput(Event):
    """A line that a program wrote. *hook*: the option that names the program."""

    NAME = "hook_output"

    hook: str
    line: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HookEnded(Event):
    """A program ended well. *unheard*: lines of it beyond those that were told."""

    NAME = "hook_ended"

    hook: str
    state: str
    seconds: float
    unheard: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HookFailed(Event):
    """A program did not start, ended badly or had to be ended."""

    NAME = "hook_failed"
    LEVEL = "warning"

    hook: str
    state: str
    detail: str
    unheard: int | None = None


# --- the process ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class NoTunnels(Event):
    """The configuration has none."""

    NAME = "no_tunnels"
    LEVEL = "warning"

    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RemainsIgnored(Event):
    """What the last process had left to go on with does not fit: counters and such begin anew."""

    NAME = "state_ignored"
    LEVEL = "warning"

    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelChanged(Event):
    """Its configuration is another one; interface, counters and sequence state are the same."""

    NAME = "tunnel_changed"

    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SurveyFailed(Event):
    """The kernel could not be asked; it is asked again."""

    NAME = "survey_failed"
    LEVEL = "error"

    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteFailed(Event):
    """Interfaces could not be deleted in one step; closing them deletes them, too."""

    NAME = "delete_failed"
    LEVEL = "warning"

    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherReceiver(Event):
    """Another program, or the kernel, takes GRE on this host. *severity*: the level of this."""

    NAME = "other_receiver"

    detail: str
    severity: Level = "info"

    @property
    def level(self) -> Level:
        """It depends on what the other takes."""
        return self.severity


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherReceiverGone(Event):
    """Nobody else takes GRE on this host any more."""

    NAME = "other_receiver_gone"
