"""Policies, associations and what a socket was told in, a verdict out."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from gred.control.kernel.xfrm import NO_STATE, Policy, State, Tables, Template
from gred.control.protection import Flow, Guard, judge, unknown, wants_ipsec

LEFT, RIGHT = ip_address("192.0.2.1"), ip_address("192.0.2.2")
FLOW = Flow(LEFT, RIGHT, mtu=1500)
SHIELD = 0x6772_1234


def policy(*, outbound: bool = True, **other: object) -> Policy:
    ends = [ip_network(LEFT), ip_network(RIGHT)]
    source, destination = ends if outbound else ends[::-1]
    return Policy(
        **{  # type: ignore[arg-type]
            "outbound": outbound,
            "priority": 366975,
            "source": source,
            "destination": destination,
            "protocol": 47,
            "device": 0,
            "blocks": False,
            "templates": (Template(RIGHT, request=1, packed=b"template"),),
            **other,
        }
    )


def shield(*, outbound: bool = True) -> Policy:
    ends = [ip_network("0.0.0.0/0"), ip_network(RIGHT)]
    source, destination = ends if outbound else ends[::-1]
    return policy(
        outbound=outbound,
        priority=SHIELD,
        source=source,
        destination=destination,
        blocks=True,
        templates=(),
    )


SHIELDS = (shield(), shield(outbound=False))
STATE = State(LEFT, RIGHT, request=1, cipher="aes-gcm-128", added=7, until=3600)
WELL = Tables((policy(), policy(outbound=False), *SHIELDS), associations=(STATE,))


def test_what_all_say_is_protected() -> None:
    found = judge(WELL, FLOW, 1466)
    assert (found.guard, found.mtu, found.templates) == (Guard.PROTECTED, 1466, b"template")
    assert found.sentence == ""
    assert found.words == ("protected (aes-gcm-128, ESP transport, until 1970-01-01 01:00:00 UTC)")
    for_good = replace(WELL, associations=(replace(STATE, until=None),))
    assert judge(for_good, FLOW, 1466).words == "protected (aes-gcm-128, ESP transport)"


@pytest.mark.parametrize(
    ("tables", "told", "guard", "sentence"),
    [
        (Tables(), 1500, Guard.NO_POLICY, "no IPsec policy of this host asks for"),
        (Tables(SHIELDS), OSError(1, "EPERM"), Guard.NO_POLICY, "no IPsec policy of this host"),
        (Tables((policy(blocks=True), *SHIELDS)), OSError(1, "no"), Guard.BLOCKED, "blocks GRE"),
        (Tables((policy(templates=()),)), 1500, Guard.NO_POLICY, "pass in clear"),
        (
            replace(WELL, policies=(policy(templates=(Template(RIGHT, optional=True),)),)),
            1466,
            Guard.NO_POLICY,
            "only an optional one",
        ),
        (
            replace(WELL, policies=(policy(templates=(Template(RIGHT, is_esp=False),)),)),
            1466,
            Guard.NO_POLICY,
            "no template for ESP",
        ),
        (replace(WELL, associations=()), NO_STATE, Guard.NO_SA, "there is no SA yet"),
        (WELL, NO_STATE, Guard.NO_SA, "not in use yet"),
        (replace(WELL, associations=(replace(STATE, cipher=""),)), 1480, Guard.BLOCKED, "nothing"),
        (replace(WELL, policies=(policy(),)), 1466, Guard.NO_POLICY, "what arrives is refused"),
        (
            replace(WELL, policies=(policy(), *SHIELDS)),
            1466,
            Guard.NO_POLICY,
            "what arrives is refused",
        ),
        (WELL, 1500, Guard.NO_POLICY, "in clear in spite of the IPsec policies"),
        (WELL, OSError(1, "Operation not permitted"), Guard.BLOCKED, "lets nobody send"),
    ],
)
def test_anything_less_is_not(
    tables: Tables, told: int | OSError, guard: Guard, sentence: str
) -> None:
    found = judge(tables, FLOW, told)
    assert found.guard is guard
    assert sentence in found.sentence
    assert (found.templates, found.mtu) == (b"", None)
    assert found.words == found.summary


def test_what_others_send_or_another_mark_has_is_not_ours() -> None:
    for tables in (
        replace(WELL, policies=(policy(mark=7, mask=7), policy(outbound=False))),
        replace(WELL, policies=(policy(interface=3), policy(outbound=False))),
        replace(WELL, policies=(policy(protocol=17), policy(outbound=False))),
        replace(WELL, policies=(policy(device=9), policy(outbound=False))),
    ):
        assert judge(tables, replace(FLOW, device=2), 1466).guard is Guard.NO_POLICY
    marked = replace(WELL, policies=(policy(mark=7, mask=7), policy(outbound=False)))
    assert judge(marked, replace(FLOW, mark=7), 1466).guard is Guard.PROTECTED


def test_a_socket_asks_only_where_nobody_is_asked_for_an_association() -> None:
    assert wants_ipsec(WELL, FLOW)
    assert not wants_ipsec(Tables(), FLOW)
    assert not wants_ipsec(Tables(SHIELDS), FLOW)
    assert not wants_ipsec(replace(WELL, associations=()), FLOW)


def test_who_may_not_look_sends_nothing() -> None:
    found = unknown(PermissionError(1, "Operation not permitted"))
    assert found.guard is Guard.NO_POLICY
    assert found.sentence == "cannot see the IPsec policies of this host: Operation not permitted"
