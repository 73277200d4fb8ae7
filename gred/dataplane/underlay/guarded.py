"""Remotes from which nothing is taken that did not come protected by IPsec.

A receiver of its own for each, with a policy of its own, which nobody can flush; the first receiver
gets what all others send, and throws away what these do. They are not connected: an ICMP error
would be an error of theirs, upon which libuv stops watching them. So the kernel shows each of them
all that arrives, and filters throw away what is of others. Reads no packet.
"""

import contextlib
import socket
import struct
from collections.abc import Callable, Collection
from dataclasses import dataclass

from gred.dataplane.underlay.contract import Family
from gred.dataplane.underlay.ipsec import receives, set_policy
from gred.dataplane.underlay.sockets import (
    Instructions,
    RawSocket,
    attach_filter,
    detach_filter,
)

_LOAD, _COMPARE, _RETURN = 0x20, 0x15, 0x06  # linux/bpf_common.h: ld [k], jeq k, ret k
_ALL = 0xFFFFFFFF
_NETWORK = 0xFFF00000  # SKF_NET_OFF: counted from the IP header
_SOURCE_AT = {4: 12, 6: 8}


@dataclass(slots=True)
class _Guard:
    """The receiver for one remote, and for how many tunnels."""

    receiver: RawSocket
    users: int = 1


class Guarded:
    """The guarded remotes of one address family.

    *first*: the socket that receives from all others. *open_receiver* returns another like it;
    *watch* is called with each that packets are to be read from, *unwatch* before it is closed.
    """

    def __init__(
        self,
        family: Family,
        first: RawSocket,
        *,
        open_receiver: Callable[[], RawSocket],
        watch: Callable[[RawSocket], object],
        unwatch: Callable[[RawSocket], object],
    ) -> None:
        self._family: Family = family
        self._first = first
        self._open_receiver = open_receiver
        self._watch = watch
        self._unwatch = unwatch
        self._guards: dict[bytes, _Guard] = {}

    @property
    def receivers(self) -> list[RawSocket]:
        """Return what packets are read from beside the first."""
        return [guard.receiver for guard in self._guards.values()]

    def guard(self, remote: bytes, mode: int) -> None:
        """Take from *remote* (packed) what came in ESP of *mode*; to be followed by ``leave``.

        Where it is guarded already, the mode is this from now on. Raises OSError.
        """
        guard = self._guards.get(remote)
        if guard is not None:
            set_policy(guard.receiver, self._family, receives(self._family, remote, mode))
            guard.users += 1
            return
        self._leave_out([*self._guards, remote])
        try:
            receiver = self._open(remote, mode)
        except BaseException:
            self._leave_out(self._guards)
            raise
        self._guards[remote] = _Guard(receiver)
        self._watch(receiver)

    def leave(self, remote: bytes) -> None:
        """Take one ``guard`` back."""
        guard = self._guards[remote]
        guard.users -= 1
        if guard.users:
            return
        del self._guards[remote]
        self._unwatch(guard.receiver)
        guard.receiver.close()
        with contextlib.suppress(OSError):  # one that is too long stays: rather nothing
            self._leave_out(self._guards)

    def close(self) -> None:
        """Leave all. The first socket stays open, and guarded."""
        while self._guards:
            _remote, guard = self._guards.popitem()
            self._unwatch(guard.receiver)
            guard.receiver.close()

    def _open(self, remote: bytes, mode: int) -> RawSocket:
        receiver, family = self._open_receiver(), self._family
        try:
            set_policy(receiver, family, receives(family, remote, mode))
            _attach(receiver, _program(family, [remote], listed=_ALL, others=0))
            _empty(receiver)
        except BaseException:
            receiver.close()
            raise
        return receiver

    def _leave_out(self, remotes: Collection[bytes]) -> None:
        """Let the first receiver get nothing of *remotes*. Raises OSError."""
        if remotes:
            _attach(self._first, _program(self._family, remotes, listed=0, others=_ALL))
        else:
            detach_filter(self._first)


def _attach(receiver: RawSocket, program: Instructions) -> None:
    """Attach a filter. Raises OSError also where the socket would do without."""
    attach_filter(receiver, program)
    if (error := receiver.lacks.pop("SO_ATTACH_FILTER", None)) is not None:
        raise error


def _program(
    family: Family, remotes: Collection[bytes], *, listed: int, others: int
) -> Instructions:
    """Return a filter that takes *listed* bytes of what *remotes* send, *others* of the rest."""
    program = []
    for remote in remotes:
        words = struct.unpack(f"!{len(remote) // 4}I", remote)
        for number, word in enumerate(words):
            at = _NETWORK + _SOURCE_AT[family] + 4 * number
            to_next = 2 * (len(words) - number - 1) + 1
            program += [(_LOAD, 0, 0, at), (_COMPARE, 0, to_next, word)]
        program.append((_RETURN, 0, 0, listed))
    return [*program, (_RETURN, 0, 0, others)]


def _empty(receiver: socket.socket) -> None:
    """Throw away what arrived before the policy was there."""
    with contextlib.suppress(OSError):
        while True:
            receiver.recv(1)
