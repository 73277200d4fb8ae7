"""Flags of a tunnel record, as the pure-Python codec asks for them. Values only."""

from gred.dataplane.layout import TunnelFlag


def has(flags: int, flag: TunnelFlag) -> bool:
    """Whether *flag* is set in the number *flags*.

    ``flags & flag`` would say the same, but makes a new TunnelFlag each time: ten times the cost.
    """
    return flags & int(flag) != 0
