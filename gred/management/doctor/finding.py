"""A finding: what is wrong, why it matters, what mends it. A value."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing to mend. *kind* is a constant, for machines; *tunnels*: empty, it is the host's."""

    kind: str
    what: str
    why: str
    remedy: str
    tunnels: tuple[str, ...] = ()
