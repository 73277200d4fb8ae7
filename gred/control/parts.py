"""What control needs of its neighbours: the shapes of events and of the data plane.

Shapes only. The real data plane is `gred.dataplane.plane.DataPlane`; tests put another in its
place, and need no root. Those of the kernel: `gred.control.kernel.parts`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from gred.config.model import IPAddress
from gred.control.kernel.parts import Device
from gred.dataplane.traffic import LastError, Traffic
from gred.dataplane.tunnels import Counters, TunnelParameters
from gred.wire.drop import DropReason


@dataclass(frozen=True, slots=True)
class Event:
    """Something that people or machines may want to know. Names are constants, fields are data.

    *level*: debug, info, warning or error. *tunnel*: the configured name, or None.
    """

    name: str
    level: str = "info"
    tunnel: str | None = None
    fields: Mapping[str, object] = field(default_factory=dict)


Listener = Callable[[Event], None]


class Port(Protocol):
    """A tunnel as the data plane knows it.

    *last_error*: the last ICMP error about one of its packets, other than "too big".
    """

    last_error: LastError

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

    def block(self, reason: DropReason | None) -> None:
        """Send nothing more and count it under *reason*; None: go on."""

    def counters(self) -> Counters:
        """Return a snapshot."""
        ...

    def traffic(self) -> Traffic:
        """Return how much was sent and received so far, at little cost."""
        ...


class Plane(Protocol):
    """The data plane. Takes a device to read and write; never closes it."""

    def add_tunnel(self, device: Device, parameters: TunnelParameters) -> Port:
        """Begin to move packets. Raises OSError when the kernel refuses a socket or an option.

        OverflowError when there are too many tunnels. Then nothing of it is left.
        """
        ...

    def remove_tunnel(self, port: Port) -> None:
        """Stop reading the device; also when the interface behind it is gone."""

    def others_receive(self, present: bool, /) -> None:
        """Count what is no tunnel's as foreign while another receiver is *present*."""

    def unclaimed(self) -> Counters:
        """Return what belongs to no tunnel."""
        ...

    def features(self) -> dict[str, str]:
        """Return what was found possible on this machine."""
        ...

    def close(self) -> None:
        """Close the underlay sockets."""
