"""The baseline: a GRE tunnel as one writes it first, a system call each way for every packet.

    python -m benchmarks.baseline_loop DEVICE LOCAL REMOTE KEY

Kept as it is, to be measured against; it checks nothing and is no tunnel to use.
"""

import asyncio
import os
import socket
import sys

import uvloop
from pytun import IFF_NO_PI, IFF_TUN, TunTapDevice

IPPROTO_GRE = 47


def main(device: str, local: str, remote: str, key: str) -> None:
    """Carry IPv4 packets between the TUN *device* and *remote* until the process is stopped."""
    tun = TunTapDevice(name=device, flags=IFF_TUN | IFF_NO_PI)
    underlay = socket.socket(socket.AF_INET, socket.SOCK_RAW, IPPROTO_GRE)
    underlay.setblocking(False)
    underlay.bind((local, 0))
    os.set_blocking(tun.fileno(), False)
    header = bytes((0x20, 0x00, 0x08, 0x00)) + int(key).to_bytes(4, "big")

    def outbound() -> None:
        underlay.sendto(header + os.read(tun.fileno(), 2048), (remote, 0))

    def inbound() -> None:
        packet = underlay.recv(65535)
        os.write(tun.fileno(), packet[4 * (packet[0] & 15) + len(header) :])

    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.add_reader(tun.fileno(), outbound)
    loop.add_reader(underlay.fileno(), inbound)
    print("ready", flush=True)
    loop.run_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
