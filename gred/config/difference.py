"""What differs between two configurations: which tunnels, and which options of each. Pure.

Nothing here decides what follows from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from gred.config.model import Config, DaemonConfig, TunnelConfig
from gred.config.options import DAEMON_OPTIONS, TUNNEL_OPTIONS, Option


@dataclass(frozen=True, slots=True)
class OptionChange:
    """One option, with the text that would set it before and after."""

    option: str
    before: str
    after: str

    def __str__(self) -> str:
        """Return it in one line."""
        return f"{self.option}={self.before} -> {self.after}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What differs, by names of tunnels in the order they were written."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: Mapping[str, tuple[OptionChange, ...]]
    daemon: tuple[OptionChange, ...] = ()
    """Of the ``[Daemon]`` section."""

    def __bool__(self) -> bool:
        """Whether anything differs."""
        return bool(self.added or self.removed or self.changed or self.daemon)


def difference(before: Config, after: Config) -> Difference:
    """Return what differs between two configurations; where something is written is no matter."""
    old = {tunnel.name: tunnel for tunnel in before.tunnels}
    new = {tunnel.name: tunnel for tunnel in after.tunnels}
    return Difference(
        added=tuple(name for name in new if name not in old),
        removed=tuple(name for name in old if name not in new),
        changed={
            name: _options(TUNNEL_OPTIONS, old[name], tunnel)
            for name, tunnel in new.items()
            if name in old and old[name] != tunnel
        },
        daemon=_options(DAEMON_OPTIONS, before.daemon, after.daemon),
    )


def _options(
    options: tuple[Option, ...],
    before: TunnelConfig | DaemonConfig,
    after: TunnelConfig | DaemonConfig,
) -> tuple[OptionChange, ...]:
    """Return each option that differs once: the first that can express both values."""
    old = {one.name: getattr(before, one.name) for one in fields(before)}
    new = {one.name: getattr(after, one.name) for one in fields(after)}
    left = {name for name in old if old[name] != new[name]}
    found = []
    for option in options:
        if left.isdisjoint(option.fields):
            continue
        texts = option.write(old), option.write(new)
        if texts[0] is not None and texts[1] is not None:
            found.append(OptionChange(option.name, texts[0], texts[1]))
            left.difference_update(option.fields)
    return tuple(found)
