"""gred against Open vSwitch, whose userspace datapath speaks GRE without the kernel's."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from gred.lab.hosts import Host, Lab
from gred.lab.traffic import ping, transfer
from tests import require
from tests.interop.openvswitch import SCHEMA, Switch
from tests.netns.daemons import Daemons, drops

MTU = 1400
SWITCH = "192.0.2.1"
NUMBERS = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Form:
    """One kind of tunnel, in the words of both."""

    name: str
    switch: str = ""
    gred: str = ""
    layer: int = 3
    number: int = field(default_factory=lambda: next(NUMBERS))

    @property
    def outer(self) -> str:
        """Return gred's underlay address: each form has its own."""
        return f"192.0.2.{100 + self.number}"

    def inner(self, version: int) -> tuple[str, str]:
        """Return the addresses of gred and of the switch."""
        if version == 4:
            return f"10.48.{self.number}.1", f"10.48.{self.number}.2"
        return f"fd48:{self.number}::1", f"fd48:{self.number}::2"

    def section(self) -> str:
        address4, address6 = self.inner(4)[0], self.inner(6)[0]
        options = "\n".join(self.gred.split())
        return (
            f"[Tunnel {self.name}]\nLocal={self.outer}\nRemote={SWITCH}\nMTUBytes={MTU}\n"
            f"Address={address4}/24, {address6}/64\n{options}\n"
        )

    def networks(self) -> dict[str, str]:
        (gred4, switch4), (gred6, switch6) = self.inner(4), self.inner(6)
        return {f"{switch4}/24": gred4, f"{switch6}/64": gred6}


# The switch does not look at the sequence numbers it gets. No form has both checksum and sequence
# number: Open vSwitch 3.1 sums a packet before it writes the number into it.
FORMS = [
    Form("plain"),
    Form("key", "key=42", "Key=42"),
    Form("keys", "in_key=7 out_key=8", "InputKey=8 OutputKey=7"),
    Form("csum", "csum=true", "Checksum=yes"),
    Form("key-csum", "key=43 csum=true", "Key=43 Checksum=yes"),
    Form("seq", "seq=true", "SerializeTunneledPackets=yes"),
    Form("key-seq", "key=44 seq=true", "Key=44 SerializeTunneledPackets=yes"),
    Form("tap", gred="Mode=gretap", layer=2),
    Form("tap-key", "key=42", "Mode=gretap Key=42", layer=2),
    Form("tap-csum", "csum=true", "Mode=gretap Checksum=yes", layer=2),
    Form("tap-key-csum", "key=43 csum=true", "Mode=gretap Key=43 Checksum=yes", layer=2),
]
FORM = pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
VERSION = pytest.mark.parametrize("version", [4, 6])
Pair = tuple[Host, Host]


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """gred with every form, and the switch."""
    require.root()
    require.tun()
    require.program("ip", package="iproute2")
    for program in ("ovs-vswitchd", "ovsdb-server", "ovsdb-tool", "ovs-vsctl", "ovs-ofctl"):
        require.program(program, package="openvswitch-switch")
    assert SCHEMA.exists()
    with Lab("gredovs") as lab:
        gred, peer = lab.host("gred"), lab.host("ovs")
        lab.wire(gred, peer)
        for form in FORMS:
            gred.address(f"{form.outer}/24")
        switch = Switch(lab, peer, f"{SWITCH}/24", mtu=MTU)
        for form in FORMS:
            options = f"remote_ip={form.outer} local_ip={SWITCH} {form.switch}"
            switch.add_port(f"gre-{form.number}", options, form.networks(), layer=form.layer)
        daemons = Daemons(lab, "c")
        daemon = daemons.start(gred, "".join(form.section() for form in FORMS))
        try:
            yield gred, peer
        finally:
            daemons.stop()
        assert not drops(daemon), "gred dropped what the switch sent"


@FORM
@VERSION
def test_echoes_cross_both_ways(pair: Pair, form: Form, version: int) -> None:
    gred, switch = pair
    ours, theirs = form.inner(version)
    # The first packets are spent on the switch's outer neighbour discovery.
    ping(gred, theirs, count=20, timeout=0.2)
    for size in (56, MTU - (28 if version == 4 else 48)):
        assert ping(gred, theirs, size=size).received == 3
        assert ping(switch, ours, size=size).received == 3


@FORM
@VERSION
def test_a_stream_arrives_intact(pair: Pair, form: Form, version: int) -> None:
    gred, switch = pair
    ours, theirs = form.inner(version)
    ping(gred, theirs, count=20, timeout=0.2)
    assert transfer(gred, switch, theirs, size=2 << 20).intact
    assert transfer(switch, gred, ours, size=2 << 20).intact
