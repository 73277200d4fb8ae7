"""One configured tunnel: its state, its MTU, what the data plane is told to do about it.

Pure of the kernel: it is shown observations and answers with events. No netlink, no loop, no timer.
"""

from dataclasses import replace
from enum import StrEnum, unique
from ipaddress import IPv4Address, IPv6Address

from gred.config.model import IPAddress, TunnelConfig
from gred.control.denial import Denial
from gred.control.kernel.parts import Device, DeviceMode, InterfaceSettings
from gred.control.kernel.routes import NoRoute, RouteInfo
from gred.control.link_local import link_local
from gred.control.mtu import DEFAULT_ROUTE_MTU, FLOOR_IPV6, carries_ipv6, overhead, tunnel_mtu
from gred.control.parts import Event, Port
from gred.control.path_mtu import PathMtu
from gred.control.refusal import Refusal
from gred.control.retry import Retry
from gred.control.survey import Observation, Standing
from gred.dataplane.tunnels import TunnelParameters
from gred.wire.drop import DropReason

# While an address or a device is missing, packets must not leave from another: the kernel refuses
# these two with each packet, and no packet received is for them. RFC 7600 §4.8, RFC 6666 §2.
_NOWHERE: dict[int, IPAddress] = {4: IPv4Address("192.0.0.8"), 6: IPv6Address("100::")}
_NO_INTERFACE = 0x7FFFFFFF  # the largest index; the kernel counts up from 1


@unique
class TunnelState(StrEnum):
    """What a tunnel can do. Only LOOP keeps it from sending; the others are for people."""

    DOWN = "down"  # has no interface: not yet, or ``detail`` says why; it is tried again
    UP = "up"
    LOOP = "loop"  # the remote is routed into the tunnel itself
    DISABLED = "disabled"  # somebody has set the interface down
    NO_LOCAL = "no_local"  # the local address is not an address of this host
    TWIN = "twin"  # held down: another tunnel or receiver takes the same packets
    NO_ROUTE = "no_route"  # the kernel has no route to the remote
    REFUSED = "refused"  # ICMP errors say that outer packets do not get there
    DENIED = "denied"  # a firewall or an IPsec policy of this host refuses every outer packet
    INCOMPLETE = "incomplete"  # the interface lacks addresses or routes, or has another MTU


class Tunnel:
    """One configured tunnel. DOWN until it has a device and the data plane has it."""

    def __init__(self, config: TunnelConfig) -> None:
        self.config = config
        self.state = TunnelState.DOWN
        self.mtu = tunnel_mtu(config, DEFAULT_ROUTE_MTU)
        self.device: Device | None = None
        self.port: Port | None = None
        self.standing = Standing(local=config.local)
        """Where outer packets leave from, as last seen."""
        self.path = PathMtu(config.family)
        self.refusal = Refusal()
        self.denial = Denial()
        self.held = ""
        """Why it is held down, in words; empty when it is not: it neither sends nor receives."""
        self.source: IPAddress | None = None
        """Where outer packets come from when *local* is any: the kernel's choice, as last seen."""
        self._link_local = link_local(config)
        self.retry = Retry()
        """When to bring it up again while it is down."""
        self.mtu_refused = ""
        """Why its interface has not got ``mtu``; empty when it has."""
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
        why = self.standing.filtered or (self.port.no_packet_socket if self.port else "")
        if not self.config.packet_socket:
            why = "configured"
        return f"no ({why})" if why else "yes"

    def parameters(self) -> TunnelParameters:
        """Return what the data plane must know."""
        config, standing = self.config, self.standing
        return TunnelParameters(
            local=_NOWHERE[config.family] if self._is_nowhere else standing.local,
            remote=config.remote,
            input_key=config.input_key,
            output_key=config.output_key,
            input_checksum=config.input_checksum,
            output_checksum=config.output_checksum,
            input_sequence=config.input_sequence,
            output_sequence=config.output_sequence,
            ttl=config.ttl,
            tos=config.tos,
            dont_fragment=config.discover_path_mtu and not self.path.fragmentable,
            ignore_dont_fragment=config.ignore_dont_fragment or self.path.fragmentable,
            mtu=self.mtu,
            path_mtu=self._room(),
            interface=_NO_INTERFACE if standing.no_device else standing.device,
            group_device=standing.group_device,
            flow_label=config.flow_label,
            encapsulation_limit=config.encapsulation_limit,
            mark=config.firewall_mark or 0,
            clamp_mss=config.clamp_mss,
            peers=config.peers,
            protocol=config.protocol,
            learn_peers=config.learn_peers,
            packet_socket=config.packet_socket and not standing.filtered,
        )

    @property
    def _is_nowhere(self) -> bool:
        return bool(self.standing.no_local or self.held)

    def _room(self) -> int | None:
        """Return the longest inner packet that the path takes, where the interface takes longer."""
        carried = self.path.mtu or self.path.route_mtu
        if carried is None:
            return None
        room = carried - overhead(self.config)
        return room if self.path.mtu is not None or room < self.mtu else None

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
        )

    def wanted_mtu(self, seen: Observation) -> int:
        """Return the MTU that fits *seen*; the present one where nothing better is known.

        In a loop the route's MTU is the tunnel's own: following it would lower it step by step.
        """
        if not isinstance(seen.route, RouteInfo) or seen.loop:
            return self.mtu
        return tunnel_mtu(self.config, self.path.mtu or seen.route.mtu)

    def follow_path(self, seen: Observation, now: float) -> list[Event] | None:
        """Take in what *seen* says of the path's MTU; return what is worth telling: changes only.

        None: nothing has changed. To be called before ``wanted_mtu`` and ``parameters``, which
        obey it.
        """
        if not isinstance(seen.route, RouteInfo) or seen.loop:
            return None
        known = self.path.mtu, self.path.fragmentable
        before = self.path.mtu or seen.route.mtu
        if not self.path.look(seen.route.mtu, now):
            return None
        if (self.path.mtu, self.path.fragmentable) == known:
            return []
        fields: dict[str, object] = {
            "path_mtu": self.path.mtu or seen.route.mtu,
            "before": before,
            "detail": self._path_detail(),
        }
        return [Event("path_mtu_changed", "info", self.name, fields)]

    def move(self, standing: Standing) -> bool:
        """Let outer packets leave from *standing*; return whether the data plane must be told.

        An address that went stays in use until there is another: the kernel refuses to send from
        it, and what is under way still arrives.
        """
        before = self.parameters()
        if standing.no_local and self.standing.local is not None:
            standing = replace(standing, local=self.standing.local, no_local="")
        self.standing = standing
        return self.parameters() != before

    def hold(self, why: str) -> bool:
        """Neither send nor receive as long as there is a *why*, in words; empty: go on.

        Return whether the data plane must be told.
        """
        before, self.held = self._is_nowhere, why
        return self._is_nowhere != before

    def is_touched(self, seen: Observation, now: float) -> bool:
        """Whether it is to be looked at: *seen* is another than last time, or time has passed."""
        waits = self.path.due(now) is not None or bool(self.mtu_refused)
        return self.stale or waits or self.port is None or seen is not self.seen

    def observe(self, seen: Observation) -> list[Event]:
        """Take the state that *seen* calls for; return what is worth telling: changes only."""
        before, told = self.state, self.detail
        self.state, self.detail = self._state(seen)
        self.seen = seen
        moved = self._follow_source(seen)
        # What is missing may become more, or less, while the state stays; so may who holds it.
        may_vary = self.state in {TunnelState.INCOMPLETE, TunnelState.TWIN}
        if self.state is before and not (may_vary and told != self.detail):
            return moved
        if self.port is not None and TunnelState.LOOP in {before, self.state}:
            blocked = self.state is TunnelState.LOOP
            self.port.block(DropReason.DEAD_LOOP if blocked else None)
        if self.state is TunnelState.UP:
            return self._up_events(before)
        fields: dict[str, object] = {
            "local": _text(self.standing.local),
            "remote": _text(self.config.remote),
            "detail": self.detail,
        }
        return [Event(f"tunnel_{self.state}", "warning", self.name, fields)]

    def reconsider(self) -> list[Event]:
        """Take the state anew, after ``refusal`` has changed; return what is worth telling."""
        return [] if self.seen is None else self.observe(self.seen)

    def lose(self) -> None:
        """Forget device and port, which somebody else has closed and removed."""
        self.device = None
        self.port = None
        self.seen = None
        self.refusal = Refusal()  # whose counts were those of the port
        self.source = None
        self.denial = Denial()
        self.mtu_refused = ""
        self.state = TunnelState.DOWN

    def fail(self, detail: str) -> list[Event]:
        """Be down, as *detail* says; return what is worth telling: changes only.

        Device and port are lost next.
        """
        before = self.state, self.detail
        self.state, self.detail = TunnelState.DOWN, detail
        if before == (self.state, self.detail):
            return []
        return [Event("tunnel_down", "error", self.name, {"detail": detail})]

    def _follow_source(self, seen: Observation) -> list[Event]:
        """Take in which source the kernel chooses; return what is worth telling."""
        route = seen.route
        if self.standing.local is not None or not isinstance(route, RouteInfo):
            return []
        before, self.source = self.source, route.prefsrc
        if before is None or before == self.source:
            return []
        fields = {"source": _text(self.source), "before": str(before)}
        return [Event("source_changed", "info", self.name, fields)]

    def _up_events(self, before: TunnelState) -> list[Event]:
        fields: dict[str, object] = {
            "local": _text(self.standing.local),
            **({} if self.source is None else {"source": str(self.source)}),
            "remote": _text(self.config.remote),
            "mtu": self.mtu,
            "packet_socket": self.packet_socket,
        }
        if before is not TunnelState.DOWN:
            return [Event("tunnel_up", "info", self.name, {**fields, "after": str(before)})]
        if self.device is not None:
            fields |= {"index": self.device.index, "offload": self.device.offload}
        events = [Event("tunnel_up", "info", self.name, fields)]
        if self.config.remote is None and not (self.config.peers or self.config.learn_peers):
            detail = "without a remote it only receives; what is sent into it is dropped"
            events.append(Event("tunnel_receives_only", "warning", self.name, {"detail": detail}))
        return events

    def _path_detail(self) -> str:
        """Say what becomes of packets that the interface takes and the path does not."""
        if self.path.mtu is None:
            return ""
        room = self.path.mtu - overhead(self.config)
        if self.path.fragmentable:
            return f"it carries less than {self.path.mtu}: outer packets may be fragmented"
        if self.config.mtu is not None and self.config.mtu > room:
            return (
                f"MTUBytes={self.config.mtu} stays: inner packets above {room} are cut or refused"
            )
        if carries_ipv6(self.config) and room < FLOOR_IPV6:
            return f"IPv6 inside needs {FLOOR_IPV6}: outer packets of such are fragmented"
        return ""

    def _state(self, seen: Observation) -> tuple[TunnelState, str]:
        """Return the state that *seen* calls for, and why: the gravest where there are several."""
        remote, local = self.config.remote, self.standing.local
        if seen.loop:
            ring = " > ".join((*seen.loop, seen.loop[0]))
            return TunnelState.LOOP, f"{remote} is routed into the tunnel itself: {ring}"
        lacks = seen.difference
        if lacks is not None and lacks.down:
            return TunnelState.DISABLED, lacks.sentence
        if not seen.local_present:
            reason = seen.standing.no_local or f"{local} is not an address of this host"
            return TunnelState.NO_LOCAL, reason
        if self.held:
            return TunnelState.TWIN, self.held
        if isinstance(seen.route, NoRoute):
            return TunnelState.NO_ROUTE, f"no route to {remote}: {seen.route.reason}"
        if self.refusal.sentence:
            return TunnelState.REFUSED, self.refusal.sentence
        if self.denial.sentence:
            return TunnelState.DENIED, self.denial.sentence
        if lacks is not None and lacks.incomplete:
            return TunnelState.INCOMPLETE, lacks.sentence
        return TunnelState.UP, ""


def _text(address: IPAddress | None) -> str:
    return "any" if address is None else str(address)
