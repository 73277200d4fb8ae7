"""Where faults are planted: left -- router -- right, a gred at each end, and traffic by the clock.

Nothing here knows a fault, or what gred should say about it.
"""

import contextlib
import json
import random
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from gred.lab.daemon import Daemon
from gred.lab.hosts import Host, Lab
from gred.lab.waiting import wait_for
from tests.nft import nft

LEFT, RIGHT = ("192.0.2.1", "2001:db8:1::1"), ("198.51.100.1", "2001:db8:2::1")
NEAR, FAR = ("192.0.2.254", "2001:db8:1::fe"), ("198.51.100.254", "2001:db8:2::fe")
NEAR_LINK, FAR_LINK = "under0", "under1"  # what the wires are called at both of their ends
INNER = {"left": "10.9.1.1", "right": "10.9.1.2"}
TICK_S = 0.1
EVERY_S = 0.2

_IPV6_CHECKSUM_OK = 58
_ECHO = struct.Struct("!BBHHH")  # RFC 792
_SETTLED_S = 20.0


@dataclass(frozen=True, slots=True)
class Flow:
    """Packets that *end* sends to *to*, one of each of *sizes* every *every* seconds.

    *kind*: ``echo`` or ``udp`` (to port 9). *source* and *ttl*: else the host's choice. Don't
    Fragment is set; nobody learns anything of it: what ICMP says of a size is not obeyed.
    """

    end: str
    to: str
    kind: str = "echo"
    source: str = ""
    sizes: tuple[int, ...] = (56,)
    ttl: int = 0
    every: float = EVERY_S


class Sender:
    """One flow under way: its socket, what it sent, what was answered. Echo of IPv4 and IPv6."""

    def __init__(self, host: Host, flow: Flow) -> None:
        self._flow = flow
        self._number = 0
        self.answered = 0
        self.due = 0.0
        v6 = ":" in flow.to
        family = socket.AF_INET6 if v6 else socket.AF_INET
        kind, protocol = socket.SOCK_DGRAM, 0
        if flow.kind == "echo":
            kind, protocol = socket.SOCK_RAW, _IPV6_CHECKSUM_OK if v6 else socket.IPPROTO_ICMP
        self._request, self._reply = (128, 129) if v6 else (8, 0)
        self._skip = 0 if v6 else 20
        self._socket = host.socket(family, kind, protocol)
        self._socket.setblocking(False)
        level, option = (socket.IPPROTO_IPV6, 23) if v6 else (socket.IPPROTO_IP, 10)
        self._socket.setsockopt(level, option, 3)  # IP_PMTUDISC_PROBE, linux/in.h
        if flow.ttl:
            self._socket.setsockopt(
                level, socket.IPV6_UNICAST_HOPS if v6 else socket.IP_TTL, flow.ttl
            )
        if flow.source:
            self._socket.bind((flow.source, 0))
        self._identifier = random.getrandbits(16)

    def step(self, now: float) -> None:
        """Send what is due and take what came."""
        self._take()
        if now < self.due:
            return
        self.due = now + self._flow.every
        for size in self._flow.sizes:
            data = bytes(size)
            if self._flow.kind == "echo":
                data = self._echo(data)
            with contextlib.suppress(OSError):  # no route, denied, too long: what is planted
                self._socket.sendto(data, (self._flow.to, 9 if self._flow.kind == "udp" else 0))

    def _echo(self, data: bytes) -> bytes:
        self._number = (self._number + 1) & 0xFFFF
        head = _ECHO.pack(self._request, 0, 0, self._identifier, self._number)
        total = 0 if self._request == 128 else _checksum(head + data)
        return _ECHO.pack(self._request, 0, total, self._identifier, self._number) + data

    def _take(self) -> None:
        while True:
            try:
                data = self._socket.recv(65535)
            except BlockingIOError:
                return
            except OSError:  # a pending ICMP error
                continue
            data = data[self._skip :]
            if self._flow.kind == "echo" and len(data) >= 8:
                kind, _code, _sum, identifier, _number = _ECHO.unpack_from(data)
                self.answered += (kind, identifier) == (self._reply, self._identifier)

    def close(self) -> None:
        self._socket.close()


def _checksum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


Change = Callable[[bytes], Sequence[tuple[float, bytes]]]  # GRE frame -> (seconds later, frame)


class Relay(threading.Thread):
    """A host that is a wire: it passes frames between two of its devices.

    GRE frames that come in by the second device (from the right) go through *change* first.
    """

    def __init__(self, host: Host, devices: tuple[str, str], change: Change) -> None:
        super().__init__(name=f"relay-{host.name}", daemon=True)
        self._change = change
        self._ending, self._ended = socket.socketpair()
        self._sockets = [self._open(host, device) for device in devices]

    @staticmethod
    def _open(host: Host, device: str) -> socket.socket:
        def opened() -> socket.socket:
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))  # ETH_P_ALL
            made.bind((device, 3))
            # PACKET_ADD_MEMBERSHIP, PACKET_MR_PROMISC: linux/if_packet.h
            membership = struct.pack("=iHH8s", socket.if_nametoindex(device), 1, 0, b"")
            made.setsockopt(263, 1, membership)
            return made

        return host.inside(opened)

    def run(self) -> None:
        waiting: list[tuple[float, int, bytes]] = []
        while True:
            now = time.monotonic()
            left = max(0.0, min((when for when, *_ in waiting), default=now + 60) - now)
            ready = select.select([*self._sockets, self._ended], [], [], left)[0]
            if self._ended in ready:
                return
            now = time.monotonic()
            for number, one in enumerate(self._sockets):
                if one in ready:
                    frame, address = one.recvfrom(65536)
                    if address[2] == 4:  # PACKET_OUTGOING: our own
                        continue
                    is_gre = frame[12:14] == b"\x08\x00" and frame[23] == 47
                    after = self._change(frame) if number == 1 and is_gre else [(0.0, frame)]
                    waiting += [(now + wait, 1 - number, each) for wait, each in after]
            for entry in sorted(entry for entry in waiting if entry[0] <= now):
                waiting.remove(entry)
                with contextlib.suppress(OSError):
                    self._sockets[entry[1]].send(entry[2])

    def end(self) -> None:
        self._ending.close()
        self.join(5)
        for one in (*self._sockets, self._ended):
            one.close()


@dataclass(slots=True)
class _Timer:
    """A call that is due at a moment, and again every *every* seconds if that is not 0."""

    due: float
    call: Callable[[], object]
    every: float = 0.0


@dataclass(slots=True)
class End:
    """A daemon under observation. *since*: how many of its log lines are from before the fault."""

    daemon: Daemon
    since: int = 0

    def events(self) -> list[dict[str, Any]]:
        """Return its log lines. What is not JSON, such as a traceback, is an event ``text``."""
        found = []
        for line in self.daemon.log().splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                found.append({"event": "text", "detail": line})
        return found


@dataclass(slots=True)
class Scene:
    """left -- router -- right. What a case makes here goes with the laboratory.

    left is 192.0.2.1 and 2001:db8:1::1, right 198.51.100.1 and 2001:db8:2::1; the router is .254
    and ::fe of either network. *stop* is looked at wherever something is waited for.
    """

    lab: Lab
    stop: threading.Event
    ends: dict[str, End] = field(default_factory=dict)
    hosts: dict[str, Host] = field(default_factory=dict)
    _timers: list[_Timer] = field(default_factory=list)
    _senders: list[Sender] = field(default_factory=list)
    _relays: list[Relay] = field(default_factory=list)
    _closing: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def build(self, change: Change | None = None) -> None:
        """Make hosts and wires. *change*: a relay between left and router with it."""
        left, router, right = (self.host(name) for name in ("left", "router", "right"))
        near_link = NEAR_LINK
        if change is not None:
            near_link = "relayed"
            relay = self.lab.host("relay", ipv6=False)
            self.lab.wire(left, relay, device=NEAR_LINK)
            self.lab.wire(relay, router, device=near_link)
            self._relays.append(Relay(relay, (NEAR_LINK, near_link), change))
            self._relays[-1].start()
        else:
            self.lab.wire(left, router, device=NEAR_LINK)
        self.lab.wire(router, right, device=FAR_LINK)
        for host, own, gateway, device in (
            (left, LEFT, NEAR, NEAR_LINK),
            (right, RIGHT, FAR, FAR_LINK),
        ):
            self.batch(host, *_addresses(own, device), *_defaults(gateway))
        self.batch(router, *_addresses(NEAR, near_link), *_addresses(FAR, FAR_LINK))
        for name in ("ipv4.ip_forward", "ipv6.conf.all.forwarding"):
            router.sysctl(f"net.{name}", "1")
        router.sysctl("net.ipv4.conf.all.send_redirects", "0")

    def host(self, name: str) -> Host:
        """Make one more host."""
        self.hosts[name] = made = self.lab.host(name)
        for scope in ("all", "default"):
            made.sysctl(f"net.ipv4.conf.{scope}.rp_filter", "0")
        return made

    @property
    def left(self) -> Host:
        return self.hosts["left"]

    @property
    def right(self) -> Host:
        return self.hosts["right"]

    @property
    def router(self) -> Host:
        return self.hosts["router"]

    def batch(self, host: Host, *lines: str) -> None:
        """Run *lines* of ip(8) on *host* at once."""
        path = self.lab.directory() / f"{host.name}.batch"
        path.write_text("\n".join(lines) + "\n")
        host.ip("-batch", str(path))

    def nft(self, host: Host, hook: str, *rules: str, priority: int = 0) -> None:
        """Add *rules* to a chain at *hook* of *host*, in a table of its own."""
        table = f"inet case_{hook}"
        nft(
            host,
            f"add table {table}",
            f"add chain {table} here {{ type filter hook {hook} priority {priority}; }}",
            *(f"add rule {table} here {rule}" for rule in rules),
        )

    def lift(self, host: Host, hook: str) -> None:
        """Take the rules at *hook* away."""
        nft(host, f"delete table inet case_{hook}")

    # -- daemons

    def section(
        self, end: str, options: str = "", *, version: int = 4, name: str = "t", inner: str = ""
    ) -> str:
        """Return a tunnel's section; a line of *options* replaces ours of the same name."""
        own, other = (LEFT, RIGHT) if end == "left" else (RIGHT, LEFT)
        pick = 0 if version == 4 else 1
        lines = {"Local": own[pick], "Remote": other[pick], "Address": f"{inner or INNER[end]}/24"}
        for line in options.splitlines():
            option, _, value = line.partition("=")
            if value:
                lines[option] = value
            else:
                lines.pop(option, None)
        return "\n".join([f"[Tunnel {name}]", *(f"{k}={v}" for k, v in lines.items()), ""])

    def launch(self, end: str, text: str, *, name: str = "") -> Daemon:
        """Start a gred with *text* on the host *end*; do not wait for it."""
        name = name or end
        path = self.lab.directory() / f"{name}.conf"
        path.write_text(f"[Daemon]\nLogFormat=json\n\n{text}")
        daemon = Daemon(self.lab, self.hosts[end], path)
        self.ends[name] = End(daemon)
        return daemon

    def gred(self, end: str, options: str = "", *, version: int = 4) -> Daemon:
        """Start a gred with one tunnel, and wait until it is ready."""
        daemon = self.launch(end, self.section(end, options, version=version))
        daemon.wait_ready()
        return daemon

    def both(self, left: str = "", right: str = "", *, version: int = 4) -> None:
        """Start a gred with one tunnel at each end."""
        self.texts(
            self.section("left", left, version=version),
            self.section("right", right, version=version),
        )

    def texts(self, left: str, right: str) -> None:
        """Start a gred with these tunnels at each end."""
        for daemon in (self.launch("left", left), self.launch("right", right)):
            daemon.wait_ready()

    def works(self, end: str = "left", to: str = INNER["right"]) -> None:
        """Send echo requests from *end* until three were answered: before the fault."""
        sender = self.flow(Flow(end, to, every=TICK_S))

        def answered() -> bool:
            self.step()
            return sender.answered >= 3 or self.stop.is_set()

        wait_for(answered, f"an echo of {to}", _SETTLED_S, pause=0.02)
        self._senders.remove(sender)
        sender.close()

    def planted(self) -> None:
        """From here on counts what is said."""
        for end in self.ends.values():
            end.since = len(end.events())

    # -- what goes on

    def flow(self, flow: Flow) -> Sender:
        """Begin to send."""
        sender = Sender(self.hosts[flow.end], flow)
        self._closing.callback(sender.close)
        self._senders.append(sender)
        return sender

    def each(self, call: Callable[[], object], every: float = EVERY_S) -> None:
        """Call *call* every *every* seconds from now on."""
        self._timers.append(_Timer(time.monotonic(), call, every))

    def later(self, seconds: float, call: Callable[[], object]) -> None:
        """Call *call* once."""
        self._timers.append(_Timer(time.monotonic() + seconds, call))

    def socket(self, end: str, kind: int, protocol: int, family: int = socket.AF_INET) -> Any:
        """Open a socket at *end* that is closed with the scene."""
        return self._closing.enter_context(self.hosts[end].socket(family, kind, protocol))

    def step(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        for sender in self._senders:
            sender.step(now)
        for timer in list(self._timers):
            if timer.due <= now:
                timer.due = now + timer.every
                if not timer.every:
                    self._timers.remove(timer)
                with contextlib.suppress(OSError):
                    timer.call()

    def go_on(self, seconds: float) -> Iterator[float]:
        """Do what is due for *seconds*; yield the seconds that have passed, tick by tick."""
        begin = time.monotonic()
        while (passed := time.monotonic() - begin) < seconds and not self.stop.is_set():
            self.step()
            yield passed
            self.stop.wait(TICK_S)

    def close(self) -> None:
        """Stop what was started; what a daemon did wrong on the way is for its log."""
        for relay in self._relays:
            relay.end()
        self._closing.close()


def _addresses(both: tuple[str, str], device: str) -> list[str]:
    return [
        f"address add {both[0]}/24 dev {device}",
        f"address add {both[1]}/64 dev {device} nodad",
    ]


def _defaults(gateways: tuple[str, str]) -> list[str]:
    return [f"route add default via {gateway}" for gateway in gateways]
