"""What control needs of its neighbours: the shape of the data plane.

Shapes only. The real data plane is `gred.dataplane.plane.DataPlane`; tests put another in its
place, and need no root. Those of the kernel: `gred.control.kernel.parts`.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import Protocol

from gred.config.model import IPAddress
from gred.control.kernel.parts import Device
from gred.control.store import Store
from gred.dataplane.punt import Punted
from gred.dataplane.receivers import Taken
from gred.dataplane.trace import Tap
from gred.dataplane.traffic import LastError, Traffic
from gred.dataplane.tunnels import Counters, TunnelParameters
from gred.wire.drop import DropReason


class Attachment(Protocol):
    """A tunnel as the data plane knows it.

    *parameters*: what it obeys now. *last_error*: the last ICMP error about one of its packets,
    other than "too big". *awaited*: a punted packet that contains one of these comes up above any
    allowance; a few at most.
    """

    parameters: TunnelParameters
    last_error: LastError
    awaited: AbstractSet[bytes]

    @property
    def no_packet_socket(self) -> str:
        """Why nothing is sent through a packet socket; empty when it is."""
        ...

    def update(self, parameters: TunnelParameters) -> None:
        """Use *parameters* from the next packet on. Raises OSError when the kernel refuses them."""

    def limit_path(self, remote: IPAddress, path_mtu: int | None, *, fragmentable: bool) -> None:
        """Let packets to *remote*, one of many, obey its path.

        *path_mtu*: the largest inner packet that it carries, in bytes; None: as to all others.
        *fragmentable*: outer packets go there without Don't Fragment.
        """

    def remotes(self) -> list[bytes]:
        """Return its many remotes (packed) as they are now; none where it has but one."""
        ...

    def learned_peers(self) -> Iterator[tuple[IPAddress, IPAddress, int]]:
        """Yield what was learned: inner address, remote, second of the loop that it was heard."""
        ...

    def learn(self, inner: IPAddress, remote: IPAddress, second: int, /) -> None:
        """Learn as ``learned_peers`` tells."""

    def sequence(self) -> tuple[int, list[int]]:
        """Return the next sequence number to send, and what is known of those received."""
        ...

    def resume(self, sequence: tuple[int, list[int] | None], /) -> None:
        """Go on with that of another process; None: nothing is known of those received."""

    def block(self, reason: DropReason | None) -> None:
        """Send nothing more and count it under *reason*; None: go on."""

    def counters(self) -> Counters:
        """Return a snapshot."""
        ...

    def traffic(self) -> Traffic:
        """Return how much was sent and received so far, at little cost."""
        ...


class Inject(Protocol):
    """Sends packets of our own, each at once or never. See `gred.dataplane.inject.Injector`."""

    def datagram(self, attachment: Attachment, data: bytes, /, *, remote: IPAddress) -> bool:
        """Send *data*, which begins with a GRE header, as it stands; return whether it was sent."""
        ...

    def payload(
        self,
        attachment: Attachment,
        protocol_type: int,
        payload: bytes,
        /,
        *,
        remote: IPAddress,
        whole: bool = False,
    ) -> bool:
        """Send *payload* behind a GRE header as the tunnel's; return whether it was sent.

        *whole*: with Don't Fragment, whatever the tunnel's packets have.
        """
        ...


class Punts(Protocol):
    """Hands packets up that were refused. See `gred.dataplane.punt.Punts`."""

    def subscribe(self, reasons: Collection[DropReason], take: Callable[[Punted], None]) -> None:
        """Call *take* with packets refused for one of *reasons*."""


class Plane(Protocol):
    """The data plane. Takes a device to read and write; never closes it."""

    @property
    def tap(self) -> Tap:
        """Where packets are watched."""
        ...

    @property
    def inject(self) -> Inject:
        """What sends packets of our own."""
        ...

    @property
    def punts(self) -> Punts:
        """What hands refused packets up."""
        ...

    def add_tunnel(self, device: Device, parameters: TunnelParameters) -> Attachment:
        """Begin to move packets. Raises OSError when the kernel refuses a socket or an option.

        OverflowError when there are too many tunnels. Then nothing of it is left.
        """
        ...

    def remove_tunnel(self, attachment: Attachment) -> None:
        """Stop reading the device; also when the interface behind it is gone."""

    def sample(self, attachment: Attachment, take: Callable[[bytes], None], /) -> None:
        """Call *take* with the beginning of the next inner packet that *attachment* delivers."""

    def others_receive(self, present: bool, what: Iterable[Taken], /) -> None:
        """Count what is no tunnel's as foreign while another receiver is *present*.

        *what*: what they are known to take; this also where only the key tells it from our own.
        """

    def use_store(self, store: Store, /) -> None:
        """Have sockets kept by *store*, and receive nothing before ``receive`` is called."""

    def receive(self) -> None:
        """Receive from now on. Harmless twice."""

    def unclaimed(self) -> Counters:
        """Return what belongs to no tunnel."""
        ...

    def features(self) -> dict[str, str]:
        """Return what was found possible on this machine."""
        ...

    def close(self) -> None:
        """Close the underlay sockets."""
