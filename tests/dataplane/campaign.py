"""Hostile frames and datagrams by the million, and a tracer through every tunnel after each slice.

    python -m tests.dataplane.campaign --frames 10000000 --datagrams 10000000

Run as root: it makes a network namespace and stays inside. The data plane is whole (scheduler,
codec, slow path); its system calls are not: devices and sockets are memory, so that nothing but
gred is busy. What is drawn repeats with --seed. A slice has come to its end when no batch is held;
the program ends with an error when it does not within a bounded number of rounds, when a frame or
datagram is neither sent nor counted, or when a tracer does not arrive.
"""

import argparse
import asyncio
import contextlib
import ctypes
import os
import struct
import time
from collections import deque
from ipaddress import ip_address
from random import Random
from typing import TYPE_CHECKING, Any, cast

from gred.dataplane import codec, egress, ingress
from gred.dataplane.attachment import Attachment
from gred.dataplane.batch import STRIDE
from gred.dataplane.layout import FRAME_HEADROOM, Datagram, Piece, Received, TunWrite
from gred.dataplane.plane import DataPlane
from gred.dataplane.tunnels import TunnelParameters
from gred.dataplane.underlay import raw
from gred.wire.drop import DropReason
from tests.dataplane.hostile import LONGEST, any_datagram, any_super_frame
from tests.dataplane.namespaces import in_new_namespace
from tests.dataplane.packets import Udp, ethernet

if TYPE_CHECKING:
    from gred.dataplane.tun import TunDevice

LEFT, RIGHT = "127.0.0.2", "127.0.0.3"
POOL = 512  # frames or datagrams drawn for a slice, and used again and again in it
DEAR = 30_000  # bytes of headers that a frame of the ordinary kind may be multiplied to
DEAR_SHARE = 0.0003  # of frames that cost more
ROUNDS = 400_000  # of the loop, until a slice must have come to its end
PINGS = 3  # tracers: a hostile sequence number may cost one or two
FRAME = struct.Struct("=6I2H")
ROW = struct.Struct("=2I6BH4I4s12x4s12x")
OPTIONS: list[dict[str, Any]] = [
    {},
    {"key": 1, "output_checksum": True},
    {"key": 2, "input_sequence": True, "output_sequence": True},
    {"key": 3, "mode": "tap"},
    {"key": 4, "clamp_mss": False, "ttl": None},
    {"key": 5, "vnet_header": 0},
]


class Device:
    """A TUN without a kernel: *pending* frames are read, vnet header included."""

    def __init__(self, name: str, mode: str, vnet_header: int) -> None:
        self.name, self.index, self.mode = name, 1, mode
        self.offload, self.vnet_header, self.prefix = "tso+uso", vnet_header, vnet_header
        self.ready = os.eventfd(0, os.EFD_NONBLOCK)
        self.pending = deque[bytes]()

    def fileno(self) -> int:
        return self.ready

    def give(self, frames: list[bytes]) -> None:
        self.pending.extend(frames)
        os.eventfd_write(self.ready, 1)


class Memory:
    """What the data plane takes for the kernel: the functions of gred.dataplane.io."""

    def __init__(self) -> None:
        self.devices: dict[int, Device] = {}
        self.arrivals = deque[bytes]()
        self.sent = self.finished = 0
        self.tracer = b""
        self.captured: list[bytes] = []
        self.arrived: list[tuple[int, bytes]] = []

    def read_frames(
        self, fd: int, arena: Any, prefix: int, frames: Any, first: int, limit: int
    ) -> int:
        device, at = self.devices[fd], first
        while at < limit and device.pending:
            (offset,) = struct.unpack_from("=I", frames, at * FRAME.size)
            data = device.pending.popleft()
            arena[offset - prefix : offset - prefix + len(data)] = data
            FRAME.pack_into(frames, at * FRAME.size, offset, len(data) - prefix, 0, 0, 0, 0, 0, 0)
            at += 1
        if not device.pending:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(fd)
        return at - first

    def send_datagrams(self, *args: Any) -> tuple[int, int]:
        arena, datagrams, first, end = args[2:6]
        self.sent += end - first
        if self.tracer:
            for index in range(first, end):
                row = Datagram.from_buffer(datagrams, index * ctypes.sizeof(Datagram))
                data = arena[row.head_offset : row.head_offset + row.head_length]
                if self.tracer in data:
                    self.captured.append(bytes(data))
        return end - first, 0

    def receive_datagrams(self, *args: Any) -> tuple[int, int]:
        arena, received, slots = args[2], args[5], args[6]
        count = 0
        while count < slots and self.arrivals:
            data = self.arrivals.popleft()
            offset = count * STRIDE + FRAME_HEADROOM
            arena[offset : offset + len(data)] = data
            start = count * ctypes.sizeof(Received)
            row: tuple[Any, ...]
            length = (data[0] & 15) * 4 if data else 0
            if len(data) < 20 or data[0] >> 4 != 4 or not 20 <= length <= len(data):
                row = 4, 0, 0, 0, 0, DropReason.TRUNCATED, 0, 0, 0, 0, 0, b"", b""
            else:
                ends = data[12:16], data[16:20]
                row = 4, 0, length, data[1], data[8], 0, 0, 0, 0, 0, 0, *ends
            ROW.pack_into(received, start, offset, len(data), *row)
            count += 1
        return count, 0

    def write_frames(
        self, arena: Any, _headers: Any, tun_writes: Any, pieces: Any, count: int
    ) -> int:
        for index in range(count):
            row = TunWrite.from_buffer(tun_writes, index * ctypes.sizeof(TunWrite))
            row.error = 0
            if self.tracer:
                piece = Piece.from_buffer(pieces, row.first_piece * ctypes.sizeof(Piece))
                self.arrived.append((row.fd, arena[piece.offset : piece.offset + piece.length]))
        return 0


class Counting:
    """The codec, which tells *memory* how many frames it has finished by sending them."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def __getattr__(self, name: str) -> Any:
        return getattr(codec, name)

    def encapsulate(self, *args: Any) -> tuple[int, int, int]:
        filled, unfinished, refused = codec.encapsulate(*args)
        self._memory.finished += unfinished - args[2] - refused
        return filled, unfinished, refused


class Campaign:
    """One data plane with pairs of tunnels, and the slices that it is given."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)  # noqa: S311 - no secret
        self.memory = Memory()
        for user in (egress, ingress, raw):
            cast("Any", user).io = self.memory
        cast("Any", egress).codec = Counting(self.memory)
        self.plane = DataPlane(asyncio.get_running_loop(), report=lambda _: None)
        self.pairs = [(self._tunnel(n, left=True), self._tunnel(n, left=False)) for n in OPTIONS]
        self.ends = [(ip_address(a).packed, ip_address(b).packed) for a, b in ENDS]
        self.keys = [options["key"] for options in OPTIONS if "key" in options]

    def _tunnel(self, options: dict[str, Any], *, left: bool) -> tuple[Device, Attachment]:
        fields = dict(options)
        key, mode = fields.pop("key", None), fields.pop("mode", "tun")
        device = Device(f"gre{key}{'lr'[left]}", mode, fields.pop("vnet_header", 10))
        self.memory.devices[device.ready] = device
        local, remote = ENDS[0] if left else ENDS[1]
        parameters = TunnelParameters(
            family=4,
            local=ip_address(local),
            remote=ip_address(remote),
            input_key=key,
            output_key=key,
            **fields,
        )
        return device, self.plane.add_tunnel(cast("TunDevice", device), parameters)

    @property
    def ports(self) -> list[Attachment]:
        return [port for pair in self.pairs for _, port in pair]

    # --- slices ---------------------------------------------------------------------------------

    async def frames(self, count: int) -> None:
        """Give *count* hostile frames to all devices at once, and wait for the end."""
        devices = [device for pair in self.pairs for device, _ in pair]
        before, finished, sent = self.counted("tx"), self.memory.finished, self.memory.sent
        packets = sum(port.counters().tx_packets for port in self.ports)
        for number, device in enumerate(devices):
            pool = [self._frame(device) for _ in range(POOL)]
            share = count // len(devices) + (number < count % len(devices))
            device.give([pool[index % POOL] for index in range(share)])
        rounds = await self._settle()
        assert rounds < ROUNDS, f"{rounds} rounds of the loop and no end"
        gone = self.memory.finished - finished + self.counted("tx") - before
        assert gone == count, f"{count} frames read, {gone} sent or counted"
        packets = sum(port.counters().tx_packets for port in self.ports) - packets
        assert packets == self.memory.sent - sent, "datagrams were sent and not counted"

    def _frame(self, device: Device) -> bytes:
        dear = self.random.random() < DEAR_SHARE
        while True:
            meta, frame = any_super_frame(self.random, ethernet_device=device.mode == "tap")
            segments = len(frame) // meta.gso_size if meta.gso_size else 1
            if dear or segments * (64 + meta.csum_start) < DEAR:
                return meta.pack()[: device.vnet_header] + frame[:LONGEST]

    async def datagrams(self, count: int) -> None:
        """Let *count* hostile datagrams arrive, and wait for the end."""
        pool = [any_datagram(self.random, self.ends, self.keys) for _ in range(POOL)]
        drops = self.counted("rx")
        packets = sum(port.counters().rx_packets for port in self.ports)
        for start in range(0, count, POOL):
            self.memory.arrivals.extend(pool[: min(POOL, count - start)])
            await self._settle()
        packets = sum(port.counters().rx_packets for port in self.ports) - packets
        gone = packets + self.counted("rx") - drops
        assert gone == count, f"{count} datagrams received, {gone} delivered or counted"

    async def _settle(self) -> int:
        """Turn the loop until nothing waits anywhere; return how many rounds it took."""
        (underlay,) = self.plane._underlays.values()
        assert isinstance(underlay, raw.RawUnderlay)
        receiver = raw.RawReceiver(underlay.receiver, 4, underlay.arrivals)
        for rounds in range(ROUNDS):
            while self.memory.arrivals:
                self.plane._ingress.move(receiver)
            waiting = any(device.pending for device in self.memory.devices.values())
            if not waiting and not self.plane._scheduler.pending:
                return rounds
            await asyncio.sleep(0)
        return ROUNDS

    def counted(self, direction: str) -> int:
        """Return how many drops all tunnels, and no tunnel, have counted."""
        counters = [self.plane.unclaimed(), *(port.counters() for port in self.ports)]
        return sum(sum(getattr(one, f"{direction}_drops").values()) for one in counters)

    async def ping(self) -> int:
        """Send a tracer through every tunnel, out and in; return how many it took."""
        tries = 0
        for (left, _), (right, _) in self.pairs:
            for near, far, end in ((left, right, 0), (right, left, 1)):
                for number in range(PINGS):
                    tries += 1
                    if await self._tracer(near, far, end, number):
                        break
                else:
                    raise AssertionError(f"no tracer went from {near.name} to {far.name}")
        return tries

    async def _tracer(self, near: Device, far: Device, end: int, number: int) -> bool:
        self.memory.tracer = b"tracer of %s %d" % (near.name.encode(), number)
        self.memory.captured.clear()
        self.memory.arrived.clear()
        packet = Udp(payload=self.memory.tracer).build()
        if near.mode == "tap":
            packet = ethernet(packet)
        near.give([bytes(near.vnet_header) + packet])
        await self._settle()
        source, destination = self.ends[end]
        for data in self.memory.captured:
            header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(data), 1, 0, 64, 47, 0)
            self.memory.arrivals.append(header + source + destination + data)
        await self._settle()
        self.memory.tracer = b""
        return any(fd == far.ready and packet in data for fd, data in self.memory.arrived)


ENDS = ((LEFT, RIGHT), (RIGHT, LEFT))


async def run(frames: int, datagrams: int, slices: int, seed: int) -> None:
    campaign = Campaign(seed)
    try:
        await campaign.ping()
        for kind, count in (("frames", frames), ("datagrams", datagrams)):
            started, slowest, tries = time.perf_counter(), 0.0, 0
            for number in range(slices):
                share = count // slices + (number < count % slices)
                begun = time.perf_counter()
                await getattr(campaign, kind)(share)
                slowest = max(slowest, time.perf_counter() - begun)
                tries += await campaign.ping()
            print(  # noqa: T201 - the figures are what it is run for
                f"{count} {kind} in {slices} slices: {time.perf_counter() - started:.1f} s, "
                f"slowest slice {slowest:.1f} s, {tries} tracers for "
                f"{slices * 2 * len(OPTIONS)} tunnels, every one passed"
            )
        for direction in ("tx", "rx"):
            print(direction, summary(campaign, direction))  # noqa: T201 - as above
    finally:
        campaign.plane.close()


def summary(campaign: Campaign, direction: str) -> str:
    total: dict[str, int] = {}
    for one in (campaign.plane.unclaimed(), *(port.counters() for port in campaign.ports)):
        for reason, count in getattr(one, f"{direction}_drops").items():
            total[reason.name.lower()] = total.get(reason.name.lower(), 0) + count
    passed = sum(getattr(port.counters(), f"{direction}_packets") for port in campaign.ports)
    return f"{passed} packets passed; " + ", ".join(f"{k} {v}" for k, v in sorted(total.items()))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.dataplane.campaign")
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--datagrams", type=int, default=100_000)
    parser.add_argument("--slices", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args(arguments)
    in_new_namespace(lambda: asyncio.run(run(**vars(chosen))))


if __name__ == "__main__":
    main()
