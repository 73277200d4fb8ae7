"""A keepalive made by scapy reaches control with its bytes, and the answer is seen on the wire."""

import asyncio
import socket
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import pytest
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import GRE
from scapy.packet import Raw

from gred.dataplane import egress, ingress, inject, pure_codec, pure_io, transmit
from gred.dataplane.plane import DataPlane
from gred.dataplane.punt import Punted
from gred.dataplane.tun import TunDevice
from gred.dataplane.tunnels import TunnelParameters
from gred.dataplane.underlay import raw
from gred.lab.hosts import Host
from gred.wire.drop import DropReason
from gred.wire.gre import IPPROTO_GRE
from gred.wire.keepalive import read_request
from tests.netns.conftest import LEFT, RIGHT

COOKIE = bytes(range(16))


@pytest.fixture(autouse=True)
def _twin(implementation: str) -> Iterator[None]:
    """The data plane runs in this process."""
    with pytest.MonkeyPatch.context() as patch:
        if implementation == "python":
            for module in (egress, ingress, inject, transmit):
                patch.setattr(module, "codec", pure_codec)
            for module in (egress, ingress, raw):
                patch.setattr(module, "io", pure_io)
        yield


def ask(host: Host, version: int, key: int | None) -> tuple[bytes, socket.socket]:
    """Send a request from *host*, as OpenBSD does; return it and a socket for the answer."""
    layer, here, there = (IP, RIGHT[0], LEFT[0]) if version == 4 else (IPv6, RIGHT[1], LEFT[1])
    keyed: dict[str, Any] = {} if key is None else {"key_present": 1, "key": key}
    carried = 0x0800 if version == 4 else 0x86DD
    inner = layer(src=there, dst=here) / GRE(proto=0, **keyed) / Raw(COOKIE)
    if version == 4:
        inner[IP].proto, inner[IP].ttl = IPPROTO_GRE, 255
    else:
        inner[IPv6].nh, inner[IPv6].hlim = IPPROTO_GRE, 255
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    opened = host.socket(family, socket.SOCK_RAW, IPPROTO_GRE)
    opened.settimeout(10)
    packet = bytes(GRE(proto=carried, **keyed) / inner)
    opened.sendto(packet, (there, 0))
    return bytes(inner), opened


def answered(opened: socket.socket, version: int) -> GRE:
    """Return the next GRE packet of protocol type 0 that arrives."""
    while True:
        data = opened.recv(2000)
        found = GRE(data[20:] if version == 4 else data)
        if found.proto == 0:
            return found


@pytest.mark.parametrize("key", [None, 42])
@pytest.mark.parametrize("version", [4, 6])
def test_a_keepalive_is_handed_up_and_answered(
    hosts: tuple[Host, Host], version: int, key: int | None
) -> None:
    left, right = hosts
    index = 0 if version == 4 else 1
    taken: list[Punted] = []

    async def play() -> tuple[bytes, GRE, Any]:
        loop = asyncio.get_running_loop()
        device = TunDevice.open("asked", offload=True)
        plane = DataPlane(loop, report=lambda _: None)
        try:
            parameters = TunnelParameters(
                family=4 if index == 0 else 6,
                local=ip_address(LEFT[index]),
                remote=ip_address(RIGHT[index]),
                input_key=key,
                output_key=key,
            )
            attachment = plane.add_tunnel(device, parameters)
            is_taken = loop.create_future()

            def take(punted: Punted) -> None:
                taken.append(punted)
                request = read_request(punted.data[punted.inner :])
                assert request is not None
                assert plane.inject.datagram(attachment, request.answer)
                is_taken.set_result(None)

            plane.punts.subscribe({DropReason.KEEPALIVE}, take)
            sent, opened = ask(right, version, key)
            with opened:
                await asyncio.wait_for(is_taken, 10)
                answer = await loop.run_in_executor(None, answered, opened, version)
            return sent, answer, attachment.counters()
        finally:
            plane.close()
            device.close()

    sent, answer, counters = left.inside(lambda: asyncio.run(play()))
    (punted,) = taken
    assert punted.tunnel == "asked"
    assert (str(punted.source), str(punted.destination)) == (RIGHT[index], LEFT[index])
    assert punted.data[punted.inner :] == sent
    assert bytes(answer.payload) == COOKIE
    assert (answer.key_present, answer.key) == (int(key is not None), key)
    assert (counters.rx_punted, counters.rx_packets, counters.rx_drops) == (1, 0, {})
    assert (counters.tx_injected, counters.tx_packets, counters.tx_drops) == (1, 0, {})
