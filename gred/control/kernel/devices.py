"""Opens the devices of tunnels: here, or on their way to another network namespace. Blocks.

The daemon closes what is opened here. No packet passes through this file, and no setting of an
interface but its place.
"""

import fcntl
import os
import socket
import stat
from pathlib import Path

from gred.control.kernel import messages
from gred.control.kernel.namespaces import NamespaceError, inside, namespace_path, open_namespace
from gred.control.kernel.parts import DeviceMode
from gred.control.kernel.rtnetlink import Rtnetlink
from gred.dataplane.descriptors import refuse_elsewhere
from gred.dataplane.tun import NODE, NODE_NUMBERS, TunDevice, find

# The kernel puts a number in place of %d. The tunnel's own name may be another interface's here.
_ON_ITS_WAY = "gred%d"

_TUNGETDEVNETNS = 0x54E3  # linux/if_tun.h, Linux 5.8

_KINDS = {
    stat.S_IFREG: "a plain file",
    stat.S_IFDIR: "a directory",
    stat.S_IFBLK: "a block device",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}


def open_device(name: str, *, offload: bool, mode: DeviceMode, namespace: str | None) -> TunDevice:
    """Make the interface *name*, in *namespace* if one is given.

    Raises OSError as ``TunDevice.open`` does, and NamespaceError. The device is made here and
    moved: one that was made inside would keep the namespace alive after its deletion.
    """
    if namespace is None:
        return TunDevice.open(name, offload=offload, mode=mode)
    _look_into(namespace)
    device = TunDevice.open(_ON_ITS_WAY, offload=offload, mode=mode)
    try:
        _move(device, name, namespace)
    except BaseException:
        device.close()
        raise
    return device


def adopt_device(
    descriptor: int, *, offload: bool, mode: DeviceMode, namespace: str | None
) -> TunDevice:
    """Go on with a device that another process has opened, as ``open_device`` would make it.

    Raises OSError where it is not so, or no longer; then *descriptor* stays the caller's.
    """
    _is_in(descriptor, namespace)
    device = TunDevice.adopt(
        descriptor, lambda found: inside(namespace, lambda: find(found)), offload=offload, mode=mode
    )
    if namespace is not None:
        device.moved(namespace, device.name, device.index)
    return device


def _is_in(descriptor: int, namespace: str | None) -> None:
    """Raise OSError unless the interface is in *namespace*; None: our own."""
    found = fcntl.ioctl(descriptor, _TUNGETDEVNETNS)
    if namespace is None:
        refuse_elsewhere(found)
    else:
        refuse_elsewhere(found, namespace_path(namespace))


def describe_node() -> str:
    """Return what /dev/net/tun is in the place of the device it should be; empty when it is that.

    Empty also where it is not there or may not be looked at: opening it says so.
    """
    try:
        found = Path(NODE).stat()
    except OSError:
        return ""
    if not stat.S_ISCHR(found.st_mode):
        return _KINDS.get(stat.S_IFMT(found.st_mode), "no device")
    numbers = os.major(found.st_rdev), os.minor(found.st_rdev)
    return "" if numbers == NODE_NUMBERS else f"character device {numbers[0]}, {numbers[1]}"


def _look_into(namespace: str) -> None:
    """Raise NamespaceError when the interface could not be set up in there afterwards."""
    try:
        inside(namespace, socket.if_nameindex)
    except OSError as error:
        raise NamespaceError(error, namespace) from error


def _move(device: TunDevice, name: str, namespace: str) -> None:
    try:
        _order_to_move(device.index, name, namespace)
        # The index stays unless it is taken in there.
        device.moved(namespace, name, inside(namespace, lambda: socket.if_nametoindex(name)))
    except OSError as error:
        raise NamespaceError(error, namespace) from error


def _order_to_move(index: int, name: str, namespace: str) -> None:
    descriptor = open_namespace(namespace)
    try:
        with Rtnetlink() as kernel:
            answer = kernel.exchange([messages.move_link(index, name, descriptor)])[0]
    finally:
        os.close(descriptor)
    if answer.error:
        raise OSError(answer.error, answer.finding)
