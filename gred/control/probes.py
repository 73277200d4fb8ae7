"""Probes the paths of all tunnels whose other end answers keepalives: ``ProbeMTU=``.

    it is time: Prober.look -> a padded request and a small one behind it (asking.py)
    an answer: Prober.heard -> what the path carries -> paths, which the tunnel follows

What is tried and what an answer means is decided in probing.py; what becomes of packets that the
path does not carry, elsewhere. Here are only the clock, the timer and whom it is about. Nothing
here receives: keepalives.py hands on what comes back.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from typing import Protocol

from gred.config.model import IPAddress
from gred.control.asking import ask
from gred.control.liveness import Life
from gred.control.parts import Attachment, Plane
from gred.control.probing import Prober, is_probing
from gred.control.tunnel import Tunnel

# Seconds between two probes, of whichever paths: a thousand tunnels may share one narrow one, and a
# burst that is lost there would tell nothing.
SPACING = 0.01
_AT_ONCE = 64  # paths that are looked at until packets have their turn
_SOONEST = 0.001  # seconds until the next ones


class Paths(Protocol):
    """What is known of paths otherwise, and who obeys. See `gred.control.probed_paths`."""

    def bounds(self, tunnel: Tunnel, remote: IPAddress) -> tuple[int, int | None]:
        """Return the longest packet that makes sense, 0: not known; and what somebody has told."""
        ...

    def found(self, tunnel: Tunnel, remote: IPAddress, limit: int | None) -> None:
        """Let packets to *remote* be no longer than *limit*; None: as long as otherwise."""

    def passed(self, tunnel: Tunnel, remote: IPAddress, size: int, at: float) -> None:
        """Take in that a packet of *size* bytes, sent *at*, has arrived."""

    def known(self, tunnel: Tunnel, remote: IPAddress) -> int | None:
        """Return what was found before."""
        ...


@dataclass(eq=False, slots=True)
class _Path:
    """One path that is probed, as long as its tunnel has *attachment*."""

    tunnel: Tunnel
    attachment: Attachment
    remote: IPAddress
    prober: Prober
    is_asleep: bool = False
    """Whether it waits for a sign of life."""


class Probes:
    """Used on *loop*. *expect* is called when other answers are awaited for a tunnel."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        plane: Plane,
        paths: Paths,
        expect: Callable[[Tunnel], None],
    ) -> None:
        self._loop = loop
        self._plane = plane
        self._paths = paths
        self._expect = expect
        self._probed: dict[str, dict[IPAddress, _Path]] = {}
        self._due: list[tuple[float, int, _Path]] = []
        self._order = count()
        self._free_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, tunnel: Tunnel, remotes: Iterable[IPAddress]) -> None:
        """Probe the paths of *tunnel*, which is attached from now on, to *remotes*.

        Or which is configured anew: what was found is forgotten where it is looked for no more.
        """
        remotes = list(remotes)
        self._probed.pop(tunnel.name, None)
        config, attachment = tunnel.config, tunnel.attachment
        if attachment is None or not is_probing(tunnel.config):
            for remote in remotes:
                self._paths.found(tunnel, remote, None)
            return
        paths = self._probed[tunnel.name] = {}
        for remote in remotes:
            about = f"probe {config.name} {remote}".encode()
            prober = Prober(config.family, about, self._paths.known(tunnel, remote))
            paths[remote] = path = _Path(tunnel, attachment, remote, prober)
            heappush(self._due, (self._loop.time(), next(self._order), path))
        self._plan()

    def turned(self, tunnel: Tunnel, remote: IPAddress) -> None:
        """Probe the path to *remote*, whose life has changed, if it is up."""
        path = self._probed.get(tunnel.name, {}).get(remote)
        if path is not None and path.is_asleep and _is_alive(path):
            path.is_asleep = False
            path.prober.restart()
            heappush(self._due, (self._loop.time(), next(self._order), path))
            self._plan()

    def heard(self, tunnel: Tunnel, remote: IPAddress, trailer: bytes) -> bool:
        """Take an answer; return whether it is one to a probe."""
        path = self._probed.get(tunnel.name, {}).get(remote)
        if path is None or path.attachment is not tunnel.attachment:
            return False
        due = path.prober.due
        found = path.prober.heard(trailer, self._loop.time())
        if found is None:
            return False
        size, at = found
        if size:
            self._paths.passed(tunnel, remote, size, at)
            self._paths.found(tunnel, remote, path.prober.search.limit)
        if path.prober.due != due:
            heappush(self._due, (path.prober.due, next(self._order), path))
            self._plan()
        self._expect(tunnel)
        return True

    def awaited(self, tunnel: Tunnel) -> list[bytes]:
        """Return the cookies of answers that *tunnel* waits for."""
        paths = self._probed.get(tunnel.name, {}).values()
        return [cookie for path in paths for cookie in path.prober.awaited()]

    def close(self) -> None:
        """Probe no more. Harmless twice."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time()
        for _ in range(_AT_ONCE):
            if not self._due or max(self._due[0][0], self._free_at) > now:
                break
            _at, _order, path = heappop(self._due)
            if not self._is_probed(path) or path.is_asleep:
                continue  # it is gone, or waits
            if not _is_alive(path):
                path.is_asleep = True
                continue
            if path.prober.due > now:
                continue  # it was put off since, and is in the queue with that time
            self._step(path, now)
            heappush(self._due, (path.prober.due, next(self._order), path))
        self._plan()

    def _is_probed(self, path: _Path) -> bool:
        known = self._probed.get(path.tunnel.name, {}).get(path.remote)
        return known is path and path.attachment is path.tunnel.attachment

    def _step(self, path: _Path, now: float) -> None:
        """Send what is to be sent of one path, and let packets obey what was found."""
        tunnel, remote, prober = path.tunnel, path.remote, path.prober
        ceiling, prober.search.hint = self._paths.bounds(tunnel, remote)
        for probe in prober.look(ceiling, path.attachment.traffic().sent, now):
            ask(self._plane, tunnel, remote, probe.cookie, prober.asked, size=probe.size)
            self._free_at = now + SPACING
        self._paths.found(tunnel, remote, prober.search.limit)
        self._expect(tunnel)

    def _plan(self) -> None:
        self.close()
        if self._due:
            at = max(self._due[0][0], self._free_at, self._loop.time() + _SOONEST)
            self._timer = self._loop.call_at(at, self._look)


def _is_alive(path: _Path) -> bool:
    """Whether *path* leads to somebody who answers, as far as is known."""
    life = path.tunnel.lives.get(path.remote)
    return path.tunnel.config.keepalive is None if life is None else life.life is Life.UP
