"""What iptables-save(8) prints, as chains. Pure.

What is not understood is a condition of which nobody can tell.
"""

import shlex
from collections.abc import Iterator
from ipaddress import ip_network

from gred.management.doctor.ruleset import (
    UNKNOWN,
    Chain,
    Condition,
    Rule,
    Ruleset,
    Subject,
    Verdict,
    as_pattern,
)

_HOOKS = {
    "PREROUTING": "prerouting",
    "INPUT": "input",
    "FORWARD": "forward",
    "OUTPUT": "output",
    "POSTROUTING": "postrouting",
}
_NUMBERS = {
    "icmp": 1,
    "igmp": 2,
    "tcp": 6,
    "udp": 17,
    "gre": 47,
    "esp": 50,
    "ah": 51,
    "sctp": 132,
    "ipv6-icmp": 58,
    "icmpv6": 58,
    "udplite": 136,
    "dccp": 33,
}
_TARGETS: dict[str, Verdict] = {
    "ACCEPT": "accept",
    "DROP": "drop",
    "REJECT": "reject",
    "RETURN": "return",
    "QUEUE": "queue",
    "NFQUEUE": "queue",
    **dict.fromkeys(("SNAT", "DNAT", "MASQUERADE", "REDIRECT", "NETMAP"), "accept"),
}
# Targets after which the next rule is looked at, whatever else they do.
_PASSING = {
    *(
        "LOG",
        "NFLOG",
        "MARK",
        "CONNMARK",
        "TCPMSS",
        "TOS",
        "DSCP",
        "CT",
        "NOTRACK",
        "TRACE",
        "CLASSIFY",
    ),
    *("CHECKSUM", "ULOG", "TTL", "HL", "SET", "AUDIT", "TEE", "SECMARK", "CONNSECMARK", "ECN"),
}
_SUBJECTS: dict[str, Subject] = {
    "-p": "protocol",
    "-s": "source",
    "-d": "destination",
    "-i": "input",
    "-o": "output",
    "--dport": "port",
    "--dports": "port",
}
# Matches whose words are all read, or say nothing of a packet.
_UNDERSTOOD = {"comment", "udp", "multiport"}
_UNREAD = {"--sport", "--sports", "--ports"}


def read(text: str, version: int) -> Ruleset:
    """Read what iptables-save printed (*version* 4), or ip6tables-save (6)."""
    family = "ip" if version == 4 else "ip6"
    table = ""
    policies: dict[tuple[str, str], str] = {}
    rules: dict[tuple[str, str], list[Rule]] = {}
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:].strip()
        elif line.startswith(":") and len(words := line[1:].split()) >= 2:
            policies[table, words[0]] = words[1]
        elif line.startswith("-A ") and len(line.split()) >= 2:
            name, rule = _rule(line)
            rules.setdefault((table, name), []).extend(rule)
    return Ruleset(
        tuple(
            Chain(
                tool="iptables",
                family=family,
                table=table,
                name=name,
                versions=frozenset({version}),
                hook="" if policy == "-" else _HOOKS.get(name, ""),
                policy="drop" if policy == "DROP" else "accept",
                rules=tuple(rules.get((table, name), ())),
            )
            for (table, name), policy in policies.items()
        )
    )


def _rule(line: str) -> tuple[str, list[Rule]]:
    """Read ``-A CHAIN ...``: the chain, and the rule, if it has a verdict."""
    try:
        words = shlex.split(line)
    except ValueError:
        words = line.split()
    chain, rest = words[1], iter(words[2:])
    conditions: list[Condition] = []
    negated = False
    for word in rest:
        if word == "!":
            negated = True
        elif word in _SUBJECTS:
            conditions.append(_condition(_SUBJECTS[word], next(rest, ""), negated=negated))
            negated = False
        elif word in {"-j", "-g"}:
            return chain, list(_verdict(line, conditions, word, next(rest, "")))
        elif word == "-m":
            # What follows up to the next of our words belongs to it.
            if next(rest, "") not in _UNDERSTOOD:
                conditions.append(UNKNOWN)
            negated = False
        elif word in _UNREAD:
            conditions.append(UNKNOWN)
    return chain, []


def _verdict(line: str, conditions: list[Condition], how: str, target: str) -> Iterator[Rule]:
    if target in _TARGETS:
        yield Rule(line, tuple(conditions), _TARGETS[target])
    elif target not in _PASSING:
        yield Rule(line, tuple(conditions), "jump" if how == "-j" else "goto", target)


def _condition(subject: Subject, value: str, *, negated: bool) -> Condition:
    try:
        if subject == "protocol":
            if value == "all":
                return Condition("protocol", tuple(range(256)), negated)
            number = _NUMBERS[value] if value in _NUMBERS else int(value)
            return Condition(subject, (number,), negated)
        if subject in {"source", "destination"}:
            return Condition(subject, (ip_network(value, strict=False),), negated)
        if subject == "port":
            return Condition(subject, tuple(map(_ports, value.split(","))), negated)
    except ValueError:
        return UNKNOWN
    return Condition(subject, (as_pattern(value),), negated)


def _ports(text: str) -> range:
    """Read a port, or two with a colon between."""
    first, _, last = text.partition(":")
    return range(int(first or 0), int(last or first) + 1)
