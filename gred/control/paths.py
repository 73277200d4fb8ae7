"""Where outer packets go, and whether they come back to the tunnel that sent them. Pure.

A remote that is routed into its own tunnel is an endless loop in user space: the packet comes out
of the TUN device again, one header larger each time. The loop may be longer: tunnel A's outer
packets enter tunnel B, whose outer packets enter A. A tunnel inside another one is fine as long
as the chain ends at an interface that is no tunnel of ours.
"""

from collections.abc import Mapping


def cycles(next_device: Mapping[int, int]) -> dict[int, tuple[int, ...]]:
    """Find the devices whose outer packets come back to them.

    *next_device*: the index of each of our devices -> the interface its outer packets leave by.
    Returns each device on a cycle -> the devices passed, from itself on. A device that only leads
    into a cycle is not on it: it is enough to stop those that are.
    """
    found: dict[int, tuple[int, ...]] = {}
    done: set[int] = set()
    for start in next_device:
        trail: list[int] = []
        place: dict[int, int] = {}
        device = start
        while device in next_device and device not in done and device not in place:
            place[device] = len(trail)
            trail.append(device)
            device = next_device[device]
        if device in place:
            ring = trail[place[device] :]
            for position, member in enumerate(ring):
                found[member] = (*ring[position:], *ring[:position])
        done.update(trail)
    return found
