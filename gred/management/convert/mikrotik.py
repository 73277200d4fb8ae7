"""Commands of MikroTik RouterOS -> drafts: ``/interface gre add``, and addresses and routes for it.

Both forms are read: whole paths, and ``add`` below a line with the path, as ``export`` prints it.
Nothing here speaks to a router.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from gred.config.problems import escape
from gred.management.convert.draft import Draft, Drafts

_PATH = re.compile(r"^\s*/(interface|ip|ipv6|routing|system)\b", re.MULTILINE)
_WORD = re.compile(r"""\[[^\]]*\]|(?:"(?:[^"\\]|\\.)*"|[^\s"])+""")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_VERBS = frozenset({"add", "set", "remove", "enable", "disable", "print"})
_KEEPALIVE = "10s,10"  # RouterOS: on unless !keepalive
_SAME = {"local-address": "Local", "remote-address": "Remote", "mtu": "MTUBytes"}
_OPEN = frozenset({"auto", "0.0.0.0", "::"})  # noqa: S104 - nothing is bound
_NEEDLESS = frozenset({"name", "allow-fast-path", "actual-mtu", "l2mtu"})
_EOIP = "EoIP is not there; where both ends can, GRE with Mode=gretap carries Ethernet, too"
_SECRET = "GRE encrypts nothing: what was encrypted there is in clear here"  # noqa: S105 - prose


@dataclass(frozen=True, slots=True)
class _Command:
    path: str
    verb: str
    values: dict[str, str]
    said: str
    line: int


def recognise(text: str) -> bool:
    """Whether *text* has a line that begins with a path of RouterOS."""
    return _PATH.search(text) is not None


def parse(text: str) -> Drafts:
    """Return the tunnels in *text*."""
    drafts = Drafts()
    for command in _commands(text):
        adds = command.verb == "add"
        match command.path:
            case "/interface gre" | "/interface gre6" if adds:
                _gre(drafts, command)
            case "/ip address" | "/ipv6 address" if adds:
                _address(drafts, command)
            case "/ip route" | "/ipv6 route" if adds:
                _route(drafts, command)
            case "/interface eoip" | "/interface eoipv6":
                drafts.no_equivalent(command.said, command.line, _EOIP)
            case _:
                drafts.no_equivalent(command.said, command.line, "it makes no GRE tunnel")
    return drafts


def _commands(text: str) -> Iterator[_Command]:
    """Yield the commands of *text*; a path alone holds for the lines below it."""
    path, whole, began = "", "", 0
    for number, line in enumerate([*text.split("\n"), ""], 1):
        bare = line.strip()
        began = began if whole else number
        if bare.endswith("\\"):
            whole += line.rstrip()[:-1].lstrip() if not whole else bare[:-1]
            continue
        whole, bare = "", whole + bare
        if not bare or bare.startswith("#"):
            continue
        words = _WORD.findall(bare)
        verb = next((at for at, word in enumerate(words) if word in _VERBS), len(words))
        if words and words[0].startswith("/"):
            path = " ".join(words[:verb]).replace("/", " /").replace(" /", "/", 1)
            path = "/" + path.lstrip("/").replace("/", " ").strip()
            path = " ".join(path.split())
        if verb < len(words):
            values = dict(map(_pair, words[verb + 1 :]))
            yield _Command(path, words[verb], values, bare, began)
        elif not words or not words[0].startswith("/"):
            yield _Command("", "", {}, bare, began)


def _pair(word: str) -> tuple[str, str]:
    """Return the name and the value of a word; ``!name`` has no value, and says no."""
    if word.startswith("!"):
        return word[1:], "no"
    name, _, value = word.partition("=")
    quoted = _QUOTED.fullmatch(value)
    return name, re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else value


def _gre(drafts: Drafts, command: _Command) -> None:
    line, values = command.line, command.values
    draft = drafts.begin(values.get("name", "gre-tunnel1"), line)
    for name, value in {"keepalive": _KEEPALIVE, **values}.items():
        said = f"{name}={value}"
        if name in _SAME and value not in _OPEN:
            draft.put(_SAME[name], value, line, said)
        elif name == "keepalive":
            _keepalive(draft, value, line)
        elif name == "dscp":
            _dscp(draft, value, line)
        elif name == "clamp-tcp-mss":
            draft.put("ClampMSS", value, line, said)
        elif name == "dont-fragment":
            draft.put("DiscoverPathMTU", "no")
            draft.put("IgnoreDontFragment", "no" if value == "inherit" else "yes")
        elif name == "comment":
            draft.remark(f"it is described as: {escape(value)}", line)
        elif name == "disabled" and value == "yes":
            draft.no_equivalent(said, line, "gred sets its tunnels up")
        elif name == "ipsec-secret":
            draft.no_equivalent(name, line, _SECRET)
        elif name not in _NEEDLESS | _SAME.keys() | {"disabled"}:
            draft.no_equivalent(said, line)
    if not draft.has_remote:
        draft.remark("no remote-address: it receives and cannot send", line)
        draft.put("Keepalive", "no")


def _keepalive(draft: Draft, value: str, line: int) -> None:
    """``keepalive=10s,10``: how often, and how many in a row may stay without an answer."""
    said = f"keepalive={value}"
    period, _, retries = value.partition(",")
    period = re.sub(r"^0+:0+:0*([0-9]+)$", r"\1s", period)
    if draft.put("Keepalive", re.sub("m(?=[0-9]|$)", "min", period), line, said) and retries:
        draft.put("KeepaliveRetries", retries, line, said)


def _dscp(draft: Draft, value: str, line: int) -> None:
    """``dscp=``: inherit, or six bits, which are the upper ones of TOS."""
    if re.fullmatch(r"[0-9]{1,2}", value, re.ASCII):
        draft.put("TOS", str(int(value) << 2), line, f"dscp={value}")
    else:
        draft.put("TOS", value, line, f"dscp={value}")


def _address(drafts: Drafts, command: _Command) -> None:
    draft = drafts.find(command.values.get("interface", ""))
    if draft is None:
        drafts.no_equivalent(command.said, command.line, "no GRE tunnel was made of that name")
        return
    text = command.values.get("address", "")
    if "/" not in text and "netmask" in command.values:
        text += f"/{command.values['netmask']}"
    draft.append("Address", text, command.line)
    _rest(draft, command, {"interface", "address", "network", "netmask"})


def _route(drafts: Drafts, command: _Command) -> None:
    gateway = command.values.get("gateway", "").partition("%")
    draft = drafts.find(gateway[0]) or drafts.find(gateway[2])
    if draft is None:
        drafts.no_equivalent(command.said, command.line, "its gateway is no GRE tunnel made here")
        return
    version = 6 if command.path.startswith("/ipv6") else 4
    draft.route(command.values.get("dst-address", "default"), command.line, version=version)
    _rest(draft, command, {"gateway", "dst-address"})


def _rest(draft: Draft, command: _Command, known: set[str]) -> None:
    for name, value in command.values.items():
        if name == "comment":
            draft.remark(f"{command.path}: {escape(value)}", command.line)
        elif name not in known and (name, value) != ("disabled", "no"):
            draft.no_equivalent(f"{name}={value} of {command.path}", command.line)
