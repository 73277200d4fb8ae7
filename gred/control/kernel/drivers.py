"""What a device is and does below IP: large pieces, its carrier, whether anything comes in by it.

Asked by the old ioctls: they need no privilege and no /sys. Nothing here sets anything.
"""

import array
import errno
import fcntl
import socket
import struct

from gred.control.kernel.linux import (
    ETH_FLAG_LRO,
    ETHTOOL_GFLAGS,
    ETHTOOL_GLINK,
    IFF_LOOPBACK,
    IFF_NOARP,
    IFF_POINTOPOINT,
    IFF_RUNNING,
    IFF_UP,
    SIOCETHTOOL,
    SIOCGIFFLAGS,
)

# linux/ethtool.h: commands whose answer is a number, and bits of ETHTOOL_GFLAGS.
_COMMANDS = {"tso": 0x1E, "gso": 0x23, "gro": 0x2B}


def offloads(name: str) -> dict[str, bool]:
    """Return which of tso, gso, gro and lro a device has on. Raises OSError.

    One that its driver does not know is left out.
    """
    found = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asking:
        for feature, command in _COMMANDS.items():
            found[feature] = bool(_ask(asking, name, command))
        found["lro"] = bool(_ask(asking, name, ETHTOOL_GFLAGS) & ETH_FLAG_LRO)
    return found


def _ask(asking: socket.socket, name: str, command: int) -> int:
    answer = array.array("I", [command, 0])  # struct ethtool_value
    address, _length = answer.buffer_info()
    request = struct.pack("@16sP16x", name.encode(), address)  # struct ifreq
    fcntl.ioctl(asking.fileno(), SIOCETHTOOL, request)
    return answer[1]


def _flags(name: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asking:
        request = bytearray(struct.pack("@16s24x", name.encode()))  # struct ifreq
        fcntl.ioctl(asking.fileno(), SIOCGIFFLAGS, request)
    flags: int = struct.unpack_from("@H", request, 16)[0]
    return flags


def has_carrier(name: str) -> bool | None:
    """Tell whether a device has a carrier; None: it is down. Raises OSError.

    IFF_RUNNING follows a change of the carrier up to a second later; the driver knows at once.
    """
    flags = _flags(name)
    if not flags & IFF_UP:
        return None
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asking:
            return bool(_ask(asking, name, ETHTOOL_GLINK))
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
    return bool(flags & IFF_RUNNING)


def hears(name: str) -> bool:
    """Tell whether packets of others come in by a device. Raises OSError.

    None do by the loopback, a dummy device or the master of a VRF: addresses are kept there.
    """
    flags = _flags(name)
    if flags & IFF_LOOPBACK:
        return False
    return not flags & IFF_NOARP or bool(flags & IFF_POINTOPOINT)
