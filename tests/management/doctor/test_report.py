"""How facts and findings are printed, and that docs/doctor.md has every key and every kind."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

import gred
from gred.management.doctor import facts as shapes
from gred.management.doctor.facts import (
    Facts,
    Firewall,
    Holder,
    KernelGre,
    Receivers,
    Tun,
    Unseen,
)
from gred.management.doctor.finding import Finding
from gred.management.doctor.findings import findings
from gred.management.doctor.report import as_json, as_text
from tests.management.doctor.hosts import CLEAN, host, tunnel
from tests.management.doctor.test_findings import NOT_PLANTED, PLANTED

DOCUMENT = (Path(gred.__file__).parent.parent / "docs/doctor.md").read_text(encoding="utf-8")
EVERY = [*(facts for _kind, facts, _remedy in PLANTED), *NOT_PLANTED, CLEAN]


def told(facts: Facts) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(as_json(facts, findings(facts)))
    return found


@pytest.mark.parametrize("facts", EVERY)
def test_whatever_is_known_is_printed(facts: Facts) -> None:
    found = findings(facts)
    text = as_text(facts, found)
    assert ("No findings." in text) == (not found)
    for finding in found:
        assert finding.what in text
        assert finding.remedy in text
    assert told(facts)["findings"] == [
        dataclasses.asdict(finding) | {"tunnels": list(finding.tunnels)} for finding in found
    ]


def test_the_json_has_the_schema_of_the_document() -> None:
    found = told(CLEAN)
    assert list(found) == ["schema", "version", "facts", "findings"]
    assert (found["schema"], found["version"]) == (1, gred.__version__)
    assert list(found["facts"]) == [one.name for one in dataclasses.fields(Facts)]
    assert list(found["facts"]["tunnels"][0]) == [
        one.name for one in dataclasses.fields(shapes.Tunnel)
    ]
    assert found["facts"]["tunnels"][0]["remotes"][0]["address"] == "192.0.2.2"
    assert found["facts"]["firewall"] == {
        "nftables": {"chains": 0, "rules": 0},
        "iptables": {"chains": 0, "rules": 0},
    }


def documented(heading: str) -> set[str]:
    """Return the words in backquotes of the tables under a heading."""
    section = DOCUMENT.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return set(re.findall(r"`([a-z_0-9]+)`", "\n".join(rows)))


def test_every_key_is_documented() -> None:
    keys = {
        one.name
        for shape in vars(shapes).values()
        if dataclasses.is_dataclass(shape) and shape.__module__ == shapes.__name__
        for one in dataclasses.fields(shape)
        if shape is not Unseen
    }
    assert keys - documented("JSON") == set()


def test_every_kind_is_documented_and_no_other() -> None:
    section = DOCUMENT.split("## Findings\n")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    kinds = set(re.findall(r"`([a-z_0-9]+)`", "".join(rows)))
    assert kinds == {kind for kind, _facts, _remedy in PLANTED}


def test_what_could_not_be_seen_is_said() -> None:
    firewall = Firewall(nftables=Unseen("nft is not installed"))
    facts = host(kernel_gre=Unseen("netlink"), firewall=firewall, tun=Tun(present=True))
    text = as_text(facts, [])
    assert "  * kernel GRE: could not see: netlink\n" in text
    assert "  * nftables: could not see: nft is not installed\n" in text
    assert "  * /dev/net/tun: is there; not opened, as the kernel would load its driver" in text
    assert told(facts)["facts"]["kernel_gre"] == {"unseen": "netlink"}


def test_each_tunnel_has_its_bullets() -> None:
    lines = as_text(tunnel(mtu_configured=1400, mtu_computed=1400), []).splitlines()
    start = lines.index("[Tunnel t] (gred.conf:1)")
    assert lines[start + 1 : start + 5] == [
        "  * local: 192.0.2.1 on eth0",
        "  * remote 192.0.2.2: dev eth0 src 192.0.2.1 mtu 1500",
        "  * interface: does not exist",
        "  * MTU: configured 1400, computed 1400 (24 of headers)",
    ]


def test_modules_of_the_kernel_are_told() -> None:
    assert "kernel GRE: modules ip_gre, gre\n" in as_text(
        host(kernel_gre=KernelGre(modules=("ip_gre", "gre"))), []
    )


def test_of_many_tunnels_some_are_named() -> None:
    finding = Finding(kind="k", what="w", why="y", remedy="r", tunnels=("a", "b", "c", "d", "e"))
    assert "  1. [Tunnel a, b, c and 2 more] w\n" in as_text(CLEAN, [finding])


def test_what_others_have_named_cannot_move_the_cursor() -> None:
    """A process may call itself what it likes."""
    holder = Holder(version=4, user="x", inode=7, pid=7, program="a\x1b[2J\n\u202e\udc80")
    facts = host(receivers=Receivers(holders=(holder,)))
    text = as_text(facts, findings(facts))
    assert "\x1b" not in text
    assert text.isascii()
    assert r"a\x1b[2J\n\u202e\udc80 (process 7)" in text
    json.loads(as_json(facts, []))
