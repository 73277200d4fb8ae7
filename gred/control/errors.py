"""Set-up failures in words: place, finding, remedy. And the exit codes they end with.

Nothing here finds an error; it only says what one means and what helps.
"""

import errno
import os
from enum import IntEnum, unique

from gred.control.kernel.namespaces import NamespaceError
from gred.dataplane.underlay.contract import GroupError, PortTakenError


@unique
class ExitCode(IntEnum):
    """How the process ends. The large ones are those of sysexits(3)."""

    OK = 0
    FAILURE = 1  # set-up or run-time failure
    USAGE = 2  # argparse's own
    FINDINGS = 3  # gred doctor has something to mend
    NO_TUN = 69  # EX_UNAVAILABLE: no /dev/net/tun
    NO_PERMISSION = 77  # EX_NOPERM
    BAD_CONFIGURATION = 78  # EX_CONFIG


class SetupError(Exception):
    """Something could not be set up. The text is for the person who runs gred."""

    def __init__(self, message: str, exit_code: ExitCode = ExitCode.FAILURE) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code

    @property
    def is_of_the_process(self) -> bool:
        """Whether no tunnel can do without what is missing: a start ends with it."""
        return self.exit_code is not ExitCode.FAILURE


_NO_DEVICE = frozenset({errno.ENOENT, errno.ENODEV, errno.ENXIO})
_REFUSED = frozenset({errno.EPERM, errno.EACCES})
_NO_FAMILY = frozenset({errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EADDRNOTAVAIL})
_NO_IPSEC = frozenset({errno.EPROTONOSUPPORT, errno.ENOPROTOOPT, errno.ENOENT, errno.EINVAL})
_MORE_DESCRIPTORS = " (raise LimitNOFILE= of the service, or ulimit -n)"


def device_refused(
    error: OSError, *, place: str, name: str, exists: bool, node: str = ""
) -> SetupError:
    """Say why the TUN device *name* could not be opened; *exists*: an interface has that name.

    *node*: what /dev/net/tun is where it is not the device; see ``devices.describe_node``.
    """
    finding = words(error)
    if isinstance(error, NamespaceError):
        return _namespace_refused(error, place=place, name=name)
    if node:
        return SetupError(wrong_node(node), ExitCode.NO_TUN)
    if error.errno in _NO_DEVICE:
        return SetupError(
            f"cannot open /dev/net/tun: {finding} (load the module: modprobe tun;"
            " in a container: --device /dev/net/tun)",
            ExitCode.NO_TUN,
        )
    if error.errno == errno.EACCES:
        return SetupError(
            f"cannot open /dev/net/tun: {finding} (may this user read and write it, and is it on no"
            " file system mounted nodev? chmod 666 /dev/net/tun)",
            ExitCode.NO_PERMISSION,
        )
    if error.errno == errno.EPERM:
        return SetupError(
            f"cannot open /dev/net/tun: {finding} (gred needs CAP_NET_ADMIN,"
            " and in a container the device: --device /dev/net/tun)",
            ExitCode.NO_PERMISSION,
        )
    if exists:
        return SetupError(
            f"{place}: cannot make interface {name}: the name is taken"
            f" (see: ip link show dev {name})"
        )
    remedy = _MORE_DESCRIPTORS if error.errno == errno.EMFILE else ""
    return SetupError(f"{place}: cannot make interface {name}: {finding}{remedy}")


def wrong_node(node: str) -> str:
    """Say that /dev/net/tun is *node*, which it should not be, and what helps."""
    return (
        f"/dev/net/tun is {node}, expected character device 10, 200"
        " (rm -r /dev/net/tun; mknod -m 666 /dev/net/tun c 10 200;"
        " in a container: --device /dev/net/tun)"
    )


def _namespace_refused(error: NamespaceError, *, place: str, name: str) -> SetupError:
    namespace, finding = error.namespace, words(error)
    if error.errno == errno.ENOENT:
        return SetupError(
            f"{place}: there is no network namespace {namespace} (see: ip netns;"
            f" to make one: ip netns add {namespace})"
        )
    if error.errno in _REFUSED:
        return SetupError(
            f"{place}: cannot enter network namespace {namespace}: {finding}"
            " (gred needs CAP_SYS_ADMIN for Namespace=)"
        )
    if error.errno == errno.EEXIST:
        return SetupError(
            f"{place}: cannot make interface {name} in network namespace {namespace}:"
            " the name is taken"
        )
    return SetupError(f"{place}: cannot use network namespace {namespace}: {finding}")


def socket_refused(error: OSError, *, place: str, version: int) -> SetupError:
    """Say why the data plane refused a tunnel over IP *version*: sockets are what it may lack."""
    if isinstance(error, GroupError):
        return _group_refused(error, place=place)
    if isinstance(error, PortTakenError):
        return SetupError(
            f"{place}: cannot receive from UDP port {error.port}: another program does"
            f" (see: ss -lunp sport = :{error.port}), or the kernel (ip fou show);"
            " give another Port="
        )
    if error.errno in _REFUSED:
        return SetupError(
            f"cannot open a raw socket: {words(error)} (gred needs CAP_NET_RAW;"
            " in a container: --cap-add NET_RAW)",
            ExitCode.NO_PERMISSION,
        )
    remedy = ""
    if error.errno in _NO_FAMILY:
        remedy = f" (is IPv{version} switched off?)"
    elif error.errno == errno.EMFILE:
        remedy = _MORE_DESCRIPTORS
    return SetupError(f"{place}: cannot open a raw socket for IPv{version}: {words(error)}{remedy}")


def shield_refused(error: OSError, *, place: str) -> SetupError:
    """Say why the kernel takes no block policy: without one a tunnel is not to carry anything."""
    remedy = ""
    if error.errno in _REFUSED:
        remedy = " (gred needs CAP_NET_ADMIN)"
    elif error.errno in _NO_IPSEC:
        remedy = " (has this kernel IPsec? modprobe xfrm_user)"
    return SetupError(
        f"{place}: IPsec=require: cannot keep GRE from passing in clear: {words(error)}{remedy}"
    )


def _group_refused(error: GroupError, *, place: str) -> SetupError:
    remedy = ""
    if error.errno == errno.ENODEV:
        remedy = " (which device? give Device=, or a route to the group)"
    elif error.errno == errno.EMFILE:
        remedy = _MORE_DESCRIPTORS
    return SetupError(f"{place}: cannot join group {error.group}: {words(error)}{remedy}")


def words(error: OSError) -> str:
    """Return what the system says of *error*, without number and file name."""
    return error.strerror or (os.strerror(error.errno) if error.errno else str(error))
