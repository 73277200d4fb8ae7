"""A receiver under a flood of malformed packets: it counts each one and goes on working."""

import random
import socket
import struct
from pathlib import Path

from gred.lab.hosts import Host
from gred.lab.traffic import ping
from tests.netns.conftest import LEFT, RIGHT
from tests.netns.daemons import Daemons, drops, wait_for

FLOOD = 100_000
BATCH = 2_000  # packets sent before the receiver's queue is looked at
TUNNEL = "[Tunnel t]\nLocal={}\nRemote={}\nAddress=10.9.1.{}/24\nKey=1\nChecksum=yes\n"
SEED = 47


def malformed(random_: random.Random) -> bytes:
    """Return a GRE packet that TUNNEL must refuse: at best its checksum is wrong."""
    kind = random_.randrange(4)
    noise = random_.randbytes(random_.randrange(120))
    if kind == 0:
        return noise  # whatever comes; an accident would need a right key and a right checksum
    if kind == 1:
        flags = random_.randrange(1 << 16)
        return struct.pack("!HH", flags, 0x0800) + noise
    if kind == 2:  # right in all but the checksum
        return struct.pack("!HHHHI", 0xA000, 0x0800, 0, 0, 1) + noise + b"\x55"
    return struct.pack("!HH", 0x2000, 0x0800)[: random_.randrange(5)]  # cut off


def receivers(host: Host) -> list[list[str]]:
    """Return the rows of /proc/net/raw: this namespace's raw IPv4 sockets."""
    # thread-self: the namespace of the thread that reads
    table = host.inside(Path("/proc/thread-self/net/raw").read_text)
    return [row.split() for row in table.splitlines()[1:]]


def is_drained(host: Host) -> bool:
    """Tell whether nothing waits in a socket: the second half of tx_queue:rx_queue."""
    return all(row[4].endswith(":00000000") for row in receivers(host))


def test_every_malformed_packet_is_counted_and_the_tunnel_works(
    hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    left, right = hosts
    daemon = daemons.start(left, TUNNEL.format(LEFT[0], RIGHT[0], 1))
    chance = random.Random(SEED)  # noqa: S311 - the same packets in each run
    packets = [malformed(chance) for _ in range(BATCH)]
    with right.socket(socket.AF_INET, socket.SOCK_RAW, 47) as sender:
        sender.connect((LEFT[0], 0))
        for _ in range(FLOOD // BATCH):
            for packet in packets:
                sender.send(packet)
            wait_for(lambda: is_drained(left), "the receiver has read everything")
    unread = sum(int(row[-1]) for row in receivers(left))  # dropped before the daemon: full buffer
    daemons.start(right, TUNNEL.format(RIGHT[0], LEFT[0], 2))
    assert ping(left, "10.9.1.2", count=5).received == 5
    assert daemon.stop() == 0
    received = {key: n for key, n in drops(daemon).items() if key[1].startswith("rx_")}
    assert sum(received.values()) + unread == FLOOD
    assert len(received) > 5, "of many kinds"
