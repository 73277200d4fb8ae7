"""Tunnels of the Linux kernel: what their kinds are here, and what they are unless told otherwise.

Shared by all that configures the kernel: ip(8) and systemd-networkd. Reads no text.
"""

from gred.control import mtu
from gred.management.convert.draft import Draft, Drafts

KINDS = {"gre": "gre", "gretap": "gretap", "ip6gre": "gre", "ip6gretap": "gretap"}
# Interfaces that the kernel makes itself, with the module of their kind.
FALLBACKS = frozenset(
    {"gre0", "gretap0", "ip6gre0", "erspan0", "tunl0", "ip6tnl0", "sit0", "ip_vti0", "ip6_vti0"}
)
EXTERNAL = "where packets go is configured here: Peers="
NOT_IN_UDP = "Transport=udp is what Linux calls fou, and no other form"
_LIMIT_LENGTH = 8  # the kernel's own GRE counts it once. RFC 2473 section 4.1.1


def begin(drafts: Drafts, name: str, kind: str, line: int = 0) -> Draft:
    """Begin the tunnel *name* of a *kind* in KINDS, with the kernel's defaults for it."""
    draft = drafts.begin(name, line)
    draft.put("Mode", KINDS[kind])
    draft.put("TOS", "0")  # gre_tunnel, ip6gre_tunnel: parms are zero unless given
    if is_ipv6(kind):
        draft.put("EncapsulationLimit", "4")  # IPV6_DEFAULT_TNL_ENCAP_LIMIT
    else:
        draft.put("TTL", "inherit")
    return draft


def is_ipv6(kind: str) -> bool:
    """Whether outer headers of *kind* are IPv6."""
    return kind.startswith("ip6")


def refuse_kind(drafts: Drafts, name: str, kind: str, line: int = 0) -> None:
    """Remark on an interface that is no GRE tunnel, or of a kind that gred has not."""
    why = "ERSPAN is not there" if "erspan" in kind else "gred is GRE and nothing else"
    drafts.no_equivalent(f"{name}, of type {kind}", line, why)


def address(draft: Draft, local: str, peer: str | None, prefix: str, line: int = 0) -> None:
    """Add an address; with *peer* the prefix is that of the other end's, as in ip-address(8)."""
    if peer is None or peer == local:
        draft.append("Address", f"{local}/{prefix}" if prefix else local, line)
        return
    whole = "128" if ":" in local else "32"
    if draft.append("Address", f"{local}/{whole}", line):
        draft.route(f"{peer}/{prefix or whole}", line)


def finish(draft: Draft) -> None:
    """Look at the tunnel as a whole, when all of it was read."""
    values = draft.values
    if "encapsulation_limit" in values and not any(
        (end := values.get(name)) is not None and end.version == 6 for name in ("local", "remote")
    ):
        del values["encapsulation_limit"]
        draft.remark("an IPv6 tunnel without an IPv6 address: gred takes it for an IPv4 one")


def automatic_mtus(draft: Draft) -> set[int]:
    """Return what MTUs the kernel and gred come to where the path carries 1500 bytes."""
    tunnel = draft.tunnel("")
    ours = mtu.DEFAULT_ROUTE_MTU - mtu.overhead(tunnel)
    limit = tunnel.encapsulation_limit is not None
    return {ours, ours + (mtu.ENCAPSULATION_LIMIT_LENGTH - _LIMIT_LENGTH if limit else 0)}
