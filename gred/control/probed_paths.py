"""Lets tunnels obey what probes of their paths have found: one remote or many.

Nothing here decides what a path carries (probing.py), or what is told to people about it.
"""

from gred.config.model import IPAddress
from gred.control.peer_paths import widest
from gred.control.tunnel import Tunnel
from gred.control.underlay_errors import UnderlayErrors

LONGEST = 16384  # bytes of a probe: longer ones pass within a host only


class ProbedPaths:
    """As `gred.control.probes.Paths`. What packets met on their way comes to *errors*, too."""

    def __init__(self, errors: UnderlayErrors) -> None:
        self._errors = errors

    def bounds(self, tunnel: Tunnel, remote: IPAddress) -> tuple[int, int | None]:
        """Return the longest packet that makes sense, and what somebody has told.

        0: it is not known, or the path is within this host.
        """
        config = tunnel.config
        if config.remote is None:
            path = self._errors.peer_paths.path(tunnel, remote)
            ceiling = self._errors.peer_paths.route_mtu(tunnel, remote)
        else:
            path = tunnel.path
            ceiling = path.ceiling or 0
            if config.mtu is not None:
                ceiling = min(ceiling, widest(tunnel))
        if path is not None and path.ceiling is not None:
            ceiling = min(ceiling, path.ceiling)
        if ceiling > LONGEST:
            ceiling = 0
        return ceiling, None if path is None else path.learned

    def found(self, tunnel: Tunnel, remote: IPAddress, limit: int | None) -> None:
        """Let packets to *remote* be no longer than *limit*; None: as long as otherwise."""
        if tunnel.config.remote is None:
            self._errors.peer_paths.probe(tunnel, remote, limit)
        elif tunnel.path.probe(limit):
            self._errors.follow(tunnel)

    def passed(self, tunnel: Tunnel, remote: IPAddress, size: int, at: float) -> None:
        """Take in that a packet of *size* bytes, sent *at*, has arrived."""
        if tunnel.config.remote is None:
            self._errors.peer_paths.passed(tunnel, remote, size, at)
        elif tunnel.path.passed(size, at):
            self._errors.follow(tunnel)

    def known(self, tunnel: Tunnel, remote: IPAddress) -> int | None:
        """Return what was found before."""
        if tunnel.config.remote is not None:
            return tunnel.path.probed
        path = self._errors.peer_paths.path(tunnel, remote)
        return None if path is None else path.probed
