"""What ``gred show --as ip`` prints, run against the kernel; what its ip(8) shows of it, converted.

    here: gred ── under0 ── there: the kernel, configured by what gred printed

For the virtual machine alone.
"""

import json
import sys
import time
import traceback
from pathlib import Path

from gred.config import TunnelConfig, load
from gred.lab.daemon import Daemon
from gred.lab.hosts import UNDERLAY, Lab
from gred.lab.traffic import ping
from gred.management.convert import command as convert
from gred.management.show.command import of_tunnel
from gred.management.show.mirror import mirror
from tests.interop.guest.laboratory import READY_S

# Name, outer IP version, options.
TUNNELS = (
    ("plain", 4, "TTL=inherit TOS=0"),
    ("keyed", 4, "Key=42 Checksum=yes SerializeTunneledPackets=yes"),
    ("keys", 4, "InputKey=7 OutputKey=10.0.0.8 TOS=0x28 TTL=33"),
    ("one-way", 4, "InputChecksum=require OutputSequence=yes"),
    ("one-key", 4, "OutputKey=5"),
    ("fragile", 4, "DiscoverPathMTU=no TTL=inherit"),
    ("small", 4, "MTUBytes=1300 Route=10.99.0.0/16"),
    ("tap", 4, "Mode=gretap Key=9"),
    ("six", 6, "Key=0"),
    ("limit", 6, "EncapsulationLimit=4 Checksum=yes MTUBytes=1400"),
    ("tap-six", 6, "Mode=gretap SerializeTunneledPackets=yes"),
)
STEPS = ("gred starts", *(name for name, *_ in TUNNELS))
# What the kernel's GRE does not have.
_UNKNOWN = ("location", "keepalive", "keepalive_retries", "mac_address")


class Opposite:
    """gred here, and the kernel as gred said."""

    def __init__(self, lab: Lab) -> None:
        self.here, self.there = lab.host("here"), lab.host("there")
        lab.wire(self.here, self.there)
        # A veth leaves GRE checksums unfinished.
        off = [word for feature in ("tx", "tso", "gso") for word in (feature, "off")]
        inside = ["ip", "netns", "exec", self.there.namespace]
        lab.run([*inside, "ethtool", "-K", UNDERLAY, *off])
        text = "[Daemon]\nLogFormat=logfmt\n"
        for number, (name, version, options) in enumerate(TUNNELS, 1):
            near, far = f"192.0.{number}.1", f"192.0.{number}.2"
            if version == 6:
                near, far = f"2001:db8:{number}::1", f"2001:db8:{number}::2"
            self.here.address(f"{near}/{64 if version == 6 else 24}")
            self.there.address(f"{far}/{64 if version == 6 else 24}")
            lines = "\n".join(options.split())
            text += f"[Tunnel {name}]\nLocal={near}\nRemote={far}\n"
            text += f"Address=10.9.{number}.1/24, fd09:{number}::1/64\n{lines}\n"
        path = Path(lab.directory()) / "gred.conf"
        path.write_text(text)
        self.tunnels = {tunnel.name: tunnel for tunnel in load(path).tunnels}
        for tunnel in self.tunnels.values():
            commands, _notes = of_tunnel(tunnel, "ip")
            lab.run([*inside, "sh", "-euc", commands])
        self.daemon = Daemon(lab, self.here, path)

    def try_tunnel(self, name: str) -> None:
        """Ping across both ways, and convert what the kernel shows of the tunnel."""
        tunnel = self.tunnels[name]
        for own in tunnel.addresses:
            reply = ping(self.there, str(own.ip), count=3, timeout=8.0)
            assert reply.received == 3, f"{reply}\n{self.daemon.log()}"
        found = self.converted(name)
        expected = mirror(tunnel).tunnel
        for field in TunnelConfig.__dataclass_fields__.values():
            if field.compare and field.name not in _UNKNOWN:
                pair = getattr(found, field.name), getattr(expected, field.name)
                assert pair[0] == pair[1], f"{field.name}: {pair}"

    def converted(self, name: str) -> TunnelConfig:
        """Return what gred convert makes of the kernel's tunnel *name*."""
        shown = [
            self.there.ip("-json", "-details", "link", "show", "dev", name),
            self.there.ip("-json", "address", "show", "dev", name),
            self.there.ip("-json", "route"),
        ]
        done = convert.of_text("\n".join(shown))
        path = Path(f"/run/{name}.conf")
        path.write_text(done.text)
        (tunnel,) = load(path).tunnels
        return tunnel


def main() -> int:
    """Take the steps, report each in JSON: its name, why it failed or nothing, and seconds."""
    with Lab("opposite") as laboratory:
        laboratory.run(["modprobe", "-a", "ip_gre", "ip6_gre"])
        lab: Opposite | None = None
        for step in STEPS:
            began, why = time.monotonic(), ""
            try:
                if lab is None:
                    lab = Opposite(laboratory)
                    lab.daemon.wait_ready(READY_S)
                else:
                    lab.try_tunnel(step)
            except Exception:  # noqa: BLE001 - the next step is taken all the same
                why = traceback.format_exc()
            line = json.dumps([step, why, round(time.monotonic() - began, 1)])
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
