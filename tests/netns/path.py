"""Two hosts with two routers between them, joined by a link that may carry little."""

from dataclasses import dataclass

from gred.lab.hosts import Host, Lab

NARROW = 1300  # bytes that the link in the middle carries
LEFT, RIGHT = ("192.0.2.1", "2001:db8:1::1"), ("198.51.100.1", "2001:db8:2::1")


@dataclass(frozen=True)
class Path:
    """Two hosts, and the two routers between them. The link between these is narrow."""

    left: Host
    right: Host
    routers: tuple[Host, Host]

    def narrow(self, mtu: int) -> None:
        """Let the middle carry *mtu* bytes. IPv6 leaves a link with less than 1280."""
        for router in self.routers:
            router.ip("link", "set", "middle", "mtu", str(mtu))
        for own, (router, other) in enumerate(
            zip(self.routers, self.routers[::-1], strict=True), 1
        ):
            assert router is not other
            if mtu >= 1280:
                router.ip("addr", "replace", f"2001:db8:3::{own}/64", "dev", "middle", "nodad")
                router.ip("route", "replace", "default", "via", f"2001:db8:3::{3 - own}")

    def forget(self) -> None:
        """Make the hosts forget what they have learned."""
        for host in (self.left, self.right):
            host.sysctl("net.ipv4.route.flush", "1")
            host.ip("-6", "route", "flush", "cache")


def build(lab: Lab) -> Path:
    left, right = lab.host("left"), lab.host("right")
    near, far = lab.host("near"), lab.host("far")
    lab.wire(near, far, device="middle")
    for host, router, ends, network in ((left, near, LEFT, 1), (right, far, RIGHT, 2)):
        lab.wire(host, router)
        host.address(f"{ends[0]}/24")
        host.address(f"{ends[1]}/64")
        gateways = f"{ends[0].rpartition('.')[0]}.254", f"2001:db8:{network}::fe"
        router.address(f"{gateways[0]}/24")
        router.address(f"{gateways[1]}/64")
        router.address(f"203.0.113.{network}/24", "middle")
        for gateway in gateways:
            host.ip("route", "add", "default", "via", gateway)
        router.sysctl("net.ipv4.ip_forward", "1")
        router.sysctl("net.ipv6.conf.all.forwarding", "1")
    near.ip("route", "add", "default", "via", "203.0.113.2")
    far.ip("route", "add", "default", "via", "203.0.113.1")
    path = Path(left, right, (near, far))
    path.narrow(NARROW)
    return path
