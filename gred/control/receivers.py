"""Who else in this network namespace takes GRE, and which packets. Blocks: for threads only.

Every raw socket for protocol 47 gets a copy of each packet, and so does the kernel's own GRE; none
knows of the others. Whoever has such a socket is listed in /proc/net/raw; a gred also says, to
whoever asks at its abstract socket, which packets are its tunnels'. It is believed if its user has
a socket for protocol 47: the right to open one is what anybody else lacks. Nothing is decided here.
"""

import contextlib
import json
import secrets
import socket
import struct
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path

from gred.config.model import IPAddress
from gred.control.events import Level
from gred.control.kernel import raw_sockets
from gred.control.kernel.dumps import GRE_KINDS, GreLink
from gred.control.twins import Claim, Takers

_NETWORK = Path("/proc/thread-self/net")
_PREFIX = "gred.receiver."
_PATIENCE = 1.0  # seconds that another gred has to answer
_ANSWER_MAX = 16 << 20  # bytes


@dataclass(frozen=True, slots=True)
class Party:
    """Another gred: its rank (the lower came first), and what its tunnels take, by their names."""

    pid: int
    rank: tuple[float, str]
    claims: tuple[tuple[str, Claim], ...]


@dataclass(frozen=True)
class Others:
    """What was found: IP versions in which others take GRE too, their users, other gred."""

    versions: frozenset[int] = frozenset()
    users: frozenset[int] = frozenset()
    parties: tuple[Party, ...] = ()
    links: tuple[GreLink, ...] = ()

    @property
    def take_all(self) -> list[GreLink]:
        """The kernel's interfaces that take whatever no other of its own does, such as gre0."""
        return [one for one in self.links if _is_fallback(one)]

    @property
    def receiving(self) -> frozenset[int]:
        """The IP versions in which anybody else takes GRE: a program, or the kernel."""
        return self.versions | {link.version for link in self.links}

    def have(self, one: Claim) -> bool:
        """Tell whether exactly this is known to be another's."""
        return one in self.claims

    @cached_property
    def claims(self) -> frozenset[Claim]:
        """What others are known to take."""
        theirs = {claim for party in self.parties for _name, claim in party.claims}
        return frozenset(theirs | {_claim(link) for link in self.links})

    @property
    def words(self) -> dict[str, Level]:
        """What to know of them, a sentence each -> the level of it in the log."""
        found: dict[str, Level] = {}
        if self.versions:
            users = ", ".join(map(str, sorted(self.users)))
            found[
                f"another program here takes GRE over {_in_words(self.versions)} (user {users}):"
                " packets for none of our tunnels are counted as foreign; see /proc/net/raw, or"
                " ss -wp"
            ] = "warning"
        if own := {link.version for link in self.links if not _is_fallback(link)}:
            found[
                f"the kernel has tunnels of its own here over {_in_words(own)}: packets for none"
                " of ours are counted as foreign; see ip -d link show type gre"
            ] = "info"
        for link in self.take_all:
            found[
                f"the kernel's interface {link.name} is up and takes every packet over"
                f" IPv{link.version} that none of its tunnels has: what is in it is received twice"
                f" (ip link set dev {link.name} down)"
            ] = "warning"
        return found


@dataclass
class Receivers:
    """Looks for others, and answers them. *publish* and *close* may be called on the loop."""

    rank: tuple[float, str] = field(
        default_factory=lambda: (time.clock_gettime(time.CLOCK_BOOTTIME), secrets.token_hex(8))
    )
    _own: frozenset[int] = frozenset()
    _known: frozenset[int] = frozenset()
    _text: bytes = b""
    _listener: socket.socket | None = None

    def open(self) -> None:
        """Begin to answer. Where that cannot be, nobody is answered, and nothing else changes."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            listener.bind(f"\0{_PREFIX}{self.rank[1]}")
            listener.listen(8)
        except OSError:
            listener.close()
            return
        self._listener = listener
        self.publish([])
        threading.Thread(target=self._answer, args=(listener,), name="claims", daemon=True).start()

    def close(self) -> None:
        """Answer no more. Closing twice is harmless."""
        if self._listener is not None:
            # The thread wakes up and closes it.
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener = None

    def publish(self, claims: Iterable[tuple[str, Claim]]) -> None:
        """Say from now on that *claims* are what our tunnels take, by their names."""
        entries = [(name, *_packed(one)) for name, one in claims if one.transport == "ip"]
        self._text = json.dumps({"rank": self.rank, "claims": entries}).encode()

    def look(self) -> Others:
        """Return who else is there. What cannot be read is as if it were not there."""
        links = tuple(raw_sockets.gre_links())
        found = list(raw_sockets.raw_sockets())
        if any(one.inode not in self._own | self._known for one in found):
            # Costs as much as there are descriptors: only when somebody new is there.
            self._own = frozenset(raw_sockets.own_sockets())
            # Again: one of ours may have been closed since.
            found = [one for one in raw_sockets.raw_sockets() if one in found]
        others = [one for one in found if one.inode not in self._own]
        self._known = frozenset(one.inode for one in others)
        users = frozenset(one.uid for one in others)
        return Others(
            versions=frozenset(one.family for one in others if one.local != raw_sockets.LOOPBACK),
            users=users,
            parties=tuple(self._parties(users)) if others else (),
            links=links,
        )

    def _parties(self, users: frozenset[int]) -> Iterator[Party]:
        for name in _names():
            if not name.endswith(self.rank[1]):
                with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                    yield _ask(name, users)

    def _answer(self, listener: socket.socket) -> None:
        with listener:
            while True:
                try:
                    asker, _address = listener.accept()
                except OSError:
                    return
                with asker, contextlib.suppress(OSError):
                    asker.settimeout(_PATIENCE)
                    asker.sendall(self._text)


def kernels(
    claims: Sequence[tuple[str, Claim]], ethernet: Collection[str], links: Sequence[GreLink]
) -> dict[str, str]:
    """Return each of our tunnels that an interface of the kernel's GRE has, too -> a sentence.

    *ethernet*: those of ours that carry Ethernet; the kernel tells these from the others.
    """
    takers = {False: Takers[str](), True: Takers[str]()}
    for link in links:
        if not _is_fallback(link):
            takers[GRE_KINDS[link.kind]].add(_claim(link), link.name)
    # What has no ends and no key is told of by itself, unless ours is the same.
    fallbacks = [link for link in links if _is_fallback(link)]
    every = {(link.version, GRE_KINDS[link.kind]): link.name for link in fallbacks}
    found = {}
    for name, ours in claims:
        link_name = takers[name in ethernet].takes(ours)
        if ours == Claim(ours.family, None, None, None) and ours.transport == "ip":
            link_name = link_name or every.get((ours.family, name in ethernet))
        if link_name is not None:
            found[name] = (
                f"the kernel's interface {link_name} takes the same packets ({ours}):"
                f" ip link set dev {link_name} down"
            )
    return found


def rivals(
    claims: Sequence[tuple[str, Claim]], rank: tuple[float, str], parties: Sequence[Party]
) -> dict[str, str]:
    """Return each of our tunnels that an earlier gred has -> a sentence that tells what helps."""
    takers = Takers[tuple[Party, str]]()
    for party in parties:
        if party.rank < rank:
            for name, theirs in party.claims:
                takers.add(theirs, (party, name))
    found = {}
    for name, ours in claims:
        # Of two that want one UDP port the kernel refuses the second.
        if ours.transport == "ip" and (holder := takers.takes(ours)) is not None:
            party, theirs_name = holder
            found[name] = (
                f"another gred (process {party.pid}, [Tunnel {theirs_name}]) takes the same packets"
                f" ({ours}): stop one of the two, or give one another Local=, Remote= or Key="
            )
    return found


def _claim(link: GreLink) -> Claim:
    local, remote = (None if end is None else ip_address(end) for end in (link.local, link.remote))
    return Claim(link.version, local, remote, link.key)


def _is_fallback(link: GreLink) -> bool:
    return link.local is None and link.remote is None and link.key is None


def _in_words(versions: Collection[int]) -> str:
    return " and ".join(f"IPv{version}" for version in sorted(versions))


def _names() -> Iterator[str]:
    """Yield the abstract socket of each gred in this network namespace."""
    try:
        lines = (_NETWORK / "unix").read_text(errors="replace").splitlines()
    except OSError:
        return
    for name in {line.rpartition(" ")[2] for line in lines}:
        if name.startswith(f"@{_PREFIX}"):
            yield name[1:]


def _ask(name: str, users: frozenset[int]) -> Party:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as asked:
        asked.settimeout(_PATIENCE)
        asked.connect(f"\0{name}")
        credentials = asked.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        pid, uid, _gid = struct.unpack("3i", credentials)
        if uid not in users:
            raise PermissionError(name)
        text = bytearray()
        while len(text) <= _ANSWER_MAX and (more := asked.recv(1 << 16)):
            text += more
    answer = json.loads(text)
    moment, token = answer["rank"]
    claims = tuple((str(entry[0]), _unpacked(*entry[1:])) for entry in answer["claims"])
    return Party(pid, (float(moment), str(token)), claims)


def _packed(one: Claim) -> tuple[object, ...]:
    return one.family, _text(one.local), _text(one.remote), one.key


def _text(address: IPAddress | None) -> str | None:
    return None if address is None else str(address)


def _unpacked(family: int, local: str | None, remote: str | None, key: int | None) -> Claim:
    return Claim(
        int(family),
        None if local is None else ip_address(local),
        None if remote is None else ip_address(remote),
        None if key is None else int(key),
    )
