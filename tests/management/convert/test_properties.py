"""Whatever text comes: one clear error, or a configuration that loads. And nothing is lost."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gred.config import load
from gred.management.convert import command
from gred.management.convert.draft import ConversionError
from gred.management.convert.printing import Conversion

RECORDED = Path(__file__).parent / "recorded"
_WORDS = """
ip link address addr route tunnel add set dev name type gre gretap ip6gre mode local remote
key ikey okey csum seq ttl tos mtu up down via peer default external encap fou 192.0.2.1
192.0.2.2 2001:db8::1 10.1.2.1/24 10.0.0.0/8 t u 42 0x10 inherit none any ; && -6 -n [NetDev]
[Tunnel] [Match] [Network] [Address] [Route] Name=t Kind=gre Kind=ip6gretap Local=192.0.2.1
Remote=2001:db8::1 Key=1 Address=10.1.2.1/24 Peer=10.1.2.2/32 Destination=10.0.0.0/8 interface
Tunnel0 Tunnel1 source destination key 255.255.255.0 checksum keepalive tunnel /interface
/interface/gre eoip /ip name=t remote-address=192.0.2.2 dst-address=10.0.0.0/8 gateway=t
interface=t address=10.1.2.1/24 !keepalive keepalive=10s,10 comment="a" " ' \\ # ! ="""
_NAMES = """
ifname linkinfo info_kind info_data remote local ttl tos tclass ikey okey icsum iseq link
fwmark external encap type flags mtu master addr_info prefixlen scope dev dst gateway metric
protocol gre gretap ip6gre encap_limit flowlabel 192.0.2.1 2001:db8::1 UP kernel"""
WORDS = st.sampled_from(_WORDS.split())
TEXTS = st.one_of(
    st.text(max_size=200),
    st.lists(st.lists(WORDS, max_size=12).map(" ".join), max_size=8).map("\n".join),
)
NAMES = st.sampled_from(_NAMES.split())
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-1, 1 << 33), NAMES, st.text(max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(NAMES, inner, max_size=8)),
    max_leaves=30,
)
LINK = st.fixed_dictionaries(
    {
        "ifname": st.one_of(NAMES, st.text(max_size=20)),
        "linkinfo": st.fixed_dictionaries({"info_kind": NAMES, "info_data": JSON}),
    },
    optional={"addr_info": JSON, "flags": JSON, "mtu": JSON, "address": JSON, "dst": JSON},
)


def check(text: str, dialect: str | None, directory: Path) -> None:
    try:
        done = command.of_text(text, dialect=dialect)
    except ConversionError as error:
        done = Conversion(remarks=[str(error)])
    file = directory / "converted.conf"
    file.write_text(done.text)
    assert len(load(file).tunnels) == done.tunnels
    assert all(remark.isprintable() for remark in done.remarks)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("converted")


@pytest.mark.parametrize("dialect", [None, *command.DIALECTS])
@given(text=TEXTS)
def test_any_text(dialect: str | None, directory: Path, text: str) -> None:
    check(text, dialect, directory)


@given(values=st.lists(st.one_of(LINK, JSON), max_size=5))
def test_any_json(directory: Path, values: list[Any]) -> None:
    check(json.dumps(values), "ip-json", directory)


@given(data=st.data())
def test_recorded_output_with_something_else_in_it(directory: Path, data: st.DataObject) -> None:
    links = json.loads((RECORDED / "ip-details-link.json").read_text())
    link = data.draw(st.sampled_from([one for one in links if "linkinfo" in one]))
    info = link["linkinfo"].get("info_data", {})
    for place in (link, info):
        if place:
            place[data.draw(st.sampled_from(sorted(place)))] = data.draw(JSON)
    check(json.dumps([link]), None, directory)


def test_names_that_come_out_alike_stay_apart(directory: Path) -> None:
    lines = [
        f"/interface gre add name=a-very-long-name-{n} remote-address=192.0.2.{n}"
        for n in range(1, 13)
    ]
    done = command.of_text("\n".join(lines))
    assert done.tunnels == 12
    check("\n".join(lines), None, directory)


def test_text_of_nothing_known_is_one_clear_error() -> None:
    with pytest.raises(ConversionError, match=r"^stdin: expected ip -json .*--from says which"):
        command.of_text("hello")
