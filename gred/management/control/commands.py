"""What can be asked at the control socket.

    status   one line a tunnel: everything that is known of it, or with ``brief`` a little
    events   what happened lately, and with ``follow`` what happens from now on
    peers    the remotes of tunnels, and who sends what no tunnel takes
    drops    what tunnels have dropped, by reason, and what was no tunnel's
    packets  what passes from now on, as long as it is read
    reload   read the configuration again; with ``dry_run`` only say what that would do, with
             ``confirm`` go back after so many seconds unless there is a
    confirm

Nothing here decides anything: the daemon, its events and the reload are handed in.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

from gred.control.slices import in_slices
from gred.control.snapshot import members
from gred.management.control.protocol import ProtocolError
from gred.management.control.server import Answers, Command

if TYPE_CHECKING:
    from gred.control.events import Event
    from gred.control.peers import Peer
    from gred.control.snapshot import Snapshot
    from gred.dataplane.trace import Tap
    from gred.dataplane.tunnels import Counters
    from gred.management.control.packets import Packets
    from gred.management.reloading import Reloading

REMEMBERED = 500  # events
HOUR = 3600  # seconds that a reload may wait for its confirmation
BEHIND = 1000  # events that a follower may be behind


class Asked(Protocol):
    """What is needed of a daemon."""

    @property
    def tunnels(self) -> Mapping[str, object]:
        """Its tunnels by name."""
        ...

    def snapshot(self, name: str) -> "Snapshot":
        """Return everything that is known of one tunnel. Raises KeyError."""
        ...

    def peers(self, name: str) -> "Iterator[Peer]":
        """Yield the remotes of one tunnel. Raises KeyError."""
        ...

    def unknown_senders(self) -> Iterator[Mapping[str, object]]:
        """Yield who sends what no tunnel takes."""
        ...

    def counters(self) -> "Iterator[tuple[str | None, Counters]]":
        """Yield each tunnel's name and counters; None: what is no tunnel's."""
        ...

    @property
    def tap(self) -> "Tap":
        """Where packets are watched."""
        ...


class Happenings:
    """The last events, and who follows them. *clock*: seconds since the epoch."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last: deque[dict[str, Any]] = deque(maxlen=REMEMBERED)
        self._followers: set[asyncio.Queue[dict[str, Any]]] = set()

    def note(self, event: "Event") -> None:
        """Remember *event*, and hand it to whoever follows; who is too far behind misses it."""
        told = {"time": self._clock(), "event": event.name, "level": event.level}
        told |= {"tunnel": event.tunnel} if event.tunnel else {}
        told |= {key: value for key, value in event.fields.items() if value != ""}
        self._last.append(told)
        for follower in self._followers:
            if follower.qsize() < BEHIND:
                follower.put_nowait(told)

    async def tell(self, request: Mapping[str, Any]) -> Answers:
        """Yield what was remembered, and with ``follow`` whatever comes."""
        wanted = set(_names(request))
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        follows = bool(request.get("follow"))
        if follows:
            self._followers.add(queue)
        try:
            for told in list(self._last):
                if not wanted or told.get("tunnel") in wanted:
                    yield {"event": told}
            while follows:
                told = await queue.get()
                if not wanted or told.get("tunnel") in wanted:
                    yield {"event": told}
        finally:
            self._followers.discard(queue)
        yield {"done": {}}


def commands(
    daemon: Asked, happenings: Happenings, reloading: "Reloading", facts: Mapping[str, object]
) -> dict[str, Command]:
    """Return what can be asked of *daemon*. *facts*: what is told of the process with a status."""
    listening: Packets | None = None

    async def status(request: Mapping[str, Any]) -> Answers:
        brief = bool(request.get("brief"))
        async for name in in_slices(_wanted(request, daemon)):
            if name in daemon.tunnels:  # else it went meanwhile
                yield {"tunnel": members(daemon.snapshot(name), brief=brief)}
        yield {"done": {**facts, "confirm_within": reloading.remaining}}

    async def peers(request: Mapping[str, Any]) -> Answers:
        for name in _wanted(request, daemon):
            if name in daemon.tunnels:
                async for peer in in_slices(daemon.peers(name)):
                    yield {"peer": asdict(peer)}
        async for sender in in_slices(daemon.unknown_senders()):
            yield {"unknown_sender": sender}
        yield {"done": {}}

    async def drops(request: Mapping[str, Any]) -> Answers:
        wanted = _wanted(request, daemon) if request.get("tunnels") else None
        async for name, counters in in_slices(daemon.counters()):
            if wanted is None or name in wanted:
                for direction, counted in (("rx", counters.rx_drops), ("tx", counters.tx_drops)):
                    for reason, count in counted.items():
                        told = {"tunnel": name, "direction": direction}
                        yield {"drop": {**told, "reason": reason.name.lower(), "count": count}}
        yield {"done": {}}

    async def packets(request: Mapping[str, Any]) -> Answers:
        from gred.management.control import packets  # noqa: PLC0415 - paid for when asked for

        nonlocal listening
        listening = listening or packets.Packets(daemon.tap)
        names = _wanted(request, daemon) if request.get("tunnels") else []
        remotes = (peer.remote for name in names for peer in daemon.peers(name))
        async with aclosing(listening.tell(packets.wanted(request, names, remotes))) as lines:
            async for line in lines:
                yield line

    async def reload(request: Mapping[str, Any]) -> Answers:
        confirm = _seconds(request.get("confirm"))
        dry_run = bool(request.get("dry_run"))
        outcome = await reloading.reload(dry_run=dry_run, confirm=confirm)
        steps = () if outcome.plan is None else outcome.plan.steps
        for step in steps:
            told = {"tunnel": step.name, "what": step.word, "text": str(step)}
            yield {"step": {**told, "terms": outcome.terms.get(step.name, ())}}
        detail = "" if outcome.plan is None else outcome.plan.detail
        done = {"problems": outcome.problems, "exit_code": int(outcome.exit_code), "detail": detail}
        yield {"done": done}

    async def confirm(_request: Mapping[str, Any]) -> Answers:
        yield {"done": {"confirmed": reloading.confirm()}}

    return {
        "status": Command(status),
        "events": Command(happenings.tell),
        "peers": Command(peers),
        "drops": Command(drops),
        "packets": Command(packets),
        "reload": Command(reload, changes=True),
        "confirm": Command(confirm, changes=True),
    }


def _seconds(told: object) -> float | None:
    """Return a time that a request names; None: it names none. Raises ProtocolError."""
    if told is None:
        return None
    if isinstance(told, bool) or not isinstance(told, int | float) or not 1 <= told <= HOUR:
        raise ProtocolError("bad_request", f"confirm: expected 1..{HOUR} seconds, got {told!r}")
    return float(told)


def _wanted(request: Mapping[str, Any], daemon: Asked) -> list[str]:
    """Return the tunnels that a request names, or all. Raises ProtocolError."""
    names = list(_names(request))
    for name in names:
        if name not in daemon.tunnels:
            known = ", ".join(list(daemon.tunnels)[:10]) or "none"
            raise ProtocolError("no_such_tunnel", f"there is no tunnel {name}; there is {known}")
    return names or list(daemon.tunnels)


def _names(request: Mapping[str, Any]) -> Iterable[str]:
    """Return the tunnels that a request names; none: all. Raises ProtocolError."""
    names = request.get("tunnels", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ProtocolError("bad_request", "tunnels: expected a list of names")
    return names
