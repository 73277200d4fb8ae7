"""What can be asked at the control socket.

    status   one line a tunnel: everything that is known of it, or with ``brief`` a little
    events   what happened lately, and with ``follow`` what happens from now on
    reload   read the configuration again; with ``dry_run`` only say what that would do

Nothing here decides anything: the daemon, its events and the reload are handed in.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from gred.control.slices import in_slices
from gred.control.snapshot import members
from gred.management.control.protocol import ProtocolError
from gred.management.control.server import Answers, Command

if TYPE_CHECKING:
    from gred.control.events import Event
    from gred.control.snapshot import Snapshot
    from gred.management.reloading import Reloading

REMEMBERED = 500  # events
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

    async def status(request: Mapping[str, Any]) -> Answers:
        names = list(_names(request)) or list(daemon.tunnels)
        brief = bool(request.get("brief"))
        for name in names:
            if name not in daemon.tunnels:
                known = ", ".join(list(daemon.tunnels)[:10]) or "none"
                raise ProtocolError(
                    "no_such_tunnel", f"there is no tunnel {name}; there is {known}"
                )
        async for name in in_slices(names):
            if name in daemon.tunnels:  # else it went meanwhile
                yield {"tunnel": members(daemon.snapshot(name), brief=brief)}
        yield {"done": dict(facts)}

    async def reload(request: Mapping[str, Any]) -> Answers:
        outcome = await reloading.reload(dry_run=bool(request.get("dry_run")))
        steps = () if outcome.plan is None else outcome.plan.steps
        for step in steps:
            yield {"step": {"tunnel": step.name, "what": step.word, "text": str(step)}}
        detail = "" if outcome.plan is None else outcome.plan.detail
        told = {"problems": outcome.problems, "exit_code": int(outcome.exit_code), "detail": detail}
        yield {"done": told}

    return {
        "status": Command(status),
        "events": Command(happenings.tell),
        "reload": Command(reload, changes=True),
    }


def _names(request: Mapping[str, Any]) -> Iterable[str]:
    """Return the tunnels that a request names; none: all. Raises ProtocolError."""
    names = request.get("tunnels", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ProtocolError("bad_request", "tunnels: expected a list of names")
    return names
