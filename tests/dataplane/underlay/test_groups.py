"""Groups that are refused, and those beyond what one socket may join: nothing is left behind."""

import errno
import os
import socket
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from gred.dataplane.plane import DataPlane
from gred.dataplane.tunnels import TunnelParameters
from gred.dataplane.underlay.contract import GroupError, Membership
from gred.dataplane.underlay.groups import Groups
from gred.dataplane.underlay.raw import RawUnderlay
from tests.dataplane.test_plane import LEFT, Bench, PairDevice, Play, play

if TYPE_CHECKING:
    from gred.dataplane.tun import TunDevice

__all__ = ["play"]


class Joiner:
    """A socket that may join *most* groups, and remembers."""

    def __init__(self, most: int, refusal: int = errno.ENOBUFS) -> None:
        self.most, self.refusal = most, refusal
        self.joined = 0
        self.closed = False

    def fileno(self) -> int:
        return 3

    def setsockopt(self, _level: int, option: int, _value: bytes) -> None:
        if option == socket.IP_DROP_MEMBERSHIP:
            self.joined -= 1
        elif self.joined == self.most:
            raise OSError(self.refusal, os.strerror(self.refusal))
        else:
            self.joined += 1

    def bind(self, _address: object) -> None:
        assert not self.joined, "it receives from the group alone before it joins"

    def recv(self, _size: int) -> bytes:
        raise BlockingIOError

    def close(self) -> None:
        self.closed = True


def groups(first: Joiner, make: Callable[[], Joiner]) -> tuple[Groups, list[object]]:
    watched: list[object] = []
    made = Groups(
        4,
        cast("socket.socket", first),
        open_receiver=lambda: cast("socket.socket", make()),
        watch=watched.append,
        unwatch=watched.remove,
    )
    return made, watched


def membership(number: int) -> Membership:
    return Membership(bytes((239, 0, 0, number)), bytes(4), 2)


def test_what_does_not_fit_has_a_socket_of_its_own() -> None:
    first, others = Joiner(2), [Joiner(1) for _ in range(3)]
    waiting = list(others)
    made, watched = groups(first, waiting.pop)
    for number in (1, 2, 3, 4, 4):
        made.join(membership(number))
    assert first.joined == 2
    assert len(watched) == len(made.receivers) == 2
    made.leave(membership(4))
    assert len(watched) == 2, "another tunnel is in it still"
    made.leave(membership(4))
    made.leave(membership(1))
    made.join(membership(5))
    assert (first.joined, len(watched), len(waiting)) == (2, 1, 1), "what is free is used first"
    made.close()
    assert not watched
    assert [one.closed for one in others] == [False, True, True]


@pytest.mark.parametrize("number", [errno.ENODEV, errno.ENOBUFS])
def test_a_group_that_is_refused_leaves_nothing(number: int) -> None:
    first, other = Joiner(0, number), Joiner(0)
    made, watched = groups(first, lambda: other)
    with pytest.raises(GroupError, match=os.strerror(number)) as caught:
        made.join(membership(7))
    assert str(caught.value.group) == "239.0.0.7"
    assert not watched
    assert other.closed == (number == errno.ENOBUFS)
    first.most = 1
    made.join(membership(7))
    made.leave(membership(7))
    assert first.joined == 0


def test_a_tunnel_whose_group_is_refused_leaves_nothing(play: Play) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    async def scenario(bench: Bench) -> None:
        bench.tunnel(LEFT, None)
        device = PairDevice("group")
        bench.devices.append(device)

        def add(plane: DataPlane, mark: int, group_device: int = 0) -> None:
            parameters = TunnelParameters(
                family=4,
                local=None,
                remote=ip_address("239.0.0.7"),
                firewall_mark=mark,
                group_device=group_device,
            )
            plane.add_tunnel(cast("TunDevice", device), parameters)

        (underlay,) = bench.plane._underlays.values()
        assert isinstance(underlay, RawUnderlay)
        before, plain = descriptors(), underlay.plain.users
        for _ in range(3):
            with pytest.raises(GroupError):
                add(bench.plane, mark=9)  # no route to the group, and sockets of its own
            with pytest.raises(GroupError):
                add(bench.plane, mark=0, group_device=999)
        assert descriptors() == before
        assert underlay.plain.users == plain
        assert len(bench.plane._attachments) == 1

    play(scenario)
