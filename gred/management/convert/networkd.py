"""Files of systemd-networkd, .netdev and .network, one after another -> drafts.

A section [NetDev] begins a tunnel, a section [Match] a .network file; its Name= tells which tunnels
it is for. Nothing here reads a file or asks networkd.
"""

import fnmatch
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from gred.config.problems import escape
from gred.management.convert import linux
from gred.management.convert.draft import Draft, Drafts

_SECTION = re.compile(r"\[([^\[\]]+)\]\s*")
_SAME = {  # options of [Tunnel] whose name and values are the same here
    "Local", "Remote", "TOS", "TTL", "Key", "InputKey", "OutputKey", "IPv6FlowLabel",
    "EncapsulationLimit", "DiscoverPathMTU", "IgnoreDontFragment", "SerializeTunneledPackets",
}  # fmt: skip
_NEEDLESS = {"Independent", "AssignToLoopback", "RequiredForOnline", "ConfigureWithoutCarrier"}
_OURS = "put it where that file is matched by gred's interface"
_PORTS = {"FOUDestinationPort": "RemotePort", "FOUSourcePort": "SourcePort"}
_NO = frozenset({"no", "false", "off", "0"})


def recognise(text: str) -> bool:
    """Whether *text* has a section of these files."""
    return re.search(r"^\s*\[(NetDev|Match)\]\s*$", text, re.MULTILINE) is not None


@dataclass(slots=True)
class _Section:
    name: str
    line: int
    entries: list[tuple[str, str, int]] = field(default_factory=list)

    def value(self, name: str) -> str:
        """Return the last value of the option *name*, or nothing."""
        return next((value for key, value, _ in reversed(self.entries) if key == name), "")


def parse(text: str) -> Drafts:
    """Return the tunnels in *text*."""
    drafts = Drafts()
    sections = list(_sections(drafts, text))
    device: Draft | None = None
    for section in sections:
        if section.name == "NetDev":
            device = _netdev(drafts, section)
        elif section.name == "Match":
            device = None
        elif section.name == "Tunnel" and device is not None:
            _tunnel(device, section)
    matched: list[Draft] | None = None
    for section in sections:
        if section.name == "NetDev":
            matched = None
        elif section.name == "Match":
            matched = _matched(drafts, section)
        elif section.name in {"Tunnel", "NetDev"}:
            continue
        elif matched is None:
            drafts.no_equivalent(f"[{section.name}]", section.line)
        else:
            for draft in matched:
                _network(draft, section)
    for draft in drafts.each():
        linux.finish(draft)
    return drafts


def _sections(drafts: Drafts, text: str) -> Iterator[_Section]:
    section: _Section | None = None
    whole, began = "", 0
    for number, line in enumerate(text.split("\n"), 1):
        bare = line.strip()
        if not whole and (not bare or bare[0] in "#;"):
            continue
        began = began if whole else number
        if bare.endswith("\\"):
            whole += bare[:-1] + " "
            continue
        whole, bare = "", whole + bare
        header = _SECTION.fullmatch(bare)
        key, equals, value = bare.partition("=")
        if header:
            if section is not None:
                yield section
            section = _Section(header[1], began)
        elif section is not None and equals:
            section.entries.append((key.strip(), value.strip(), began))
        else:
            drafts.no_equivalent(bare, began, "expected Option=value in a section")
    if section is not None:
        yield section


def _netdev(drafts: Drafts, section: _Section) -> Draft | None:
    name, kind = section.value("Name"), section.value("Kind")
    if kind == "fou":
        drafts.remark("the port of a fou device is Port= of its tunnels", section.line)
        return None
    if kind not in linux.KINDS:
        linux.refuse_kind(drafts, escape(name), escape(kind) or "none", section.line)
        return None
    draft = linux.begin(drafts, name, kind, section.line)
    for key, value, line in section.entries:
        said = f"{key}={value}"
        if key in {"MTUBytes", "MACAddress"}:
            draft.put(key, value, line, said)
        elif key == "Description":
            draft.remark(f"it is described as: {escape(value)}", line)
        elif key not in {"Name", "Kind"}:
            draft.no_equivalent(said, line)
    return draft


def _tunnel(draft: Draft, section: _Section) -> None:
    for key, value, line in section.entries:
        said = f"{key}={value}"
        if key in {"TTL", "EncapsulationLimit", "IPv6FlowLabel"} and value in {"0", "inherit"}:
            if key == "TTL":
                draft.put("TTL", "inherit")
            elif key == "EncapsulationLimit":
                draft.put(key, value, line, said)
            else:
                draft.no_equivalent(said, line, "it is the kernel's choice, or a fixed one")
        elif key in _SAME:
            draft.put(key, value, line, said)
            if key == "IgnoreDontFragment" and draft.values.get("ignore_dont_fragment"):
                draft.put("DiscoverPathMTU", "no")
        elif key in _NEEDLESS:
            draft.remark(f"{escape(said)} is not needed", line)
        elif key == "External" and value not in _NO:
            draft.refuse(said, line, linux.EXTERNAL)
        elif key == "FooOverUDP" and value not in _NO:
            draft.put("Transport", "udp")
        elif key == "Encapsulation" and value != "FooOverUDP":
            draft.refuse(said, line, linux.NOT_IN_UDP)
        elif key in _PORTS:
            draft.put(_PORTS[key], "auto" if value == "0" else value, line, said)
        elif key != "Encapsulation" and value not in _NO:
            draft.no_equivalent(said, line)


def _matched(drafts: Drafts, section: _Section) -> list[Draft]:
    """Return the tunnels that a [Match] section is for; none: the file is another device's."""
    patterns = section.value("Name").split()
    found = [
        draft
        for draft in drafts.each()
        if any(fnmatch.fnmatchcase(draft.name, pattern) for pattern in patterns)
    ]
    if not found:
        said = " ".join(f"{key}={value}" for key, value, _ in section.entries)
        drafts.remark(f"the .network file of {escape(said)} is no tunnel's", section.line)
    return found


def _network(draft: Draft, section: _Section) -> None:
    match section.name:
        case "Network":
            _entries(draft, section)
        case "Link":
            for key, value, line in section.entries:
                if key in {"MTUBytes", "MACAddress"}:
                    draft.put(key, value, line, f"{key}={value}")
                elif key in _NEEDLESS:
                    draft.remark(f"{key}={escape(value)} is not needed", line)
                else:
                    draft.no_equivalent(f"{key}={value}", line, _OURS)
        case "Address":
            _address(draft, section)
        case "Route":
            _route(draft, section)
        case _:
            draft.no_equivalent(f"[{section.name}]", section.line, _OURS)


def _entries(draft: Draft, section: _Section) -> None:
    for key, value, line in section.entries:
        if key == "Address":
            draft.append("Address", value, line)
        elif key in _NEEDLESS:
            draft.remark(f"{key}={escape(value)} is not needed", line)
        else:
            draft.no_equivalent(f"{key}={value}", line, _OURS)


def _address(draft: Draft, section: _Section) -> None:
    own, _, prefix = section.value("Address").partition("/")
    if peer := section.value("Peer"):
        far, _, prefix = peer.partition("/")
        linux.address(draft, own, far, prefix, section.line)
    else:
        linux.address(draft, own, None, prefix, section.line)
    for key, value, line in section.entries:
        if key not in {"Address", "Peer", "Scope", "Label", "Broadcast"}:
            draft.no_equivalent(f"{key}={value} of the address {own}", line)


def _route(draft: Draft, section: _Section) -> None:
    network, gateway = section.value("Destination"), section.value("Gateway")
    version = 6 if ":" in gateway else 4
    draft.route(network or "default", section.line, version=version)
    for key, value, line in section.entries:
        if key not in {"Destination", "Gateway", "GatewayOnLink", "Scope"}:
            draft.no_equivalent(f"{key}={value} of the route {network}", line)
