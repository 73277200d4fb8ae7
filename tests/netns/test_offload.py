"""Large segments: cut and coalesced by gred, and merged by the receive offload of the underlay.

With GRO and a delayed flush on the wire the kernel merges GRE packets before a raw socket sees
them: one packet of many segments, the inner checksum unfinished. What arrives must be what was
sent.
"""

import os
import threading
from collections.abc import Iterator

import pytest

from gred.lab.daemon import Daemon
from gred.lab.hosts import UNDERLAY, Host, Lab
from gred.lab.traffic import TransferResult, transfer
from tests import require
from tests.netns.conftest import LEFT, RIGHT
from tests.netns.daemons import COMING_AND_GOING, Daemons, drops

KINDS = {
    "plain": "",
    "keyed": "Key=1",
    "summed": "Key=2\nChecksum=yes",
    "numbered": "Key=3\nSerializeTunneledPackets=yes",
    "every": "Key=4\nChecksum=yes\nSerializeTunneledPackets=yes",
    "bare": "Key=5\nOffload=no",
}
SIZE = {"c": 8_000_000, "python": 400_000}
# GRED_TRANSFER_BYTES=1000000000, for who changes the codec, takes some minutes.
LARGE = int(os.environ.get("GRED_TRANSFER_BYTES", "50000000"))


def sections(own: tuple[str, str], other: tuple[str, str], number: int) -> str:
    return "".join(
        f"[Tunnel {name}{version}]\nLocal={own[underlay]}\nRemote={other[underlay]}\n{options}\n"
        f"Address=10.{version}.{index}.{number}/24, fd10:{version}:{index}::{number}/64\n"
        for index, (name, options) in enumerate(KINDS.items())
        for underlay, version in enumerate((4, 6))
    )


@pytest.fixture(scope="module", params=["gro off", "gro on"])
def ends(
    request: pytest.FixtureRequest, hosts: tuple[Host, Host], lab: Lab, implementation: str
) -> Iterator[tuple[Host, Host, Daemon, Daemon]]:
    """Both hosts and their daemons, with receive offload on the wire or without."""
    ethtool = require.program("ethtool", package="ethtool")
    wanted = request.param.removeprefix("gro ")
    for host in hosts:
        run = ["ip", "netns", "exec", host.namespace]
        for feature in ("tso", "gso", "tx"):
            lab.run([*run, ethtool, "-K", UNDERLAY, feature, "off"])
        lab.run([*run, ethtool, "-K", UNDERLAY, "gro", wanted])
        # Let packets wait for others to merge with. ip(8) mounts the namespace's own /sys.
        for attribute, value in (("gro_flush_timeout", 50000), ("napi_defer_hard_irqs", 1)):
            path = f"/sys/class/net/{UNDERLAY}/{attribute}"
            lab.run([*run, "sh", "-c", f"echo {value if wanted == 'on' else 0} > {path}"])
    daemons = Daemons(lab, implementation)
    left = daemons.start(hosts[0], sections(LEFT, RIGHT, 1))
    right = daemons.start(hosts[1], sections(RIGHT, LEFT, 2))
    yield *hosts, left, right
    daemons.stop()
    harmless = {"rx_no_bufs", *COMING_AND_GOING}
    for daemon in (left, right):
        assert not {key for key in drops(daemon) if key[1] not in harmless}


def at_once(ends: tuple[Host, Host, Daemon, Daemon], name: str, size: int) -> list[TransferResult]:
    """Transfer *size* bytes each way at the same time, over the tunnel *name*."""
    left, right = ends[:2]
    kind, version, inner = name[:-2], name[-2], name[-1]
    index = list(KINDS).index(kind)
    stem = f"10.{version}.{index}." if inner == "4" else f"fd10:{version}:{index}::"
    results = list[TransferResult]()

    def move(sender: Host, receiver: Host, source: int, destination: int) -> None:
        results.append(
            transfer(
                sender,
                receiver,
                f"{stem}{destination}",
                source=f"{stem}{source}",
                size=size,
                timeout=max(60.0, size / 1e7),
            )
        )

    ways = [(left, right, 1, 2), (right, left, 2, 1)]
    threads = [threading.Thread(target=move, args=way) for way in ways]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.parametrize("inner", [4, 6])
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_sent_both_ways_at_once_arrives_unchanged(
    ends: tuple[Host, Host, Daemon, Daemon],
    implementation: str,
    kind: str,
    version: int,
    inner: int,
) -> None:
    size = SIZE[implementation]
    results = at_once(ends, f"{kind}{version}{inner}", size)
    assert [(result.intact, result.received) for result in results] == [(True, size)] * 2


@pytest.mark.timeout(1200)
def test_a_large_transfer_arrives_unchanged(
    ends: tuple[Host, Host, Daemon, Daemon], implementation: str
) -> None:
    size = LARGE if implementation == "c" else SIZE["python"]
    results = at_once(ends, "every44", size)
    assert [(result.intact, result.received) for result in results] == [(True, size)] * 2
