"""Numbers of Linux's socket options that Python's socket module lacks. Nothing else.

From <linux/in.h>, <linux/in6.h>, <asm-generic/socket.h>, <linux/sock_diag.h>, <linux/net_tstamp.h>,
<linux/errqueue.h> and <linux/udp.h>.
"""

IPPROTO_GRE = 47

IP_PKTINFO = 8
IP_MTU_DISCOVER = 10
IP_RECVERR = 11
IP_RECVTTL = 12
IP_MTU = 14
IP_XFRM_POLICY = 17
IP_MULTICAST_ALL = 49
IPV6_MTU_DISCOVER = 23
IPV6_MTU = 24
IPV6_RECVERR = 25
IPV6_FLOWINFO_SEND = 33
IPV6_XFRM_POLICY = 35
IPV6_AUTOFLOWLABEL = 70
IPV6_ADDR_PREFERENCES = 72
IPV6_PREFER_SRC_PUBLIC = 0x0002

# What a socket does with path MTUs; the same numbers for IPv6. DONT lets the kernel fragment, PROBE
# refuses what is longer than the device's MTU. INTERFACE is PROBE without Don't Fragment, and keeps
# ICMP errors about the socket's packets from teaching the kernel.
PMTUDISC_DONT = 0
PMTUDISC_PROBE = 3
PMTUDISC_INTERFACE = 4

UDP_SEGMENT = 103
UDP_GRO = 104
UDP_NO_CHECK6_TX = 101
UDP_NO_CHECK6_RX = 102

SO_NO_CHECK = 11
SO_ATTACH_FILTER = 26
SO_DETACH_FILTER = 27
SO_SNDBUFFORCE = 32
SO_RCVBUFFORCE = 33
SO_MARK = 36
SO_ATTACH_REUSEPORT_CBPF = 51
SO_TIMESTAMPING = 37
SO_MEMINFO = 55
SO_BINDTOIFINDEX = 62

# What SO_MEMINFO returns, 32 bits each.
SK_MEMINFO_DROPS = 8
SK_MEMINFO_VARS = 9

SOF_TIMESTAMPING_SOFTWARE = 1 << 4
SOF_TIMESTAMPING_OPT_ID = 1 << 7
SOF_TIMESTAMPING_OPT_CMSG = 1 << 10

SO_EE_ORIGIN_LOCAL = 1
