"""What becomes of a packet in a packet filter, as far as anybody can tell."""

from ipaddress import ip_address, ip_network

import pytest

from gred.management.doctor.ruleset import (
    UNKNOWN,
    Chain,
    Condition,
    Packet,
    Rule,
    Ruleset,
    Stop,
    Verdict,
    as_pattern,
    stops,
)

GRE = Condition("protocol", (47,))
TCP = Condition("protocol", (6,))
PACKET = Packet(
    version=4, source=ip_address("192.0.2.2"), destination=ip_address("192.0.2.1"), input="eth0"
)


def rule(verdict: Verdict, *conditions: Condition, target: str = "") -> Rule:
    return Rule(f"{verdict} {len(conditions)}", conditions, verdict, target)


def chain(*rules: Rule, name: str = "input", policy: Verdict = "accept", hook: str = "") -> Chain:
    return Chain(
        tool="nft",
        family="ip",
        table="filter",
        name=name,
        versions=frozenset({4}),
        hook="input" if name == "input" else hook,
        policy=policy,
        rules=rules,
    )


def judged(*chains: Chain, packet: Packet = PACKET) -> list[Stop]:
    return list(stops(Ruleset(chains), "input", packet))


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        (GRE, True),
        (TCP, False),
        (Condition("protocol", (6,), negated=True), True),
        (Condition("source", (ip_network("192.0.2.0/24"),)), True),
        (Condition("source", (ip_network("198.51.100.0/24"),)), False),
        (Condition("source", (ip_network("2001:db8::/32"),)), False),
        (Condition("input", ("eth*",)), True),
        (Condition("input", ("lo",)), False),
        (Condition("output", ("lo",)), None),
        (Condition("version", (6,)), False),
        (UNKNOWN, None),
    ],
)
def test_a_condition_holds_or_not_or_nobody_can_tell(
    condition: Condition, *, holds: bool | None
) -> None:
    assert condition.holds(PACKET) is holds


@pytest.mark.parametrize("verdict", ["drop", "reject"])
def test_a_rule_that_stops_it_is_found(verdict: Verdict) -> None:
    (stop,) = judged(chain(rule(verdict, GRE)))
    assert (stop.verdict, stop.certain, stop.rule) == (verdict, True, rule(verdict, GRE))


def test_what_another_rule_accepted_before_is_not_stopped() -> None:
    assert judged(chain(rule("accept", GRE), rule("drop"))) == []


def test_a_rule_for_gre_that_may_stop_it_is_found() -> None:
    (stop,) = judged(chain(rule("drop", GRE, UNKNOWN), rule("accept")))
    assert not stop.certain


def test_a_rule_for_anything_that_may_stop_it_is_passed_over() -> None:
    assert judged(chain(rule("drop", UNKNOWN), rule("accept"))) == []


def test_a_policy_stops_what_nothing_accepts() -> None:
    (stop,) = judged(chain(rule("accept", TCP), policy="drop"))
    assert stop.certain
    assert stop.rule is None


def test_what_may_be_accepted_may_be_stopped_by_the_policy() -> None:
    maybe = rule("accept", UNKNOWN)
    (stop,) = judged(chain(maybe, policy="drop"))
    assert not stop.certain
    assert stop.passes == (maybe,)


def test_who_may_accept_gre_has_thought_of_it() -> None:
    assert judged(chain(rule("accept", GRE, UNKNOWN), policy="drop")) == []


def test_each_chain_at_the_hook_must_let_it_pass() -> None:
    second = chain(policy="drop", name="late", hook="input")
    assert [stop.chain for stop in judged(chain(rule("accept")), second)] == [second]


def test_jumps_are_followed_and_returned_from() -> None:
    sub = chain(rule("return", TCP), rule("return", GRE), rule("accept"), name="sub")
    (stop,) = judged(chain(rule("jump", target="sub"), rule("drop")), sub)
    assert stop.rule == rule("drop")


def test_a_chain_that_only_gre_comes_to_is_about_gre() -> None:
    sub = chain(rule("drop", UNKNOWN), name="sub")
    (stop,) = judged(chain(rule("jump", GRE, target="sub")), sub)
    assert (stop.chain, stop.certain) == (sub, False)


def test_after_a_return_that_may_be_nothing_is_certain() -> None:
    sub = chain(rule("return", UNKNOWN), rule("drop", GRE), name="sub")
    (stop,) = judged(chain(rule("jump", target="sub")), sub)
    assert not stop.certain


def test_goto_does_not_come_back() -> None:
    sub = chain(name="sub")
    assert judged(chain(rule("goto", target="sub"), rule("drop")), sub) == []


def test_chains_that_jump_to_each_other_end() -> None:
    """No kernel takes them; no text must hang the doctor."""
    one = chain(rule("jump", target="two"), name="one")
    two = chain(rule("jump", target="one"), name="two")
    assert judged(chain(rule("jump", target="one"), policy="drop"), one, two)


def test_another_version_and_another_hook_do_not_count() -> None:
    stopping = chain(policy="drop")
    assert list(stops(Ruleset((stopping,)), "output", PACKET)) == []
    assert list(stops(Ruleset((stopping,)), "input", Packet(version=6))) == []


@pytest.mark.parametrize(
    ("name", "fits", "fits_not"),
    [
        ("eth0", "eth0", "eth1"),
        ("eth+", "eth7", "lo"),
        ("eth*", "eth7", "lo"),
        ("a[0]", "a[0]", "a0"),
    ],
)
def test_names_of_interfaces_are_patterns(name: str, fits: str, fits_not: str) -> None:
    condition = Condition("input", (as_pattern(name),))
    assert condition.holds(Packet(version=4, input=fits)) is True
    assert condition.holds(Packet(version=4, input=fits_not)) is False
