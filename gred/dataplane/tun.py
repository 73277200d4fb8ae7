"""TUN devices: open, probe what the kernel offers, close. No packet passes through this file.

A device is not persistent: it goes with its descriptor, however the process ends.
"""

import contextlib
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Callable
from typing import Literal, Protocol, Self

import pytun

from gred.dataplane.descriptors import FOR_SOCKETS, RESERVE, refuse_the_last
from gred.dataplane.layout import PACKET_INFO_LENGTH, VNET_HEADER

NODE = "/dev/net/tun"
NODE_NUMBERS = (10, 200)  # MISC_MAJOR and TUN_MINOR, <linux/miscdevice.h>

# <linux/if_tun.h>; python-pytun has no call for these.
TUNGETIFF = 0x800454D2
TUNSETOFFLOAD = 0x400454D0
TUNSETVNETHDRSZ = 0x400454D8
TUNSETCARRIER = 0x400454E2

TUN_F_CSUM = 0x01
TUN_F_TSO4 = 0x02
TUN_F_TSO6 = 0x04
TUN_F_TSO_ECN = 0x08
TUN_F_USO4 = 0x20
TUN_F_USO6 = 0x40
TSO = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN
USO = TUN_F_USO4 | TUN_F_USO6  # Linux 6.2; the kernel takes them as a pair only

_IFREQ = struct.Struct("=16sh22x")  # struct ifreq with ifr_flags
_SIOCGIFFLAGS = 0x8913
_IFF_RUNNING = 0x40
_IFF_MULTI_QUEUE = 0x100
_KIND = pytun.IFF_TUN | pytun.IFF_TAP | pytun.IFF_NO_PI | pytun.IFF_VNET_HDR | _IFF_MULTI_QUEUE

# "any" is a TUN that tells the protocol type of each packet, and so carries more than IP.
Mode = Literal["tun", "tap", "any"]


class Opened(Protocol):
    """The descriptor of a device, as pytun has it."""

    @property
    def name(self) -> str:
        """The name of the interface."""
        ...

    def fileno(self) -> int:
        """Return the descriptor."""
        ...

    def close(self) -> None:
        """Close it."""


class _Adopted:
    """A descriptor that another process has opened."""

    def __init__(self, descriptor: int, name: str) -> None:
        self.name = name
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class TunDevice:
    """One TUN or TAP device, non-blocking. *device* is closed when an error is raised.

    ``offload`` tells what was granted: ``tso+uso``, ``tso`` or ``none (reason)``. With ``none`` the
    device has no vnet header either. ``name`` and ``index`` are those in ``namespace``, which is
    None for the one the device was opened in. ``adopted``: it was there before this process;
    ``was_running``: and its interface was up and had a carrier.
    """

    def __init__(
        self, device: Opened, mode: Mode, offload: str, found: tuple[int, bool] | None = None
    ) -> None:
        self._device = device
        self.mode: Mode = mode
        self.offload = offload
        self.name: str = ""
        self.namespace: str | None = None
        self.adopted = found is not None
        self.index, self.was_running = found or (0, False)
        try:
            self.name = device.name
            if not self.adopted:
                refuse_the_last(device.fileno(), reserve=RESERVE + FOR_SOCKETS)
                self.index = _index(self.name)
                self._say_that_it_has_a_carrier()
        except BaseException:
            device.close()
            raise

    @classmethod
    def adopt(
        cls, descriptor: int, find: Callable[[str], tuple[int, bool]], *, offload: bool, mode: Mode
    ) -> Self:
        """Go on with a device that another process has opened. Nothing of its interface changes.

        *find* returns the index of the interface of a name, and whether it runs. Raises OSError:
        EBADF or EBADFD where it is no such device, or its interface was deleted, EINVAL where it is
        of another kind than ``open`` would make it. *descriptor* is the caller's then.
        """
        read = fcntl.ioctl(descriptor, TUNGETIFF, bytes(_IFREQ.size))
        packed, flags = _IFREQ.unpack(read)
        wanted = _flags(mode) | (pytun.IFF_VNET_HDR if offload and mode != "any" else 0)
        if flags & _KIND != wanted:
            raise OSError(errno.EINVAL, f"its flags are {flags & _KIND:#x}, not {wanted:#x}")
        name = packed.split(b"\0", 1)[0].decode()
        device = _Adopted(descriptor, name)
        granted = "none (configured)"
        if mode == "any":
            granted = "none (packets are preceded by their protocol type)"
        elif offload:
            granted = _request_offload(device)
            if not granted:
                raise OSError(errno.EINVAL, "the kernel refuses TUNSETOFFLOAD")
        os.set_blocking(descriptor, False)
        return cls(device, mode, granted, find(name))

    @classmethod
    def open(cls, name: str, *, offload: bool, mode: Mode = "tun") -> Self:
        """Create the interface *name*; probe super-packet offload when *offload* is wanted.

        Raises OSError: ENOENT or ENODEV without /dev/net/tun, EPERM without CAP_NET_ADMIN, EBUSY
        or EINVAL when *name* is taken, EMFILE when descriptors run short, EAGAIN when somebody
        renamed or deleted the interface at once.
        """
        why = "configured"
        if mode == "any":
            why = "packets are preceded by their protocol type"
        elif offload:
            try:
                device = _create(name, mode, pytun.IFF_VNET_HDR)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                why = "the kernel has no IFF_VNET_HDR"  # gVisor, for one
            else:
                granted = _request_offload(device)
                if granted:
                    return cls(device, mode, granted)
                device.close()
                why = "the kernel refuses TUNSETOFFLOAD"
        device = _create(name, mode, 0)
        return cls(device, mode, f"none ({why})")

    @property
    def vnet_header(self) -> int:
        """Bytes of struct virtio_net_hdr before each frame."""
        return 0 if self.offload.startswith("none") else VNET_HEADER

    @property
    def prefix(self) -> int:
        """Bytes before each frame: struct virtio_net_hdr, struct tun_pi or nothing."""
        return PACKET_INFO_LENGTH if self.mode == "any" else self.vnet_header

    def fileno(self) -> int:
        """Return the descriptor; it stays this object's to close."""
        descriptor: int = self._device.fileno()
        return descriptor

    def moved(self, namespace: str, name: str, index: int) -> None:
        """Note that the interface was moved to another network namespace by somebody else."""
        self.namespace, self.name, self.index = namespace, name, index

    def set_carrier(self, up: bool) -> None:
        """Give the interface a carrier or take it away. Raises OSError on kernels before 5.0."""
        fcntl.ioctl(self.fileno(), TUNSETCARRIER, struct.pack("i", up))

    def _say_that_it_has_a_carrier(self) -> None:
        """Make its operational state UP once it is set up, as that of any link (RFC 2863 §3.1.14).

        The kernel leaves it UNKNOWN until the carrier has changed once; networkd, node_exporter and
        people take that for down. Where the kernel cannot, it stays so, and works all the same.
        """
        with contextlib.suppress(OSError):
            self.set_carrier(False)
            self.set_carrier(True)

    def close(self) -> None:
        """Close the descriptor: the interface, its addresses and its routes go with it."""
        self._device.close()


def find(name: str) -> tuple[int, bool]:
    """Return the index of an interface and whether it is up and has a carrier. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asking:
        read = fcntl.ioctl(asking, _SIOCGIFFLAGS, _IFREQ.pack(name.encode(), 0))
    return socket.if_nametoindex(name), bool(_IFREQ.unpack(read)[1] & _IFF_RUNNING)


def _index(name: str) -> int:
    try:
        return socket.if_nametoindex(name)
    except OSError as error:
        raise OSError(errno.EAGAIN, f"{name} was renamed or deleted as it was made") from error


def _flags(mode: Mode) -> int:
    kind: int = pytun.IFF_TAP if mode == "tap" else pytun.IFF_TUN
    return kind | (0 if mode == "any" else pytun.IFF_NO_PI)


def _create(name: str, mode: Mode, extra: int) -> "pytun.TunTapDevice":
    try:
        device = pytun.TunTapDevice(name=name, flags=_flags(mode) | pytun.IFF_TUN_EXCL | extra)
    except pytun.Error as error:
        number = error.args[0] if error.args and isinstance(error.args[0], int) else errno.EIO
        raise OSError(number, os.strerror(number)) from error
    os.set_blocking(device.fileno(), False)
    return device


def _request_offload(device: Opened) -> str:
    descriptor = device.fileno()
    try:
        fcntl.ioctl(descriptor, TUNSETVNETHDRSZ, struct.pack("i", VNET_HEADER))
    except OSError:
        return ""
    for bits, granted in ((TSO | USO, "tso+uso"), (TSO, "tso")):
        try:
            fcntl.ioctl(descriptor, TUNSETOFFLOAD, bits)
        except OSError:
            continue
        return granted
    return ""
