"""Whether GRE of another host reaches this one and is dropped before any socket gets it.

A packet socket sees what comes in by any interface of this network namespace, whatever becomes of
it afterwards; a raw socket sees what firewall and routing let pass. Both are open for a moment
only, and only where nothing is heard. Blocks: for threads only. Sends nothing.
"""

import socket

from gred.config.model import IPAddress
from gred.dataplane.linux import IPPROTO_GRE
from gred.dataplane.underlay.sockets import Instructions, attach_filter

_ETH_P = {4: 0x0800, 6: 0x86DD}
# Classic BPF, linux/filter.h: load a byte or word at an offset, jump if equal, return.
_LOAD_BYTE, _LOAD_WORD, _JUMP_EQUAL, _RETURN = 0x30, 0x20, 0x15, 0x06
_PACKET_TYPE = -0x1000 + 4  # SKF_AD_OFF + SKF_AD_PKTTYPE
_PACKET_HOST = 0
_BEHIND = 0.5  # seconds: what was seen on its way in is there long before
_QUEUED = 10_000  # packets, more than a queue takes


def is_kept_away(remote: IPAddress, seconds: float) -> bool:
    """Tell whether GRE from *remote* comes in within *seconds* and no socket for it gets it.

    False, too, where nobody can tell. What has extension headers before the GRE header is not seen.
    """
    kind = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    family = socket.AF_INET if remote.version == 4 else socket.AF_INET6
    protocol = socket.htons(_ETH_P[remote.version])
    try:
        with (
            socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | kind, protocol) as before,
            socket.socket(family, socket.SOCK_RAW | kind, IPPROTO_GRE) as behind,
        ):
            attach_filter(before, _program(remote))
            for _ in range(_QUEUED):  # what came before there was a filter
                try:
                    before.recv(1)
                except BlockingIOError:
                    break
            behind.connect((str(remote), 0))  # of others it gets nothing from now on
            before.settimeout(seconds)
            before.recv(1)
            behind.settimeout(_BEHIND)
            return not _arrives(behind, remote)
    except OSError:
        return False


def _arrives(behind: socket.socket, remote: IPAddress) -> bool:
    """Tell whether the socket gets a packet of *remote*; others came before it was connected."""
    for _ in range(_QUEUED):
        try:
            source = behind.recvfrom(1)[1][0]
        except TimeoutError:
            return False
        if source.partition("%")[0] == str(remote):
            return True
    return True  # so many of others: nobody can tell


def _program(remote: IPAddress) -> Instructions:
    """Return the filter: comes in, protocol 47, from *remote*."""
    protocol, source = (9, 12) if remote.version == 4 else (6, 8)
    wanted = [
        (_LOAD_BYTE, _PACKET_TYPE & 0xFFFFFFFF, _PACKET_HOST),
        (_LOAD_BYTE, protocol, IPPROTO_GRE),
    ]
    for number in range(0, len(remote.packed), 4):
        word = int.from_bytes(remote.packed[number : number + 4])
        wanted.append((_LOAD_WORD, source + number, word))
    program: list[tuple[int, int, int, int]] = []
    left = 2 * len(wanted) + 1  # instructions until the one that refuses
    for load, offset, value in wanted:
        program += [(load, 0, 0, offset), (_JUMP_EQUAL, 0, left - len(program) - 2, value)]
    return [*program, (_RETURN, 0, 0, 0xFFFF), (_RETURN, 0, 0, 0)]
