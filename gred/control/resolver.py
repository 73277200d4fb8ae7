"""Asks the host's resolver for addresses: /etc/hosts, DNS, whatever nsswitch.conf(5) names.

getaddrinfo(3) may block for half a minute and cannot be stopped. So each question has a thread of
its own that nobody waits for at the end; the loop's threads, which configure tunnels, and an exit
of the process are never behind it. Decides nothing.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from ipaddress import ip_address

from gred.config.model import IPAddress

AT_ONCE = 4  # questions; the others wait

Lookup = Callable[[str, int], list[IPAddress]]


class Resolver:
    """Used on *loop*. *look_up* blocks: see ``look_up``."""

    def __init__(self, loop: asyncio.AbstractEventLoop, look_up: "Lookup | None" = None) -> None:
        self._loop = loop
        self._look_up = look_up or globals()["look_up"]
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def resolve(self, host: str, version: int) -> list[IPAddress]:
        """Return the addresses of *host*, the best first; *version*: 4, 6, or 0 for both.

        Raises OSError.
        """
        async with self._turns:
            answer: asyncio.Future[list[IPAddress]] = self._loop.create_future()
            work = threading.Thread(
                target=self._ask, args=(host, version, answer), name="resolve", daemon=True
            )
            work.start()
            return await answer

    def _ask(self, host: str, version: int, answer: "asyncio.Future[list[IPAddress]]") -> None:
        found: list[IPAddress] | OSError
        try:
            found = self._look_up(host, version)
        except OSError as error:
            found = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody asks any more
            self._loop.call_soon_threadsafe(_settle, answer, found)


def _settle(answer: "asyncio.Future[list[IPAddress]]", found: list[IPAddress] | OSError) -> None:
    if answer.done():
        return
    if isinstance(found, OSError):
        answer.set_exception(found)
    else:
        answer.set_result(found)


def look_up(host: str, version: int) -> list[IPAddress]:
    """Return the addresses of *host* in the order of RFC 6724, as the host's resolver has them.

    Blocks. Raises OSError.
    """
    family = {4: socket.AF_INET, 6: socket.AF_INET6}.get(version, socket.AF_UNSPEC)
    try:
        # One kind of socket, so that each address comes once.
        found = socket.getaddrinfo(host, None, family, socket.SOCK_DGRAM)
    except UnicodeError as error:
        raise OSError(f"it is no name of a host ({error})") from error
    texts = (str(address[0]).partition("%")[0] for *_others, address in found)
    return list(dict.fromkeys(map(ip_address, texts)))
