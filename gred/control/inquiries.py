"""Asks another end whether packets get there and back, where errors say no and packets say yes.

One keepalive now and then, without ``Keepalive=``: an answer proves errors wrong, whoever sent
them. That there is none proves little, as not everybody answers. Nothing here decides what is
believed: refusal.py does.
"""

import asyncio
from dataclasses import dataclass, field

from gred.config.model import IPAddress
from gred.control.asking import ask
from gred.control.cookies import Cookies
from gred.control.parts import Attachment, Plane
from gred.control.tunnel import Tunnel

EVERY = 1.5  # seconds between two inquiries of one tunnel


@dataclass(slots=True)
class _Inquiry:
    """What was asked of one tunnel, as long as it has *attachment*."""

    attachment: Attachment
    cookies: Cookies
    number: int = 0
    at: float = field(default=float("-inf"))


class Inquiries:
    """Used on *loop*."""

    def __init__(self, loop: asyncio.AbstractEventLoop, plane: Plane) -> None:
        self._loop = loop
        self._plane = plane
        self._known: dict[str, _Inquiry] = {}

    def ask(self, tunnel: Tunnel) -> None:
        """Ask the other end of *tunnel*, if it has one and was not asked just now."""
        remote, attachment, now = tunnel.config.remote, tunnel.attachment, self._loop.time()
        if remote is None or attachment is None or tunnel.lives:
            return  # whom keepalives ask anyway
        inquiry = self._known.get(tunnel.name)
        if inquiry is None or inquiry.attachment is not attachment:
            inquiry = _Inquiry(attachment, Cookies(f"inquiry {tunnel.name}".encode()))
            self._known[tunnel.name] = inquiry
        if now - inquiry.at < EVERY:
            return
        inquiry.number, inquiry.at = inquiry.number + 1, now
        if ask(self._plane, tunnel, remote, inquiry.cookies.make(inquiry.number), inquiry.number):
            tunnel.refusal.note_inquiry()

    def heard(self, tunnel: Tunnel, source: IPAddress, trailer: bytes) -> bool:
        """Take an answer; return whether it is one to an inquiry."""
        inquiry = self._known.get(tunnel.name)
        if inquiry is None or source != tunnel.config.remote:
            return False
        if inquiry.cookies.read(trailer) != inquiry.number:
            return False
        tunnel.note_answer()
        return True
