"""Subjects without a daemon: the bare wire, and the tunnel that the kernel itself has."""

import os

from benchmarks.lab import PREFIX, Lab
from benchmarks.process import LoadError, run
from benchmarks.subjects.base import Running, Subject, inner_addresses, key


class Veth(Subject):
    """The wire without a tunnel: what the loads themselves can do."""

    name = "veth"
    title = "bare veth"

    def missing(self) -> str | None:
        """Nothing beyond the laboratory's own needs."""
        return None

    def set_up(self, lab: Lab, tunnels: int) -> Running:
        """Use the underlay addresses."""
        assert tunnels == 1
        return Running(lab.a.address, lab.b.address)

    def tear_down(self) -> float | None:
        """Nothing to stop."""
        return None


class Vxlan(Subject):
    """Kernel VXLAN: an in-kernel tunnel that kernels without ip_gre have, hence the yardstick."""

    name = "vxlan"
    title = "kernel VXLAN"
    many = True

    def missing(self) -> str | None:
        """Try it: a module may be built in, loadable or absent, and only the kernel knows."""
        namespace = f"{PREFIX}-{os.getpid()}-vxlan-probe"
        try:
            run(["ip", "netns", "add", namespace])
            try:
                run(
                    [
                        "ip",
                        "-n",
                        namespace,
                        "link",
                        "add",
                        "vx0",
                        "type",
                        "vxlan",
                        "id",
                        "1",
                        "dstport",
                        "4789",
                    ]
                )
            finally:
                run(["ip", "netns", "delete", namespace])
        except LoadError as error:
            return f"this kernel has no VXLAN: {error}"
        return None

    def set_up(self, lab: Lab, tunnels: int) -> Running:
        """One device for each tunnel, all on the standard port."""
        for side, (end, peer) in enumerate(((lab.a, lab.b), (lab.b, lab.a))):
            lines: list[str] = []
            for number in range(tunnels):
                device = f"vx{number}"
                ends = f"local {end.address} remote {peer.address} dev {end.device}"
                lines += [
                    f"link add {device} type vxlan id {key(number)} dstport 4789 {ends}",
                    f"link set {device} addrgenmode none up",
                    f"address add {inner_addresses(number)[side]}/30 dev {device}",
                ]
            end.ip_batch(lines)
        inner_a, inner_b = inner_addresses(0)
        return Running(inner_a, inner_b)

    def tear_down(self) -> float | None:
        """Leave the devices to the end of their namespaces; there is no daemon to time."""
        return None
