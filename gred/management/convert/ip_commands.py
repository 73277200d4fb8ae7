"""Command lines of ip(8) that make tunnels -> drafts. Nothing here runs them.

``ip tunnel add``, ``ip link add ... type gre`` and its like, and for the tunnels so made ``ip link
set``, ``ip address add`` and ``ip route add``, as they stand in a script, with sudo or without.
Words may be abbreviated as ip(8) lets them. A variable of the shell is not looked up.
"""

import itertools
import shlex
from collections.abc import Iterator

from gred.config.problems import escape
from gred.management.convert import linux
from gred.management.convert.draft import Draft, Drafts

_OBJECTS = ("address", "link", "route", "tunnel")
_ENDS = {";", "&&", "||", "&", "|"}
_HARMLESS = {"modprobe": "no module is needed"}

# Words of ip-tunnel(8) and of ip-link(8)'s gre and ip6gre types that a value follows.
_VALUES = {
    "local": "Local",
    "remote": "Remote",
    "key": "Key",
    "ikey": "InputKey",
    "okey": "OutputKey",
    "ttl": "TTL",
    "hoplimit": "TTL",
    "hlim": "TTL",
    "tos": "TOS",
    "tclass": "TOS",
    "dsfield": "TOS",
    "dev": "Device",
    "fwmark": "FirewallMark",
    "encaplimit": "EncapsulationLimit",
    "flowlabel": "IPv6FlowLabel",
    "encap-dport": "RemotePort",
    "encap-sport": "SourcePort",
}
# Words that stand alone.
_FLAGS = {
    "csum": (("InputChecksum", "require"), ("OutputChecksum", "yes")),
    "icsum": (("InputChecksum", "require"),),
    "ocsum": (("OutputChecksum", "yes"),),
    "nocsum": (("Checksum", "no"),),
    "noicsum": (("InputChecksum", "accept"),),
    "noocsum": (("OutputChecksum", "no"),),
    "seq": (("SerializeTunneledPackets", "yes"),),
    "iseq": (("InputSequence", "yes"),),
    "oseq": (("OutputSequence", "yes"),),
    "noseq": (("SerializeTunneledPackets", "no"),),
    "noiseq": (("InputSequence", "no"),),
    "nooseq": (("OutputSequence", "no"),),
    "nokey": (("Key", "none"),),
    "noikey": (("InputKey", "none"),),
    "nookey": (("OutputKey", "none"),),
    "pmtudisc": (("DiscoverPathMTU", "yes"),),
    "nopmtudisc": (("DiscoverPathMTU", "no"),),
    "ignore-df": (("IgnoreDontFragment", "yes"),),
    "noignore-df": (("IgnoreDontFragment", "no"),),
    "noencap": (),
    "encap-csum": (),  # gred sends them anyway
    "encap-csum6": (),
    "noencap-csum": (("UDPChecksum", "no"),),
    "noencap-csum6": (("UDPChecksum", "no"),),
}
_ALONE = {"encap-remcsum", "allow-localremote"}
_ALONE |= {f"no{word}" for word in _ALONE}
_ROUTE_ALONE = {"onlink", "pervasive"}


def recognise(text: str) -> bool:
    """Whether *text* has a command of ip(8)."""
    return any("ip" in {word.rpartition("/")[2] for word in words} for _, words in _commands(text))


def parse(text: str) -> Drafts:
    """Return the tunnels that the commands in *text* make."""
    drafts = Drafts()
    for line, words in _commands(text):
        _command(drafts, line, words)
    for draft in drafts.each():
        linux.finish(draft)
    return drafts


def _commands(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each command with the number of its line; what has no words is no command."""
    whole, began = "", 0
    for number, line in enumerate([*text.split("\n"), ""], 1):
        began = began if whole else number
        if line.rstrip("\r").endswith("\\"):
            whole += line.rstrip("\r")[:-1] + " "
            continue
        command: list[str] = []
        for word in [*_words(whole + line), ";"]:
            if word not in _ENDS:
                command.append(word)
            elif command:
                yield began, command
                command = []
        whole = ""


def _words(line: str) -> list[str]:
    try:
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
        lexer.whitespace_split = True
        return list(lexer)
    except ValueError:  # a quote that does not end
        return line.split()


def _command(drafts: Drafts, line: int, words: list[str]) -> None:
    said = " ".join(words)
    while words and (words[0] == "sudo" or ("=" in words[0] and not words[0].startswith("-"))):
        words = words[1:]
    program = words[0].rpartition("/")[2] if words else ""
    if program != "ip":
        drafts.no_equivalent(said, line, _HARMLESS.get(program, "it is not of ip(8)"))
        return
    words, version, namespace = _options(words[1:])
    kind = next((one for one in _OBJECTS if words and one.startswith(words[0])), "")
    verb = words[1] if len(words) > 1 else ""
    rest = words[2:]
    adds = verb != "" and any(one.startswith(verb) for one in ("add", "change", "replace"))
    draft: Draft | None = None
    if kind == "tunnel" and adds:
        draft = _tunnel(drafts, line, rest, version)
    elif kind == "link" and adds:
        draft = _link_add(drafts, line, rest)
    elif kind == "link" and verb and "set".startswith(verb):
        _link_set(drafts, line, rest, said)
    elif kind == "address" and adds:
        _address(drafts, line, rest, said)
    elif kind == "route" and (adds or (verb and "append".startswith(verb))):
        _route(drafts, line, rest, said, version)
    elif words[:1] == ["fou"]:
        drafts.no_equivalent(
            said, line, "Port= of a tunnel with Transport=udp is where it receives"
        )
    else:
        drafts.no_equivalent(said, line, "it makes no tunnel")
    if draft is not None and namespace:
        draft.remark(f"made in the network namespace {escape(namespace)}: run gred there", line)


def _options(words: list[str]) -> tuple[list[str], int, str]:
    """Return the words after ip(8)'s own options, the IP version and the namespace they name."""
    version, namespace = 4, ""
    while words and words[0].startswith("-"):
        option, *words = words
        if option in {"-6", "-4"}:
            version = int(option[1])
        elif option in {"-n", "-netns"} and words:
            namespace, *words = words
        elif option in {"-f", "-family"} and words:
            version, words = 6 if words[0] == "inet6" else 4, words[1:]
    return words, version, namespace


def _tunnel(drafts: Drafts, line: int, words: list[str], version: int) -> Draft | None:
    """``ip tunnel add NAME mode gre ...``: the name and the mode may stand anywhere."""
    pairs = dict(itertools.pairwise(words))
    name = pairs.get("name") or next(iter(words), "")
    mode = pairs.get("mode", "")
    mode = {"gre/ip": "gre", "gre/ipv6": "ip6gre", "gre/ip6": "ip6gre"}.get(mode, mode)
    if version == 6 and mode == "gre":
        mode = "ip6gre"
    if mode not in linux.KINDS:
        linux.refuse_kind(drafts, escape(name), escape(mode) or "none", line)
        return None
    draft = linux.begin(drafts, name, mode, line)
    rest, skip = [], False
    for position, word in enumerate(words):
        if skip or (position == 0 and word == name):
            skip = False
        elif word in {"name", "mode"}:
            skip = True
        else:
            rest.append(word)
    _tunnel_words(draft, line, rest)
    return draft


def _link_add(drafts: Drafts, line: int, words: list[str]) -> Draft | None:
    """``ip link add [name] NAME [mtu N] [address A] type KIND ...``."""
    general, kind, special = words, "", list[str]()
    if "type" in words:
        at = words.index("type")
        general, kind, special = words[:at], " ".join(words[at + 1 : at + 2]), words[at + 2 :]
    named = [word for word in ("name", "dev") if word in general[:-1]]
    name = general[general.index(named[0]) + 1] if named else next(iter(general), "")
    if kind not in linux.KINDS:
        linux.refuse_kind(drafts, escape(name), escape(kind) or "none", line)
        return None
    draft = linux.begin(drafts, name, kind, line)
    skipped = {"name", "dev", name}
    _link_words(draft, line, [word for word in general if word not in skipped])
    _tunnel_words(draft, line, special)
    return draft


def _tunnel_words(draft: Draft, line: int, words: list[str]) -> None:
    rest = iter(words)
    for word in rest:
        if word in _FLAGS:
            for option, text in _FLAGS[word]:
                draft.put(option, text)
        elif word in _VALUES:
            value = next(rest, "")
            said = f"{word} {value}"
            if (word, value) == ("encap-sport", "0"):
                draft.put("SourcePort", "auto")
            elif (word, value) == ("flowlabel", "0") or (
                word in {"ttl", "hoplimit"} and value == "0"
            ):
                draft.put(_VALUES[word], "auto" if word == "flowlabel" else "inherit")
            elif word in {"tos", "tclass", "dsfield"} and _is_hexadecimal(value):
                draft.put("TOS", f"0x{int(value, 16):x}", line, said)
            else:
                draft.put(_VALUES[word], value, line, said)
        elif word == "external":
            draft.refuse(word, line, linux.EXTERNAL)
        elif word == "encap":
            kind = next(rest, "")
            if kind == "fou":
                draft.put("Transport", "udp")
            elif kind != "none":
                draft.refuse(f"encap {kind}", line, linux.NOT_IN_UDP)
        elif word in _ALONE:
            draft.no_equivalent(word, line)
        else:
            draft.no_equivalent(f"{word} {next(rest, '')}".strip(), line)


def _is_hexadecimal(text: str) -> bool:
    """Whether *text* is a TOS of ip-tunnel(8): two hexadecimal digits, with 0x or without."""
    digits = text.lower().removeprefix("0x")
    return 0 < len(digits) <= 2 and all(c in "0123456789abcdef" for c in digits)


def _link_words(draft: Draft, line: int, words: list[str]) -> None:
    """Take what ip-link(8) sets of any interface."""
    rest = iter(words)
    for word in rest:
        if word in {"up", "multicast", "arp"}:
            if word != "up":
                next(rest, "")
        elif word == "down":
            draft.no_equivalent(word, line, "gred sets its tunnels up")
        elif word == "mtu":
            draft.put("MTUBytes", value := next(rest, ""), line, f"mtu {value}")
        elif word in {"address", "addr"}:
            draft.put("MACAddress", value := next(rest, ""), line, f"address {value}")
        elif word == "netns":
            draft.put("Namespace", value := next(rest, ""), line, f"netns {value}")
        elif word == "alias":
            draft.remark(f"it is described as: {escape(next(rest, ''))}", line)
        else:
            draft.no_equivalent(f"{word} {next(rest, '')}".strip(), line)


def _link_set(drafts: Drafts, line: int, words: list[str], said: str) -> None:
    if words[:1] == ["dev"]:
        words = words[1:]
    draft = drafts.find(words[0]) if words else None
    if draft is None:
        drafts.no_equivalent(said, line, "no tunnel was made of that name")
    else:
        _link_words(draft, line, words[1:])


def _address(drafts: Drafts, line: int, words: list[str], said: str) -> None:
    """``ip address add [local] ADDRESS[/PREFIX] [peer ADDRESS[/PREFIX]] dev NAME ...``."""
    local, peer, device = "", "", ""
    others: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "dev":
            device = next(rest, "")
        elif word in {"peer", "remote"}:
            peer = next(rest, "")
        elif word == "local" or (not local and word[:1] in "0123456789abcdef:"):
            local = next(rest, "") if word == "local" else word
        elif word in {"brd", "broadcast", "scope", "label", "nodad", "noprefixroute"}:
            if word not in {"nodad", "noprefixroute"}:
                next(rest, "")
        else:
            others.append(f"{word} {next(rest, '')}".strip())
    draft = drafts.find(device)
    if draft is None:
        drafts.no_equivalent(said, line, "no tunnel was made of that name")
        return
    own, _, prefix = local.partition("/")
    if peer:
        far, _, far_prefix = peer.partition("/")
        linux.address(draft, own, far, far_prefix, line)
    else:
        linux.address(draft, own, None, prefix or ("128" if ":" in own else "32"), line)
    for other in others:
        draft.no_equivalent(f"{other} of the address {local}", line)


def _route(drafts: Drafts, line: int, words: list[str], said: str, version: int) -> None:
    """``ip route add NETWORK [via GATEWAY] [dev NAME] ...``."""
    network, device, gateway = "", "", ""
    others: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "dev":
            device = next(rest, "")
        elif word == "via":
            gateway = next(rest, "")
            if gateway in {"inet", "inet6"}:
                gateway = next(rest, "")
        elif word in {"to", "unicast"}:
            continue
        elif not network:
            network = word
        elif word in _ROUTE_ALONE:
            others.append(word)
        elif word in {"scope", "proto", "protocol"}:
            next(rest, "")
        else:
            others.append(f"{word} {next(rest, '')}".strip())
    draft = drafts.find(device) if device else _behind(drafts, gateway)
    if draft is None:
        drafts.no_equivalent(said, line, "it does not lead into a tunnel that was made here")
        return
    draft.route(network, line, version=6 if ":" in gateway else version)
    for other in others:
        draft.no_equivalent(f"{other} of the route {network}", line)


def _behind(drafts: Drafts, gateway: str) -> Draft | None:
    """Return the tunnel that a *gateway* is behind, by the tunnels' addresses and routes."""
    probe = Draft("probe", 0)
    if not probe.route(gateway) or not probe.values.get("routes"):
        return None
    host = probe.values["routes"][0]
    for draft in drafts.each():
        networks = [own.network for own in draft.values.get("addresses", ())]
        networks += draft.values.get("routes", ())
        if any(one.version == host.version and host.subnet_of(one) for one in networks):
            return draft
    return None
