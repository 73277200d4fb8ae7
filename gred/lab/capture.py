"""Keeps what crosses an interface of a laboratory host, as a classic pcap file.

A packet socket and a thread of its own. Nothing is decoded or judged here: that is for Wireshark.
"""

import contextlib
import select
import socket
import struct
import threading
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from gred.lab.hosts import Host

_ETH_P_ALL = 0x0003  # linux/if_ether.h
_SO_TIMESTAMPNS = 35  # asm-generic/socket.h; Python names it from 3.14 on
_SO_RCVBUFFORCE = 33
_SOL_PACKET = 263
_PACKET_STATISTICS = 6  # linux/if_packet.h: two unsigned ints, received (with dropped) and dropped
_MAGIC_NANOSECONDS = 0xA1B23C4D  # the pcap file whose time stamps count nanoseconds
_LINKTYPE_ETHERNET = 1
_SNAP_LENGTH = 262_144
_BUFFER = 32 << 20  # a bulk transfer arrives faster than a thread of Python is scheduled
_TIMESPEC = struct.Struct("@ll")
_RECORD = struct.Struct("@IIII")


class Capture:
    """Packets seen on *interface* of *host* in either direction, written to *path* until the exit.

    The file is created at once: OSError when that is impossible. After the exit ``packets`` are in
    the file and ``missed`` are not, because the socket's buffer was full.
    """

    def __init__(self, host: Host, interface: str, path: Path) -> None:
        self.packets = 0
        self.missed = 0
        self._host = host
        self._interface = interface
        self._path = path
        self._resources = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as resources:
            file = resources.enter_context(self._path.open("wb"))
            header = (_MAGIC_NANOSECONDS, 2, 4, 0, 0, _SNAP_LENGTH, _LINKTYPE_ETHERNET)
            file.write(struct.pack("@IHHiIII", *header))
            self._stop, stopped = socket.socketpair()
            self._stopped = resources.enter_context(stopped)
            resources.enter_context(self._stop)
            # protocol 0 receives nothing; bind() starts it, on this interface only
            raw = resources.enter_context(self._host.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
            raw.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
            raw.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            raw.bind((self._interface, _ETH_P_ALL))
            self._socket = raw
            self._thread = threading.Thread(target=self._write, args=(file,), daemon=True)
            self._thread.start()
            self._resources = resources.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        _seen, self.missed = struct.unpack(
            "@II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
        )
        self._resources.close()

    def _write(self, file: IO[bytes]) -> None:
        space = socket.CMSG_SPACE(_TIMESPEC.size)
        while True:
            readable = select.select([self._socket, self._stopped], [], [])[0]
            if self._socket not in readable:
                return  # told to stop, and everything that came before is written
            packet, ancillary, _flags, _address = self._socket.recvmsg(_SNAP_LENGTH, space)
            seconds, nanoseconds = _TIMESPEC.unpack(ancillary[0][2])
            file.write(_RECORD.pack(seconds, nanoseconds, len(packet), len(packet)) + packet)
            self.packets += 1
