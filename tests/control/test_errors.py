"""Place, finding, remedy; and the exit code."""

import errno
import os

import pytest

from gred.control.errors import ExitCode, SetupError, device_refused, socket_refused
from gred.control.kernel.namespaces import NamespaceError
from gred.dataplane.underlay.contract import GroupError, Membership

PLACE = "gred.conf:7: [Tunnel t1]"


def refused(number: int, *, exists: bool = False) -> SetupError:
    error = OSError(number, os.strerror(number))
    return device_refused(error, place=PLACE, name="t1", exists=exists)


def test_exit_codes_are_those_of_sysexits() -> None:
    assert ExitCode.NO_TUN == os.EX_UNAVAILABLE
    assert ExitCode.NO_PERMISSION == os.EX_NOPERM
    assert ExitCode.BAD_CONFIGURATION == os.EX_CONFIG


def test_no_permission_names_the_capability() -> None:
    error = refused(errno.EPERM)
    assert str(error).startswith("cannot open /dev/net/tun: Operation not permitted (gred needs")
    assert "CAP_NET_ADMIN" in str(error)
    assert error.exit_code is ExitCode.NO_PERMISSION


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENODEV, errno.ENXIO])
def test_a_missing_device_node_names_module_and_container_option(number: int) -> None:
    error = refused(number)
    assert "modprobe tun" in str(error)
    assert "--device /dev/net/tun" in str(error)
    assert error.exit_code is ExitCode.NO_TUN


@pytest.mark.parametrize("number", [errno.ENOTTY, errno.EISDIR, errno.EACCES])
def test_a_node_that_is_something_else_is_said_with_its_remedy(number: int) -> None:
    error = OSError(number, os.strerror(number))
    told = device_refused(error, place=PLACE, name="t1", exists=False, node="a plain file")
    assert str(told).startswith("/dev/net/tun is a plain file, expected character device 10, 200 (")
    assert "mknod -m 666 /dev/net/tun c 10 200" in str(told)
    assert told.exit_code is ExitCode.NO_TUN


def test_a_node_that_may_not_be_opened_is_no_matter_of_capabilities() -> None:
    error = refused(errno.EACCES)
    assert "chmod 666 /dev/net/tun" in str(error)
    assert "CAP_" not in str(error)
    assert error.exit_code is ExitCode.NO_PERMISSION


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EINVAL])
def test_a_taken_name_is_said_with_its_place(number: int) -> None:
    error = refused(number, exists=True)
    assert str(error) == (
        f"{PLACE}: cannot make interface t1: the name is taken (see: ip link show dev t1)"
    )
    assert error.exit_code is ExitCode.FAILURE


def test_a_limit_of_descriptors_names_the_remedy() -> None:
    assert "LimitNOFILE=" in str(refused(errno.EMFILE))
    error = socket_refused(OSError(errno.EMFILE, "Too many open files"), place=PLACE, version=4)
    assert "LimitNOFILE=" in str(error)


def test_a_group_that_cannot_be_joined_is_named() -> None:
    membership = Membership(bytes((239, 1, 2, 3)), bytes(4), 0)
    error = GroupError(OSError(errno.ENODEV, "No such device"), membership)
    text = str(socket_refused(error, place=PLACE, version=4))
    assert text.startswith(f"{PLACE}: cannot join group 239.1.2.3: No such device (which device?")


def test_another_error_keeps_the_kernels_words() -> None:
    assert str(refused(errno.ENFILE)).endswith("cannot make interface t1: " + os.strerror(23))


def test_no_raw_socket_names_the_capability() -> None:
    error = socket_refused(
        PermissionError(errno.EPERM, "Operation not permitted"), place=PLACE, version=4
    )
    assert str(error) == (
        "cannot open a raw socket: Operation not permitted (gred needs CAP_NET_RAW;"
        " in a container: --cap-add NET_RAW)"
    )
    assert error.exit_code is ExitCode.NO_PERMISSION


def test_a_missing_ip_version_is_said() -> None:
    error = socket_refused(
        OSError(errno.EAFNOSUPPORT, "Address family not supported"), place=PLACE, version=6
    )
    assert "is IPv6 switched off?" in str(error)
    assert error.exit_code is ExitCode.FAILURE


def namespace_refused(number: int) -> SetupError:
    error = NamespaceError(OSError(number, os.strerror(number)), "blue")
    return device_refused(error, place=PLACE, name="t1", exists=True)


def test_a_missing_namespace_is_not_taken_for_a_missing_device_node() -> None:
    error = namespace_refused(errno.ENOENT)
    assert str(error).startswith(f"{PLACE}: there is no network namespace blue (see: ip netns")
    assert error.exit_code is ExitCode.FAILURE


@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES])
def test_a_namespace_that_may_not_be_entered_names_the_capability(number: int) -> None:
    error = namespace_refused(number)
    assert "CAP_SYS_ADMIN" in str(error)
    assert not error.is_of_the_process, "tunnels without a namespace need none"


@pytest.mark.parametrize(
    ("number", "words"), [(errno.EEXIST, "the name is taken"), (errno.EINVAL, "Invalid argument")]
)
def test_what_else_a_namespace_refuses_names_it(number: int, words: str) -> None:
    text = str(namespace_refused(number))
    assert text.startswith(PLACE)
    assert "network namespace blue" in text
    assert text.endswith(words)
