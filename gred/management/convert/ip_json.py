"""What ``ip -json -details link``, ``ip -json address`` and ``ip -json route`` print -> drafts.

The outputs of several commands may follow one another. Routes are taken where they lead into a
tunnel that was seen before. Nothing here runs ip(8).
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gred.config.problems import escape
from gred.management.convert import linux
from gred.management.convert.draft import ConversionError, Draft, Drafts


def recognise(text: str) -> bool:
    """Whether *text* looks like JSON of ip(8)."""
    return text.lstrip()[:1] in {"[", "{"} and '"' in text


def parse(text: str) -> Drafts:
    """Return the tunnels in *text*; raise ConversionError if it is not JSON."""
    objects = [one for one in _objects(text) if isinstance(one, dict)]
    drafts = Drafts()
    others: dict[str, None] = {}
    for one in objects:
        if isinstance(one.get("ifname"), str):
            _interface(drafts, one, others)
    routes = [one for one in objects if "dst" in one and "ifname" not in one]
    elsewhere = sum(not _route(drafts, one) for one in routes)
    for draft in drafts.each():
        linux.finish(draft)
    if elsewhere:
        drafts.remark(f"routes that do not lead into a tunnel, and left out: {elsewhere}")
    if others:
        drafts.remark(f"no tunnels, and left out: {', '.join(map(escape, others))}")
    return drafts


def _objects(text: str) -> Iterator[Any]:
    """Yield the objects of all arrays in *text*, in their order."""
    decoder, position = json.JSONDecoder(), 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        try:
            value, position = decoder.raw_decode(text, position)
        except ValueError as error:
            line = getattr(error, "lineno", text.count("\n", 0, position) + 1)
            raise ConversionError(
                f"line {line}: expected the JSON of ip -json -details link, got something else"
            ) from None
        except RecursionError:
            raise ConversionError("expected the JSON of ip(8), got arrays in arrays") from None
        yield from value if isinstance(value, list) else [value]


def _interface(drafts: Drafts, one: Mapping[str, Any], others: dict[str, None]) -> None:
    name = one["ifname"]
    info = one.get("linkinfo")
    info = info if isinstance(info, dict) else {}
    kind = info.get("info_kind")
    kind = kind if isinstance(kind, str) else ""
    if name in linux.FALLBACKS and drafts.find(name) is None:
        others[name] = None
        return
    draft = drafts.find(name)
    if kind not in linux.KINDS and draft is None:
        if "gre" in kind or "erspan" in kind or "tnl" in kind:
            linux.refuse_kind(drafts, name, kind)
        elif one.get("link_type") in ("gre", "gre6"):
            drafts.no_equivalent(name, 0, "its details are missing: ip -json -details link")
        else:
            others[name] = None
        return
    if draft is None:
        draft = linux.begin(drafts, name, kind)
        data = info.get("info_data")
        _details(draft, data if isinstance(data, dict) else {})
        _generic(draft, one, info)
    addresses = one.get("addr_info")
    for address in addresses if isinstance(addresses, list) else ():
        if isinstance(address, dict):
            _address(draft, address)


def _details(draft: Draft, data: Mapping[str, Any]) -> None:
    """Take the tunnel's own attributes, as print_opt of iproute2's link_gre.c writes them."""
    for name, value in data.items():
        text = str(value)
        if (name, text) == ("tos", "0x1"):  # the kernel's sign for inherit, not shown as such
            draft.put("TOS", "inherit")
        elif name in _PLAIN:
            draft.put(_PLAIN[name], text, said=f"{name} {text}")
        elif name in _FLAGS:
            if value is True:
                _FLAGS[name](draft)
        elif name == "ttl":
            draft.put("TTL", "inherit" if text == "0" else text, said=f"ttl {text}")
        elif name == "pmtudisc":
            draft.put("DiscoverPathMTU", "yes" if value else "no")
        elif name == "flowlabel":
            label = "auto" if text.strip("0x") == "" else text
            draft.put("IPv6FlowLabel", label, said=f"flowlabel {text}")
        elif name == "external" and value:
            draft.refuse(name, 0, linux.EXTERNAL)
        elif name == "encap" and isinstance(value, dict) and value.get("type") != "none":
            _encapsulation(draft, value)
        elif value:
            draft.no_equivalent(f"{name} {text}", 0, _WHY.get(name, ""))


def _encapsulation(draft: Draft, encap: Mapping[str, Any]) -> None:
    """Take what print_encap of iproute2's tunnel.c writes."""
    if encap.get("type") != "fou":
        draft.refuse(f"encap {encap.get('type')}", 0, linux.NOT_IN_UDP)
        return
    draft.put("Transport", "udp")
    for word, option in (("dport", "RemotePort"), ("sport", "SourcePort")):
        value = str(encap.get(word, 0))
        if value != "0":
            draft.put(option, value, said=f"encap-{word} {value}")


_PLAIN = {
    "remote": "Remote",
    "local": "Local",
    "link": "Device",
    "tos": "TOS",
    "tclass": "TOS",
    "ikey": "InputKey",
    "okey": "OutputKey",
    "fwmark": "FirewallMark",
    "encap_limit": "EncapsulationLimit",
}
_FLAGS: dict[str, Callable[[Draft], object]] = {
    "icsum": lambda draft: draft.put("InputChecksum", "require"),
    "ocsum": lambda draft: draft.put("OutputChecksum", "yes"),
    "ignore_df": lambda draft: draft.put("IgnoreDontFragment", "yes"),
    "iseq": lambda draft: draft.put("InputSequence", "yes"),
    "oseq": lambda draft: draft.put("OutputSequence", "yes"),
    "ip6_tnl_f_ign_encap_limit": lambda draft: draft.put("EncapsulationLimit", "none"),
    "ip6_tnl_f_use_orig_tclass": lambda draft: draft.put("TOS", "inherit"),
}
_WHY = {
    "ip6_tnl_f_use_orig_flowlabel": "the flow label is the kernel's choice, or a fixed one",
}


def _generic(draft: Draft, one: Mapping[str, Any], info: Mapping[str, Any]) -> None:
    """Take what every interface has."""
    if draft.values.get("mode") == "gretap" and isinstance(one.get("address"), str):
        draft.put("MACAddress", one["address"], said=f"address {one['address']}")
    size = one.get("mtu")
    if isinstance(size, int) and size not in linux.automatic_mtus(draft):
        draft.put("MTUBytes", str(size), said=f"mtu {size}")
    flags = one.get("flags")
    if isinstance(flags, list) and "UP" not in flags:
        draft.remark("it is down there; gred sets its tunnels up")
    if "master" in one:
        kind = info.get("info_slave_kind", "device")
        draft.no_equivalent(
            f"master {one['master']}",
            0,
            f"put the interface into the {escape(str(kind))} when gred has made it",
        )
    if one.get("ifalias"):
        draft.remark(f"it is described as: {escape(str(one['ifalias']))}")
    if "link_netnsid" in one:
        draft.no_equivalent(
            f"link_netnsid {one['link_netnsid']}",
            0,
            "it sends from another network namespace: see Namespace=",
        )


def _address(draft: Draft, address: Mapping[str, Any]) -> None:
    local, prefix = str(address.get("local")), str(address.get("prefixlen"))
    if address.get("scope") == "link" and ":" in local:
        draft.remark(f"{escape(local)} is left out: gred makes one itself")
    elif address.get("dynamic"):
        draft.no_equivalent(f"{local}/{prefix}", 0, "it was learned, and will not be")
    else:
        peer = address.get("address")
        linux.address(draft, local, peer if isinstance(peer, str) else None, prefix)


def _route(drafts: Drafts, route: Mapping[str, Any]) -> bool:
    """Add a route that leads into a tunnel; return whether it does."""
    device = route.get("dev")
    draft = drafts.find(device) if isinstance(device, str) else None
    if draft is None:
        return False
    if route.get("protocol") == "kernel" or route.get("type") == "multicast":
        return True  # of an address, or of every interface
    version = 6 if "pref" in route else 4  # print_route tells it of IPv6 routes alone
    if not draft.route(str(route["dst"]), version=version):
        return True
    for word in ("metric", "table", "prefsrc", "metrics", "src"):
        value = route.get(word)
        if value is not None and (word, value) != ("metric", 1024):  # IP6_RT_PRIO_USER
            draft.no_equivalent(f"{word} {value} of the route {route['dst']}")
    return True
