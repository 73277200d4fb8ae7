"""Raw sockets for protocol 47: what /proc/net/raw says."""

from gred.control.kernel.raw_sockets import RawSocket, read_raw

HEAD = (
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout"
    " inode ref pointer drops\n"
)
LINE = (
    "  {}: {}:{} 00000000:0000 07 00000000:00000000 00:00000000 00000000  {}  0 {} 2"
    " 0000000000000000 0\n"
)


def raw(*sockets: tuple[str, str, int, int]) -> str:
    lines = [LINE.format(n, *one[:2], one[2], one[3]) for n, one in enumerate(sockets)]
    return HEAD + "".join(lines)


def test_sockets_for_protocol_47_are_found_among_others() -> None:
    text = raw(
        ("00000000", "002F", 998, 11), ("00000000", "0001", 0, 12), ("0100007F", "002F", 0, 13)
    )
    assert list(read_raw(text, 4)) == [
        RawSocket(4, "00000000", 998, 11),
        RawSocket(4, "0100007F", 0, 13),
    ]
    assert list(read_raw(HEAD + "what is this\n\n", 4)) == []
