"""Follows the names in Remote=: when each is resolved, and which of its addresses is used.

    again    every ResolveInterval=; at once, and every few seconds, while the other end is lost
    which    the one in use as long as it is among the answers; the next of them where it is lost
    none     the last good one stays; where there never was one the tunnel is ``unresolved``

What follows from another address is done elsewhere (daemon.py, by the callback ``moved``). Nothing
waits for an answer but, for a moment, the start; nothing here asks a resolver itself.
"""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from gred.config.model import Config, IPAddress, TunnelConfig
from gred.config.verify import refuse_remote
from gred.control.errors import words
from gred.control.events import Event, Listener, ResolvingFailed, TunnelTroubled
from gred.control.retry import Retry
from gred.control.tunnel import NOWHERE, Tunnel, TunnelState

Resolve = Callable[[str, int], Awaitable[Sequence[IPAddress]]]

START_SECONDS = 1.0  # that the start waits for the first answers
LOST_SECONDS = 10.0  # between two questions while the other end is lost
_SOONEST = 2.0  # between any two questions
# States in which another address may be better.
_LOST = {
    TunnelState.NO_LOCAL,
    TunnelState.NO_ROUTE,
    TunnelState.REFUSED,
    TunnelState.SILENT,
    TunnelState.UNANSWERED,
}


class _Name:
    """The name of one tunnel's other end."""

    __slots__ = (
        *("address", "again", "answered", "asked_at", "config", "failing", "retry"),
        *("task", "timer", "why"),
    )

    def __init__(self, config: TunnelConfig) -> None:
        self.config = config  # as it was written
        self.address: IPAddress | None = None
        self.why = f"{config.remote_name} is being resolved"  # while there is no address
        self.failing = False
        self.again = False  # whether to ask again as soon as this question is over
        self.answered = asyncio.Event()
        self.asked_at = float("-inf")
        self.retry = Retry()
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None

    @property
    def host(self) -> str:
        return self.config.remote_name or ""


class Names:
    """The names of *tunnels*. Used on *loop*.

    *moved* is awaited with the name of a tunnel whose ``effective`` configuration, or the reason
    why it is unresolved, has changed.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        tunnels: Mapping[str, Tunnel],
        resolve: Resolve | None,
        moved: Callable[[str], Awaitable[None]],
        listener: Listener,
    ) -> None:
        self._loop = loop
        self._tunnels = tunnels
        self._resolve = resolve
        self._moved = moved
        self._listener = listener
        self._names: dict[str, _Name] = {}
        self._closed = False

    def effective(self, config: TunnelConfig) -> TunnelConfig:
        """Return *config* as it is to be run: with the address of its other end.

        As long as that is not known, with one that nobody has.
        """
        if config.remote_name is None:
            return config
        known = self._known(config)
        address = None if known is None else known.address
        if address is None:
            bare = replace(config, remote=None)
            address = NOWHERE[version_wanted(config) or bare.family]
        return replace(config, remote=address)

    def all_effective(self, config: Config) -> Config:
        """Return all of *config* as ``effective`` does each tunnel."""
        if all(one.remote_name is None for one in config.tunnels):
            return config
        return replace(config, tunnels=tuple(map(self.effective, config.tunnels)))

    def why(self, config: TunnelConfig) -> str:
        """Return why no address of the other end of *config* is known; empty when one is."""
        if config.remote_name is None:
            return ""
        known = self._known(config)
        if known is None:
            return f"{config.remote_name} is being resolved"
        return "" if known.address is not None else known.why

    def _known(self, config: TunnelConfig) -> _Name | None:
        """Return what is known of the name in *config*, if it is the one that is followed."""
        name = self._names.get(config.name)
        same = name is not None and (name.host, version_wanted(name.config)) == (
            config.remote_name,
            version_wanted(config),
        )
        return name if same else None

    async def follow(self, tunnels: Iterable[TunnelConfig]) -> None:
        """Follow the names of *tunnels*, as they were written, from now on; and no others.

        Wait a moment for the first answers, so that what is known at once is used at once.
        """
        names: dict[str, _Name] = {}
        for one in tunnels:
            if one.remote_name is not None:
                name = self._known(one) or _Name(one)
                name.config = one
                names[one.name] = name
        for gone in self._names.values():
            if gone not in names.values():
                _leave(gone)
        self._names = names
        for name in names.values():
            if name.task is None and name.timer is None:
                self._ask(name)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                for name in names.values():
                    await name.answered.wait()

    def note(self, event: Event) -> None:
        """Learn from *event* that the other end of a tunnel may be lost."""
        if not isinstance(event, TunnelTroubled):
            return
        name = self._names.get(event.tunnel or "")
        if name is not None and self._is_lost(name):
            self._ask_in(name, 0.0)

    def hasten(self) -> None:
        """Note that something changed in the kernel: what was not resolved may be now."""
        for name in self._names.values():
            if name.address is None:
                self._ask_in(name, 0.0)

    async def close(self) -> None:
        """Ask no more. Harmless twice."""
        self._closed = True
        tasks = [name.task for name in self._names.values() if name.task is not None]
        for name in self._names.values():
            _leave(name)
        if tasks:
            await asyncio.wait(tasks)

    def _is_lost(self, name: _Name) -> bool:
        tunnel = self._tunnels.get(name.config.name)
        return tunnel is not None and tunnel.state in _LOST and not tunnel.is_awaited

    def _ask_in(self, name: _Name, seconds: float) -> None:
        """Ask in so many *seconds*, or sooner if that is planned already; never too often."""
        if self._closed:
            return
        if name.task is not None:
            name.again = True
            return
        now = self._loop.time()
        at = max(now + seconds, name.asked_at + _SOONEST)
        if name.timer is not None:
            if name.timer.when() <= at:
                return
            name.timer.cancel()
        name.timer = self._loop.call_at(at, self._ask, name)

    def _ask(self, name: _Name) -> None:
        if name.timer is not None:
            name.timer.cancel()
            name.timer = None
        name.asked_at, name.again = self._loop.time(), False
        name.task = self._loop.create_task(self._work(name))

    async def _work(self, name: _Name) -> None:
        """Resolve once, and plan the next time."""
        try:
            was_lost = self._is_lost(name)
            before = name.address, name.why
            try:
                found = await self._answers(name)
            except OSError as error:
                self._failed(name, f"cannot resolve {name.host}: {describe_error(error)}")
            else:
                good = self._take(name, found, lost=was_lost and self._is_lost(name))
                if good:
                    name.failing = False
                    name.retry = Retry()
            name.answered.set()
            if self._names.get(name.config.name) is name and before != (name.address, name.why):
                await self._moved(name.config.name)
        finally:
            name.task = None
        self._plan(name)

    async def _answers(self, name: _Name) -> Sequence[IPAddress]:
        if self._resolve is None:
            from gred.control.resolver import Resolver  # noqa: PLC0415 - few have names

            self._resolve = Resolver(self._loop).resolve
        return await self._resolve(name.host, version_wanted(name.config))

    def _take(self, name: _Name, found: Sequence[IPAddress], *, lost: bool) -> bool:
        """Take the address to use among those that were *found*; return whether there is one."""
        good, why = usable(name.config, found)
        if good:
            name.address, name.why = choose(good, name.address, lost=lost), ""
        else:
            self._failed(name, why)
        return bool(good)

    def _failed(self, name: _Name, why: str) -> None:
        name.retry.failed(self._loop.time())
        if name.address is None:
            name.why = why
        elif not name.failing:
            detail = f"{why}: {name.address} stays in use"
            self._listener(
                ResolvingFailed(tunnel=name.config.name, remote=str(name.address), detail=detail)
            )
        name.failing = True

    def _plan(self, name: _Name) -> None:
        interval = name.config.resolve_interval
        waits = [0.0] if name.again else []
        if interval is not None:
            waits.append(interval)
        if name.failing:
            waits.append(name.retry.due - self._loop.time())
        if self._is_lost(name):
            waits.append(LOST_SECONDS)
        if waits and self._names.get(name.config.name) is name:
            self._ask_in(name, min(waits))


def usable(config: TunnelConfig, found: Iterable[IPAddress]) -> tuple[list[IPAddress], str]:
    """Return those of the addresses *found* that the other end of *config* may have.

    And why none may, in words: empty if one may.
    """
    refused = {one: refuse_remote(replace(config, remote=one)) for one in found}
    good = [one for one, why in refused.items() if not why]
    whys = "; ".join(f"it has {one} ({why})" for one, why in refused.items())
    return good, "" if good else f"cannot use {config.remote_name}: {whys or 'it has no address'}"


def choose(good: Sequence[IPAddress], current: IPAddress | None, *, lost: bool) -> IPAddress:
    """Return which of the *good* addresses, the best first, is to be used after *current*.

    *lost*: nothing comes back from *current*: all are tried, one after another.
    """
    if current is None or current not in good:
        return good[0]
    at = good.index(current)
    return good[(at + 1) % len(good)] if lost else current


def version_wanted(config: TunnelConfig) -> int:
    """Return the IP version that the other end of *config* must have; 0: either will do."""
    if config.local is not None:
        return config.local.version
    return 6 if config.flow_label is not None or config.encapsulation_limit is not None else 0


def describe_error(error: OSError) -> str:
    """Return what a resolver's *error* means, in words."""
    if isinstance(error, socket.gaierror):  # whose number is none of errno(3)
        return error.strerror or str(error)
    return words(error)


def _leave(name: _Name) -> None:
    if name.timer is not None:
        name.timer.cancel()
        name.timer = None
    if name.task is not None:
        name.task.cancel()
