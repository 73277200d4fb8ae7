"""Configuration of Cisco IOS -> drafts: ``interface Tunnel`` and the static routes into it.

The addresses of other interfaces are read for ``tunnel source``. Lines about anything else are
counted in one remark. Nothing here speaks to a router.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_interface

from gred.config.problems import escape
from gred.management.convert.draft import Draft, Drafts

_INTERFACE = re.compile(r"^\s*interface\s+(\S+(?:\s+[0-9/.]+)?)\s*$", re.MULTILINE | re.IGNORECASE)
_TUNNEL = re.compile(r"tunnel\s*[0-9]+", re.IGNORECASE)
_TTL = "255"  # what IOS sends unless told otherwise
_ROUTING = ("ospf", "ospfv3", "eigrp", "rip", "router", "pim", "isis", "bfd", "hello-interval")
_DAEMON = "a routing daemon beside gred does that, on this interface"
_SHOWN = 6  # lines of something else that are named
_MODES = {"gre ip": 4, "gre ipv6": 6, "gre multipoint": 4}
_HARMLESS = frozenset({"!", "end", "exit", "configure terminal", "conf t", "enable"})


@dataclass(slots=True)
class _Block:
    """A line at the left margin and the indented lines below it."""

    head: str
    line: int
    body: list[tuple[int, str]] = field(default_factory=list)


def recognise(text: str) -> bool:
    """Whether *text* has an ``interface`` line."""
    return _INTERFACE.search(text) is not None


def parse(text: str) -> Drafts:
    """Return the tunnels in *text*."""
    drafts = Drafts()
    blocks = list(_blocks(text))
    sources: dict[str, str] = {}
    for block in blocks:
        if (name := _interface(block)) and not _TUNNEL.fullmatch(name):
            for _, line in block.body:
                address = re.fullmatch(r"ip(?:v6)? address (\S+)(?: [0-9.]+)?", line)
                if address:
                    sources.setdefault(name.lower(), address[1].partition("/")[0])
    others: list[str] = []
    for block in blocks:
        name = _interface(block)
        if name and _TUNNEL.fullmatch(name):
            draft = drafts.begin(name, block.line)
            draft.values.setdefault("ttl", int(_TTL))
            for number, line in block.body:
                _line(draft, line, number, sources)
            _finish(draft)
    for block in blocks:
        name = _interface(block)
        if not (name and _TUNNEL.fullmatch(name)) and not _route(drafts, block):
            others.append(block.head)
    if others:
        more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
        shown = ", ".join(map(escape, others[:_SHOWN]))
        drafts.remark(f"not of a tunnel, and left out: {shown}{more}")
    return drafts


def _blocks(text: str) -> Iterator[_Block]:
    """Yield the blocks of *text*; a block may have lost its indentation on the way here."""
    block: _Block | None = None
    for number, line in enumerate(text.split("\n"), 1):
        bare = " ".join(line.split())
        if not bare or bare.lower() in _HARMLESS or bare.startswith("!"):
            if block is not None and bare and not line[0].isspace():
                yield block
                block = None
            continue
        begins = re.match(r"(interface|router|ip route|ipv6 route|line|hostname) ?", bare)
        tunnel = block is not None and _TUNNEL.search(block.head) is not None
        if block is not None and (line[0].isspace() or (tunnel and not begins)):
            block.body.append((number, bare))
            continue
        if block is not None:
            yield block
        block = _Block(bare, number)
    if block is not None:
        yield block


def _interface(block: _Block) -> str:
    """Return the name of the interface that *block* is about; empty for anything else."""
    word, _, name = block.head.partition(" ")
    return name.replace(" ", "") if word.lower() == "interface" else ""


def _line(draft: Draft, line: str, number: int, sources: dict[str, str]) -> None:
    """Take one line of an ``interface Tunnel`` block."""
    words = line.lower().split()
    for begin, take in _LINES.items():
        given = begin.split()
        if words[: len(given)] == given:
            take(draft, line.split()[len(given) :], number)
            return
    if words[:2] == ["tunnel", "source"]:
        _source(draft, "".join(line.split()[2:]), number, sources)
    elif words[:1] in (["ip"], ["ipv6"]) and len(words) > 1 and words[1] in _ROUTING:
        draft.no_equivalent(line, number, _DAEMON)
    else:
        draft.no_equivalent(line, number)


def _source(draft: Draft, name: str, line: int, sources: dict[str, str]) -> None:
    said = f"tunnel source {name}"
    if re.fullmatch(r"[0-9.]+|[0-9A-Fa-f]*:[0-9A-Fa-f:.]+", name):
        draft.put("Local", name, line, said)
    elif (address := sources.get(name.lower())) is not None and draft.put("Local", address):
        draft.remark(f"{escape(said)}: Local= is the address of it", line)
    else:
        draft.no_equivalent(said, line, "Local=%NAME follows an interface of this host")


def _mode(draft: Draft, words: list[str], line: int) -> None:
    mode = " ".join(words).lower()
    if mode == "gre multipoint":
        draft.remark("tunnel mode gre multipoint: who is where Peers= or LearnPeers= says", line)
    elif mode not in _MODES:
        draft.refuse(f"tunnel mode {mode}", line, "gred is GRE and nothing else")


def _address(draft: Draft, words: list[str], line: int) -> None:
    """``ip address A MASK [secondary]``, ``ipv6 address X/P``."""
    said = f"address {' '.join(words)}"
    text = words[0] if words else ""
    if len(words) > 1 and "." in words[1]:
        try:
            text = str(ip_interface(f"{words[0]}/{words[1]}"))
        except ValueError:
            draft.no_equivalent(said, line, "expected an address and a netmask")
            return
        words = words[1:]
    others = [word for word in words[1:] if word.lower() != "secondary"]
    if others or not text[:1].strip() or "/" not in text:
        draft.no_equivalent(said, line, "Address= takes ADDRESS/PREFIX")
        return
    draft.append("Address", text, line, said)


def _keepalive(draft: Draft, words: list[str], line: int) -> None:
    """``keepalive [PERIOD [RETRIES]]``: 10 seconds and 3 unless given; period 0 is none."""
    period, retries = [*words, *("10", "3")[len(words) :]][:2]
    said = f"keepalive {' '.join(words)}"
    if draft.put("Keepalive", "no" if period == "0" else period, line, said):
        draft.put("KeepaliveRetries", retries, line, said)


def _checked(option: str, *, text: str = "") -> Callable[[Draft, list[str], int], None]:
    """Return what sets *option* to *text*, or to the one word that follows."""

    def take(draft: Draft, words: list[str], line: int) -> None:
        draft.put(option, text or " ".join(words), line)

    return take


def _mss(draft: Draft, words: list[str], line: int) -> None:
    draft.remark(
        f"ip tcp adjust-mss {escape(' '.join(words))}: ClampMSS=yes, the default, takes it from"
        " the MTU of the tunnel",
        line,
    )


def _described(draft: Draft, words: list[str], line: int) -> None:
    draft.remark(f"it is described as: {escape(' '.join(words))}", line)


def _no(why: str, said: str) -> Callable[[Draft, list[str], int], None]:
    def take(draft: Draft, words: list[str], line: int) -> None:
        draft.no_equivalent(" ".join([said, *words]), line, why)

    return take


def _vrf(draft: Draft, words: list[str], line: int) -> None:
    draft.put("Device", " ".join(words), line, f"tunnel vrf {' '.join(words)}")


def _nothing(_draft: Draft, _words: list[str], _line: int) -> None:
    pass


_LINES: dict[str, Callable[[Draft, list[str], int], None]] = {
    "tunnel destination": _checked("Remote"),
    "tunnel mode": _mode,
    "tunnel key": _checked("Key"),
    "tunnel checksum": _checked("Checksum", text="yes"),
    "tunnel sequence-datagrams": _checked("SerializeTunneledPackets", text="yes"),
    "tunnel path-mtu-discovery": _checked("DiscoverPathMTU", text="yes"),
    "tunnel ttl": _checked("TTL"),
    "tunnel tos": _checked("TOS"),
    "tunnel vrf": _vrf,
    "tunnel protection": _no("GRE encrypts nothing: what was encrypted there is in clear here",
                             "tunnel protection"),
    "ip nhrp": _no("there is no NHRP: Peers= says what is behind whom", "ip nhrp"),
    "ip mtu": _checked("MTUBytes"),
    "ipv6 mtu": _checked("MTUBytes"),
    "mtu": _checked("MTUBytes"),
    "ip tcp adjust-mss": _mss,
    "ipv6 tcp adjust-mss": _mss,
    "ip address": _address,
    "ipv6 address": _address,
    "keepalive": _keepalive,
    "no keepalive": _checked("Keepalive", text="no"),
    "description": _described,
    "no shutdown": _nothing,
    "shutdown": _no("gred sets its tunnels up", "shutdown"),
}  # fmt: skip


def _finish(draft: Draft) -> None:
    if not draft.has_remote and not draft.values.get("peers"):
        draft.remark("no destination: it receives and cannot send")


def _route(drafts: Drafts, block: _Block) -> bool:
    """Take a static route into a tunnel; return whether *block* is one."""
    words = block.head.split()
    if words[:2] == ["ip", "route"] and len(words) >= 5:
        network, device, rest, version = f"{words[2]}/{words[3]}", words[4], words[5:], 4
    elif words[:2] == ["ipv6", "route"] and len(words) >= 4:
        network, device, rest, version = words[2], words[3], words[4:], 6
    else:
        return False
    draft = next((one for one in drafts.each() if one.name.lower() == device.lower()), None)
    if draft is None:
        return False
    try:
        network = str(ip_interface(network).network)
    except ValueError:
        draft.no_equivalent(block.head, block.line, "expected a network")
        return True
    draft.route(network, block.line, version=version)
    if rest:
        draft.no_equivalent(f"{' '.join(rest)} of the route {network}", block.line)
    return True
