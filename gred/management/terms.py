"""A tunnel, and the difference between two, in the words of ip(8): what people would type.

gred types nothing: it speaks to the kernel over netlink. Pure.
"""

import shlex
from collections.abc import Iterable, Iterator
from itertools import chain

from gred.config.model import TunnelConfig
from gred.control.link_local import link_local
from gred.control.reload import Plan


def making(tunnel: TunnelConfig, mtu: int | str) -> Iterator[str]:
    """Yield what makes the interface of *tunnel* with that MTU, and what is behind which remote."""
    yield f"ip tuntap add dev {tunnel.name} mode {device_mode(tunnel)}"
    ip = _ip(tunnel)
    if tunnel.namespace is not None:
        yield f"ip link set dev {tunnel.name} netns {tunnel.namespace}"
    mac = f" address {tunnel.mac_address}" if tunnel.mac_address is not None else ""
    yield f"{ip} link set dev {tunnel.name}{mac} mtu {mtu} up"
    yield from (f"{ip} address add {one} dev {tunnel.name}" for one in _addresses(tunnel))
    yield from (f"{ip} route add {one} dev {tunnel.name}" for one in map(str, tunnel.routes))
    yield from _peers(tunnel)
    if tunnel.post_up:
        yield shlex.join(tunnel.post_up)


def reload(
    plan: Plan, before: Iterable[TunnelConfig], after: Iterable[TunnelConfig]
) -> dict[str, tuple[str, ...]]:
    """Return what each step of *plan* does, by the name of its tunnel."""
    old, new = ({tunnel.name: tunnel for tunnel in tunnels} for tunnels in (before, after))
    found = {}
    for step in plan.steps:
        gone, come = old.get(step.name), new.get(step.name)
        if step.word == "changed" and gone is not None and come is not None:
            found[step.name] = tuple(changing(gone, come))
            continue
        unmade = [] if gone is None else [f"{_ip(gone)} link delete dev {gone.name}"]
        made = [] if come is None else making(come, "auto" if come.mtu is None else come.mtu)
        found[step.name] = tuple(chain(unmade, made))
    return found


def changing(before: TunnelConfig, after: TunnelConfig) -> Iterator[str]:
    """Yield what makes one configuration of an interface another one."""
    ip, name = _ip(after), after.name
    if outer(before) != outer(after):
        yield f"{ip} link set dev {name} type {outer(after)}"
    if before.mtu != after.mtu:
        yield f"{ip} link set dev {name} mtu {'auto' if after.mtu is None else after.mtu}"
    if before.mac_address != after.mac_address and after.mac_address is not None:
        yield f"{ip} link set dev {name} address {after.mac_address}"
    for what, gone, come in (
        ("address", _addresses(before), _addresses(after)),
        ("route", [str(one) for one in before.routes], [str(one) for one in after.routes]),
    ):
        yield from (f"{ip} {what} delete {one} dev {name}" for one in gone if one not in come)
        yield from (f"{ip} {what} add {one} dev {name}" for one in come if one not in gone)
    gone, come = list(_peers(before)), list(_peers(after))
    yield from (f"no longer {one}" for one in gone if one not in set(come))
    yield from (one for one in come if one not in set(gone))


def _ip(tunnel: TunnelConfig) -> str:
    return "ip" if tunnel.namespace is None else f"ip -n {tunnel.namespace}"


def _addresses(tunnel: TunnelConfig) -> list[str]:
    own = link_local(tunnel)
    return [str(one) for one in (*tunnel.addresses, *([] if own is None else [own]))]


def _peers(tunnel: TunnelConfig) -> Iterator[str]:
    return (f"behind {remote}: {network}" for network, remote in tunnel.peers)


def outer(tunnel: TunnelConfig) -> str:
    """Return the kind of tunnel, its ends, and what its GRE and outer headers have."""
    local = tunnel.local or (f"%{tunnel.local_interface}" if tunnel.local_interface else "any")
    words = [f"{tunnel.mode} local {local} remote {tunnel.far_end}"]
    words += [f"dev {tunnel.underlay_device}"] if tunnel.underlay_device is not None else []
    words += [f"fwmark {tunnel.firewall_mark}"] if tunnel.firewall_mark else []
    if tunnel.input_key == tunnel.output_key:
        words += [f"key {tunnel.output_key}"] if tunnel.output_key is not None else []
    else:
        words += [
            f"{name} {key}"
            for name, key in (("ikey", tunnel.input_key), ("okey", tunnel.output_key))
            if key is not None
        ]
    for wanted, word in (
        (tunnel.output_checksum, "ocsum"),
        (tunnel.input_checksum == "require", "icsum"),
        (tunnel.output_sequence, "oseq"),
        (tunnel.input_sequence, "iseq"),
    ):
        words += [word] if wanted else []
    words.append(f"ttl {'inherit' if tunnel.ttl is None else tunnel.ttl}")
    words.append(f"tos {'inherit' if tunnel.tos is None else hex(tunnel.tos)}")
    words += [] if tunnel.discover_path_mtu else ["nopmtudisc"]
    return " ".join(words)


def device_mode(tunnel: TunnelConfig) -> str:
    """Return the mode of its device as ip-tuntap has it."""
    if tunnel.mode == "gretap":
        return "tap"
    return "tun" if tunnel.protocol is None else "tun pi"
