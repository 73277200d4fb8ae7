"""Looks at all tunnels every few seconds, and asks where packets alone do not tell.

What it means is decided in diagnosis.py and said in sentences.py; here are the clock, the questions
to the kernel, and the way of what was refused to the tunnel that it concerns. Nothing here is on
the path of a packet, but one sample where nothing goes back.
"""

import asyncio
import contextlib
from collections.abc import Coroutine, Mapping
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from time import monotonic

from gred.config.model import IPAddress
from gred.control import sentences
from gred.control.diagnosis import LOOK_EVERY, Diagnosis
from gred.control.events import Listener
from gred.control.kernel import xfrm
from gred.control.kernel.echoes import received_echoes
from gred.control.kernel.namespaces import inside
from gred.control.kernel.parts import Kernel
from gred.control.kernel.sniffer import is_kept_away
from gred.control.liveness import Life
from gred.control.parts import Plane
from gred.control.threads import in_thread
from gred.control.tunnel import Tunnel
from gred.dataplane.kernel_mtu import kernel_mtu
from gred.dataplane.punt import Report
from gred.wire.drop import DropReason
from gred.wire.echo import ECHO_REPLY, ECHO_REPLY6, ECHO_REQUEST, ECHO_REQUEST6
from gred.wire.icmp import IPPROTO_ICMP, IPPROTO_ICMPV6

_SLICE = 128  # tunnels looked at in one turn of the loop: packets come first
_LISTEN = 3.0  # seconds
_HOP_LOOKS, _HOP_EVERY = 8, 1.0  # seconds: Linux waits for 5 before it asks a neighbour again
_AT_ONCE = 8  # questions that are open
_ECHOES = {bytes([ECHO_REQUEST]): "requests", bytes([ECHO_REPLY]): "replies"}
_ECHOES6 = {bytes([ECHO_REQUEST6]): "requests", bytes([ECHO_REPLY6]): "replies"}
_CANDIDATES = 64  # tunnels that a packet for none of them may have been meant for


class Diagnoses:
    """Diagnoses *tunnels*, by name; *listener* is called with what changes."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        tunnels: Mapping[str, Tunnel],
        kernel: Kernel,
        plane: Plane,
        listener: Listener,
    ) -> None:
        self._loop = loop
        self._tunnels = tunnels
        self._kernel = kernel
        self._plane = plane
        self._listener = listener
        self._timer: asyncio.TimerHandle | None = None
        self._names: list[str] = []
        self._stopped_by_ipsec = xfrm.unsent()
        self._is_ipsec_in_the_way = False
        self._questions: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to look."""
        self._later()

    async def stop(self) -> None:
        """Look no more. Harmless twice."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for question in self._questions:
            question.cancel()
        if self._questions:
            await asyncio.wait(self._questions)

    def take(self, report: Report) -> None:
        """Take in that a packet was refused, and lead it to the tunnel that it may concern."""
        now = self._loop.time()
        tunnel = self._tunnels.get(report.tunnel or "")
        if tunnel is not None and report.reason is DropReason.KEY_MISMATCH:
            # One that works is not meant where another one of that remote has heard nothing.
            meant = [] if tunnel.diagnosis.is_quiet else self._meant(report)
            tunnel = meant[0] if meant else tunnel
        if tunnel is not None:
            tunnel.diagnosis.refused(report, now)
        elif report.tunnel is None:
            for one in self._meant(report):
                if report.reason is DropReason.NO_TUNNEL:
                    one.diagnosis.stray(report)
                else:
                    one.diagnosis.refused(report, now)

    def _meant(self, report: Report) -> list[Tunnel]:
        """Return the tunnel that a packet for none is meant for; none where it may be two."""
        if report.source is None:
            return []
        fit = []
        for number, tunnel in enumerate(self._tunnels.values()):
            if number >= _CANDIDATES:
                return []  # too many to look through for each packet
            config = tunnel.config
            if tunnel.attachment is None or config.remote is None:
                continue
            if config.family != report.source.version or not tunnel.diagnosis.is_quiet:
                continue
            if report.reason is DropReason.NO_TUNNEL and config.input_key != report.key:
                continue
            if report.reason is not DropReason.NO_TUNNEL and config.remote != report.source:
                continue
            fit.append(tunnel)
        return fit if len(fit) == 1 else []

    # --- looking ----------------------------------------------------------------------------------

    def _later(self) -> None:
        # Each is looked at about once in LOOK_EVERY, however many there are.
        turns = 1 + len(self._tunnels) // _SLICE
        self._timer = self._loop.call_later(LOOK_EVERY / turns, self._look)

    def _look(self) -> None:
        now = self._loop.time()
        if not self._names:
            self._names = list(self._tunnels)
            before, self._stopped_by_ipsec = self._stopped_by_ipsec, xfrm.unsent()
            self._is_ipsec_in_the_way = self._stopped_by_ipsec > before
        names, self._names = self._names[:_SLICE], self._names[_SLICE:]
        for name in names:
            tunnel = self._tunnels.get(name)
            if tunnel is not None and tunnel.attachment is not None:
                self._look_at(tunnel, now)
        self._later()

    def _look_at(self, tunnel: Tunnel, now: float) -> None:
        diagnosis, attachment = tunnel.diagnosis, tunnel.attachment
        assert attachment is not None  # noqa: S101 - asked by the caller
        traffic = attachment.traffic()
        if not (diagnosis.is_open or tunnel.lives) and traffic == diagnosis.traffic:
            return
        local = tunnel.binding.local or tunnel.source
        figures = [life.figures(monotonic()) for life in tunnel.lives.values()]
        lost, asked = sum(one.lost for one in figures), sum(one.asked for one in figures)
        alive = any(life.life is Life.UP for life in tunnel.lives.values())
        diagnosis.keepalives(lost, asked, alive=alive)
        if diagnosis.look(attachment.counters(), tunnel.config.remote, local, now):
            self._tell(tunnel)
        if len(self._questions) < _AT_ONCE:
            if diagnosis.wants_opinion:
                self._ask(self._find_out(tunnel))
            elif diagnosis.wants_sample:
                diagnosis.wants_sample = False
                self._plane.sample(attachment, partial(self._sampled, tunnel))
            elif self._is_ipsec_in_the_way or diagnosis.is_held:
                self._ask(self._ask_whether_held(tunnel))

    def _tell(self, tunnel: Tunnel) -> None:
        for event in tunnel.reconsider():
            self._listener(event)

    def _ask(self, question: Coroutine[object, object, None]) -> None:
        task = self._loop.create_task(question)
        self._questions.add(task)
        task.add_done_callback(self._questions.discard)

    # --- nothing comes back -----------------------------------------------------------------------

    async def _find_out(self, tunnel: Tunnel) -> None:
        """Look why nothing comes back to *tunnel*."""
        diagnosis, device, opinion = tunnel.diagnosis, tunnel.device, ""
        diagnosis.wants_opinion, diagnosis.is_looked_into = False, True
        try:
            if device is not None and diagnosis.sent_unanswered <= await in_thread(
                lambda: _announcements(device.name, device.namespace)
            ):
                diagnosis.excuse()
                return
            if tunnel.config.remote is not None:
                opinion = await self._opinion(tunnel, tunnel.config.remote)
        finally:
            if diagnosis.is_looked_into:
                diagnosis.second(opinion)

    async def _opinion(self, tunnel: Tunnel, remote: IPAddress) -> str:
        """Say why nothing of *remote* comes to *tunnel*; empty: nobody knows."""
        parameters = tunnel.parameters()
        if await in_thread(lambda: kernel_mtu(parameters, remote)) == xfrm.NO_STATE:
            return sentences.held_back(remote)
        hop, kept_away = await asyncio.gather(
            self._silent_hop(tunnel, remote), in_thread(lambda: is_kept_away(remote, _LISTEN))
        )
        if kept_away and tunnel.diagnosis.is_quiet:
            policy = await in_thread(lambda: _inbound_policy(remote, parameters.local))
            return sentences.kept_away(remote, policy)
        return hop

    async def _ask_whether_held(self, tunnel: Tunnel) -> None:
        """Look whether IPsec holds back what *tunnel* sends."""
        diagnosis, remote, before = tunnel.diagnosis, tunnel.config.remote, tunnel.diagnosis.finding
        if remote is None:
            return
        parameters = tunnel.parameters()
        mtu = await in_thread(lambda: kernel_mtu(parameters, remote))
        diagnosis.hold(sentences.held_back(remote) if mtu == xfrm.NO_STATE else "")
        if diagnosis.finding != before and tunnel.diagnosis is diagnosis:
            self._tell(tunnel)

    async def _silent_hop(self, tunnel: Tunnel, remote: IPAddress) -> str:
        """Say that whom packets to *remote* are handed to does not answer; empty: it does.

        An answer takes a moment: who is asked at two of some looks, and answers at none, is silent.
        """
        query, asked = tunnel.route_query(remote), 0
        for _ in range(_HOP_LOOKS):
            try:
                hop = await in_thread(lambda: self._kernel.hop(query))
            except OSError:
                return ""
            if hop is None or hop.answers:
                return ""
            asked += hop.answers is False
            if asked > 1:
                return sentences.silent_hop(remote, hop.address)
            await asyncio.sleep(_HOP_EVERY)
        return ""

    # --- nothing goes back ------------------------------------------------------------------------

    def _sampled(self, tunnel: Tunnel, packet: bytes) -> None:
        ends = None if tunnel.config.mode == "gretap" else _addresses(packet)
        device = tunnel.device
        if ends is not None and device is not None:
            self._ask(self._follow(tunnel, device.index, *ends, _echo(packet)))

    async def _follow(
        self,
        tunnel: Tunnel,
        index: int,
        source: IPAddress,
        destination: IPAddress,
        echo: str,
    ) -> None:
        """Ask the kernel what becomes of a packet that *tunnel* delivers; *echo*: as ``_echo``."""
        namespace, diagnosis = tunnel.config.namespace, tunnel.diagnosis
        with contextlib.suppress(OSError):
            delivery = await in_thread(
                lambda: self._kernel.delivery(index, source, destination, namespace)
            )
            sentence = sentences.undelivered(
                source,
                destination,
                delivery,
                tunnel.name,
                is_numbered=bool(tunnel.config.addresses or tunnel.config.routes),
            )
            before = diagnosis.finding
            if diagnosis.is_routine and delivery.drop != "own":
                sentence = ""  # that explains nothing where packets leave as well
                if delivery.here and namespace is None:
                    is_swallowed = await self._is_swallowed(diagnosis, source.version, echo)
                    if is_swallowed is None:
                        return
                    if is_swallowed:
                        sentence = sentences.swallowed(source, destination, tunnel.name)
            elif echo == "requests" and delivery.here and diagnosis.pinged(self._loop.time()):
                sentence = sentences.unanswered_pings(source, destination, tunnel.name)
            diagnosis.verdict(sentence)
            if diagnosis.finding != before:
                self._tell(tunnel)

    async def _is_swallowed(self, diagnosis: Diagnosis, version: int, echo: str) -> bool | None:
        """Tell whether this host itself gets nothing of what is delivered to it.

        None: that is not known yet, and what was known stays.
        """
        if not echo:
            is_known = diagnosis.finding is not None
            return None if is_known else False
        counts = await in_thread(lambda: received_echoes(version))
        if counts is None:
            return False
        return diagnosis.counted(counts, counts._fields.index(echo), self._loop.time())


def _addresses(packet: bytes) -> tuple[IPAddress, IPAddress] | None:
    """Return source and destination of an IP packet; None for any other, and for many."""
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= 20:
        ends4 = IPv4Address(packet[12:16]), IPv4Address(packet[16:20])
        return None if ends4[1].is_multicast else ends4
    if version == 6 and len(packet) >= 40:
        ends6 = IPv6Address(packet[8:24]), IPv6Address(packet[24:40])
        is_plain = not (ends6[1].is_multicast or ends6[0].is_link_local)
        return ends6 if is_plain else None
    return None


def _echo(packet: bytes) -> str:
    """Return "requests" or "replies" for an ICMP echo message; empty for anything else.

    Also for one behind options or extension headers.
    """
    if packet[0] == 0x45:
        is_icmp, kind, kinds = packet[9] == IPPROTO_ICMP, packet[20:21], _ECHOES
    else:
        is_icmp, kind, kinds = packet[6] == IPPROTO_ICMPV6, packet[40:41], _ECHOES6
    return kinds.get(kind, "") if is_icmp else ""


def _inbound_policy(remote: IPAddress, local: IPAddress | None) -> xfrm.Policy | None:
    """Return the IPsec policy for what *remote* sends; None: there is none, or it is not known."""
    try:
        return xfrm.tables().inbound(remote, local)
    except OSError:
        return None


def _announcements(name: str, namespace: str | None) -> int:
    """Return how many packets the kernel has sent by interface *name* that call for no answer.

    Router solicitations, and reports of groups joined. 0 where that cannot be seen.
    """

    def read() -> int:
        try:
            text = Path(f"/proc/thread-self/net/dev_snmp6/{name}").read_text()
        except OSError:
            return 0
        counts = dict(line.split() for line in text.splitlines() if len(line.split()) == 2)
        wanted = ("Icmp6OutRouterSolicits", "Icmp6OutMLDv2Reports", "Icmp6OutGroupMembResponses")
        return sum(int(counts.get(one, 0)) for one in wanted)

    try:
        return inside(namespace, read)
    except OSError:
        return 0
