"""Interfaces as gred set them up against what they are now: one difference for each. Pure.

What is said here is all that a repair would have to do. Nothing is repaired: what is not as it was
may be somebody's will.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gred.config.model import IPInterface, IPNetwork
from gred.control.kernel.parts import Actual, InterfaceSettings, Kernel, prefix

_SHOWN = 3  # of one kind, in a sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What an interface lacks. *mtu*: what it is instead of the one that gred set; None: as set."""

    name: str
    down: bool = False
    addresses: tuple[IPInterface, ...] = ()
    routes: tuple[IPNetwork, ...] = ()
    mtu: int | None = None

    @property
    def incomplete(self) -> bool:
        """Whether anything but being up is missing."""
        return bool(self.addresses or self.routes or self.mtu is not None)

    @property
    def sentence(self) -> str:
        """What is not as gred set it up, in words; empty when nothing is."""
        if self.down:
            return f"the interface was set down (to end it: ip link set dev {self.name} up)"
        parts = [
            *_missing("address", "addresses", self.addresses),
            *_missing("route", "routes", self.routes),
        ]
        if self.mtu is not None:
            parts.append(f"the MTU was changed to {self.mtu}")
        return ", ".join(parts)


def compare(wanted: InterfaceSettings, actual: Actual) -> Difference:
    """Return what is not as *wanted*. Of an interface that is down nothing else is looked at."""
    if not actual.up:
        return Difference(name=wanted.name, down=True)
    return Difference(
        name=wanted.name,
        addresses=tuple(own for own in wanted.all_addresses if prefix(own) not in actual.addresses),
        routes=tuple(route for route in wanted.own_routes if prefix(route) not in actual.routes),
        mtu=None if actual.mtu == wanted.mtu else actual.mtu,
    )


def differences(kernel: Kernel, wanted: Iterable[InterfaceSettings]) -> dict[str, Difference]:
    """Ask *kernel* for all interfaces of each namespace at once; return differences by name.

    Those that are not where gred put them are left out. Blocks. Raises OSError.
    """
    found: dict[str, Difference] = {}
    by_namespace: dict[str | None, list[InterfaceSettings]] = {}
    for settings in wanted:
        by_namespace.setdefault(settings.namespace, []).append(settings)
    for namespace, here in by_namespace.items():
        actual = _ask(kernel, here, namespace)
        for settings in here:
            if (now := actual.get(settings.index)) is not None:
                found[settings.name] = compare(settings, now)
    return found


def _ask(
    kernel: Kernel, wanted: Sequence[InterfaceSettings], namespace: str | None
) -> Mapping[int, Actual]:
    try:
        return kernel.actual(wanted, namespace)
    except OSError:
        if namespace is None:
            raise
        return {}  # it is gone, with all that was in it


def _missing(one: str, many: str, items: Sequence[object]) -> list[str]:
    if not items:
        return []
    shown = [str(item) for item in items[:_SHOWN]]
    shown += [f"{len(items) - _SHOWN} more"] if len(items) > _SHOWN else []
    noun, verb = (one, "is") if len(items) == 1 else (many, "are")
    return [f"{noun} {' and '.join(shown)} {verb} missing"]
