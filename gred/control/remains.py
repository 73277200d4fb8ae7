"""What outlives the process: what tunnels knew and counted, for the next one to go on with.

    now and then, and at a stop    tunnels -> text -> the store (store.py)
    at a start                     the store -> text -> the tunnels that it fits

Text: a line of JSON about the whole, then one for each tunnel. Times are those of the monotonic
clock, which goes on as long as the store does. After a process that had no time to say its last,
what may have changed since is left out. Nothing here asks the kernel, and a text that does not fit
is no trouble: everything begins anew.
"""

import asyncio
import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from ipaddress import IPv6Interface, ip_address, ip_interface, ip_network
from typing import Any

from gred.config.model import TunnelConfig
from gred.control.kernel.parts import InterfaceSettings
from gred.control.parts import Attachment
from gred.control.slices import in_slices
from gred.control.store import Store
from gred.control.threads import in_thread
from gred.control.tunnel import Tunnel
from gred.dataplane.tunnels import Counters
from gred.wire.drop import DropReason

VERSION = 1
EVERY = 15.0  # seconds
# After a process that was killed: numbers that it may have sent since are not sent again, as the
# other end would drop them. More than leave in EVERY seconds; less than half of all (RFC 2890).
LEAP = 1 << 24

_NUMBERS = (
    *("tx_packets", "tx_bytes", "rx_packets", "rx_bytes"),
    *("rx_resyncs", "rx_lost", "tx_injected", "rx_punted"),
)
Known = Mapping[str, Any]
"""What is known of one tunnel: members of a JSON object."""


class UnfitError(ValueError):
    """What was kept is nothing that this version can go on with; its text says why in a word."""


def write(tunnels: Iterable[str], *, clean: bool) -> bytes:
    """Return the text of *tunnels*, a line each. *clean*: nothing changes any more."""
    body = "".join(f"{line}\n" for line in tunnels).encode()
    head = {"gred": VERSION, "clean": clean, "crc32": zlib.crc32(body)}
    return json.dumps(head).encode() + b"\n" + body


def read(text: bytes) -> tuple[bool, dict[str, Known]]:
    """Return whether the last process ended well, and what it knew by tunnel. Raises UnfitError."""
    first, _newline, body = text.partition(b"\n")
    try:
        head = json.loads(first)
        version, crc, clean = head["gred"], head["crc32"], bool(head["clean"])
    except (ValueError, KeyError, TypeError) as error:
        raise UnfitError("unreadable") from error
    if version != VERSION:
        raise UnfitError("version")
    if crc != zlib.crc32(body):
        raise UnfitError("torn")
    try:
        known = [json.loads(line) for line in body.splitlines()]
        return clean, {one["name"]: one for one in known}
    except (ValueError, KeyError, TypeError) as error:
        raise UnfitError("unreadable") from error


def what_remains(tunnel: Tunnel, counted: Counters, dropped: tuple[int, int] | None) -> Known:
    """Return what is known of *tunnel*. *dropped*: interface and count, as told by QueueDrops."""
    known: dict[str, Any] = {
        "name": tunnel.name,
        "ends": _ends(tunnel.config),
        "counters": [getattr(counted, name) for name in _NUMBERS],
        "tx_drops": {reason.name: count for reason, count in counted.tx_drops.items()},
        "rx_drops": {reason.name: count for reason, count in counted.rx_drops.items()},
        "path": tunnel.path.remains(),
        "lives": {str(remote): life.remains() for remote, life in tunnel.lives.items()},
    }
    if dropped is not None:
        known["interface_drops"] = dropped
    if (given := tunnel.upkeep.given) is not None:
        known["given"] = {
            "addresses": list(map(str, given.addresses)),
            "routes": list(map(str, given.routes)),
            "link_local": None if given.link_local is None else str(given.link_local),
        }
    if tunnel.attachment is not None:
        known["sequence"] = tunnel.attachment.sequence()
        known["peers"] = [
            (str(inner), str(remote), second)
            for inner, remote, second in tunnel.attachment.learned_peers()
        ]
    return known


def counters(known: Known) -> Counters:
    """Return what a tunnel has counted. Raises UnfitError."""
    try:
        numbers = dict(zip(_NUMBERS, map(int, known["counters"]), strict=True))
        return Counters(
            **numbers,
            tx_drops=_drops(known["tx_drops"]),
            rx_drops=_drops(known["rx_drops"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnfitError("unreadable") from error


class Remains:
    """What the last process left, and what this one leaves. Used on *loop*.

    *counted* returns what a tunnel has counted; *dropped* what was told of its interface.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        store: Store,
        tunnels: Mapping[str, Tunnel],
        counted: Callable[[str, Attachment], Counters],
        dropped: Callable[[str], tuple[int, int] | None],
    ) -> None:
        self._loop = loop
        self._store = store
        self._tunnels = tunnels
        self._counted = counted
        self._dropped = dropped
        self._task: asyncio.Task[None] | None = None
        self.unfit = ""
        """Why nothing is known, in a word, though something was kept; else empty."""
        self._clean, self._known = True, dict[str, Known]()
        text = store.recall()
        if text:
            try:
                self._clean, self._known = read(text)
            except UnfitError as error:
                self.unfit = str(error)

    def counters(self) -> Mapping[str, Counters]:
        """Return what tunnels had counted."""
        found = {}
        for name, known in self._known.items():
            try:
                found[name] = counters(known)
            except UnfitError as error:
                self.unfit = str(error)
        return found

    def interface_drops(self) -> Mapping[str, tuple[int, int]]:
        """Return what was told of interfaces: index and count."""
        told = {name: known.get("interface_drops") for name, known in self._known.items()}
        return {name: (one[0], one[1]) for name, one in told.items() if one}

    def give(self, tunnel: Tunnel) -> None:
        """Let *tunnel*, which has nothing yet, go on with what is known of one such."""
        known = self._known.pop(tunnel.name, None)
        if known is None or self.unfit or known.get("ends") != _ends(tunnel.config):
            return
        try:
            tunnel.path.resume(known["path"])
            sent, received = known["sequence"]
            if not self._clean:
                sent, received = (sent + LEAP) & 0xFFFFFFFF if sent else 0, None
            tunnel.remains = {**known, "sequence": (sent, received)}
        except (ValueError, KeyError, TypeError) as error:
            self.unfit = f"unreadable ({error})"

    def start(self) -> None:
        """Begin to write, now and then."""
        self._task = self._loop.create_task(self._write_again_and_again())

    async def stop(self) -> None:
        """Write no more. Harmless where it was not started."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def write(self, *, clean: bool) -> None:
        """Write what all tunnels know now."""
        lines = []
        async for tunnel in in_slices(list(self._tunnels.values())):
            if tunnel.attachment is not None:
                counted = self._counted(tunnel.name, tunnel.attachment)
                dropped = self._dropped(tunnel.name)
                lines.append(json.dumps(what_remains(tunnel, counted, dropped)))
        await in_thread(lambda: self._store.remember(write(lines, clean=clean)))

    async def _write_again_and_again(self) -> None:
        while True:
            await self.write(clean=False)
            await asyncio.sleep(EVERY)


def resume(known: Known, attachment: Attachment) -> None:
    """Let *attachment*, just made, go on with sequence numbers and learned peers."""
    if "sequence" in known:
        attachment.resume(known["sequence"])
    for inner, remote, second in known.get("peers", ()):
        attachment.learn(ip_address(inner), ip_address(remote), second)


def given_before(known: Known, wanted: InterfaceSettings) -> InterfaceSettings | None:
    """Return what the interface was given before, beside what *wanted* says; None: not known."""
    before = known.get("given")
    if before is None:
        return None
    local = before["link_local"]
    link_local = None if local is None else IPv6Interface(local)
    return replace(
        wanted,
        addresses=tuple(map(ip_interface, before["addresses"])),
        routes=tuple(map(ip_network, before["routes"])),
        link_local=link_local,
    )


def _ends(config: TunnelConfig) -> list[str]:
    """Return whose knowledge it is: of another remote nothing of it holds."""
    return [str(config.family), str(config.local), str(config.remote), str(config.local_interface)]


def _drops(counted: Mapping[str, int]) -> dict[DropReason, int]:
    known = DropReason.__members__
    return {known[name]: int(count) for name, count in counted.items() if name in known}
