"""One traced packet -> one line of text: outer > GRE > inner.

The only module that imports scapy, and only when a Decoder is made: half a second and tens of
megabytes that a daemon without ``-vv`` never pays. Nothing here raises over what a packet contains.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gred.dataplane.trace import TracedPacket

_SHOWN_BYTES = 32  # of a packet that cannot be decoded
_PROTOCOL_TYPES = {
    0x0000: "keepalive",
    0x0800: "IPv4",
    0x22EB: "ERSPAN",
    0x6558: "Ethernet",
    0x86DD: "IPv6",
    0x883E: "WCCP",
    0x8847: "MPLS",
    0x8848: "MPLS",
    0x88BE: "ERSPAN",
}
_ETHERTYPES = {
    0x0800: "IPv4",
    0x0806: "ARP",
    0x86DD: "IPv6",
    0x8809: "LACP",
    0x8847: "MPLS",
    0x8848: "MPLS",
    0x8863: "PPPoE",
    0x8864: "PPPoE",
    0x888E: "EAPOL",
    0x88CC: "LLDP",
}
# IANA's names. /etc/protocols has them too, where it is installed.
_PROTOCOLS = {
    1: "ICMP",
    2: "IGMP",
    4: "IPIP",
    6: "TCP",
    17: "UDP",
    41: "IPV6",
    47: "GRE",
    50: "ESP",
    51: "AH",
    58: "ICMPV6",
    88: "EIGRP",
    89: "OSPF",
    103: "PIM",
    112: "VRRP",
    115: "L2TP",
    132: "SCTP",
}
_WITH_ID = frozenset({0, 8, 13, 14, 15, 16, 17, 18})  # ICMP types with an identifier (RFC 792)


class Decoder:
    """Reads packets with scapy. Making one imports scapy."""

    def __init__(self) -> None:
        from scapy.layers import inet, inet6, l2  # noqa: PLC0415 - paid for at -vv only

        self._inet: Any = inet
        self._inet6: Any = inet6
        self._l2: Any = l2

    def line(self, packet: "TracedPacket") -> str:
        """Return the packet as one line, with the reason when it was dropped."""
        tail = f" DROP {packet.reason.name.lower()}" if packet.reason else ""
        text = self._refused(packet) if packet.inside else self.summary(packet.data)
        return f"{packet.direction} {packet.tunnel or '-'} {text}{tail}"

    def summary(self, data: bytes) -> str:
        """Return ``outer: GRE: inner`` for a whole outer packet, or its first bytes in hex."""
        try:
            return self._outer(data)
        except Exception:  # noqa: BLE001 - scapy raises anything over a packet that is cut short
            return _undecodable(data)

    def _refused(self, packet: "TracedPacket") -> str:
        """Return the inner packet of one that has no outer header yet."""
        data, text = packet.data, ""
        try:
            if packet.inside == "ip":
                text = self._ip(data)
            elif len(data) >= 14:
                text = self._ethernet(data)
        except Exception:  # noqa: BLE001, S110 - as above
            pass
        return f"not sent: {f'{text} len {len(data)}' if text else _undecodable(data)}"

    def _outer(self, data: bytes) -> str:
        outer = self._inet6.IPv6(data) if data[0] >> 4 == 6 else self._inet.IP(data)
        ttl = outer.hlim if outer.version == 6 else outer.ttl
        text = f"{outer.src} > {outer.dst} ttl {ttl}"
        gre = outer
        while gre and gre.name not in {"GRE", "GRE PPTP", "UDP"}:
            gre = gre.payload
        if gre and gre.name == "UDP":
            text += f" udp {gre.dport}"
            gre = self._l2.GRE(bytes(gre.payload)) if len(gre.payload) >= 4 else None
        if not gre:
            protocol = outer.nh if outer.version == 6 else outer.proto
            return f"{text}: {'GRE cut short' if protocol == 47 else 'no GRE'}, {len(data)} bytes"
        return f"{text}: {self._gre(gre)}"

    def _gre(self, gre: Any) -> str:
        if gre.version != 0:
            name = ""
            if gre.version == 1 and gre.proto == 0x880B:
                name = " (PPTP)"
            elif gre.version == 1 and gre.proto == 0x6400:
                name = f" (EoIP tunnel id {int.from_bytes(gre.original[6:8], 'little')})"
            return f"GRE version {gre.version}{name}, {len(gre.original)} bytes"
        words = ["GRE"]
        if gre.chksum_present:
            words.append(f"csum {gre.chksum:#06x}")
        if gre.key_present:
            words.append(f"key {gre.key}")
        if gre.seqnum_present:
            words.append(f"seq {gre.sequence_number}")
        if gre.routing_present:
            words.append("routing")
        if gre.strict_route_source or gre.recursion_control or gre.flags:
            words.append(f"flags {gre.original[:2].hex()}")
        text = " ".join(words)
        length = len(gre.payload.original) if gre.payload else 0
        if gre.proto == 0x6558 and length >= 14:
            return f"{text}: {self._ethernet(gre.payload.original)} len {length}"
        if gre.proto == 0x883E and gre.original[:2] == bytes(2) and length:
            data = gre.payload.original
            redirected = data if data[0] >> 4 == 4 else data[4:]
            return f"{text}: WCCP {self._ip(redirected) or 'cut short'} len {length}"
        name = _PROTOCOL_TYPES.get(gre.proto, f"protocol {gre.proto:#06x}")
        if gre.proto == 0x0800 and gre.payload.name == "IP":
            return f"{text}: IPv4 {self._inner4(gre.payload)} len {length}"
        if gre.proto == 0x86DD and gre.payload.name == "IPv6":
            return f"{text}: IPv6 {self._inner6(gre.payload)} len {length}"
        return f"{text}: {name} len {length}"

    def _ethernet(self, data: bytes) -> str:
        """Return MAC addresses, VLANs and what is inside of an Ethernet frame."""
        frame = self._l2.Ether(data)
        text = f"{frame.src} > {frame.dst}"
        kind, rest = int.from_bytes(data[12:14]), data[14:]
        while kind in {0x8100, 0x88A8} and len(rest) >= 4:
            text += f" vlan {int.from_bytes(rest[:2]) & 0xFFF}"
            kind, rest = int.from_bytes(rest[2:4]), rest[4:]
        if kind in {0x0800, 0x86DD} and (inside := self._ip(rest)):
            return f"{text} {inside}"
        if kind == 0x0806 and len(rest) >= 28:
            return f"{text} {_arp(self._l2.ARP(rest))}"
        if kind < 1536:  # IEEE 802.3: a length
            return f"{text} 802.3{' STP' if rest[:2] == b'BB' else ''}"
        return f"{text} {_ETHERTYPES.get(kind, f'type {kind:#06x}')}"

    def _ip(self, data: bytes) -> str:
        """Return addresses and ports of an IP packet; nothing when it is none."""
        if len(data) >= 20 and data[0] >> 4 == 4:
            return f"IPv4 {self._inner4(self._inet.IP(data))}"
        if len(data) >= 40 and data[0] >> 4 == 6:
            return f"IPv6 {self._inner6(self._inet6.IPv6(data))}"
        return ""

    def _inner4(self, inner: Any) -> str:
        text = f"{inner.src} > {inner.dst} ttl {inner.ttl}"
        if inner.frag:
            return f"{text} {_protocol(inner.proto)} fragment at {inner.frag * 8}"
        if inner.haslayer(self._inet.ICMP) and inner.payload.name == "ICMP":
            icmp = inner.payload
            numbers = f" id {icmp.id} seq {icmp.seq}" if icmp.type in _WITH_ID else ""
            return f"{text} ICMP {icmp.sprintf('%ICMP.type%')}{numbers}"
        if inner.proto == 47 and inner.payload.name == "GRE" and inner.payload.proto == 0:
            return f"{text} GRE keepalive"
        return f"{text} {_ports(inner.payload) or _protocol(inner.proto)}"

    def _inner6(self, inner: Any) -> str:
        text = f"{inner.src} > {inner.dst} ttl {inner.hlim}"
        layer = inner.payload
        while layer:
            if getattr(layer.underlayer, "nh", None) == 58 and hasattr(layer, "type"):
                kind = self._inet6.icmp6types.get(layer.type, str(layer.type))
                echo = layer.type in {128, 129}  # RFC 4443 §4
                numbers = f" id {layer.id} seq {layer.seq}" if echo else ""
                return f"{text} ICMPv6 {kind.lower().replace(' ', '-')}{numbers}"
            if ports := _ports(layer):
                return f"{text} {ports}"
            layer = layer.payload
        return f"{text} {inner.sprintf('%IPv6.nh%')}"


def _undecodable(data: bytes) -> str:
    more = "..." if len(data) > _SHOWN_BYTES else ""
    return f"undecodable, {len(data)} bytes: {data[:_SHOWN_BYTES].hex()}{more}"


def _arp(arp: Any) -> str:
    if arp.op == 1:
        return f"ARP who-has {arp.pdst} tell {arp.psrc}"
    return f"ARP {arp.psrc} is-at {arp.hwsrc}" if arp.op == 2 else f"ARP operation {arp.op}"


def _protocol(number: int) -> str:
    return _PROTOCOLS.get(number, f"protocol {number}")


def _ports(layer: Any) -> str:
    """Name the ports of a TCP or UDP *layer*; nothing for any other."""
    if layer.name == "TCP":
        return f"TCP {layer.sport} > {layer.dport} flags {layer.flags}"
    if layer.name == "UDP":
        return f"UDP {layer.sport} > {layer.dport}"
    return ""
