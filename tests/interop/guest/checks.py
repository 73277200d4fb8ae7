"""What every form of tunnel must carry. One function for each column of the table, by its name.

A check returns a figure worth knowing or nothing, and raises AssertionError.
"""

from gred.lab.hosts import Host
from gred.lab.traffic import TransferResult, multicast, ping, transfer
from tests.interop.guest import traffic
from tests.interop.guest.laboratory import Laboratory
from tests.interop.matrix import Tunnel

STREAM = 512 << 10  # bytes; emulated packets are dear, and ten_megabytes sends more
ECHO_S = 5.0
STREAM_S = 60.0


def ping4(lab: Laboratory, tunnel: Tunnel) -> str:
    return _pings(lab, tunnel, 4)


def ping6(lab: Laboratory, tunnel: Tunnel) -> str:
    return _pings(lab, tunnel, 6)


def tcp4(lab: Laboratory, tunnel: Tunnel) -> str:
    return streams(lab, tunnel, 4)


def tcp6(lab: Laboratory, tunnel: Tunnel) -> str:
    return streams(lab, tunnel, 6)


def multicast4(lab: Laboratory, tunnel: Tunnel) -> str:
    for sender, receiver in both_ways(lab):
        got = multicast(sender, receiver, tunnel.name, count=2, timeout=ECHO_S).received
        assert got == 2, f"{sender.name} to {receiver.name}: {got} of 2 arrived"
    return ""


def multicast6(lab: Laboratory, tunnel: Tunnel) -> str:
    for sender, receiver in both_ways(lab):
        got = traffic.multicast6(sender, receiver, tunnel.name, count=2)
        assert got == 2, f"{sender.name} to {receiver.name}: {got} of 2 arrived"
    return ""


def both_ways(lab: Laboratory) -> tuple[tuple[Host, Host], tuple[Host, Host]]:
    """Return sender and receiver, gred to the kernel first."""
    return (lab.gred, lab.linux), (lab.linux, lab.gred)


def address(lab: Laboratory, tunnel: Tunnel, host: Host, version: int) -> str:
    """Return the inner address of *host*, gred or linux."""
    return tunnel.overlay("linux" if host is lab.linux else "gred", version)


def echo(
    lab: Laboratory, tunnel: Tunnel, sender: Host, receiver: Host, version: int, size: int
) -> None:
    """Send two echo requests of *size* bytes of data; both must be answered."""
    there = address(lab, tunnel, receiver, version)
    got = ping(sender, there, count=2, size=size, timeout=ECHO_S).received
    assert got == 2, f"{sender.name} to {receiver.name}, {size} bytes: {got} of 2 answered"


def stream(
    lab: Laboratory, tunnel: Tunnel, sender: Host, receiver: Host, version: int, size: int = STREAM
) -> TransferResult:
    """Move *size* bytes over TCP; they must arrive intact."""
    there = address(lab, tunnel, receiver, version)
    result = transfer(sender, receiver, there, size=size, timeout=STREAM_S)
    how = f"{sender.name} to {receiver.name}: {result.received} of {size} bytes arrived"
    assert result.received == size, how
    assert result.intact, f"{sender.name} to {receiver.name}: not what was sent"
    return result


def streams(lab: Laboratory, tunnel: Tunnel, version: int, size: int = STREAM) -> str:
    """Move *size* bytes each way."""
    rates = []
    for sender, receiver in both_ways(lab):
        result = stream(lab, tunnel, sender, receiver, version, size)
        rates.append(f"{result.received * 8 / result.seconds / 1e6:.1f}")
    return f"{rates[0]} and {rates[1]} Mbit/s"


def _pings(lab: Laboratory, tunnel: Tunnel, version: int) -> str:
    for sender, receiver in both_ways(lab):
        for size in (56, 1200):
            echo(lab, tunnel, sender, receiver, version, size)
    return ""
