"""The other end as commands of MikroTik RouterOS. Speaks to no router."""

import math
import re

from gred.config.model import TunnelConfig
from gred.management.show.writing import NoFormError, Page, lacks_directions, size


def write(tunnel: TunnelConfig, page: Page) -> None:
    """Write *tunnel*; raise NoFormError for what RouterOS has not."""
    if tunnel.mode != "gre":
        raise NoFormError("RouterOS has no Ethernet over GRE but EoIP, which gred has not")
    if tunnel.transport == "udp":
        raise NoFormError("RouterOS has no GRE-in-UDP")
    lacks_directions(tunnel, page, checksums=False)
    if (tunnel.input_key, tunnel.output_key) != (None, None):
        page.lacks("Key=", "take it out at this end")
    if tunnel.input_sequence or tunnel.output_sequence:
        page.lacks("SerializeTunneledPackets=", "take it out at this end")
    six = tunnel.family == 6
    name = _quoted(tunnel.name)
    words = [f"name={name}"]
    words += [f"local-address={tunnel.local}"] if tunnel.local is not None else []
    words += [f"remote-address={tunnel.remote}"] if tunnel.remote is not None else []
    words.append(f"mtu={size(tunnel)}")
    if tunnel.keepalive is not None and tunnel.keepalive_target is None:
        words.append(f"keepalive={math.ceil(tunnel.keepalive)}s,{tunnel.keepalive_retries}")
    else:
        words.append("!keepalive")
    if tunnel.keepalive_target is not None:
        page.lacks("KeepaliveTarget=", "netwatch does the like")
    words.append(f"dscp={'inherit' if tunnel.tos is None else tunnel.tos >> 2}")
    if not six:
        # It sends no Don't Fragment of its own: the inner one at most.
        words.append(f"dont-fragment={'no' if tunnel.ignore_dont_fragment else 'inherit'}")
    page.add(f"/interface {'gre6' if six else 'gre'} add {' '.join(words)}")
    for address in tunnel.addresses:
        path = "/ip" if address.version == 4 else "/ipv6"
        page.add(f"{path} address add address={address} interface={name}")
    for route in tunnel.routes:
        path = "/ip" if route.version == 4 else "/ipv6"
        page.add(f"{path} route add dst-address={route} gateway={name}")


def _quoted(name: str) -> str:
    """Return *name* as a word of RouterOS."""
    if re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        return name
    return '"' + re.sub(r'([$"\\])', r"\\\1", name) + '"'
