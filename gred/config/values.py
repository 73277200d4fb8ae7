"""The text of one value <-> the value. Nothing here knows options, sections, files or lines.

A Kind reads and writes one sort of value. Reading is strict: what two readers could take for two
things (010, 255.255.255.0 after a slash) is refused. Writing returns text that reads back equal.
"""

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, ip_address, ip_interface, ip_network
from typing import Any

from gred.config import hints
from gred.config.model import IPAddress, IPInterface, IPNetwork

_TRUE = frozenset({"yes", "true", "on", "1"})
_FALSE = frozenset({"no", "false", "off", "0"})
# A leading zero is octal to some tools and decimal to others: refused.
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,9}", re.ASCII)
_HEXADECIMAL = re.compile(r"0[xX][0-9a-fA-F]{1,8}", re.ASCII)
_SPAN = re.compile(r"([0-9]{1,7}(?:\.[0-9]{1,3})?)\s*([A-Za-z]*)", re.ASCII)
_SECONDS = {"": 1.0, "ms": 0.001, "msec": 0.001, "min": 60.0, "minute": 60.0, "minutes": 60.0}
_SECONDS |= dict.fromkeys(("s", "sec", "second", "seconds"), 1.0)
_DOTTED_QUAD = re.compile(r"[0-9.]+", re.ASCII)
_PREFIX = re.compile(r"[0-9]{1,3}", re.ASCII)
_LIST_SEPARATOR = re.compile(r"[,\s]+")

_BLANK_HASH = re.compile(r"(\s)#")
_MAC_ADDRESS = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}", re.ASCII)
_MULTICAST_BIT = 1  # of a MAC address's first octet. IEEE 802-2014 section 8.2.2

_MPLS = 0x8847  # RFC 5332 section 3
_ETHERTYPE_MIN = 0x0600  # smaller numbers are lengths. IEEE 802.3 clause 3.2.6
_CARRIED_ANYWAY = {
    0x0800: "IPv4 is carried anyway",
    0x86DD: "IPv6 is carried anyway",
    0x6558: "Mode=gretap carries Ethernet",
}

_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?", re.ASCII)
# Words that say something else elsewhere.
_NO_NAMES = frozenset({"none", "auto", "default", "all", "inherit", "yes", "no", "on", "off"})

NAME_MAX = 253  # characters of a host name. RFC 1035 section 2.3.4, in text
KEY_MAX = 0xFFFFFFFF  # the Key field has four octets. RFC 2890 section 2.1
MARK_MAX = 0xFFFFFFFF
FLOW_LABEL_MAX = 0xFFFFF  # 20 bits. RFC 8200 section 3
MTU_MIN = 68  # every link carries a datagram of 68 octets. RFC 791 section 3.2
MTU_MAX = 65535
SOCKET_PATH_MAX = 107  # bytes: sun_path less the terminating NUL. unix(7)
INTERFACE_NAME_MAX = 15  # bytes: IFNAMSIZ less the terminating NUL. linux/if.h
# Words of ip-link(8) and systemd.netdev(5) for what is another option here, or its default.
_MEANINGS = {
    "ip6gre": "gre, with IPv6 addresses in Local= and Remote=",
    "gre6": "gre, with IPv6 addresses in Local= and Remote=",
    "ip6gretap": "gretap, with IPv6 addresses in Local= and Remote=",
    "tap": "gretap",
    "tun": "gre",
}
# "lo" is in every network namespace; the other two are directories beside the interfaces' own
# under /proc/sys/net/ipv4/conf.
_RESERVED_NAMES = frozenset({"lo", "all", "default"})


@dataclass(frozen=True, slots=True)
class Finding:
    """A piece of text that is not what was expected, and a word of help if there is one."""

    got: str
    hint: str = ""


class BadValueError(ValueError):
    """Text that cannot be read; a list has one finding for each bad item."""

    def __init__(self, *findings: Finding) -> None:
        self.findings = findings
        super().__init__(", ".join(finding.got for finding in findings))


@dataclass(frozen=True, slots=True)
class Kind:
    """A sort of value.

    *expected* says in words what is read. *read* returns the value or raises BadValueError.
    *write* returns the text, or None for a value that this kind cannot express. *note* says what
    was assumed in reading; empty when nothing was.
    """

    expected: str
    read: Callable[[str], Any]
    write: Callable[[Any], str | None]
    note: Callable[[str], str] = lambda _text: ""


def _read_boolean(text: str) -> bool:
    word = text.lower()
    if word not in _TRUE | _FALSE:
        raise BadValueError(Finding(text, hints.hint(text)))
    return word in _TRUE


def _write_boolean(value: bool) -> str:
    return "yes" if value else "no"


def _read_number(text: str, low: int, high: int, *, hexadecimal: bool = False) -> int:
    if _DECIMAL.fullmatch(text):
        value = int(text)
    elif hexadecimal and _HEXADECIMAL.fullmatch(text):
        value = int(text, 16)
    else:
        raise BadValueError(Finding(text, hints.number(text)))
    if not low <= value <= high:
        raise BadValueError(Finding(text))
    return value


def read_span(text: str) -> float:
    """Read a time span as systemd.time(7) does: 10s, 500ms, 1min 30s; a number alone is seconds."""
    seconds, rest = 0.0, text.strip()
    if not rest:
        raise BadValueError(Finding(text))
    while rest:
        part = _SPAN.match(rest)
        alone = part is not None and part[0] == text.strip()
        if part is None or part[2].lower() not in _SECONDS or not (part[2] or alone):
            raise BadValueError(Finding(text, hints.span(text)))
        seconds += float(part[1]) * _SECONDS[part[2].lower()]
        rest = rest[part.end() :].lstrip()
    return seconds


def _write_span(value: float) -> str:
    """Write milliseconds, seconds or minutes: the largest that leaves a whole number."""
    milliseconds = round(value * 1000)
    for unit, size in (("min", 60_000), ("s", 1000)):
        if milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms"


def _read_key(text: str) -> int:
    if "." in text and _DOTTED_QUAD.fullmatch(text):
        try:
            return int(IPv4Address(text))
        except ValueError:
            raise BadValueError(Finding(text)) from None
    return _read_number(text, 0, KEY_MAX, hexadecimal=True)


def _read_address(text: str) -> IPAddress:
    if "%" in text:
        raise BadValueError(Finding(text, hints.zone(text)))
    try:
        return ip_address(text)
    except ValueError:
        raise BadValueError(Finding(text, hints.address(text))) from None


def _read_protocol(text: str) -> int | None:
    if text.lower() == "none":
        return None
    if text.lower() == "mpls":
        return _MPLS
    value = _read_number(text, _ETHERTYPE_MIN, 0xFFFF, hexadecimal=True)
    if value in _CARRIED_ANYWAY:
        raise BadValueError(Finding(text, _CARRIED_ANYWAY[value]))
    return value


def _write_protocol(value: int | None) -> str:
    return {None: "none", _MPLS: "mpls"}.get(value) or f"{value:#06x}"


def _read_peer(text: str) -> tuple[IPNetwork, IPAddress]:
    inner, at, outer = text.partition("@")
    if not at:
        raise BadValueError(Finding(text, "as in 10.0.0.2@192.0.2.2"))
    network = _read_network(inner) if "/" in inner else ip_network(_read_address(inner))
    return network, _read_address(outer)


def _write_peer(value: tuple[IPNetwork, IPAddress]) -> str:
    network, outer = value
    inner = network.network_address if network.prefixlen == network.max_prefixlen else network
    return f"{inner}@{outer}"


def _read_local(text: str) -> tuple[IPAddress | None, str | None]:
    """Read an address, %INTERFACE or any into address and interface."""
    if text.lower() == "any":
        return None, None
    if text.startswith("%"):
        return None, _read_device(text[1:], whole=text)
    if "%" not in text:
        try:
            return ip_address(text), None
        except ValueError:
            raise BadValueError(Finding(text, hints.local(text))) from None
    return _read_address(text), None


def _write_local(value: tuple[IPAddress | None, str | None]) -> str | None:
    address, interface = value
    if interface is not None:
        return f"%{interface}" if address is None else None
    return "any" if address is None else str(address)


def _read_remote(text: str) -> tuple[IPAddress | None, str | None]:
    """Read an address, a name or any into address and name."""
    if text.lower() == "any":
        return None, None
    if is_host_name(text) and text.lower() not in _NO_NAMES:
        return None, text
    return _read_address(text), None


def _write_remote(value: tuple[IPAddress | None, str | None]) -> str:
    address, name = value
    return name or ("any" if address is None else str(address))


def is_host_name(text: str) -> bool:
    """Whether *text* may name a host; what may be meant for an address may not."""
    # RFC 1123 section 2.1: the last label is never a number, so that no address is a name.
    labels = text.removesuffix(".").split(".")
    return (
        len(text) <= NAME_MAX
        and all(map(_LABEL.fullmatch, labels))
        and not labels[-1].isdigit()
        and _HEXADECIMAL.fullmatch(labels[-1]) is None
    )


def _read_device(text: str, *, whole: str = "") -> str:
    # "lo" may be meant: an address of the host itself is often on it.
    if text != "lo" and (reason := refuse_interface_name(text)):
        raise BadValueError(Finding(whole or text, reason.removeprefix("expected ")))
    return text


def _read_namespace(text: str) -> str:
    """Read what ip-link(8) takes: a name under /run/netns, a path, or the number of a process."""
    if text.startswith("/"):
        if "\0" in text:
            raise BadValueError(Finding(text))
        return text
    if "/" in text or text in {".", ".."} or not text.isprintable() or " " in text:
        raise BadValueError(Finding(text, "a path begins with /"))
    return text


def _read_mac_address(text: str) -> str:
    if not _MAC_ADDRESS.fullmatch(text):
        raise BadValueError(Finding(text, hints.mac_address(text)))
    octets = bytes.fromhex(text.replace(":", ""))
    if octets[0] & _MULTICAST_BIT:
        raise BadValueError(Finding(text, "that is a multicast address"))
    if not any(octets):
        raise BadValueError(Finding(text, "the kernel takes no address of zeros"))
    return text.lower()


def _refuse_netmask(text: str) -> None:
    """Raise BadValueError unless what follows the slash in *text* is a prefix length."""
    _, slash, prefix = text.partition("/")
    if "%" in text or (slash and not _PREFIX.fullmatch(prefix)):
        raise BadValueError(Finding(text, hints.prefix(text)))


def _read_interface(text: str) -> IPInterface:
    _refuse_netmask(text)
    try:
        return ip_interface(text)
    except ValueError:
        raise BadValueError(Finding(text, hints.prefix(text))) from None


def _note_whole_addresses(text: str) -> str:
    """Say what systemd.network(5) assumes, too, of an address without a prefix."""
    if text.lower() == "none":
        return ""
    whole = [item for item in _LIST_SEPARATOR.split(text) if item and "/" not in item]
    assumed = [f"{item} is taken as {_read_interface(item)}" for item in whole]
    if not assumed:
        return ""
    return ", ".join(assumed) + ": a prefix tells which others are behind the tunnel"


def _read_network(text: str) -> IPNetwork:
    _refuse_netmask(text)
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise BadValueError(Finding(text, hints.prefix(text))) from None
    if network.network_address != ip_interface(text).ip:
        raise BadValueError(Finding(text, f"host bits are set; the network is {network}"))
    return network


def _read_checksum(text: str) -> tuple[str, bool]:
    """Yes sends and requires; no does not send, and still verifies a checksum that comes.

    RFC 2784 section 2.3: a compliant implementation must accept packets with a checksum.
    """
    return ("require", True) if _read_boolean(text) else ("accept", False)


def _write_checksum(value: tuple[str, bool]) -> str | None:
    return {("require", True): "yes", ("accept", False): "no"}.get(value)


def choice(**words: Any) -> Kind:
    """Return a kind that reads one of *words*, each with its value."""
    names = {value: word for word, value in words.items()}

    def read(text: str) -> Any:
        if text not in words:
            lower = text.lower()
            meant = f"{lower}, in small letters" if lower in words else _MEANINGS.get(lower, "")
            if lower == "yes" and "auto" in words:
                meant = "auto uses it where it can be used"
            raise BadValueError(Finding(text, meant or hints.hint(text)))
        return words[text]

    *others, last = words
    return Kind(f"{', '.join(others)} or {last}", read, names.__getitem__)


def number(low: int, high: int, *, none: str = "", hexadecimal: bool = False) -> Kind:
    """Return a kind that reads a number from *low* to *high*, or the word *none* for None."""

    def read(text: str) -> int:
        return _read_number(text, low, high, hexadecimal=hexadecimal)

    hint = " (decimal or 0x)" if hexadecimal else ""
    kind = Kind(f"{low}..{high}{hint}", read, str)
    return optional(kind, none) if none else kind


def span(low: float, high: float, *, none: str = "") -> Kind:
    """Return a kind that reads a time span of *low* to *high* seconds, or *none* for None."""

    def read(text: str) -> float:
        seconds = read_span(text)
        if not low <= seconds <= high:
            raise BadValueError(Finding(text))
        return seconds

    limits = f"{_write_span(low)}..{_write_span(high)}"
    kind = Kind(f"a time of {limits}", read, _write_span)
    return optional(kind, none) if none else kind


def optional(kind: Kind, none: str) -> Kind:
    """Return *kind* with the word *none* for None."""

    def read(text: str) -> Any:
        return None if text.lower() == none else kind.read(text)

    def write(value: Any) -> str | None:
        return none if value is None else kind.write(value)

    return Kind(f"{kind.expected} or {none}", read, write)


def _read_socket(text: str) -> str:
    if text == "auto" or (text.startswith("/") and len(text.encode()) <= SOCKET_PATH_MAX):
        return text
    raise BadValueError(Finding(text))


def _read_command(text: str) -> tuple[str, ...]:
    """Read a command line as systemd.service(5) and a shell split it; nothing is expanded."""
    if text.lower() == "none":
        return ()
    try:
        words = tuple(shlex.split(text))
    except ValueError:
        raise BadValueError(Finding(text, hints.open_quote(text))) from None
    if not words or not words[0].startswith("/") or any("\n" in word for word in words):
        raise BadValueError(Finding(text, hints.command(text, words)))
    if len(words) == 1 and " " in words[0] and text[0] in "\"'":
        raise BadValueError(Finding(text, "without quotes around the whole"))
    return words


def _write_command(words: tuple[str, ...]) -> str:
    # A blank and "#" would begin a comment, in quotes, too.
    return _BLANK_HASH.sub(r"""\1'"#"'""", shlex.join(words)) or "none"


def both(kind: Kind) -> Kind:
    """Return a kind whose one text stands for two equal values."""

    def read(text: str) -> tuple[Any, Any]:
        value = kind.read(text)
        return value, value

    def write(values: tuple[Any, Any]) -> str | None:
        return kind.write(values[0]) if values[0] == values[1] else None

    return Kind(kind.expected, read, write)


def many(kind: Kind) -> Kind:
    """Return a kind that reads items between commas or blanks into a tuple; none is no item."""

    def read(text: str) -> tuple[Any, ...]:
        if text.lower() == "none":
            return ()
        items = [item for item in _LIST_SEPARATOR.split(text) if item]
        values: list[Any] = []
        findings: list[Finding] = []
        for item in items:
            try:
                values.append(kind.read(item))
            except BadValueError as error:
                findings.extend(error.findings)
        if findings or not items:
            raise BadValueError(*findings or [Finding(text)])
        return tuple(values)

    def write(values: tuple[Any, ...]) -> str:
        return ", ".join(map(str, map(kind.write, values))) or "none"

    return Kind(f"{kind.expected} or none", read, write)


BOOLEAN = Kind("yes or no", _read_boolean, _write_boolean)
CHECKSUM = Kind("yes or no", _read_checksum, _write_checksum)
KEY = optional(Kind(f"0..{KEY_MAX} (decimal or 0x), a dotted quad", _read_key, str), "none")
REMOTE = Kind("an IP address, a host name or any", _read_remote, _write_remote)
TARGET = optional(Kind("an IP address", _read_address, str), "none")
LOCAL = Kind("an IP address, %INTERFACE or any", _read_local, _write_local)
DEVICE = optional(Kind("an interface name", _read_device, str), "none")
NAMESPACE = optional(
    Kind("a name under /run/netns, a path, the number of a process", _read_namespace, str), "none"
)
MAC_ADDRESS = optional(Kind("a unicast MAC address", _read_mac_address, str), "none")
INTERFACES = replace(
    many(Kind("ADDRESS/PREFIX, ...", _read_interface, str)), note=_note_whole_addresses
)
NETWORKS = many(Kind("NETWORK/PREFIX, ...", _read_network, str))
SOCKET = optional(
    Kind(f"auto, an absolute path of at most {SOCKET_PATH_MAX} bytes", _read_socket, str), "none"
)
COMMAND = Kind(
    "an absolute path, arguments or none", _read_command, _write_command, hints.shell_words
)
PROTOCOL = Kind("0x0600..0xffff, mpls or none", _read_protocol, _write_protocol)
PEERS = many(Kind("INNER@OUTER, ...", _read_peer, _write_peer))


def refuse_interface_name(name: str) -> str:
    """Return why the kernel or ip(8) could not have an interface called *name*; empty if it may.

    Names are printable ASCII here, though the kernel takes more: they stand in logs, in metrics
    and on command lines. "%" makes the kernel number the name itself.
    """
    # dev_valid_name() in the kernel's net/core/dev.c
    if not name:
        return "expected an interface name, got none"
    if name in _RESERVED_NAMES | {".", ".."}:
        return f'expected an interface name of its own, got the reserved name "{name}"'
    size = len(name.encode("utf-8", "surrogatepass"))
    if size > INTERFACE_NAME_MAX:
        return f"expected an interface name of at most {INTERFACE_NAME_MAX} bytes, got {size} bytes"
    bad = {c for c in name if c in "/:%#;[]\"'" or not "!" <= c <= "~"}
    if bad:
        shown = " ".join(sorted("blank" if c.isspace() else ascii(c)[1:-1] for c in bad))
        return (
            "expected an interface name of printable ASCII "
            f"without blanks, quotes and / : % # ; [ ], got one with {shown}"
        )
    return ""
