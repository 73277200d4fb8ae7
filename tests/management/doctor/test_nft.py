"""What nft(8) prints, read. The texts are those of nft 1.0.6."""

import json
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from gred.management.doctor.nft import read
from gred.management.doctor.ruleset import UNKNOWN, Condition, Packet, Rule, Ruleset, stops

CHAIN = {
    "family": "inet",
    "table": "filter",
    "name": "input",
    "handle": 1,
    "type": "filter",
    "hook": "input",
    "prio": 0,
    "policy": "accept",
}
TEXT = """\
table inet filter { # handle 1
	chain input { # handle 1
		type filter hook input priority filter; policy accept;
		ip protocol gre drop # handle 3
	}
}
"""
GRE = Condition("protocol", (47,))


def ruleset(*expressions: Any, also: tuple[Any, ...] = (), **changed: Any) -> Ruleset:
    rule = {
        "family": "inet",
        "table": "filter",
        "chain": "input",
        "handle": 3,
        "expr": list(expressions),
    }
    objects = [{"metainfo": {}}, {"chain": CHAIN | changed}, *also, {"rule": rule}]
    return read(json.dumps({"nftables": objects}), TEXT)


def rules(*expressions: Any, also: tuple[Any, ...] = ()) -> tuple[Rule, ...]:
    return ruleset(*expressions, also=also).chains[0].rules


def match(left: Any, right: Any, operation: str = "==") -> dict[str, Any]:
    return {"match": {"op": operation, "left": left, "right": right}}


def meta(key: str) -> dict[str, Any]:
    return {"meta": {"key": key}}


def payload(protocol: str, name: str) -> dict[str, Any]:
    return {"payload": {"protocol": protocol, "field": name}}


def test_a_rule_reads_as_nft_prints_it() -> None:
    (rule,) = rules(match(payload("ip", "protocol"), "gre"), {"drop": None})
    assert (rule.text, rule.handle, rule.verdict) == ("ip protocol gre drop", 3, "drop")
    assert rule.conditions == (Condition("version", (4,)), GRE)


def test_a_chain_is_read() -> None:
    (chain,) = ruleset({"drop": None}, policy="drop").chains
    assert (chain.hook, chain.policy, chain.versions) == ("input", "drop", frozenset({4, 6}))


@pytest.mark.parametrize(
    ("left", "right", "condition"),
    [
        (meta("l4proto"), "gre", GRE),
        (meta("l4proto"), 47, GRE),
        (meta("l4proto"), {"set": ["tcp", 47]}, Condition("protocol", (6, 47))),
        (meta("nfproto"), "ipv6", Condition("version", (6,))),
        (meta("protocol"), "arp", Condition("version", (0,))),
        (meta("iifname"), "eth*", Condition("input", ("eth*",))),
        (meta("oif"), "eth0", Condition("output", ("eth0",))),
        (meta("mark"), 7, UNKNOWN),
        ({"ct": {"key": "state"}}, "new", UNKNOWN),
    ],
)
def test_conditions_are_read(left: Any, right: Any, condition: Condition) -> None:
    (rule,) = rules(match(left, right), {"drop": None})
    assert rule.conditions == (condition,)


@pytest.mark.parametrize(
    ("right", "networks"),
    [
        ("192.0.2.2", ["192.0.2.2/32"]),
        ({"prefix": {"addr": "192.0.2.0", "len": 24}}, ["192.0.2.0/24"]),
        ({"range": ["192.0.2.0", "192.0.2.2"]}, ["192.0.2.0/31", "192.0.2.2/32"]),
        ({"set": ["192.0.2.2", {"elem": {"val": "192.0.2.3"}}]}, ["192.0.2.2/32", "192.0.2.3/32"]),
        ("@peers", ["198.51.100.1/32"]),
    ],
)
def test_addresses_are_read(right: Any, networks: list[str]) -> None:
    named = {"family": "inet", "table": "filter", "name": "peers", "elem": ["198.51.100.1"]}
    (rule,) = rules(match(payload("ip", "saddr"), right), {"drop": None}, also=({"set": named},))
    expected = Condition("source", tuple(ip_network(one) for one in networks))
    assert rule.conditions == (Condition("version", (4,)), expected)


def test_not_equal_is_negated_and_what_is_less_is_unknown() -> None:
    (rule,) = rules(match(meta("l4proto"), "tcp", "!="), {"drop": None})
    assert rule.conditions == (Condition("protocol", (6,), negated=True),)
    (rule,) = rules(match(meta("l4proto"), "tcp", "<"), {"drop": None})
    assert rule.conditions == (UNKNOWN,)


def test_a_port_is_of_its_own_protocol() -> None:
    (rule,) = rules(match(payload("tcp", "dport"), 22), {"accept": None})
    assert rule.holds(Packet(version=4)) is False
    assert rule.holds(Packet(version=4, protocol=None)) is None


@pytest.mark.parametrize(
    ("right", "ports"),
    [
        (4754, (range(4754, 4755),)),
        ({"range": [4000, 5000]}, (range(4000, 5001),)),
        ({"set": [53, {"range": [1, 2]}]}, (range(53, 54), range(1, 3))),
    ],
)
def test_ports_of_udp_are_read(right: Any, ports: tuple[range, ...]) -> None:
    (rule,) = rules(match(payload("udp", "dport"), right), {"drop": None})
    assert rule.conditions == (Condition("protocol", (17,)), Condition("port", ports))
    (rule,) = rules(match(payload("th", "dport"), right), {"drop": None})
    assert rule.conditions == (Condition("port", ports),)
    (rule,) = rules(match(payload("udp", "sport"), right), {"drop": None})
    assert rule.conditions == (Condition("protocol", (17,)), UNKNOWN)


def test_limits_are_conditions_and_counters_are_nothing() -> None:
    (rule,) = rules({"counter": {"packets": 0, "bytes": 0}}, {"limit": {"rate": 1}}, {"drop": None})
    assert rule.conditions == (UNKNOWN,)


def test_what_only_counts_is_no_rule() -> None:
    assert rules({"counter": {"packets": 0, "bytes": 0}}) == ()


def test_verdicts_that_are_looked_up_are_rules_each() -> None:
    data = {"set": [["tcp", {"accept": None}], ["gre", {"jump": {"target": "sub"}}]]}
    first, second = rules({"vmap": {"key": meta("l4proto"), "data": data}})
    assert (first.verdict, first.conditions) == ("accept", (Condition("protocol", (6,)),))
    assert (second.verdict, second.target, second.conditions) == ("jump", "sub", (GRE,))


def test_a_rule_that_is_made_meanwhile_reads_as_json() -> None:
    objects = [
        {"chain": CHAIN},
        {
            "rule": {
                **{k: CHAIN[k] for k in ("family", "table")},
                "chain": "input",
                "handle": 9,
                "expr": [{"drop": None}],
            }
        },
    ]
    assert read(json.dumps({"nftables": objects}), TEXT).chains[0].rules[0].text == (
        '[{"drop": null}]'
    )


def test_what_was_read_is_judged() -> None:
    read_ = ruleset(match(payload("ip", "saddr"), "192.0.2.2"), {"reject": {"type": "icmp"}})
    (stop,) = stops(read_, "input", Packet(version=4, source=ip_address("192.0.2.2")))
    assert (stop.verdict, stop.certain) == ("reject", True)


@pytest.mark.parametrize("text", ["", "[]", "{}", "x"])
def test_what_is_no_ruleset_is_an_error(text: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        read(text)
