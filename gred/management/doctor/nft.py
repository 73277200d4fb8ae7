"""What nft(8) prints of its rules, as chains: JSON for their meaning, text for their words. Pure.

What is not understood is a condition of which nobody can tell. libnftables-json(5)
"""

import json
import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_address as _address
from ipaddress import ip_network, summarize_address_range
from typing import Any

from gred.management.doctor.ruleset import (
    UNKNOWN,
    Chain,
    Condition,
    Rule,
    Ruleset,
    Value,
    Verdict,
    as_pattern,
)

_VERSIONS = {"ip": {4}, "ip6": {6}, "inet": {4, 6}}
_NUMBERS = {
    "icmp": 1,
    "igmp": 2,
    "tcp": 6,
    "udp": 17,
    "dccp": 33,
    "gre": 47,
    "esp": 50,
    "ah": 51,
    "ipv6-icmp": 58,
    "icmpv6": 58,
    "comp": 108,
    "ipcomp": 108,
    "sctp": 132,
    "udplite": 136,
}
_PROTOCOL_OF_IP = {"ip": 4, "ipv4": 4, "ip6": 6, "ipv6": 6}
_SIMPLE: dict[str, Verdict] = {
    "accept": "accept",
    "drop": "drop",
    "return": "return",
    "continue": "continue",
    "queue": "queue",
    "reject": "reject",
    # Address translation decides that the packet goes on.
    **dict.fromkeys(("masquerade", "snat", "dnat", "redirect", "tproxy"), "accept"),
}
_JUMPS: dict[str, Verdict] = {"jump": "jump", "goto": "goto"}
# What matches like a condition, and what neither matches nor ends a rule.
_LIKE_CONDITIONS = {"limit", "quota", "ct count", "xt", "synproxy", "fib", "socket", "osf"}
_HANDLE = re.compile(r"^(?P<text>.*?)\s*# handle (?P<handle>\d+)$")
_BLOCK = re.compile(r"^(?P<kind>table|chain) (?:(?P<family>\w+) )?(?P<name>\S+) \{")


def read(ruleset: str, text: str = "") -> Ruleset:
    """Read ``nft -j list ruleset``, and ``nft -a list ruleset`` for the words. Raises ValueError.

    A rule that the second does not have (made meanwhile) reads as its JSON.
    """
    objects = json.loads(ruleset)["nftables"]
    words = dict(_words(text))
    sets: dict[tuple[str, str, str], Any] = {}
    for one in objects:
        for kind in ("set", "map"):
            if kind in one:
                named = one[kind]
                sets[named["family"], named["table"], named["name"]] = named.get("elem", [])
    rules: dict[tuple[str, str, str], list[Rule]] = {}
    for one in objects:
        if "rule" in one:
            rule = one["rule"]
            place = rule["family"], rule["table"]
            known = {
                name: elements for (*where, name), elements in sets.items() if (*where,) == place
            }
            shown = words.get((*place, rule["handle"])) or json.dumps(rule.get("expr"))
            found = _rules(rule.get("expr") or [], known, shown, int(rule["handle"]))
            rules.setdefault((*place, rule["chain"]), []).extend(found)
    chains = []
    for one in objects:
        if "chain" in one:
            chain = one["chain"]
            family, table, name = chain["family"], chain["table"], chain["name"]
            chains.append(
                Chain(
                    tool="nft",
                    family=family,
                    table=table,
                    name=name,
                    versions=frozenset(_VERSIONS.get(family, ())),
                    hook=chain.get("hook", ""),
                    policy="drop" if chain.get("policy") == "drop" else "accept",
                    rules=tuple(rules.get((family, table, name), ())),
                )
            )
    return Ruleset(tuple(chains))


def _words(text: str) -> Iterator[tuple[tuple[str, str, int], str]]:
    """Yield family, table and handle of each rule, and its text."""
    family = table = ""
    for line in text.splitlines():
        if (block := _BLOCK.match(line.strip())) is not None:
            if block["kind"] == "table":
                family, table = block["family"] or "ip", block["name"]
        elif (rule := _HANDLE.match(line.strip())) is not None:
            yield (family, table, int(rule["handle"])), rule["text"]


def _rules(
    expressions: list[Any], sets: Mapping[str, Any], text: str, handle: int
) -> Iterator[Rule]:
    """Yield what one rule comes to: several where it looks the verdict up."""
    conditions: list[Condition] = []
    for expression in expressions:
        # A statement without arguments may be a plain word.
        item: dict[str, Any] = (
            expression if isinstance(expression, dict) else {str(expression): None}
        )
        for kind, value in item.items():
            if kind == "match":
                conditions += _match(value, sets)
            elif kind in _SIMPLE:
                yield Rule(text, tuple(conditions), _SIMPLE[kind], handle=handle)
            elif kind in _JUMPS and value is not None:
                yield Rule(text, tuple(conditions), _JUMPS[kind], value["target"], handle)
            elif kind == "vmap":
                for found, verdict, target in _looked_up(value, sets):
                    yield Rule(text, (*conditions, *found), verdict, target, handle)
            elif kind in _LIKE_CONDITIONS:
                conditions.append(UNKNOWN)


def _looked_up(
    vmap: Mapping[str, Any], sets: Mapping[str, Any]
) -> Iterator[tuple[list[Condition], Verdict, str]]:
    data = vmap["data"]
    elements = data.get("set", []) if isinstance(data, dict) else sets.get(str(data)[1:], [])
    for element in elements:
        if not isinstance(element, list) or len(element) != 2:
            continue
        key, verdict = element
        key = key["elem"]["val"] if isinstance(key, dict) and "elem" in key else key
        conditions = _match({"op": "==", "left": vmap["key"], "right": key}, sets)
        item: dict[str, Any] = verdict if isinstance(verdict, dict) else {str(verdict): None}
        for kind, value in item.items():
            if kind in _JUMPS and value is not None:
                yield conditions, _JUMPS[kind], value["target"]
            elif kind in _SIMPLE:
                yield conditions, _SIMPLE[kind], ""


def _match(match: Mapping[str, Any], sets: Mapping[str, Any]) -> list[Condition]:
    """Return the conditions of one comparison."""
    operation, left, right = match.get("op"), match.get("left"), match.get("right")
    if not isinstance(left, dict):
        return [UNKNOWN]
    implied: list[Condition] = []
    if (payload := left.get("payload")) is not None and isinstance(payload, dict):
        # tcp dport 22 is of TCP alone, ip saddr of IPv4.
        protocol = payload.get("protocol")
        if protocol in _PROTOCOL_OF_IP:
            implied = [Condition("version", (_PROTOCOL_OF_IP[protocol],))]
        elif protocol in _NUMBERS:
            implied = [Condition("protocol", (_NUMBERS[protocol],))]
    subject = _subject(left)
    values = _values(subject, right, sets) if subject else None
    if values is None or operation not in {"==", "in", "!="}:
        return [*implied, UNKNOWN]
    return [*implied, Condition(subject, tuple(values), operation == "!=")]  # type: ignore[arg-type]


def _subject(left: Mapping[str, Any]) -> str:
    if "meta" in left:
        return {
            "l4proto": "protocol",
            "nfproto": "version",
            "protocol": "version",
            **dict.fromkeys(("iifname", "iif"), "input"),
            **dict.fromkeys(("oifname", "oif"), "output"),
        }.get(left["meta"]["key"], "")
    payload = left.get("payload")
    if not isinstance(payload, dict):
        return ""
    return {
        ("ip", "protocol"): "protocol",
        ("ip6", "nexthdr"): "protocol",
        ("ip", "saddr"): "source",
        ("ip6", "saddr"): "source",
        ("ip", "daddr"): "destination",
        ("ip6", "daddr"): "destination",
        ("udp", "dport"): "port",
        ("th", "dport"): "port",
    }.get((str(payload.get("protocol")), str(payload.get("field"))), "")


def _values(subject: str, right: Any, sets: Mapping[str, Any]) -> list[Value] | None:
    """Return the values in *right*; None where one is not understood."""
    if isinstance(right, str) and right.startswith("@"):
        right = {"set": sets.get(right[1:])}
    if isinstance(right, dict) and "set" in right:
        items = right["set"]
        items = items if isinstance(items, list) else [items]
    else:
        items = [right]
    found: list[Value] = []
    for item in items:
        one = item["elem"].get("val") if isinstance(item, dict) and "elem" in item else item
        values = _value(subject, one)
        if values is None:
            return None
        found += values
    return found


def _value(subject: str, value: Any) -> list[Value] | None:
    try:
        if subject == "protocol":
            return [_NUMBERS[value] if value in _NUMBERS else int(value)]
        if subject == "port":
            first, last = value["range"] if isinstance(value, dict) else (value, value)
            return [range(int(first), int(last) + 1)]
        if subject == "version":
            return [_PROTOCOL_OF_IP[value]] if value in _PROTOCOL_OF_IP else [0]
        if subject in {"input", "output"}:
            return [as_pattern(value)] if isinstance(value, str) else None
        if isinstance(value, dict) and "prefix" in value:
            prefix = value["prefix"]
            return [ip_network(f"{prefix['addr']}/{prefix['len']}", strict=False)]
        if isinstance(value, dict) and "range" in value:
            first, last = map(_address, value["range"])
            return list(summarize_address_range(first, last))
        return [ip_network(value)] if isinstance(value, str) else None
    except (KeyError, ValueError, TypeError):
        return None
