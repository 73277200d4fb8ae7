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
from ipaddress import ip_address
from pathlib import Path

from gred.config.model import IPAddress
from gred.control.kernel import raw_sockets
from gred.control.kernel.dumps import GRE_KINDS, GreLink
from gred.control.twins import Claim

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


@dataclass(frozen=True, slots=True)
class Others:
    """What was found: IP versions in which others take GRE too, their users, other gred."""

    versions: frozenset[int] = frozenset()
    users: frozenset[int] = frozenset()
    parties: tuple[Party, ...] = ()
    links: tuple[GreLink, ...] = ()

    @property
    def takes_all(self) -> GreLink | None:
        """The kernel's interface that takes whatever no other of its own does, if it is up."""
        for link in self.links:
            if link.local is None and link.remote is None and link.key is None:
                return link
        return None

    @property
    def words(self) -> list[str]:
        """What to know of them, a sentence each."""
        found = []
        if self.versions:
            versions = " and ".join(f"IPv{version}" for version in sorted(self.versions))
            users = ", ".join(map(str, sorted(self.users)))
            found.append(
                f"another program here takes GRE over {versions} (user {users}): packets for none"
                " of our tunnels are counted as foreign; see /proc/net/raw, or ss -wp"
            )
        if (link := self.takes_all) is not None:
            found.append(
                f"the kernel's interface {link.name} is up and takes every packet that none of its"
                f" tunnels has: each is received twice (ip link set dev {link.name} down)"
            )
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
        entries = [(name, *_packed(one)) for name, one in claims]
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
    taken = {}
    for link in links:
        version = 6 if link.kind.startswith("ip6") else 4
        ends = [None if end is None else ip_address(end) for end in (link.local, link.remote)]
        taken[Claim(version, ends[0], ends[1], link.key), GRE_KINDS[link.kind]] = link.name
    return {
        name: f"the kernel's interface {taken[ours, name in ethernet]} takes the same packets"
        f" ({ours}): ip link set dev {taken[ours, name in ethernet]} down"
        for name, ours in claims
        if (ours, name in ethernet) in taken
    }


def rivals(
    claims: Sequence[tuple[str, Claim]], rank: tuple[float, str], parties: Sequence[Party]
) -> dict[str, str]:
    """Return each of our tunnels that an earlier gred has -> a sentence that tells what helps."""
    taken: dict[Claim, tuple[Party, str]] = {}
    for party in parties:
        if party.rank < rank:
            for name, theirs in party.claims:
                taken.setdefault(theirs, (party, name))
    found = {}
    for name, ours in claims:
        if ours in taken:
            party, theirs_name = taken[ours]
            found[name] = (
                f"another gred (process {party.pid}, [Tunnel {theirs_name}]) takes the same packets"
                f" ({ours}): stop one of the two, or give one another Local=, Remote= or Key="
            )
    return found


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
