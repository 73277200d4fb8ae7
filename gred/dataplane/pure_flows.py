"""The order in which frames wait, in the pure-Python codec: small ones of quiet flows first.

Part of the twin of the C codec (flows.c). Nothing here drops or changes a packet.
"""

import struct
from typing import TYPE_CHECKING, NamedTuple

from gred.dataplane.hashes import mix
from gred.dataplane.layout import Frame, TunnelFlag
from gred.dataplane.pure_flags import has
from gred.dataplane.pure_inner import VERSION
from gred.wire import ethernet, ip
from gred.wire.transport import (
    FIN,
    IPPROTO_TCP,
    IPPROTO_UDP,
    PSH,
    RST,
    SYN,
    TCP_HEADER,
    URG,
    TcpHeader,
)

if TYPE_CHECKING:
    import ctypes

SPARSE_AT_MOST = 4  # frames in front: half of a short turn, the rest is for those behind
QUANTUM = 1514  # bytes of one flow in front, as fq_codel's quantum on Ethernet

PORTS = 4  # bytes: source and destination port
EXTENSION_HEADERS = frozenset(
    (ip.HOP_BY_HOP, ip.ROUTING, ip.IPV6_FRAGMENT, ip.AUTHENTICATION, ip.DESTINATION_OPTIONS)
)


class Flow(NamedTuple):
    """What must stay in order: hashes of a frame's hosts, and of all that tells its flow."""

    hosts: int
    whole: int  # equal to hosts: a part of a packet, which may be of any flow between them
    pure_ack: bool = False  # a bare TCP acknowledgment: nobody waits for it, it belongs to a stream


def order_frame(
    view: memoryview, frames: "ctypes.Array[Frame]", sparse: int, index: int, flags: int
) -> int:
    """Give frame *index*, the last that waits, its place; return how many lead now."""
    frame = frames[index]
    flow = flow_of(view, frame, flags)
    frame.flow = flow.whole
    if not _is_sparse(frames, sparse, index, flow):
        return sparse
    if index > sparse:
        rows = [Frame.from_buffer_copy(row) for row in frames[sparse : index + 1]]
        frames[sparse : index + 1] = [rows[-1], *rows[:-1]]
    return sparse + 1


def _is_sparse(frames: "ctypes.Array[Frame]", sparse: int, index: int, flow: Flow) -> bool:
    if sparse >= SPARSE_AT_MOST or flow.whole == flow.hosts or flow.pure_ack:
        return False
    ahead = sum(row.length for row in frames[:sparse] if row.flow == flow.whole)
    if ahead + frames[index].length > QUANTUM:
        return False
    return all(row.flow not in (flow.hosts, flow.whole) for row in frames[sparse:index])


def flow_of(view: memoryview, frame: Frame, flags: int) -> Flow:
    """Return the flow of *frame*, a frame of a tunnel with *flags*."""
    version, offset, protocol_type = _find_packet(view, frame, flags)
    end = frame.offset + frame.length
    if version == 0:
        hosts = mix([protocol_type])
        return Flow(hosts, mix([0], hosts))
    if version == 4:
        hosts = mix(struct.unpack_from("=2I", view, offset + 12))
        fragment, protocol = struct.unpack_from("!HxB", view, offset + 6)
        hidden = bool(fragment & (ip.MORE_FRAGMENTS | ip.FRAGMENT_OFFSET))
        transport = offset + (view[offset] & 0x0F) * 4
    else:
        hosts = mix(struct.unpack_from("=8I", view, offset + 8))
        protocol = view[offset + 6]
        hidden = protocol in EXTENSION_HEADERS
        transport = offset + ip.IPV6_HEADER
    if hidden:
        return Flow(hosts, hosts)
    whole = mix([protocol], hosts)
    if protocol in {IPPROTO_TCP, IPPROTO_UDP} and transport + PORTS <= end:
        whole = mix(struct.unpack_from("=I", view, transport), whole)
        pure_ack = protocol == IPPROTO_TCP and _is_bare_acknowledgment(view[transport:end])
        return Flow(hosts, whole, pure_ack)
    return Flow(hosts, whole)


def _is_bare_acknowledgment(data: memoryview) -> bool:
    if len(data) < TCP_HEADER:
        return False
    header = TcpHeader.parse(data)
    return header.length == len(data) and not header.flags & (FIN | SYN | RST | PSH | URG)


def _find_packet(view: memoryview, frame: Frame, flags: int) -> tuple[int, int, int]:
    """Return (IP version, offset of its header, protocol type); version 0: no IP, or cut off."""
    start, length = frame.offset, frame.length
    protocol_type = 0
    if has(flags, TunnelFlag.ETHERNET):
        if length < ethernet.HEADER:
            return 0, start, 0
        (protocol_type,) = struct.unpack_from("!H", view, start + ethernet.TYPE)
        ethertype, inside = ethernet.payload(view[start : start + length])
        version = VERSION.get(ethertype, 0)
    else:
        if has(flags, TunnelFlag.PACKET_INFO):
            (protocol_type,) = struct.unpack_from("!H", view, start - 2)
            if protocol_type not in VERSION:
                return 0, start, protocol_type
        inside = 0
        version = view[start] >> 4 if length else 0
    needed = {4: ip.IPV4_HEADER, 6: ip.IPV6_HEADER}.get(version, length + 1)
    if length - inside < needed or view[start + inside] >> 4 != version:
        return 0, start, protocol_type
    if version == 4 and view[start + inside] & 0x0F < ip.IPV4_HEADER // 4:
        return 0, start, protocol_type
    return version, start + inside, protocol_type
