"""The pure-Python I/O: the readable twin of the C I/O, with the same contract (_io.pyi).

    pure_tun       frames of TUN devices
    pure_send      datagrams that leave
    pure_receive   datagrams that arrive

One system call a packet, where the extension makes one for many. Nothing else belongs here.
"""

from gred.dataplane.pure_receive import receive_datagrams, receive_udp
from gred.dataplane.pure_send import send_datagrams, send_udp
from gred.dataplane.pure_tun import read_frames, write_frames

__all__ = [
    "read_frames",
    "receive_datagrams",
    "receive_udp",
    "send_datagrams",
    "send_udp",
    "write_frames",
]
