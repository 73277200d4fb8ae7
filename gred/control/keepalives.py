"""Keepalives of all tunnels: asks other ends for signs of life, and answers those that ask.

    it is time: Liveness.ask -> the data plane sends the request as any packet of the tunnel
    a keepalive arrives: an answer -> Liveness.heard; a request -> Replies.reply -> sent back

Nothing here crosses the tunnel's interface: without a carrier nothing could. What follows from life
and death is the tunnel's to say (tunnel.py); what is on the wire is wire/keepalive.py's.
"""

import asyncio
from collections.abc import Mapping
from heapq import heapify, heappop, heappush
from itertools import chain, count
from time import monotonic

from gred.config.model import IPAddress, TunnelConfig
from gred.control.asking import ask
from gred.control.errors import words
from gred.control.events import (
    CarrierRefused,
    Ipv6RoutesStay,
    Listener,
    PeerAnswers,
    PeerSilent,
)
from gred.control.inquiries import Inquiries
from gred.control.kernel.linkdown import follow_carrier_ipv6
from gred.control.liveness import Life, Liveness
from gred.control.mtu import carries_ipv6
from gred.control.parts import Attachment, Plane
from gred.control.probes import Paths, Probes
from gred.control.replies import PER_PROCESS, Replies
from gred.control.tunnel import Tunnel, TunnelState
from gred.dataplane.punt import Allowance, Punted
from gred.wire.drop import DropReason
from gred.wire.echo import read_echo_reply
from gred.wire.gre import PROTOCOL_IPV4, PROTOCOL_IPV6, GreHeader
from gred.wire.keepalive import (
    Request,
    carries_request,
    read_answer,
    read_request,
)
from gred.wire.malformed import MalformedPacketError

_FEW = 4  # remotes of one tunnel whose cookies are looked for in each keepalive
_AT_ONCE = 64  # requests until packets have their turn
_SOONEST = 0.001  # seconds until the next ones
_LINKDOWN = "sysctl net.ipv6.conf.default.ignore_routes_with_linkdown=1 before gred starts"


class Keepalives:
    """Asks and answers for *tunnels*, by name. Calls *listener* with what is worth telling.

    *paths*: who obeys what probes find, while the other end is alive. *inquiries*: who else asks.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        tunnels: Mapping[str, Tunnel],
        plane: Plane,
        listener: Listener,
        paths: Paths,
        inquiries: Inquiries,
    ) -> None:
        self._loop = loop
        self._tunnels = tunnels
        self._plane = plane
        self._listener = listener
        self._inquiries = inquiries
        self._due: list[tuple[float, int, Tunnel, IPAddress, Liveness]] = []
        self._order = count()
        self._replies: dict[str, tuple[Attachment, Replies]] = {}
        self._shared = Allowance(*PER_PROCESS)
        self._timer: asyncio.TimerHandle | None = None
        self._probes = Probes(loop, plane, paths, self._await)
        plane.punts.subscribe([DropReason.KEEPALIVE], self._take)

    def begin(self, tunnel: Tunnel) -> None:
        """Ask for signs of life of *tunnel*, which is attached from now on, if it wants any.

        Or which is configured anew: who was alive is taken for alive until it is silent, and where
        nobody was asked before the tunnel's other ends are, too.
        """
        config, before = tunnel.config, tunnel.lives
        self._probes.begin(tunnel, remotes(config))
        if config.keepalive is None and not before:
            return
        if before:
            self._due = [one for one in self._due if one[2] is not tunnel]
            heapify(self._due)
        lives = {}
        if config.keepalive is not None:
            for remote in remotes(config):
                life = self._life(tunnel, remote, config.keepalive)
                lives[remote] = life
                heappush(self._due, (self._now(), next(self._order), tunnel, remote, life))
        tunnel.expect_life(lives)
        self._follow(tunnel)
        if tunnel.device is not None and tunnel.follows_carrier:
            why = follow_carrier_ipv6(tunnel.device.name, tunnel.device.namespace)
            if why and carries_ipv6(config):
                detail = f"IPv6 routes stay while it has no carrier ({why}): {_LINKDOWN}"
                self._listener(Ipv6RoutesStay(tunnel=tunnel.name, detail=detail))
        self._plan()

    def _life(self, tunnel: Tunnel, remote: IPAddress, interval: float) -> Liveness:
        """Return what is known of *remote*, asked every *interval* seconds from now on."""
        config, life = tunnel.config, tunnel.lives.get(remote)
        if life is not None:
            life.change(interval, config.keepalive_retries, self._now())
            return life
        life = Liveness(interval, config.keepalive_retries, f"{config.name} {remote}".encode())
        if tunnel.state is TunnelState.UP or tunnel.was_alive:
            life.presume(self._now())
        if (before := tunnel.remains.get("lives", {}).get(str(remote))) is not None:
            life.resume(before, self._now())
        return life

    def close(self) -> None:
        """Ask no more. Harmless twice."""
        self._probes.close()
        self._stop()

    def _take(self, punted: Punted) -> None:
        tunnel = self._tunnels.get(punted.tunnel or "")
        if tunnel is None or tunnel.attachment is None:
            return
        try:
            header = GreHeader.parse(punted.data)
        except MalformedPacketError:
            return
        request = None
        if carries_request(header.protocol_type):
            request = read_request(punted.data[header.length :])
        if request is not None:
            self._answer(tunnel, tunnel.attachment, request, punted.source, punted.destination)
        elif tunnel.echo is None:
            answer = read_answer(punted.data)
            if answer is not None:
                self._heard(tunnel, punted.source, answer.trailer)
        elif (echo := read_echo_reply(punted.data[header.length :])) is not None:
            config = tunnel.config
            if (echo.source, echo.destination) == (config.keepalive_target, config.echo_source):
                self._heard(tunnel, punted.source, echo.trailer)

    def _heard(self, tunnel: Tunnel, source: IPAddress, trailer: bytes) -> None:
        if self._probes.heard(tunnel, source, trailer):
            return
        if self._inquiries.heard(tunnel, source, trailer):
            self._tell(tunnel)
            return
        life = tunnel.lives.get(source)
        if life is None:
            return
        before, ignored = life.life, life.ignored
        life.heard(trailer, monotonic())
        if life.ignored == ignored:
            tunnel.note_answer()
            self._await(tunnel)
        if life.life is not before:
            self._turned(tunnel, source, life)
        elif tunnel.state is not TunnelState.UP:
            self._tell(tunnel)

    def _answer(
        self,
        tunnel: Tunnel,
        attachment: Attachment,
        request: Request,
        source: IPAddress,
        destination: IPAddress,
    ) -> None:
        if not tunnel.config.keepalive_reply:
            return
        known, replies = self._replies.get(tunnel.name, (None, None))
        if replies is None or known is not attachment:
            replies = Replies([own.ip for own in tunnel.config.addresses], self._shared)
            self._replies[tunnel.name] = attachment, replies
        reply = replies.reply(request, source, destination, self._now())
        if reply is None:
            return
        if reply.tunnelled:
            protocol = PROTOCOL_IPV4 if request.source.version == 4 else PROTOCOL_IPV6
            self._plane.inject.payload(attachment, protocol, reply.content, remote=source)
        else:
            self._plane.inject.datagram(attachment, reply.content, remote=source)

    def _look(self) -> None:
        """Ask whom it is time to ask, and find dead who has been silent for too long."""
        self._timer = None
        now = self._now()
        for _ in range(_AT_ONCE):
            if not self._due or self._due[0][0] > now:
                break
            _at, _order, tunnel, remote, life = heappop(self._due)
            if tunnel.lives.get(remote) is not life:
                continue  # it is attached no more
            if life.look(now):
                self._turned(tunnel, remote, life)
            if life.due <= now:
                self._ask(tunnel, remote, life)
            heappush(self._due, (life.wakes(), next(self._order), tunnel, remote, life))
        self._plan()

    def _ask(self, tunnel: Tunnel, remote: IPAddress, life: Liveness) -> None:
        cookie = life.ask(monotonic())
        tunnel.note_asked()
        self._await(tunnel)
        ask(self._plane, tunnel, remote, cookie, life.asked)

    def _turned(self, tunnel: Tunnel, remote: IPAddress, life: Liveness) -> None:
        """Let *tunnel* know that *life* has changed, and tell what follows."""
        tunnel.note_life()
        self._probes.turned(tunnel, remote)
        if len(tunnel.lives) > 1 and (life.is_silent or life.life is Life.UP):
            event = PeerSilent if life.is_silent else PeerAnswers
            self._listener(event(tunnel=tunnel.name, remote=str(remote)))
        self._follow(tunnel)
        self._tell(tunnel)

    def _tell(self, tunnel: Tunnel) -> None:
        for event in tunnel.reconsider():
            self._listener(event)

    def _follow(self, tunnel: Tunnel) -> None:
        """Give the interface the carrier that it is to have."""
        if tunnel.device is None:
            return
        try:
            tunnel.device.set_carrier(tunnel.has_carrier)
        except OSError as error:
            detail = f"routes stay, whether it is dead or alive: {words(error)}"
            self._listener(CarrierRefused(tunnel=tunnel.name, detail=detail))

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _plan(self) -> None:
        self._stop()
        if self._due:
            at = max(self._due[0][0], self._now() + _SOONEST)
            self._timer = self._loop.call_at(at, self._look)

    def _await(self, tunnel: Tunnel) -> None:
        """Let no flood of forged answers hide those of *tunnel*, where it waits for a few."""
        if tunnel.attachment is not None and len(remotes(tunnel.config)) <= _FEW:
            cookies = (life.awaited() for life in tunnel.lives.values())
            awaited = chain(chain.from_iterable(cookies), self._probes.awaited(tunnel))
            tunnel.attachment.awaited = frozenset(awaited)

    def _now(self) -> float:
        """Return the loop's time: as `monotonic`, but perhaps in whole milliseconds."""
        return self._loop.time()


def remotes(config: TunnelConfig) -> list[IPAddress]:
    """Return whom to ask: one, or each that ``Peers=`` names."""
    if config.remote is not None:
        return [config.remote]
    return list(dict.fromkeys(outer for _inner, outer in config.peers))
