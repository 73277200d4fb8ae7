"""What somebody meant who wrote a value that is not understood: one phrase for the message.

Only looks at text. Nothing here reads a value or decides that one is bad.
"""

import re
import shlex
from collections.abc import Sequence
from ipaddress import ip_address, ip_interface

_QUOTES = "\"'\u2018\u2019\u201c\u201d\u00ab\u00bb`"
_LONGEST = 50  # of a text that is repeated
_INTERFACE = re.compile(
    r"(lo|(eth|en|wl|ww|br|bond|team|vlan|veth|tun|tap|wg|ppp|dummy|vrf)[\w.-]*)"
)
_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_-]+)*\.?")
_UNIT = re.compile(r"([0-9]+)\s*([A-Za-z%]+)")
# Units that people write, and whether the number stays without them.
_UNITS = dict.fromkeys(("b", "byte", "bytes", "s", "u", "hops"), True)
_UNITS |= dict.fromkeys(
    ("k", "kb", "kib", "m", "mb", "mib", "g", "ms", "min", "bit", "bits"), False
)
_NETMASK = re.compile(r"(?P<address>[0-9.]+)/(?P<mask>[0-9]+(\.[0-9]+){3})")
_SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh", "busybox"})
_SHELL_WORDS = frozenset({"|", "||", "&", "&&", ";", "<", "<<"})
_IP_WORDS = frozenset({"dev", "via", "peer", "netmask", "src", "brd", "scope", "metric", "table"})
# Class selectors, assured and expedited forwarding, as whole TOS bytes. RFC 2474, 2597, 3246.
_DSCP = {f"CS{number}": number << 5 for number in range(8)}
_DSCP |= {f"AF{x}{y}": x << 5 | y << 3 for x in range(1, 5) for y in range(1, 4)}
_DSCP |= {"EF": 0xB8, "VA": 0xB0, "LE": 0x04}


def hint(text: str) -> str:
    """Return what helps with *text*, whatever was expected; empty if nothing is known."""
    invisible = next((c for c in text if not c.isprintable() and c != "\n"), None)
    if invisible is not None:
        return f"it has the invisible character U+{ord(invisible):04X}"
    bare = text.strip(_QUOTES)
    if bare != text:
        return f"without quotes: {bare}" if 0 < len(bare) <= _LONGEST else "without quotes"
    if text.endswith("\\"):
        return "a value goes on in an indented line, without a backslash"
    if not {"#", ";"}.isdisjoint(text) or "//" in text:
        return 'a comment after a value begins with a blank and "#"'
    return ""


def address(text: str) -> str:
    """Return what helps with *text* in place of one address."""
    if known := hint(text) if "://" not in text else "":
        return known
    if len(text) > _LONGEST:
        return ""
    if "," in text or len(text.split()) > 1:
        return "one address; a tunnel with many remotes has Peers= instead"
    bracketed = re.fullmatch(r"\[([^\]]*)\](:[0-9]+)?", text)
    if bracketed and _is_address(bracketed[1]):
        return f"without {'brackets and port' if bracketed[2] else 'brackets'}: {bracketed[1]}"
    head, colon, port = text.rpartition(":")
    if colon and port.isdecimal() and "." in head and _is_address(head):
        return f"GRE has no ports: {head}"
    if colon and port.isdecimal() and _NAME.fullmatch(head):
        return f"GRE has no ports: {head}"
    head, slash, _prefix = text.partition("/")
    if slash and _is_address(head):
        return f"an address without a prefix: {head}"
    if _is_zeroed(text):
        return f"without leading zeros: {_without_zeros(text)}"
    if text.lower() in {"none", "*", "auto", "default", "all"}:
        return 'for any address write "any"'
    if _NAME.fullmatch(text) and re.search(r"[A-Za-z]", text):
        return "names are not resolved here: write the address that it has"
    return ""


def zone(text: str) -> str:
    """Return what helps with *text*, which has a "%" where an address is expected."""
    head, _, interface = text.partition("%")
    if known := hint(text):
        return known
    if len(text) <= _LONGEST and head and _is_address(head):
        return f"write {head}, and Device={interface}"
    return "only Local= takes %INTERFACE"


def local(text: str) -> str:
    """Return what helps with *text* in place of a local address."""
    if _INTERFACE.fullmatch(text):
        return f"for the address of an interface write %{text}"
    known = address(text)
    if known.startswith("names are not"):
        return f"for the address of an interface write %{text}; only Remote= takes a name"
    return known


def prefix(text: str) -> str:
    """Return what helps with *text* in place of an address or a network with its prefix."""
    if known := hint(text):
        return known
    if len(text) > _LONGEST:
        return ""
    if text in _IP_WORDS:
        return "a list of addresses with prefixes and nothing else"
    masked = _NETMASK.fullmatch(text)
    if masked:
        try:
            return f"a prefix instead of a netmask: {ip_interface(text)}"
        except ValueError:
            return "a prefix instead of a netmask"
    unbracketed = text.replace("[", "").replace("]", "")
    if unbracketed != text and _is_address(unbracketed.partition("/")[0]):
        return f"without brackets: {unbracketed}"
    if text.lower() == "default":
        return "0.0.0.0/0, or ::/0 for IPv6"
    if text.lower() in {"dhcp", "auto"}:
        return "gred gives fixed addresses"
    if "%" in text:
        return "without %INTERFACE: it is that of the tunnel"
    if _is_zeroed(text.partition("/")[0]):
        return f"without leading zeros: {_without_zeros(text)}"
    return ""


def number(text: str) -> str:
    """Return what helps with *text* in place of a number."""
    if known := hint(text):
        return known
    if (value := _DSCP.get(text.upper())) is not None:
        return f"{text.upper()} is {value:#04x}"
    if len(text) > _LONGEST:
        return ""
    if (unit := _UNIT.fullmatch(text)) and (word := unit[2].lower()) in _UNITS:
        return "a number without a unit" + (f": {unit[1]}" if _UNITS[word] else "")
    if re.fullmatch(r"0[0-9]+", text):
        return f"without leading zeros: {text.lstrip('0') or '0'}"
    if re.fullmatch(r"[0-9a-fA-F]*[a-fA-F][0-9a-fA-F]*", text):
        return f"a hexadecimal number begins with 0x: 0x{text}"
    return ""


def span(text: str) -> str:
    """Return what helps with *text* in place of a time span."""
    if known := hint(text):
        return known
    if (two := re.fullmatch(r"([0-9]{1,5})[\s,]+([0-9]{1,3})", text)) is not None:
        return f"the interval alone: {two[1]}s; how often is KeepaliveRetries={two[2]}"
    if text.lower() in {"yes", "true", "on"}:
        return "how often, as in 10s"
    return ""


def mac_address(text: str) -> str:
    """Return what helps with *text* in place of an Ethernet address."""
    digits = re.sub(r"[-.:]", "", text)
    if re.fullmatch(r"[0-9a-fA-F]{12}", digits):
        return "as in " + ":".join(digits[at : at + 2] for at in range(0, 12, 2)).lower()
    return hint(text)


def open_quote(text: str) -> str:
    """Return what helps with the command line *text*, a quote of which has no end."""
    if text.endswith("\\"):
        return "a value goes on in an indented line, without a backslash"
    return 'a quote is not closed; a blank and "#" begin a comment, in quotes, too'


def command(text: str, words: Sequence[str]) -> str:
    """Return what helps with the command line *text*, which has *words* and begins with no path."""
    if any("\n" in word for word in words):
        return "an argument in quotes ends in the line where it begins"
    name = words[0].lstrip("-@:+!") if words else ""
    if name.startswith("/"):
        return f"without {words[0][: -len(name)]} before the path"
    if "/" in name or name.startswith("~"):
        return "the path begins with /"
    if "=" in name:
        return "facts are in the environment; /usr/bin/env NAME=VALUE PROGRAM adds others"
    if _NAME.fullmatch(name) and len(name) <= _LONGEST:
        return f"no path is searched: write the whole, as /usr/sbin/{name}"
    return hint(text)


def shell_words(text: str) -> str:
    """Return what a shell would do with the command line *text* and gred does not."""
    words = shlex.split(text)
    if not words or words[0].rpartition("/")[2] in _SHELLS:
        return ""
    for word in words[1:]:
        if word in _SHELL_WORDS or word.startswith((">", "2>", "$", "~/", "%i")):
            return f"there is no shell: {word[:_LONGEST]} is handed over as it stands"
    return ""


# What other programs write, and what says it here.
_OPTIONS = {
    "name": "the name stands in the section: [Tunnel NAME]",
    "kind": "it is Mode= here",
    "description": 'a line that begins with "#" is a comment',
    "gateway": "a network behind the tunnel is a Route=",
    "destination": "a network behind the tunnel is a Route=",
    "dns": "gred gives the interface addresses and routes, and no more",
    "independent": "a tunnel of gred always is",
    "assigntoloopback": "a tunnel of gred belongs to no other interface",
    "copydscp": "TOS=inherit copies the inner one",
    "fooverudp": "GRE-in-UDP is not there yet",
    "tunnel": "a tunnel is a section: [Tunnel NAME]",
    "privatekey": "GRE encrypts nothing",
    "erspanindex": "ERSPAN is not there",
    "allowlocalremote": "Remote= may not be an address of this host",
    "postdown": "PreDown= comes before the interface goes",
    "preup": "PostUp= comes when the interface is there",
    "multicast": "the interface always has multicast",
}
_OTHERS_SECTIONS = {
    **dict.fromkeys(("netdev", "match", "network", "link", "address", "route"), "systemd"),
    **dict.fromkeys(("interface", "peer"), "WireGuard"),
}


def option(name: str) -> str:
    """Return what helps with the unknown option *name*; empty if nothing is known."""
    return _OPTIONS.get(name.lower(), "")


def section(name: str) -> str:
    """Return whose the unknown section *name* is; empty if that is not known."""
    return _OTHERS_SECTIONS.get(name.lower(), "")


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _without_zeros(text: str) -> str:
    return re.sub(r"(^|(?<=\.))0+(?=[0-9])", "", text)


def _is_zeroed(text: str) -> bool:
    """Whether *text* is an IPv4 address but for leading zeros."""
    return not _is_address(text) and _is_address(_without_zeros(text))
