"""The other end as a block of Cisco IOS. Speaks to no router."""

import math
import re
from ipaddress import IPv4Interface, IPv4Network

from gred.config.model import IPInterface, TunnelConfig
from gred.management.show.writing import NoFormError, Page, lacks_directions, size

_TCP_HEADERS = 40  # IPv4 and TCP, without options. RFC 9293 section 3.7.1


def write(tunnel: TunnelConfig, page: Page) -> None:
    """Write *tunnel*; raise NoFormError for what IOS has not."""
    if tunnel.mode != "gre":
        raise NoFormError("IOS has no Ethernet over GRE on an interface Tunnel")
    if tunnel.transport == "udp":
        raise NoFormError("IOS has no GRE-in-UDP")
    lacks_directions(tunnel, page)
    number = re.sub(r"\D", "", tunnel.name)[-4:].lstrip("0") or "0"
    name = f"Tunnel{number}"
    page.add(f"interface {name}")
    for address in tunnel.addresses:
        page.add(f" {_address(address)}")
    page.add(f" ip mtu {size(tunnel)}", f" ip tcp adjust-mss {size(tunnel) - _TCP_HEADERS}")
    if tunnel.keepalive is not None and tunnel.keepalive_target is None:
        page.add(f" keepalive {math.ceil(tunnel.keepalive)} {tunnel.keepalive_retries}")
    elif tunnel.keepalive is not None:
        page.lacks("KeepaliveTarget=", "ip sla with track does the like")
    page.add(f" tunnel source {tunnel.local or 'ANY'}")
    page.add(f" tunnel destination {tunnel.remote or 'ANY'}")
    page.add(f" tunnel mode gre {'ipv6' if tunnel.family == 6 else 'ip'}")
    if tunnel.input_key is not None and tunnel.input_key == tunnel.output_key:
        page.add(f" tunnel key {tunnel.input_key}")
    elif tunnel.input_key != tunnel.output_key:
        page.lacks("InputKey= and OutputKey=", "one Key= at both ends")
    if tunnel.output_checksum and tunnel.input_checksum == "require":
        page.add(" tunnel checksum")
    if tunnel.input_sequence and tunnel.output_sequence:
        page.add(" tunnel sequence-datagrams")
    if tunnel.ttl is not None:
        page.add(f" tunnel ttl {tunnel.ttl}")
    if tunnel.tos is not None:
        page.add(f" tunnel tos {tunnel.tos}")
    if tunnel.discover_path_mtu:
        page.add(" tunnel path-mtu-discovery")
    page.add(" no shutdown", "!")
    for route in tunnel.routes:
        if isinstance(route, IPv4Network):
            page.add(f"ip route {route.network_address} {route.netmask} {name}")
        else:
            page.add(f"ipv6 route {route} {name}")


def _address(address: IPInterface) -> str:
    if isinstance(address, IPv4Interface):
        return f"ip address {address.ip} {address.network.netmask}"
    return f"ipv6 address {address}"
