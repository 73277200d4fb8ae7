"""Asks and orders the kernel: netlink, network namespaces, netfilter, devices, raw sockets.

Values in, values out, with the kernel's own words for what it refuses. What is here blocks for a
moment and belongs in threads, but for the monitor, which lives on the loop. No file here knows a
tunnel, decides what ought to be, keeps what it was told, or moves a packet. It imports nothing of
control outside itself but errors in words and arithmetic (errors, mtu, path_mtu).
"""
