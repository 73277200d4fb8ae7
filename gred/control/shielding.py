"""Keeps shields (kernel/shields.py) for the tunnels that must send and receive nothing in clear.

Before such a tunnel carries a packet, as long as there is one to that remote, and over a restart.
What another process of this gred has left is taken over, or taken away. Whether packets are
protected is no matter here (protection.py).
"""

import contextlib
from collections.abc import Iterable

from gred.config.model import IPAddress
from gred.control.errors import SetupError, shield_refused
from gred.control.kernel.parts import Kernel
from gred.control.kernel.shields import shielded
from gred.control.threads import in_thread
from gred.control.tunnel import Tunnel


class Shielding:
    """Used by one caller at a time. *owner*: a number by which this gred knows its own again."""

    def __init__(self, kernel: Kernel, owner: int) -> None:
        self._kernel = kernel
        self._owner = owner
        self._may_have_some = True

    async def keep(self, tunnels: Iterable[Tunnel]) -> dict[Tunnel, SetupError]:
        """Have shields for *tunnels* and for no others; return which must not come up, and why."""
        guarded = [
            (tunnel, tunnel.config.remote)
            for tunnel in tunnels
            if tunnel.config.ipsec != "no" and tunnel.config.remote is not None
        ]
        wanted = {remote for _tunnel, remote in guarded}
        if not wanted:
            if self._may_have_some:
                with contextlib.suppress(OSError):  # a kernel without IPsec
                    await in_thread(lambda: self._put(wanted))
                self._may_have_some = False
            return {}
        self._may_have_some = True
        refused: dict[IPAddress, OSError]
        try:
            refused = await in_thread(lambda: self._put(wanted))
        except OSError as error:
            refused = dict.fromkeys(wanted, error)
        return {
            tunnel: shield_refused(refused[remote], place=tunnel.place)
            for tunnel, remote in guarded
            if remote in refused
        }

    def _put(self, wanted: set[IPAddress]) -> dict[IPAddress, OSError]:
        """Put what is missing and take what is too much; return what was refused. Blocks."""
        tables = self._kernel.ipsec()
        there = shielded(tables)
        missing = [remote for remote in wanted if there.get(remote, 0) < 2]
        surplus = shielded(tables, self._owner).keys() - wanted
        refused = self._kernel.shield(missing, self._owner) if missing else {}
        if surplus:
            self._kernel.unshield(surplus)
        return dict(refused)
