"""The codec's contract: GRE headers, checksums, segmentation, coalescing. No system call.

All arguments named after a table are writable buffers that hold the structures of layout.py.
Offsets are into *arena*. Every function releases the interpreter lock while it works, allocates
nothing, and raises ValueError for a buffer that is too small for what the caller says of it.
"""

from typing_extensions import Buffer

def checksum(data: Buffer, /) -> int:
    """Return the Internet checksum (RFC 1071) of *data*: 0 for data that contains a right one."""

def encapsulate(
    arena: Buffer,
    frames: Buffer,
    first: int,
    count: int,
    tunnels: Buffer,
    states: Buffer,
    tunnel: int,
    datagrams: Buffer,
    headers_begin: int,
    headers_end: int,
    /,
) -> tuple[int, int, int]:
    """Turn the frames from *first* up to *count* of one tunnel into datagrams.

    Return (datagrams filled, first frame not finished, frames refused). When the datagram table or
    the header space arena[headers_begin:headers_end] is full the call stops; send what there is
    and call again with *first* as returned (a super-packet goes on where it stopped). A refused
    frame has its DropReason as verdict. *states*: the sending worker's TxState of each tunnel, in
    which packets are numbered and counted.

    A call with room for a datagram that is given a frame makes progress: it fills one or finishes
    a frame. A super-packet whose headers the whole header space does not hold is refused, and one
    of more segments than any kernel cuts.
    """

def order_frames(
    arena: Buffer,
    frames: Buffer,
    sparse: int,
    waiting: int,
    count: int,
    tunnels: Buffer,
    tunnel: int,
    /,
) -> int:
    """Queue frames[waiting:count], just read, behind frames[:waiting]; return how many lead.

    frames[:sparse] lead: small frames, at most 4 and of each flow at most 1514 bytes, that go
    before what waits of other flows. A frame joins them if it is small and nothing of its flow
    waits behind them; so the order within a flow stays. A flow is told by addresses, protocol and
    ports. A bare TCP acknowledgment never leads: it belongs to a stream of the other direction.
    What hides its ports (a fragment, an IPv6 extension header) never leads either, and nothing
    between the same hosts overtakes it. Frames that are not IP are one flow for each EtherType.
    """

def route_frames(
    arena: Buffer, frames: Buffer, count: int, limit: int, peers: Buffer, destinations: Buffer, /
) -> int:
    """Set the destination of frames of a tunnel with many remotes, by inner destination.

    Return how many of frames[:count] become at most *limit* datagrams, with all copies where a
    destination stands for several; but one at the least. Super-packets count as one. *peers* is a
    peer_header and its slots. A frame that no peer covers gets NO_DESTINATION, which encapsulate
    refuses as NO_REMOTE. For IP frames, not for Ethernet.
    """

def spread_datagrams(
    datagrams: Buffer,
    start: int,
    copy: int,
    count: int,
    first: int,
    destinations: Buffer,
    states: Buffer,
    tunnel: int,
    /,
) -> tuple[int, int, int]:
    """Fill datagrams[first:] with what datagrams[start:count] stand for, in their order.

    One whose destination has copies becomes one for each of these, all of the same bytes: GRE
    header and payload are shared, and the sequence number is the same for all. Others are taken as
    they are. All but the first copy are counted in the tunnel's TxState. Return (filled, start,
    copy): call again with these until *start* is *count*. Begin with copy 0.
    """

def find_learners(received: Buffer, count: int, tunnels: Buffer, found: Buffer, /) -> int:
    """Write to *found* which tunnels that learn have accepted one of received[:count].

    *found* is a table of 32-bit record numbers; return how many were written, each once.
    """

def find_unlearned_source(
    arena: Buffer,
    received: Buffer,
    first: int,
    count: int,
    tunnel: int,
    peers: Buffer,
    destinations: Buffer,
    now: int,
    hold: int,
    /,
) -> int:
    """Return the first of received[first:count] from which there is something to learn.

    Looks at accepted datagrams of *tunnel* only, after decapsulate; *count* when there is none.
    An unlearned inner source is behind no peer; or behind a learned one whose remote is another
    and was silent for *hold* seconds. Of a learned peer that is heard from its own remote *now* is
    noted; a claim on one that was heard since is counted in the peer_header. Configured peers are
    not looked at.
    """

def decapsulate(
    arena: Buffer,
    received: Buffer,
    count: int,
    tunnels: Buffer,
    states: Buffer,
    descriptors: Buffer,
    lookup: Buffer,
    sources: Buffer,
    tun_writes: Buffer,
    pieces: Buffer,
    headers: Buffer,
    now: int,
    /,
) -> tuple[int, int]:
    """Turn received[:count] into frames to write; return (frames, datagrams refused).

    A datagram whose verdict is set already is refused for it. A refused datagram has its DropReason
    as verdict and is counted in the state of its tunnel, or in state 0. Inner headers are changed
    in place. Segments for devices that take no super-packets get their headers in *headers*.

    *states*: the receiving worker's RxState of each tunnel. *descriptors*: what it writes each
    tunnel's frames to, 32 bits each; -1: nowhere.

    *sources*: SourceRange rows in order, of tunnels that check them.

    *now*: milliseconds of a clock that does not go back, of which 32 bits count. It tells late
    packets from a peer that began anew.
    """
