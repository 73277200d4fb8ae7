"""Packet filters as chains of rules, and what becomes of a packet in them. Pure.

nftables and iptables come to the same shape here (nft.py and iptables.py read them). Of a packet
only some things are known, and of many conditions nothing: a condition holds, does not hold, or
nobody can tell. Nothing here reads a rule's text, runs a program or knows a tunnel.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Literal

from gred.config.model import IPAddress, IPNetwork

GRE, UDP = 47, 17

Subject = Literal[
    "version", "protocol", "port", "source", "destination", "input", "output", "unknown"
]
Value = int | str | IPNetwork | range
Verdict = Literal["accept", "drop", "reject", "jump", "goto", "return", "continue", "queue"]

_FINAL = {"accept", "drop", "reject", "queue"}
_FEW = 100  # ports of a range
_DEPTH = 16  # of jumps, NFT_JUMP_STACK_SIZE


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """What is known of a packet; None is unknown, an empty name of an interface is none.

    *protocol*: IP protocol number. *port*: where it goes to, in UDP. *input*, *output*: names of
    the interfaces it comes and goes by.
    """

    version: int
    protocol: int | None = GRE
    port: int | None = None
    source: IPAddress | None = None
    destination: IPAddress | None = None
    input: str | None = None
    output: str | None = None


@dataclass(frozen=True, slots=True)
class Condition:
    """A part of a rule: what it looks at, and the values that it takes; *negated*: all others.

    Values are numbers for version and protocol, ranges for ports, networks for addresses, patterns
    of names for interfaces. Of a condition that is "unknown" nobody can tell.
    """

    subject: Subject
    values: tuple[Value, ...] = ()
    negated: bool = False

    def holds(self, packet: Packet) -> bool | None:
        """Tell whether *packet* meets it; None: nobody can tell."""
        if self.subject == "unknown":
            return None
        known = getattr(packet, self.subject)
        if known is None:
            return None
        if self.subject in {"source", "destination"}:
            fits = any(not isinstance(one, int | str) and known in one for one in self.values)
        elif self.subject == "port":
            fits = any(isinstance(one, range) and known in one for one in self.values)
        elif self.subject in {"input", "output"}:
            fits = any(fnmatchcase(known, str(one)) for one in self.values)
        else:
            fits = known in self.values
        return fits is not self.negated


UNKNOWN = Condition("unknown")


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule with a verdict: *text* as its own tool prints it; *handle* of nft(8), or 0."""

    text: str
    conditions: tuple[Condition, ...]
    verdict: Verdict
    target: str = ""  # of jump and goto
    handle: int = 0

    def holds(self, packet: Packet) -> bool | None:
        """Tell whether all conditions hold."""
        answers = [condition.holds(packet) for condition in self.conditions]
        if False in answers:
            return False
        return None if None in answers else True

    def means(self, packet: Packet) -> bool:
        """Tell whether the rule names what carries GRE: whoever wrote it thought of it.

        That is protocol 47, or the port of *packet*.
        """
        return any(
            GRE in condition.values
            if packet.port is None and condition.subject == "protocol"
            else condition.subject == "port"
            and condition.holds(packet) is True
            and all(map(_is_narrow, condition.values))
            for condition in self.conditions
            if not condition.negated
        )


def _is_narrow(ports: Value) -> bool:
    """Tell whether *ports* are so few that each may be meant."""
    return isinstance(ports, range) and len(ports) <= _FEW


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A chain. *hook* is empty for one that is only jumped to; *versions*: of IP it looks at."""

    tool: Literal["nft", "iptables"]
    family: str
    table: str
    name: str
    versions: frozenset[int]
    hook: str = ""
    policy: Verdict = "accept"
    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True, slots=True)
class Ruleset:
    """All chains of one tool."""

    chains: tuple[Chain, ...] = ()

    def base(self, hook: str, version: int) -> Iterator[Chain]:
        """Yield the chains that packets of an IP *version* pass at *hook*."""
        for chain in self.chains:
            if chain.hook == hook and version in chain.versions:
                yield chain

    def inside(self, chain: Chain) -> Mapping[str, Chain]:
        """Return the chains in the table of *chain*, by name."""
        key = chain.tool, chain.family, chain.table
        return {one.name: one for one in self.chains if (one.tool, one.family, one.table) == key}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What may become of a packet, by which rule of which chain; *rule* is None for its policy.

    *is_meant*: the rule names what carries GRE, or one that jumped to its chain does.
    """

    verdict: Verdict
    chain: Chain
    rule: Rule | None
    certain: bool
    is_meant: bool = False

    @property
    def stops(self) -> bool:
        """Whether the packet goes no further."""
        return self.verdict in {"drop", "reject"}


@dataclass(frozen=True, slots=True)
class Stop:
    """Packets are stopped in *chain* by *rule*, or by its policy (None).

    *certain*: whatever else is true of them. Otherwise *passes* are the rules that may let some
    through, if any. *first*: the rules of the chain at the hook, where the packets came from.
    """

    chain: Chain
    rule: Rule | None
    verdict: Verdict
    certain: bool
    passes: tuple[Rule, ...] = ()
    first: tuple[Rule, ...] = ()


def stops(ruleset: Ruleset, hook: str, packet: Packet) -> Iterator[Stop]:
    """Yield what stops *packet* at *hook*, or may: at most one for each chain.

    What may stop it counts if it is a rule that names GRE, or the last word of a chain in which no
    rule that names GRE may accept it.
    """
    for chain in ruleset.base(hook, packet.version):
        outcomes = list(_walk(chain, ruleset.inside(chain), packet))
        outcomes.append(Outcome(chain.policy, chain, None, certain=True))
        if (stop := _judge(outcomes)) is not None:
            yield replace(stop, first=chain.rules)


def _judge(outcomes: Sequence[Outcome]) -> Stop | None:
    last = next(one for one in outcomes if one.certain)
    before = outcomes[: outcomes.index(last)]
    for one in before:
        if one.stops and one.is_meant:
            return Stop(one.chain, one.rule, one.verdict, certain=False)
    if not last.stops:
        return None
    accepting = [one for one in before if not one.stops and one.rule is not None]
    if any(one.is_meant for one in accepting):
        return None
    passes = tuple(one.rule for one in accepting if one.rule is not None)
    return Stop(last.chain, last.rule, last.verdict, not passes, passes)


def _walk(
    chain: Chain,
    chains: Mapping[str, Chain],
    packet: Packet,
    *,
    sure: bool = True,
    is_meant: bool = False,
    depth: int = 0,
) -> Iterator[Outcome]:
    """Yield the final verdicts that *packet* may meet, in order; the first certain one ends it.

    *sure*: it comes here in any case. Behind a rule that may return it, it may not.
    """
    for rule in chain.rules:
        holds = rule.holds(packet)
        if holds is False or rule.verdict == "continue":
            continue
        certain = sure and holds is True
        named = is_meant or rule.means(packet)
        if rule.verdict in _FINAL:
            yield Outcome(rule.verdict, chain, rule, certain, named)
            if holds:
                return
        elif rule.verdict == "return":
            if holds:
                return
            sure = False
        elif (target := chains.get(rule.target)) is not None and depth < _DEPTH:
            for one in _walk(target, chains, packet, sure=certain, is_meant=named, depth=depth + 1):
                yield one
                if one.certain:
                    return
            if rule.verdict == "goto" and holds:
                return


def as_pattern(name: str) -> str:
    """Return an interface's name with nft's or iptables' wildcard as a pattern of fnmatch."""
    escaped = re.sub(r"([\[?])", r"[\1]", name)
    if escaped.endswith("+"):
        return escaped[:-1] + "*"
    return escaped
