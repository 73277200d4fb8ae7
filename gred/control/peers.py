"""Which remotes a tunnel has, and what is behind each: values, for people and machines.

Nothing here asks the kernel, and nothing here changes what is known.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from gred.control.tunnel import Tunnel


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One remote of a tunnel, and what is behind it.

    *inner*: a network or address; None: all that is routed into the tunnel. *heard*: seconds since
    a packet of it was delivered; None: not yet, or not known of this one.
    """

    tunnel: str
    inner: str | None
    remote: str
    origin: Literal["configured", "learned"]
    heard: float | None


def peers(tunnel: Tunnel, now: float) -> Iterator[Peer]:
    """Yield the remotes of *tunnel* at *now*, on the loop's clock; the configured ones first.

    What is learned or forgotten while they are looked at may be missing.
    """
    name, config = tunnel.name, tunnel.config
    if config.remote is not None and not tunnel.unresolved:
        received_at = tunnel.diagnosis.received_at
        heard = None if received_at is None else max(now - received_at, 0.0)
        remote = str(config.remote)
        yield Peer(tunnel=name, inner=None, remote=remote, origin="configured", heard=heard)
    for network, far in config.peers:
        inner, remote = str(network), str(far)
        yield Peer(tunnel=name, inner=inner, remote=remote, origin="configured", heard=None)
    if tunnel.attachment is None:
        return
    for address, far, second in tunnel.attachment.learned_peers():
        heard = max(now - second, 0.0)
        inner, remote = str(address), str(far)
        yield Peer(tunnel=name, inner=inner, remote=remote, origin="learned", heard=heard)
