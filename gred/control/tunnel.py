"""One configured tunnel: its state, its MTU, what the data plane is told to do about it.

Pure of the kernel: it is shown observations and answers with events. No netlink, no loop, no timer.
"""

import secrets
from collections.abc import Mapping
from dataclasses import fields, replace
from enum import StrEnum, unique
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any

from gred.config.model import IPAddress, TunnelConfig
from gred.control import sentences
from gred.control.alias import alias
from gred.control.denial import Denial
from gred.control.diagnosis import Diagnosis, Fault
from gred.control.events import (
    Event,
    PathMtuChanged,
    ReceivesOnly,
    SourceChanged,
    TunnelFailed,
    TunnelTroubled,
    TunnelUp,
)
from gred.control.kernel.parts import Device, DeviceMode, InterfaceSettings
from gred.control.kernel.routes import NoRoute, RouteInfo, RouteQuery
from gred.control.link_local import link_local
from gred.control.liveness import Life, Liveness
from gred.control.mtu import DEFAULT_ROUTE_MTU, FLOOR_IPV6, carries_ipv6, overhead, tunnel_mtu
from gred.control.path_mtu import PathMtu
from gred.control.protection import UNSEEN
from gred.control.refusal import Refusal
from gred.control.retry import Retry
from gred.control.survey import Binding, Observation
from gred.control.upkeep import Upkeep
from gred.dataplane.layout import Transport
from gred.dataplane.punt import Report
from gred.dataplane.tunnels import TunnelParameters
from gred.wire.drop import DropReason

if TYPE_CHECKING:
    from gred.control.parts import Attachment

# While an address or a device is missing, packets must not leave from another: the kernel refuses
# these two with each packet, and no packet received is for them. RFC 7600 §4.8, RFC 6666 §2.
NOWHERE: dict[int, IPAddress] = {4: IPv4Address("192.0.0.8"), 6: IPv6Address("100::")}
# What the data plane is told as it was configured, by the name that both have for it. The others
# depend on what has become of the tunnel, too.
AS_CONFIGURED = {field.name for field in fields(TunnelParameters)} - {
    "local",
    "dont_fragment",
    "ignore_dont_fragment",
    "echo",
    "inner",
    "mtu",
    "path_mtu",
    "interface",
    "group_device",
    "packet_socket",
    "transport",
    "protection",
}
_TRANSPORTS = {"ip": Transport.IP, "udp": Transport.UDP}


_NO_INTERFACE = 0x7FFFFFFF  # the largest index; the kernel counts up from 1


@unique
class TunnelState(StrEnum):
    """What a tunnel can do. Only LOOP keeps it from sending; the others are for people."""

    DOWN = "down"  # has no interface: not yet, or ``detail`` says why; it is tried again
    UP = "up"
    LOOP = "loop"  # the remote is routed into the tunnel itself
    DISABLED = "disabled"  # somebody has set the interface down
    UNRESOLVED = "unresolved"  # the name of the remote has no address that is known
    NO_LOCAL = "no_local"  # the local address is not an address of this host
    TWIN = "twin"  # held down: another tunnel or receiver takes the same packets
    NO_ROUTE = "no_route"  # the kernel has no route to the remote
    UNPROTECTED = "unprotected"  # IPsec=require, and nothing protects it: nothing leaves
    REFUSED = "refused"  # ICMP errors say that outer packets do not get there
    MISMATCH = "mismatch"  # packets of the other end arrive, and its settings are others
    SILENT = "silent"  # the other end answers no keepalives, or not for long enough yet
    DENIED = "denied"  # a firewall or an IPsec policy of this host refuses every outer packet
    INCOMPLETE = "incomplete"  # the interface is not as configured, and that is not put back now
    UNDELIVERED = "undelivered"  # this host drops what arrives
    UNANSWERED = "unanswered"  # packets are sent, and none comes back
    IMPAIRED = "impaired"  # it works, and loses packets


# States whose sentence may become another one while they last: it is told again.
_VARYING = {
    TunnelState.UNRESOLVED,
    TunnelState.INCOMPLETE,
    TunnelState.TWIN,
    TunnelState.UNPROTECTED,
    TunnelState.MISMATCH,
    TunnelState.SILENT,
    TunnelState.UNDELIVERED,
    TunnelState.UNANSWERED,
}


class Tunnel:
    """One configured tunnel. DOWN until it has a device and the data plane has it."""

    def __init__(self, config: TunnelConfig) -> None:
        self.config = config
        self.state = TunnelState.DOWN
        self.mtu = tunnel_mtu(config, DEFAULT_ROUTE_MTU)
        self.device: Device | None = None
        self.attachment: Attachment | None = None
        self.binding = Binding(local=config.local)
        """Where outer packets leave from, as last seen."""
        self.path = PathMtu(config.family)
        self._protected_mtu: int | None = None
        self.refusal = Refusal()
        self.denial = Denial()
        self.diagnosis = Diagnosis(config)
        """What its packets tell, sent, received and refused."""
        self._identifier = secrets.randbelow(1 << 16)
        self.lives: dict[IPAddress, Liveness] = {}
        """What keepalives say of each remote; empty without them."""
        self.silence = ""
        """Why no remote is known to be alive, in words; empty when one is, or nobody asks."""
        self.remains: Mapping[str, Any] = {}
        """What another process knew of it (remains.py), until it is attached."""
        self.was_alive = False
        """Whether its interface, which was there before this process, had a carrier."""
        self._awaited = False
        self._at_questions = 0, 0  # packets received when the last two keepalives left
        self._told = TunnelState.DOWN
        self.unresolved = ""
        """Why the address of its other end is not known, in words; empty when it is."""
        self.held = ""
        """Why it is held down, in words; empty when it is not: it neither sends nor receives."""
        self.source: IPAddress | None = None
        """Where outer packets come from when *local* is any: the kernel's choice, as last seen."""
        self._link_local = link_local(config)
        self.retry = Retry()
        """When to bring it up again while it is down."""
        self.upkeep = Upkeep(repair=config.repair)
        """What its interface lacks, and when that is put back."""
        self.seen: Observation | None = None
        """What it was shown last."""
        self.stale = False
        """Whether something else has changed: it is to be looked at, whatever is seen."""
        self.detail = ""
        """Why it is in its state, in words; empty when it is up."""

    @property
    def name(self) -> str:
        """The configured name; that of its interface unless somebody renamed it."""
        return self.config.name

    @property
    def place(self) -> str:
        """Where it is configured: the beginning of an error message."""
        return f"{self.config.location}: [Tunnel {self.config.name}]"

    @property
    def device_mode(self) -> DeviceMode:
        """What kind of device carries it."""
        if self.config.mode == "gretap":
            return "tap"
        return "tun" if self.config.protocol is None else "any"

    @property
    def packet_socket(self) -> str:
        """Whether packets follow others through a packet socket, and why not."""
        why = self.binding.filtered or (self.attachment.no_packet_socket if self.attachment else "")
        if not self.config.packet_socket:
            why = "configured"
        if self.config.ipsec != "no":
            why = "IPsec=require"
        return f"no ({why})" if why else "yes"

    def parameters(self) -> TunnelParameters:
        """Return what the data plane must know."""
        config, binding = self.config, self.binding
        return TunnelParameters(
            **{name: getattr(config, name) for name in AS_CONFIGURED},
            local=NOWHERE[config.family] if self._is_nowhere else binding.local,
            dont_fragment=config.discover_path_mtu and not self.path.fragmentable,
            ignore_dont_fragment=config.ignore_dont_fragment or self.path.fragmentable,
            echo=self.echo,
            inner=next((own.ip for own in config.addresses if own.version == 4), None),
            mtu=self.mtu,
            path_mtu=self._room(),
            interface=_NO_INTERFACE if binding.no_device else binding.device,
            group_device=binding.group_device,
            packet_socket=config.packet_socket and not binding.filtered,
            transport=_TRANSPORTS[config.transport],
            protection=self._templates,
        )

    def explain(self, report: Report) -> str:
        """Say what it means that a packet was refused; empty: the reason says it all."""
        if report.reason is DropReason.DENIED and self.exposure:
            return self.exposure
        return sentences.unsent(report, self.config, self._room()) or report.detail

    @property
    def exposure(self) -> str:
        """Why nothing may leave, as IPsec is required, in words; empty: it may."""
        if self.config.ipsec == "no":
            return ""
        return (self.binding.protection or UNSEEN).sentence

    @property
    def _templates(self) -> bytes | None:
        """What must be done to all that leaves; empty: nothing may leave; None: anything may."""
        if self.config.ipsec == "no":
            return None
        protection = self.binding.protection
        return b"" if protection is None else protection.templates

    @property
    def is_told_otherwise(self) -> bool:
        """Whether the data plane obeys other parameters than these: the configuration changed."""
        return self.attachment is not None and self.attachment.parameters != self.parameters()

    @property
    def _is_nowhere(self) -> bool:
        return bool(self.binding.no_local or self.held or self.unresolved)

    def _room(self) -> int | None:
        """Return the longest inner packet that the path takes, where the interface takes longer."""
        carried = self.path.mtu or self.path.route_mtu
        if carried is None:
            return None
        room = carried - overhead(self.config)
        return room if self.path.mtu is not None or room < self.mtu else None

    def route_query(self, remote: IPAddress) -> RouteQuery:
        """Return the question for the route of packets to *remote*, as the survey asks it."""
        binding, seen = self.binding, self.seen
        is_there = seen is None or seen.local_present
        # Beside a source IPv6 takes the device for a wish only.
        has_source = is_there and not (remote.version == 6 and binding.device)
        source = binding.local if has_source else None
        return RouteQuery(remote, source, binding.device, self.config.firewall_mark or 0)

    def settings(self, device: Device) -> InterfaceSettings:
        """Return what the interface of *device* must get."""
        return InterfaceSettings(
            place=self.place,
            index=device.index,
            name=device.name,
            mtu=self.mtu,
            addresses=self.config.addresses,
            routes=self.config.routes,
            link_local=self._link_local,
            ipv6=carries_ipv6(self.config),
            mac_address=self.config.mac_address,
            namespace=self.config.namespace,
            follows_carrier=self.follows_carrier,
            alias=alias(self.config),
        )

    def wanted_mtu(self, seen: Observation) -> int:
        """Return the MTU that fits *seen*; the present one where nothing better is known.

        In a loop the route's MTU is the tunnel's own: following it would lower it step by step.
        """
        if not isinstance(seen.route, RouteInfo) or seen.loop:
            return self.mtu
        return tunnel_mtu(self.config, self.path.mtu or self._carried(seen.route))

    def _carried(self, route: RouteInfo) -> int:
        """Return the longest outer packet by *route*, what IPsec adds to it taken off.

        While there is no association what the last one left counts: it comes back.
        """
        protection = self.binding.protection
        if protection is not None and protection.mtu is not None:
            self._protected_mtu = protection.mtu
        elif protection is None:
            self._protected_mtu = None
        return min(route.mtu, self._protected_mtu or route.mtu)

    def follow_path(self, seen: Observation, now: float) -> list[Event] | None:
        """Take in what *seen* says of the path's MTU; return what is worth telling: changes only.

        None: nothing has changed. To be called before ``wanted_mtu`` and ``parameters``, which
        obey it.
        """
        if not isinstance(seen.route, RouteInfo) or seen.loop:
            return None
        known = self.path.mtu, self.path.fragmentable
        carried = self._carried(seen.route)
        before = self.path.mtu or carried
        if not self.path.look(carried, now):
            return None
        if (self.path.mtu, self.path.fragmentable) == known:
            return []
        return [
            PathMtuChanged(
                tunnel=self.name,
                path_mtu=self.path.mtu or carried,
                before=before,
                detail=self._path_detail(),
            )
        ]

    def move(self, binding: Binding) -> bool:
        """Let outer packets leave from *binding*; return whether the data plane must be told.

        An address that went stays in use until there is another: the kernel refuses to send from
        it, and what is under way still arrives.
        """
        before = self.parameters()
        if binding.no_local and self.binding.local is not None:
            binding = replace(binding, local=self.binding.local, no_local="")
        self.binding = binding
        return self.parameters() != before

    def hold(self, why: str) -> bool:
        """Neither send nor receive as long as there is a *why*, in words; empty: go on.

        Return whether the data plane must be told.
        """
        before, self.held = self._is_nowhere, why
        return self._is_nowhere != before

    def is_touched(self, seen: Observation, now: float) -> bool:
        """Whether it is to be looked at: *seen* is another than last time, or time has passed."""
        waits = self.path.due(now) is not None or self.upkeep.due(now) is not None
        return self.stale or waits or self.attachment is None or seen is not self.seen

    def observe(self, seen: Observation) -> list[Event]:
        """Take the state that *seen* calls for; return what is worth telling: changes only."""
        before, told = self.state, self.detail
        self.state, self.detail = self._state(seen)
        self.seen = seen
        moved = self._follow_source(seen)
        # What is missing may become more, or less, while the state stays; so may who holds it.
        may_vary = self.state in _VARYING
        if self.state is before and not (may_vary and told != self.detail):
            return moved
        if self.attachment is not None and TunnelState.LOOP in {before, self.state}:
            blocked = self.state is TunnelState.LOOP
            self.attachment.block(DropReason.DEAD_LOOP if blocked else None)
        if self.state is TunnelState.SILENT and self._awaited:
            return moved  # it has only just been asked
        before, self._told = self._told, self.state
        if self.state is TunnelState.UP:
            return self._up_events(before)
        return [
            TunnelTroubled(
                tunnel=self.name,
                state=self.state,
                local=_text(self.binding.local),
                remote=self.far_end,
                detail=self.detail,
            )
        ]

    def expect_life(self, lives: Mapping[IPAddress, Liveness]) -> None:
        """Be silent until one of *lives*, by remote, is up."""
        self.lives = dict(lives)
        self.note_life()

    def note_life(self) -> None:
        """Take in what ``lives`` say now."""
        lives = self.lives.items()
        self.silence, self._awaited = "", False
        if not lives or any(life.life is Life.UP for _remote, life in lives):
            return
        for remote, life in lives:
            if life.life is Life.HOLD:
                self.silence = f"{remote} answers keepalives again, but not for long enough yet"
                return
        (remote, life), *others = lives
        who = f"none of {len(lives)} remotes has" if others else f"{remote} has not"
        self._awaited = not any(life.is_silent for _remote, life in lives)
        if self._awaited:
            self.silence = f"{who} answered a keepalive yet"
            return
        self.silence = f"{who} answered a keepalive for {life.interval * life.retries:g} s, " + (
            "though packets arrive: ours are lost on their way, or it answers none"
            if self.attachment is not None
            and self.attachment.traffic().received > self._at_questions[0]
            else "and nothing else arrives"
        )

    def note_asked(self) -> None:
        """Note that a keepalive leaves now: what arrives from here on, arrives in spite of it."""
        if self.attachment is not None:
            self._at_questions = self._at_questions[1], self.attachment.traffic().received

    def note_answer(self) -> None:
        """Note that a keepalive was answered just now: packets get there and back."""
        self.refusal.disprove()

    @property
    def is_awaited(self) -> bool:
        """Whether it has been asked for a sign of life, and not long enough ago to be missed."""
        return bool(self.silence) and self._awaited

    @property
    def far_end(self) -> str:
        """The other end in words: its address, its name as long as none is known, or any."""
        config = replace(self.config, remote=None) if self.unresolved else self.config
        return config.far_end

    @property
    def has_carrier(self) -> bool:
        """Whether routes may lead into it."""
        return not (self.follows_carrier and self.silence)

    @property
    def follows_carrier(self) -> bool:
        """Whether it has a carrier only while another end is known to be alive."""
        return self.config.keepalive is not None and self.config.carrier == "keepalive"

    @property
    def echo(self) -> int | None:
        """Identifier of the echo requests that ask for signs of life; None: others do."""
        return None if self.config.keepalive_target is None else self._identifier

    def reconfigure(self, config: TunnelConfig) -> None:
        """Be as *config* says from the next look on; the interface stays.

        *config* has the same name, mode, namespace and address family as before.
        """
        before, self.config = self.config, config
        self._link_local = link_local(config)
        self.upkeep.repair = config.repair
        self.diagnosis = Diagnosis(config)
        if (before.remote, before.local, before.local_interface) != (
            config.remote,
            config.local,
            config.local_interface,
        ):
            # What was learned is of another path.
            self.path, self._protected_mtu = PathMtu(config.family), None
            self.refusal, self.denial, self.source = Refusal(), Denial(), None
            self.binding = replace(self.binding, protection=None)
        self.stale = True

    def reconsider(self) -> list[Event]:
        """Take the state anew, after ``refusal`` has changed; return what is worth telling."""
        return [] if self.seen is None else self.observe(self.seen)

    def lose(self) -> None:
        """Forget device and attachment, which somebody else has closed and removed."""
        self.device = None
        self.attachment = None
        self.seen = None
        self.refusal = Refusal()  # whose counts were those of the attachment
        self.source = None
        self.denial = Denial()
        self.diagnosis = Diagnosis(self.config)
        self.upkeep = Upkeep(repair=self.config.repair)
        self.lives, self.silence, self._awaited, self._at_questions = {}, "", False, (0, 0)
        self.was_alive, self.remains = False, {}
        self.state = self._told = TunnelState.DOWN

    def fail(self, detail: str) -> list[Event]:
        """Be down, as *detail* says; return what is worth telling: changes only.

        Device and attachment are lost next.
        """
        before = self.state, self.detail
        self.state, self.detail = TunnelState.DOWN, detail
        if before == (self.state, self.detail):
            return []
        return [TunnelFailed(tunnel=self.name, detail=detail)]

    def _follow_source(self, seen: Observation) -> list[Event]:
        """Take in which source the kernel chooses; return what is worth telling."""
        route = seen.route
        if self.binding.local is not None or not isinstance(route, RouteInfo):
            return []
        before, self.source = self.source, route.prefsrc
        if before is None or before == self.source:
            return []
        return [SourceChanged(tunnel=self.name, source=_text(self.source), before=str(before))]

    def _up_events(self, before: TunnelState) -> list[Event]:
        up = TunnelUp(
            tunnel=self.name,
            local=_text(self.binding.local),
            source=None if self.source is None else str(self.source),
            remote=self.far_end,
            mtu=self.mtu,
            packet_socket=self.packet_socket,
            ipsec=None if self.binding.protection is None else self.binding.protection.words,
        )
        if before is not TunnelState.DOWN:
            return [replace(up, after=str(before))]
        if self.device is not None:
            up = replace(up, index=self.device.index, offload=self.device.offload)
        events: list[Event] = [up]
        if self.config.remote is None and not (self.config.peers or self.config.learn_peers):
            events.append(ReceivesOnly(tunnel=self.name))
        return events

    def _path_detail(self) -> str:
        """Say what becomes of packets that the interface takes and the path does not."""
        if self.path.mtu is None:
            return ""
        return "; ".join(filter(None, (self.path.sentence, self._room_detail(self.path.mtu))))

    def _room_detail(self, carried: int) -> str:
        room = carried - overhead(self.config)
        if self.path.fragmentable:
            return f"it carries less than {carried}: outer packets may be fragmented"
        if self.config.mtu is not None and self.config.mtu > room:
            return (
                f"MTUBytes={self.config.mtu} stays: inner packets above {room} are cut or refused"
            )
        if carries_ipv6(self.config) and room < FLOOR_IPV6:
            return f"IPv6 inside needs {FLOOR_IPV6}: outer packets of such are fragmented"
        mtu = tunnel_mtu(self.config, carried)
        if not self.path.is_untold or mtu == self.mtu:
            return ""
        return f"MTU {'lowered' if mtu < self.mtu else 'raised'} from {self.mtu} to {mtu}"

    def _state(self, seen: Observation) -> tuple[TunnelState, str]:
        """Return the state that *seen* calls for, and why: the gravest where there are several."""
        remote, local = self.config.remote, self.binding.local
        if self.unresolved:
            return TunnelState.UNRESOLVED, self.unresolved
        if seen.loop:
            ring = " > ".join((*seen.loop, seen.loop[0]))
            return TunnelState.LOOP, f"{remote} is routed into the tunnel itself: {ring}"
        if self.upkeep.is_down:
            return TunnelState.DISABLED, self.upkeep.sentence
        if not seen.local_present:
            reason = seen.binding.no_local or f"{local} is not an address of this host"
            return TunnelState.NO_LOCAL, reason
        if self.held:
            return TunnelState.TWIN, self.held
        if isinstance(seen.route, NoRoute):
            return TunnelState.NO_ROUTE, f"no route to {remote}: {seen.route.reason}"
        if self.exposure:
            return TunnelState.UNPROTECTED, self.exposure
        if self.refusal.sentence:
            return TunnelState.REFUSED, self.refusal.sentence
        if self.denial.sentence:
            return TunnelState.DENIED, self.denial.sentence
        found = self.diagnosis.finding
        if found is not None and found.fault in {Fault.DENIED, Fault.MISMATCH}:
            return TunnelState(found.fault), found.sentence
        if self.silence:
            return TunnelState.SILENT, self.silence
        if self.upkeep.sentence:
            return TunnelState.INCOMPLETE, self.upkeep.sentence
        if found is not None:
            return TunnelState(found.fault), found.sentence
        return TunnelState.UP, ""


def _text(address: IPAddress | None) -> str:
    return "any" if address is None else str(address)
