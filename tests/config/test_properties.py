"""Properties: what is rendered loads to the same; whatever is in a file, nothing but a
ConfigurationError comes out."""

import string
import tempfile
from collections.abc import Iterator
from ipaddress import ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from gred.config import (
    Config,
    ConfigurationError,
    DaemonConfig,
    Location,
    Problem,
    TunnelConfig,
    load,
    render,
)
from gred.config.model import UDP_PORT, IPInterface, IPNetwork
from gred.config.options import DAEMON_OPTIONS, TUNNEL_OPTIONS, Option
from gred.config.values import refuse_interface_name
from gred.config.verify import verify

NAMES = st.text(
    st.sampled_from(string.ascii_letters + string.digits + "-_.@=+!\"'"), min_size=1, max_size=15
).filter(lambda name: not refuse_interface_name(name))
ADDRESSES = st.ip_addresses()
KEYS = st.none() | st.integers(0, 0xFFFFFFFF)


@st.composite
def interfaces(draw: st.DrawFn) -> IPInterface:
    address = draw(ADDRESSES)
    return ip_interface((address, draw(st.integers(0, address.max_prefixlen))))


@st.composite
def networks(draw: st.DrawFn) -> IPNetwork:
    address = draw(ADDRESSES)
    return ip_network((address, draw(st.integers(0, address.max_prefixlen))), strict=False)


INTERFACES = NAMES | st.just("lo")
NAMESPACES = NAMES.filter(lambda name: name.lower() != "none") | st.just("/proc/1/ns/net")


@st.composite
def ends(draw: st.DrawFn) -> dict[str, object]:
    """Return an address for the local end, an interface that has it, or neither."""
    address = draw(st.none() | ADDRESSES)
    interface = None if address is not None else draw(st.none() | INTERFACES)
    return {"local": address, "local_interface": interface}


# What is cut or folded in a file must come back, too: blanks, "#", quotes, backslashes.
WORDS_OF_COMMANDS = st.text(st.sampled_from("ab/ #\"'\\$;|\t\u00e9"), max_size=8)
COMMANDS = st.just(()) | st.builds(
    lambda program, arguments: (f"/{program}", *arguments),
    WORDS_OF_COMMANDS,
    st.lists(WORDS_OF_COMMANDS, min_size=1, max_size=3),
)


@st.composite
def mac_addresses(draw: st.DrawFn) -> str:
    octets = draw(st.binary(min_size=6, max_size=6).filter(any))
    return bytes([octets[0] & 0xFE | 2, *octets[1:]]).hex(":")


def _tunnel(ends: dict[str, Any], contradicts: int, **fields: Any) -> TunnelConfig:
    """Return a tunnel whose options go together, as a rule: else few would be left to render."""
    if contradicts:
        return TunnelConfig(**ends, **fields)
    mode = "gre" if fields["mac_address"] is None else "gretap"
    fields |= {"mode": mode, "discover_path_mtu": not fields["ignore_dont_fragment"]}
    if TunnelConfig(**ends, **fields).family == 4:
        fields |= {"flow_label": None, "encapsulation_limit": None}
    remote = TunnelConfig(**ends, **fields).remote
    if fields["transport"] != "ip" or remote is None or not remote.is_global:
        fields |= {"ipsec": "no"}
    if fields["transport"] == "ip":
        fields |= {"port": UDP_PORT, "source_port": None, "udp_checksum": True}
    return TunnelConfig(**ends, **fields)


TUNNELS = st.builds(
    _tunnel,
    name=NAMES,
    location=st.just(Location("", 1)),
    places=st.just({}),
    ends=ends(),
    contradicts=st.integers(0, 9).map(lambda number: number == 9),
    mode=st.sampled_from(["gre", "gretap"]),
    underlay_device=st.none() | INTERFACES.filter(lambda name: name.lower() != "none"),
    firewall_mark=st.none() | st.integers(1, 0xFFFFFFFF),
    namespace=st.none() | NAMESPACES,
    mac_address=st.none() | mac_addresses(),
    ignore_dont_fragment=st.booleans(),
    flow_label=st.none() | st.integers(0, 0xFFFFF),
    encapsulation_limit=st.none() | st.integers(0, 255),
    remote=st.none() | ADDRESSES,
    addresses=st.lists(interfaces(), max_size=3).map(tuple),
    routes=st.lists(networks(), max_size=3).map(tuple),
    input_key=KEYS,
    output_key=KEYS,
    input_checksum=st.sampled_from(["require", "accept", "refuse"]),
    output_checksum=st.booleans(),
    input_sequence=st.booleans(),
    output_sequence=st.booleans(),
    ttl=st.none() | st.integers(1, 255),
    tos=st.none() | st.integers(0, 255),
    discover_path_mtu=st.booleans(),
    mtu=st.none() | st.integers(68, 65535),
    offload=st.booleans(),
    packet_socket=st.booleans(),
    ipsec=st.sampled_from(["no", "require"]),
    on_state_change=COMMANDS,
    transport=st.sampled_from(["ip", "udp"]),
    port=st.integers(1, 65535),
    source_port=st.none() | st.integers(1, 65535),
    udp_checksum=st.booleans(),
)
CONFIGS = st.builds(
    Config,
    daemon=st.builds(
        DaemonConfig, log_format=st.sampled_from(["auto", "console", "logfmt", "json"])
    ),
    tunnels=st.lists(TUNNELS, max_size=3, unique_by=lambda tunnel: tunnel.name).map(tuple),
)

# Pieces of which files are made, right and wrong, so that random text gets beyond the first line.
WORDS = [option.name for option in DAEMON_OPTIONS + TUNNEL_OPTIONS]
PIECES = st.sampled_from(
    [
        *WORDS,
        "[Tunnel a]",
        "[Tunnel b]",
        "[Daemon]",
        "[",
        "]",
        "=",
        " ",
        "\n",
        "\n",
        "\r\n",
        "\t",
        "#",
        ";",
        ":",
        ",",
        "/",
        "%",
        "any",
        "none",
        "yes",
        "64",
        "0x40",
        "10.0.0.1",
        "/24",
        "::1",
        "fe80::1%1",
        "\ufeff",
        "\x00",
        "\u2028",
        "\xa0",
        "\u0661",
        "\udcff",
        "9" * 30,
    ]
)
CONTENTS = (
    st.binary()
    | st.text().map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.lists(PIECES).map(lambda pieces: "".join(pieces).encode("utf-8", "surrogatepass"))
)


@pytest.fixture(scope="module")
def path() -> Iterator[Path]:
    """One directory for all examples: a file is written anew for each."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory) / "gred.conf"


def problems_of(path: Path) -> tuple[Problem, ...]:
    try:
        load(path)
    except ConfigurationError as error:
        return error.problems
    return ()


@given(config=CONFIGS)
def test_rendered_configuration_loads_to_the_same(path: Path, config: Config) -> None:
    assume(not verify(config))
    path.write_text(render(config), encoding="utf-8")
    assert load(path) == config


@given(config=CONFIGS)
def test_only_the_verification_may_refuse_what_was_rendered(path: Path, config: Config) -> None:
    path.write_text(render(config), encoding="utf-8")
    assert len(problems_of(path)) == len(verify(config))


@given(config=CONFIGS)
def test_rendering_is_stable(path: Path, config: Config) -> None:
    assume(not verify(config))
    path.write_text(render(config), encoding="utf-8")
    assert render(load(path)) == render(config)


@given(content=CONTENTS)
@example(b"")
@example(b"\xef\xbb\xbf")
@example(b"[")
@example(b"[Tunnel a]\n[Tunnel a")
@example(b"=\n =\n[]")
@settings(deadline=None, max_examples=500)
def test_any_content_loads_or_is_refused_in_printable_lines(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    for problem in problems_of(path):
        shown = str(problem)
        assert shown.isprintable()
        assert shown.startswith(str(path))
        assert shown.encode("utf-8")


@given(value=st.text(st.characters(exclude_categories=["Cc", "Zl", "Zp", "Cs"]), min_size=1))
@pytest.mark.parametrize("option", TUNNEL_OPTIONS, ids=lambda option: option.name)
def test_any_value_is_read_or_refused_at_its_line(path: Path, option: Option, value: str) -> None:
    path.write_text(f"[Tunnel a]\n{option.name}={value}\n", encoding="utf-8")
    for problem in problems_of(path):
        assert problem.location == Location(str(path), 2)
        assert problem.option == option.name
