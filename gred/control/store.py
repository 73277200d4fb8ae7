"""Where descriptors stay while no process of gred has them: the shape, and the place that is none.

The service manager's is `gred.management.store.DescriptorStore`. What is kept is a matter of names:
``tun-NAME`` is the device of a tunnel, ``gre4`` and ``gre6`` are the sockets that receive, as are
``udp4-PORT`` and ``udp6-PORT``, and ``state`` is memory (remains.py).
"""

from typing import Protocol


class Store(Protocol):
    """Keeps descriptors across the end of this process. Each call may block for a moment."""

    def take(self, name: str, /) -> int | None:
        """Return what was kept as *name*, once; it stays kept, and the caller closes its own."""
        ...

    def keep(self, name: str, descriptor: int, /) -> bool:
        """Have a copy of *descriptor* kept as *name*; return whether it was handed over."""
        ...

    def holds(self, name: str, /) -> bool:
        """Whether something was handed over, or came from there, as *name*."""
        ...

    def remove(self, name: str, /) -> None:
        """Have it no longer kept. Harmless when nothing is."""

    def recall(self) -> bytes:
        """Return what was remembered, in this process or another; empty: nothing."""
        ...

    def remember(self, data: bytes, /) -> None:
        """Remember *data* across the end of this process, and nothing else."""

    def settle(self) -> None:
        """Wait until what was removed is gone from there, and what was handed over is there."""

    def drop_rest(self) -> None:
        """Let go of all that came from there and was not taken."""

    async def ends_for_good(self) -> bool:
        """Whether what is kept would be kept for nobody: this process is stopped for good."""
        ...


class NoStore:
    """Keeps nothing: what this process has ends with it."""

    def take(self, _name: str, /) -> int | None:
        """See Store."""

    def keep(self, _name: str, _descriptor: int, /) -> bool:
        """See Store."""
        return False

    def holds(self, _name: str, /) -> bool:
        """See Store."""
        return False

    def remove(self, _name: str, /) -> None:
        """See Store."""

    def recall(self) -> bytes:
        """See Store."""
        return b""

    def remember(self, data: bytes, /) -> None:
        """See Store."""

    def settle(self) -> None:
        """See Store."""

    def drop_rest(self) -> None:
        """See Store."""

    async def ends_for_good(self) -> bool:
        """See Store."""
        return True


def device_name(tunnel: str) -> str:
    """Return what the device of *tunnel* is kept as."""
    return f"tun-{tunnel}"
