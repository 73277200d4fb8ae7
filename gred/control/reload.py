"""What follows from another configuration: which tunnels go, come, are made anew or change. Pure.

    removed   goes                     added     comes
    renewed   goes and comes again: what differs cannot change on an interface that exists
    changed   keeps interface, counters and sequence state; the next packet obeys

Nothing here is done: daemon.py does it, and the reconciler brings what changed into its state.
"""

from dataclasses import dataclass

from gred.config.difference import Difference, OptionChange, difference
from gred.config.model import Config, TunnelConfig

# What belongs to the interface from the moment it is made.
_MADE_WITH = frozenset({"Mode", "Namespace", "Offload", "Transport"})
# Options of [Daemon] that change while it runs.
_FOLLOWED = frozenset({"MetricsListen", "MetricsTextfile"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What becomes of one tunnel: *word* is added, removed, renewed or changed."""

    name: str
    word: str
    options: tuple[OptionChange, ...] = ()

    def __str__(self) -> str:
        """Return it in one line."""
        what = ", ".join(map(str, self.options))
        return f"{self.word} {self.name}" + (f": {what}" if what else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be done, a step for each tunnel that it concerns."""

    steps: tuple[Step, ...]
    restart: tuple[OptionChange, ...] = ()
    """What only a restart can change: options of ``[Daemon]``."""

    daemon: tuple[OptionChange, ...] = ()
    """What changes of ``[Daemon]``."""

    def names(self, *words: str) -> list[str]:
        """Return the tunnels whose step is one of *words*."""
        return [step.name for step in self.steps if step.word in words]

    @property
    def counts(self) -> dict[str, int]:
        """How many tunnels are added, removed, renewed, changed: those that are any."""
        words = ("added", "removed", "renewed", "changed")
        return {word: count for word in words if (count := len(self.names(word)))}

    @property
    def detail(self) -> str:
        """What a person is to know of it beyond the counts; empty: nothing."""
        parts = []
        if self.daemon:
            parts.append(f"changed [Daemon]: {', '.join(map(str, self.daemon))}")
        if self.restart:
            what = ", ".join(map(str, self.restart))
            parts.append(f"{what} of [Daemon] takes effect with a restart")
        return "; ".join(parts)


def plan(before: Config, after: Config) -> Plan:
    """Return how to come from one configuration to another."""
    differs = difference(before, after)
    old = {tunnel.name: tunnel for tunnel in before.tunnels}
    new = {tunnel.name: tunnel for tunnel in after.tunnels}
    steps = [Step(name=name, word="removed") for name in differs.removed]
    for name, options in differs.changed.items():
        word = "renewed" if _is_another(old[name], new[name], differs) else "changed"
        steps.append(Step(name=name, word=word, options=options))
    steps += [Step(name=name, word="added") for name in differs.added]
    return Plan(
        steps=tuple(steps),
        restart=tuple(one for one in differs.daemon if one.option not in _FOLLOWED),
        daemon=tuple(one for one in differs.daemon if one.option in _FOLLOWED),
    )


def _is_another(before: TunnelConfig, after: TunnelConfig, differs: Difference) -> bool:
    """Whether the difference needs another interface, or another place in the data plane."""
    written = {change.option for change in differs.changed[after.name]}
    return (
        bool(written & _MADE_WITH)
        or before.family != after.family
        or (before.protocol is None) != (after.protocol is None)
    )
