"""The other end as commands of ip(8), for a Linux kernel with its GRE modules. Runs nothing."""

import shlex
from collections.abc import Iterator

from gred.config.model import TunnelConfig
from gred.management.show.writing import Page

_INHERITED = 1  # the kernel takes this TOS for "inherit". ip_tunnel_xmit


def write(tunnel: TunnelConfig, page: Page) -> None:
    """Write *tunnel*."""
    name = shlex.quote(tunnel.name)
    kind = ("ip6" if tunnel.family == 6 else "") + tunnel.mode
    words = " ".join(_words(tunnel, page))
    if tunnel.transport == "udp":
        six = " -6" if tunnel.family == 6 else ""
        page.add(f"ip fou add port {tunnel.port} ipproto 47{six}")
    page.add(f"ip link add {name} type {kind} {words}")
    size = "" if tunnel.mtu is None else f" mtu {tunnel.mtu}"
    page.add(f"ip link set {name}{size} up")
    for address in tunnel.addresses:
        page.add(f"ip address add {address} dev {name}")
    for route in tunnel.routes:
        page.add(f"ip route add {route} dev {name}")
    if tunnel.keepalive is not None and tunnel.keepalive_target is None:
        page.lacks(
            "Keepalive=",
            "the kernel asks nobody; it answers where ip_forward and accept_local are on",
        )
    elif tunnel.keepalive is not None:
        page.lacks("KeepaliveTarget=", "the kernel asks nobody, and answers")
    if tunnel.protocol is not None:
        page.lacks(f"Protocol={tunnel.protocol:#06x}", "the kernel's own settings of that protocol")


def _words(tunnel: TunnelConfig, page: Page) -> Iterator[str]:
    six = tunnel.family == 6
    yield f"local {tunnel.local or 'any'} remote {tunnel.remote or 'any'}"
    if tunnel.input_key == tunnel.output_key:
        if tunnel.input_key is not None:
            yield f"key {tunnel.input_key}"
    else:
        for word, key in (("ikey", tunnel.input_key), ("okey", tunnel.output_key)):
            if key is not None:
                yield f"{word} {key}"
    yield from _directions("csum", tunnel.input_checksum == "require", tunnel.output_checksum)
    yield from _directions("seq", tunnel.input_sequence, tunnel.output_sequence)
    if tunnel.ttl is not None:
        yield f"{'hoplimit' if six else 'ttl'} {tunnel.ttl}"
    elif six:
        page.lacks("TTL=inherit", "over IPv6 the kernel sends a fixed hop limit, 64 here")
        yield "hoplimit 64"
    else:
        yield "ttl inherit"
    if tunnel.tos == _INHERITED:
        page.lacks("TOS=1", "the kernel would take it for inherit")
        yield "tclass 0x00" if six else "tos 0x00"
    else:
        tos = "inherit" if tunnel.tos is None else f"{tunnel.tos:#04x}"
        yield f"{'tclass' if six else 'tos'} {tos}"
    if six:
        limit = tunnel.encapsulation_limit
        yield f"encaplimit {'none' if limit is None else limit}"
        if not tunnel.discover_path_mtu:
            page.lacks("DiscoverPathMTU=no", "IPv6 is not fragmented on its way")
    elif not tunnel.discover_path_mtu:
        yield "nopmtudisc"
        if tunnel.ignore_dont_fragment:
            yield "ignore-df"
    if tunnel.transport == "udp":
        yield f"encap fou encap-sport {tunnel.source_port or 'auto'}"
        yield f"encap-dport {tunnel.remote_port}"
        yield f"{'' if tunnel.udp_checksum else 'no'}encap-csum{'6' if six else ''}"


def _directions(word: str, received: bool, sent: bool) -> Iterator[str]:
    if received and sent:
        yield word
    elif received or sent:
        yield f"{'i' if received else 'o'}{word}"
