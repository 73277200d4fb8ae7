"""Addresses of a tunnel that another interface of the host has, too.

The kernel takes both, and says nothing: packets then leave by one of the two.
"""

from collections.abc import Iterator, Mapping, Sequence

from gred.config.model import IPInterface, TunnelConfig
from gred.control.kernel.parts import Kernel


class Overlaps:
    """What the interfaces of one network namespace have: name -> addresses with their prefixes."""

    def __init__(self, interfaces: Mapping[str, Sequence[IPInterface]]) -> None:
        self._addresses: dict[object, list[str]] = {}
        self._networks: dict[object, list[str]] = {}
        for name, own in interfaces.items():
            for address in own:
                if address.version == 6 and address.ip.is_link_local:
                    continue  # each link has its own
                self._addresses.setdefault(address.ip, []).append(name)
                self._networks.setdefault(address.network, []).append(name)

    def of(self, name: str, addresses: Sequence[IPInterface]) -> Iterator[str]:
        """Yield a sentence for each of *addresses*, meant for interface *name*, that is not new."""
        for address in addresses:
            if (other := _other(self._addresses, address.ip, name)) is not None:
                yield f"interface {other} has the address {address.ip} too"
            elif (
                address.network.prefixlen < address.max_prefixlen
                and (other := _other(self._networks, address.network, name)) is not None
            ):
                yield (
                    f"interface {other} has {address.network} on its link too:"
                    " packets for it leave by one of the two"
                )


def shared(kernel: Kernel, configs: Sequence[TunnelConfig]) -> Iterator[tuple[TunnelConfig, str]]:
    """Yield each tunnel with an address that is not new to its namespace, and a sentence on it.

    Asks once for each namespace. Blocks: for threads only.
    """
    spaces: dict[str | None, Overlaps] = {}
    for config in configs:
        if not config.addresses:
            continue
        if config.namespace not in spaces:
            try:
                spaces[config.namespace] = Overlaps(kernel.networks(config.namespace))
            except OSError:  # there is no such namespace, or it may not be entered
                spaces[config.namespace] = Overlaps({})
        for sentence in spaces[config.namespace].of(config.name, config.addresses):
            yield config, sentence


def _other(owners: Mapping[object, list[str]], item: object, name: str) -> str | None:
    return next((owner for owner in owners.get(item, []) if owner != name), None)
