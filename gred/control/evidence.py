"""The one way up from the data plane: what it tells goes to the part that it is evidence for.

A refused packet is told of as well; nothing else reaches a person from here that no part has
looked at. Decides nothing about a tunnel, asks the kernel nothing, and keeps nothing.
"""

import errno
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import singledispatchmethod

from gred.control import events
from gred.control.denials import Denials
from gred.control.diagnoses import Diagnoses
from gred.control.errors import words
from gred.control.events import Listener
from gred.control.neighbours import Neighbours
from gred.control.reconciler import DELETED
from gred.control.route_mtus import RouteMtus
from gred.control.tunnel import Tunnel
from gred.control.underlay_errors import UnderlayErrors
from gred.control.unknown_senders import UnknownSenders
from gred.dataplane.icmp_errors import ErrorIgnored, UnderlayError
from gred.dataplane.learning import PeerClaimed, PeerLearned
from gred.dataplane.plane import DeviceLost
from gred.dataplane.punt import Report
from gred.wire.drop import DropReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Who takes what. *lost*: called with a tunnel whose device failed, and why."""

    tunnels: Mapping[str, Tunnel]
    listener: Listener
    errors: UnderlayErrors
    denials: Denials
    diagnoses: Diagnoses
    neighbours: Neighbours
    unknown: UnknownSenders
    route_mtus: RouteMtus
    lost: Callable[[str, str], None]

    @singledispatchmethod
    def take(self, told: object) -> None:
        """Hand on what the data plane has *told*. Raises TypeError for what it cannot tell."""
        raise TypeError(f"nobody takes {told!r}")

    @take.register
    def _(self, told: UnderlayError) -> None:
        self.errors.take(told)

    @take.register
    def _(self, told: ErrorIgnored) -> None:
        self.listener(
            events.IcmpErrorIgnored(
                offender=str(told.offender),
                kind_of_error=str(told.kind),
                count=told.count,
                detail=told.why,
            )
        )

    @take.register
    def _(self, told: PeerLearned) -> None:
        self.route_mtus.came(told.tunnel, told.remote)
        name, inner, remote, before = told.tunnel, told.inner, told.remote, told.before
        self.listener(
            events.PeerLearned(tunnel=name, inner=inner, remote=remote)
            if before is None
            else events.PeerMoved(tunnel=name, inner=inner, remote=remote, before=before)
        )

    @take.register
    def _(self, told: PeerClaimed) -> None:
        self.listener(
            events.PeerClaimed(
                tunnel=told.tunnel,
                inner=told.inner,
                remote=told.remote,
                claimant=told.claimant,
                detail=f"{told.remote} was heard just now: the address stays there",
            )
        )

    @take.register
    def _(self, told: DeviceLost) -> None:
        # The kernel tells too, but not of a device that only fails to be read.
        gone = told.error.errno == errno.EBADFD
        self.lost(told.tunnel, DELETED if gone else words(told.error))

    @take.register
    def _(self, told: Report) -> None:
        if told.reason is DropReason.DENIED:
            self.denials.take(told.tunnel, told.detail)
        tunnel = self.tunnels.get(told.tunnel or "")
        foreign = self.neighbours.may_have(told)
        if not foreign:
            self.diagnoses.take(told)
            self.unknown.take(told)
        self.listener(
            events.PacketRefused(
                tunnel=told.tunnel,
                reason=DropReason.FOREIGN if foreign else told.reason,
                source=told.source,
                destination=told.destination,
                key=told.key,
                detail=told.detail if tunnel is None else tunnel.explain(told),
            )
        )
