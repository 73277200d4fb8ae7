"""What is worth a sentence of its own: headers, congestion marks, disturbed wires, narrow paths.

One function for each entry of ``matrix.SCENARIOS``, by its name. It returns a figure worth knowing
or nothing, and raises AssertionError.
"""

import time
from collections.abc import Callable

from gred.lab.hosts import Host
from gred.lab.traffic import ping
from gred.lab.waiting import wait_for
from tests.interop.guest.checks import address, both_ways, echo, stream, streams
from tests.interop.guest.laboratory import FAR_MTU, Laboratory
from tests.interop.guest.traffic import Outer, datagram, numbered, sniffing
from tests.interop.matrix import FORMS, TUNNEL, Tunnel

TEN_MEGABYTES = 10_000_000
DISTURBED = 128 << 10  # bytes
CE, ECT_0, ECT_1 = 3, 2, 1  # RFC 3168 §5
EF = 0xB8  # DSCP 46
# gred's MTU less the kernel's. One of them alone sends a checksum or a number; and a raw socket's
# datagrams leave 8 bytes of the path unused beside an encapsulation limit.
DIFFERENCES = {"ocsum": 4, "iseq": -4, "limit-v6": -8}
_HEADERS = {4: 28, 6: 48}  # IP and ICMP


# Sizes.


def whole_mtu(lab: Laboratory) -> str:
    for form in FORMS:
        ours, theirs = (_mtu(host, form.name) for host in (lab.gred, lab.linux))
        assert ours - theirs == DIFFERENCES.get(form.name, 0), f"{form.name}: {ours} and {theirs}"
        for version, headers in _HEADERS.items():
            for sender, receiver in both_ways(lab):
                size = min(ours, theirs) - headers
                try:
                    echo(lab, form, sender, receiver, version, size)
                except AssertionError as error:
                    raise AssertionError(f"{form.name}, IPv{version}: {error}") from None
    return ""


def ten_megabytes(lab: Laboratory) -> str:
    return streams(lab, TUNNEL["plain"], 4, TEN_MEGABYTES)


def ten_megabytes_all(lab: Laboratory) -> str:
    return streams(lab, TUNNEL["key-csum-seq"], 4, TEN_MEGABYTES)


def half_summed(lab: Laboratory) -> str:
    tunnel = TUNNEL["half-summed"]
    rates = streams(lab, tunnel, 4)
    answered = ping(lab.gred, tunnel.overlay("linux", 4), count=2, timeout=1.0).received
    assert answered == 0, "gred took a packet with a wrong checksum"
    return rates


# The outer header.


def default_header(lab: Laboratory) -> str:
    for version in (4, 6):
        for ttl in (1, 200):
            outer = _outer(lab, TUNNEL["plain"], lab.gred, tos=EF, ttl=ttl, version=version)
            assert outer == Outer(EF, 64, dont_fragment=True, fragment=False), outer
    return ""


def default_header_v6(lab: Laboratory) -> str:
    for version in (4, 6):
        for ecn in (0, ECT_0, ECT_1, CE):
            outer = _outer(lab, TUNNEL["plain-v6"], lab.gred, tos=EF | ecn, ttl=1, version=version)
            assert outer == Outer(EF | ecn, 64), outer
    return ""


def inherited_header(lab: Laboratory) -> str:
    for sender in (lab.gred, lab.linux):
        for version in (4, 6):
            outer = _outer(lab, TUNNEL["inherit"], sender, tos=EF, ttl=77, version=version)
            assert outer == Outer(EF, 77, dont_fragment=True, fragment=False), outer
    return ""


def fixed_header(lab: Laboratory) -> str:
    for sender, tos, ttl in ((lab.gred, 0x28, 33), (lab.linux, 0x48, 44)):
        for version in (4, 6):
            outer = _outer(lab, TUNNEL["fixed"], sender, tos=EF | ECT_0, ttl=77, version=version)
            assert outer == Outer(tos | ECT_0, ttl, dont_fragment=True, fragment=False), outer
    return ""


def copied_df(lab: Laboratory) -> str:
    for sender in (lab.gred, lab.linux):
        for inner in (True, False):
            outer = _outer(lab, TUNNEL["fragile"], sender, dont_fragment=inner)
            assert outer.dont_fragment == inner, f"{sender.name}: inner DF {inner}: {outer}"
    return ""


# Congestion marks.


def ecn_copied(lab: Laboratory) -> str:
    for ecn in (0, ECT_0, ECT_1, CE):
        outer = _outer(lab, TUNNEL["ecn"], lab.gred, tos=EF | ecn)
        assert outer.tos == EF | ecn, f"inner ECN {ecn}: {outer}"
    return ""


def ecn_marked_to_gred(lab: Laboratory) -> str:
    return _marked(lab, lab.linux, lab.gred)


def ecn_marked_to_linux(lab: Laboratory) -> str:
    return _marked(lab, lab.gred, lab.linux)


def ecn_refused(lab: Laboratory) -> str:
    tunnel = TUNNEL["ecn"]
    for sender, receiver in both_ways(lab):
        there = address(lab, tunnel, receiver, 4)
        assert datagram(sender, receiver, there) is not None
        with lab.outer_tos(sender, "wire", EF | CE):
            arrived = datagram(sender, receiver, there, wait=1.0)
        assert arrived is None, f"{sender.name} to {receiver.name}: {arrived} was delivered"
    return ""


# Encrypted wires.


def ipsec(lab: Laboratory) -> str:
    tunnel = TUNNEL["secret"]
    with sniffing(lab.linux, "wire", tunnel.underlay("gred")) as sniffer:
        streams(lab, tunnel, 4)
        assert sniffer.outer(), "GRE in clear text was not seen"
        with lab.ipsec(tunnel):
            sniffer.outer()
            rates = streams(lab, tunnel, 4)
            seen = sniffer.outer()
    assert not seen, f"{len(seen)} packets were not encrypted"
    return rates


# Life and death.


def keepalive_answered(lab: Laboratory) -> str:
    """By default no kernel does; it forwards the answer, which comes from its own address."""
    name, before = "asked", lab.log().count("tunnel_up")
    wait_for(lambda: _says(lab, "tunnel_silent", name), "silence")
    _let_answer(lab, name, "wire")
    wait_for(lambda: _says(lab, "tunnel_up", name), "the answer")
    assert lab.log().count("tunnel_up") > before
    echo(lab, TUNNEL[name], lab.gred, lab.linux, 4, 56)
    return ""


def inner_address_pinged(lab: Laboratory) -> str:
    tunnel = TUNNEL["pinged"]
    wait_for(lambda: _says(lab, "tunnel_up", tunnel.name), "the answer")
    echo(lab, tunnel, lab.gred, lab.linux, 4, 56)
    lab.linux.ip("link", "set", tunnel.name, "down")
    wait_for(lambda: _says(lab, "tunnel_silent", tunnel.name), "silence")
    return ""


def _let_answer(lab: Laboratory, *devices: str) -> None:
    """Let the kernel forward the answers to keepalives that arrive by *devices*."""
    for scope in ("all", *devices):
        lab.linux.sysctl(f"net.ipv4.conf.{scope}.rp_filter", "0")
        lab.linux.sysctl(f"net.ipv4.conf.{scope}.accept_local", "1")
    lab.linux.sysctl("net.ipv4.ip_forward", "1")


def peer_restarts(lab: Laboratory) -> str:
    """Also when it had sent fewer packets than are remembered."""
    tunnel, lost = TUNNEL["reborn"], 0
    for count in (10, 300, 1):
        arrived = numbered(lab.linux, lab.gred, tunnel.overlay("gred", 4), count)
        lost = max(lost, count - len(arrived))
        lab.make_anew(tunnel)
    assert lost <= 1, f"{lost} packets were lost at a restart"
    echo(lab, tunnel, lab.gred, lab.linux, 4, 56)
    return f"{lost} lost"


def _says(lab: Laboratory, event: str, tunnel: str) -> bool:
    return any(event in line and f"tunnel={tunnel} " in line for line in lab.log().splitlines())


# Disturbed wires.


def loss(lab: Laboratory) -> str:
    return _disturbed(lab, "disturbed", "loss 3%")


def reordering(lab: Laboratory) -> str:
    return _disturbed(lab, "disturbed", "delay 5ms reorder 75%")


def duplication(lab: Laboratory) -> str:
    return _disturbed(lab, "disturbed", "duplicate 20%")


def loss_with_sequence(lab: Laboratory) -> str:
    return _disturbed(lab, "disturbed-seq", "loss 3%")


def reordering_with_sequence(lab: Laboratory) -> str:
    return _disturbed(lab, "disturbed-seq", "delay 5ms reorder 95%")


def duplicates_delivered(lab: Laboratory) -> str:
    with lab.netem(lab.linux, how="duplicate 100%"):
        numbers = _numbers_to_gred(lab, "disturbed")
    assert sorted(numbers) == sorted(2 * list(range(100))), numbers
    return ""


def duplicates_dropped(lab: Laboratory) -> str:
    with lab.netem(lab.linux, how="duplicate 100%"):
        numbers = _numbers_to_gred(lab, "disturbed-seq")
    assert numbers == list(range(100)), numbers
    return ""


def late_dropped(lab: Laboratory) -> str:
    with lab.netem(lab.linux, how="delay 20ms reorder 50%"):
        plain = _numbers_to_gred(lab, "disturbed")
        numbers = _numbers_to_gred(lab, "disturbed-seq")
    assert sorted(plain) == list(range(100)), plain
    assert plain != sorted(plain), "netem reordered nothing"
    assert numbers == sorted(set(numbers)), numbers
    return f"{len(numbers)} of 100 delivered"


# Narrow paths.


def narrow_fixed_mtu(lab: Laboratory) -> str:
    streams(lab, TUNNEL["narrow-mtu"], 6)
    return streams(lab, TUNNEL["narrow-mtu"], 4)


def narrow_fragments(lab: Laboratory) -> str:
    tunnel = TUNNEL["narrow-open"]
    for sender, receiver in both_ways(lab):
        echo(lab, tunnel, sender, receiver, 6, _mtu(lab.gred, tunnel.name) - _HEADERS[6])
        with sniffing(lab.linux, "far", tunnel.underlay("gred")) as sniffer:
            # More than the inner MTU: fragmented inside, in pieces without DF, and outside.
            echo(lab, tunnel, sender, receiver, 4, 4000)
            if sender is lab.gred:
                seen = sniffer.outer()
                assert any(outer.fragment for outer in seen), f"no fragment among {seen}"
    return streams(lab, tunnel, 6)


def narrow_to_gred(lab: Laboratory) -> str:
    result = stream(lab, TUNNEL["narrow"], lab.linux, lab.gred, 4)
    return f"{result.received * 8 / result.seconds / 1e6:.1f} Mbit/s"


def narrow_to_linux(lab: Laboratory) -> str:
    result = stream(lab, TUNNEL["narrow"], lab.gred, lab.linux, 4)
    return f"{result.received * 8 / result.seconds / 1e6:.1f} Mbit/s"


def narrow_swallowed(lab: Laboratory) -> str:
    tunnel = TUNNEL["swallowed"]
    _let_answer(lab, tunnel.name, "far")
    wait_for(lambda: _says(lab, "tunnel_up", tunnel.name), "the answer")
    wait_for(lambda: _mtu(lab.gred, tunnel.name) == FAR_MTU - 24, "the MTU of the path")
    assert "ICMP is filtered" in lab.log()
    echo(lab, tunnel, lab.gred, lab.linux, 4, FAR_MTU - 24 - _HEADERS[4])
    result = stream(lab, tunnel, lab.gred, lab.linux, 4)
    return f"{result.received * 8 / result.seconds / 1e6:.1f} Mbit/s"


# The end.


def ends_well(lab: Laboratory) -> str:
    daemon = lab.daemon
    assert daemon is not None
    daemon.check()
    status = daemon.stop()
    log = daemon.log()
    assert status == 0, f"exit status {status}\n{log}"
    assert "Traceback" not in log, log
    return ""


def _mtu(host: Host, device: str) -> int:
    words = host.ip("-o", "link", "show", "dev", device).split()
    return int(words[words.index("mtu") + 1])


def _other(lab: Laboratory, host: Host) -> Host:
    return lab.gred if host is lab.linux else lab.linux


def _outer(
    lab: Laboratory,
    tunnel: Tunnel,
    sender: Host,
    *,
    tos: int = 0,
    ttl: int = 64,
    version: int = 4,
    dont_fragment: bool = True,
) -> Outer:
    """Send one datagram; return the outer header it arrives in. The inner one stays as it was."""
    receiver = _other(lab, sender)
    source = tunnel.underlay("gred" if sender is lab.gred else "linux")
    with sniffing(receiver, "wire", source) as sniffer:
        there = address(lab, tunnel, receiver, version)
        arrived = datagram(sender, receiver, there, tos=tos, ttl=ttl, dont_fragment=dont_fragment)
        assert arrived is not None, f"nothing arrived from {sender.name}"
        assert (arrived.tos, arrived.ttl) == (tos, ttl), f"the inner header became {arrived}"
        return _wait_for(sniffer.outer, "an outer header")[-1]


def _marked(lab: Laboratory, sender: Host, receiver: Host) -> str:
    tunnel = TUNNEL["disturbed"]
    with lab.netem(sender, how="loss 100% ecn"):  # marks what it would drop, where that is allowed
        for version in (4, 6):
            there = address(lab, tunnel, receiver, version)
            for ecn in (ECT_0, ECT_1, CE):
                arrived = datagram(sender, receiver, there, tos=EF | ecn)
                assert arrived is not None, f"inner ECN {ecn}: nothing arrived"
                assert arrived.tos == EF | CE, f"inner ECN {ecn}: {arrived}"
    return ""


def _disturbed(lab: Laboratory, name: str, how: str) -> str:
    with lab.netem(lab.gred, lab.linux, how=how):
        return f"{how}: {streams(lab, TUNNEL[name], 4, DISTURBED)}"


def _numbers_to_gred(lab: Laboratory, name: str) -> list[int]:
    return numbered(lab.linux, lab.gred, TUNNEL[name].overlay("gred", 4), 100)


def _wait_for(look: Callable[[], list[Outer]], what: str) -> list[Outer]:
    deadline = time.monotonic() + 5.0
    while not (found := look()):
        assert time.monotonic() < deadline, f"{what} was not seen"
        time.sleep(0.01)
    return found
