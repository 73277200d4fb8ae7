"""The other end as files of systemd-networkd, .netdev and .network. Writes no file."""

from gred.config.model import TunnelConfig
from gred.management.show.writing import Page, lacks_directions


def write(tunnel: TunnelConfig, page: Page) -> None:
    """Write *tunnel* as two files; a comment names each."""
    six = tunnel.family == 6
    lacks_directions(tunnel, page, checksums=False)
    page.add(f"# /etc/systemd/network/{tunnel.name}.netdev", "[NetDev]", f"Name={tunnel.name}")
    page.add(f"Kind={'ip6' if six else ''}{tunnel.mode}")
    if tunnel.mtu is not None:
        page.add(f"MTUBytes={tunnel.mtu}")
    page.add("", "[Tunnel]", "Independent=yes")
    page.add(f"Local={tunnel.local or 'any'}", f"Remote={tunnel.remote or 'any'}")
    if tunnel.input_key == tunnel.output_key:
        page.add(*([f"Key={tunnel.input_key}"] if tunnel.input_key is not None else []))
    else:
        keys = (("InputKey", tunnel.input_key), ("OutputKey", tunnel.output_key))
        page.add(*(f"{option}={key}" for option, key in keys if key is not None))
    if tunnel.input_sequence or tunnel.output_sequence:
        page.add("SerializeTunneledPackets=yes")
    page.add(f"TTL={tunnel.ttl or 0}")
    if six:
        limit = tunnel.encapsulation_limit
        page.add(f"EncapsulationLimit={'none' if limit is None else limit}")
    else:
        page.add(f"TOS={'inherit' if tunnel.tos is None else tunnel.tos}")
        if tunnel.ignore_dont_fragment:
            page.add("IgnoreDontFragment=yes")
        elif not tunnel.discover_path_mtu:
            page.add("DiscoverPathMTU=no")
    if tunnel.transport == "udp":
        page.add("FooOverUDP=yes", f"FOUDestinationPort={tunnel.remote_port}")
        page.add(f"FOUSourcePort={tunnel.source_port or 0}")
        page.add("", f"# /etc/systemd/network/{tunnel.name}-fou.netdev", "[NetDev]")
        page.add(f"Name={tunnel.name[:11]}-fou", "Kind=fou", "", "[FooOverUDP]")
        page.add(f"Port={tunnel.port}", "Protocol=gre")
    page.add("", f"# /etc/systemd/network/{tunnel.name}.network", "[Match]", f"Name={tunnel.name}")
    page.add("", "[Network]", *(f"Address={address}" for address in tunnel.addresses))
    for route in tunnel.routes:
        page.add("", "[Route]", f"Destination={route}")
    if tunnel.keepalive is not None:
        page.lacks("Keepalive=", "the kernel asks nobody")
