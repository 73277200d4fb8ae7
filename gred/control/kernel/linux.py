"""Numbers of Linux's netlink, ioctls and netfilter that Python's modules lack. Nothing else.

Those of sockets are in `gred.dataplane.linux`.
"""

# <linux/netlink.h>, <linux/socket.h>
SOL_NETLINK = 270
NETLINK_XFRM = 6
NETLINK_NETFILTER = 12  # not in the socket module
NETLINK_NO_ENOBUFS = 5  # Linux 2.6.30
NETLINK_LISTEN_ALL_NSID = 8  # Linux 4.2
NETLINK_CAP_ACK = 10  # do not repeat the whole request in an error. Linux 4.3
NETLINK_EXT_ACK = 11  # say in words what is wrong. Linux 4.12
NETLINK_GET_STRICT_CHK = 12  # let requests to dump select. Linux 4.20
NLMSG_ERROR = 2
NLMSG_DONE = 3
NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP = 0x0300
NLM_F_EXCL = 0x0200
NLM_F_CREATE = 0x0400
NLM_F_APPEND = 0x0800
NLM_F_DUMP_INTR = 0x10
NLM_F_CAPPED = 0x0100
NLM_F_ACK_TLVS = 0x0200
NLMSGERR_ATTR_MSG = 1
NLA_TYPE_MASK = 0x3FFF

# <linux/rtnetlink.h>
RT_SCOPE_UNIVERSE = 0
RT_SCOPE_HOST = 254
RT_TABLE_MAIN = 254
RTPROT_KERNEL = 2  # a route that came with an address
RTPROT_STATIC = 4  # an administrator's route, as systemd-networkd marks its own
RTN_UNICAST = 1
RTN_LOCAL = 2
RTM_F_CLONED = 0x0200  # learned, not configured
RTM_F_FIB_MATCH = 0x2000
RTEXT_FILTER_SKIP_STATS = 8
RTM_GETNEIGH = 30
RTM_GETSTATS = 94
RTA_DST = 1
RTA_SRC = 2
RTA_OIF = 4
RTA_MARK = 16
RTA_GATEWAY = 5
RTA_PREFSRC = 7
RTA_METRICS = 8
RTA_CACHEINFO = 12
RTA_TABLE = 15
RTAX_LOCK = 1
RTAX_MTU = 2
RT_SCOPE_LINK = 253

# <linux/neighbour.h>
NDA_DST = 1
NUD_INCOMPLETE = 0x01
NUD_REACHABLE = 0x02
NUD_PROBE = 0x10
NUD_FAILED = 0x20
NUD_NOARP = 0x40
NUD_PERMANENT = 0x80

# <linux/if_link.h>, <linux/if_addr.h>, <linux/ip.h>; IP6_RT_PRIO_ADDRCONF: net/ip6_route.h
IN6_ADDR_GEN_MODE_NONE = 1
IFLA_AF_SPEC = 26
IFLA_INET_CONF = 1
IPV4_DEVCONF_IGNORE_ROUTES_WITH_LINKDOWN = 29
IP6_RT_PRIO_ADDRCONF = 256  # of IPv6 routes that came with addresses
IFLA_STATS_LINK_64 = 1
IFLA_ADDRESS = 1
IFLA_IFNAME = 3
IFLA_MTU = 4
IFLA_TXQLEN = 13
IFLA_LINKINFO = 18
IFLA_INFO_KIND = 1
IFLA_INFO_DATA = 2
IFLA_INFO_SLAVE_KIND = 4
IFLA_GRE_IFLAGS = 2
IFLA_GRE_IKEY = 4
IFLA_GRE_LOCAL = 6
IFLA_GRE_REMOTE = 7
IFA_ADDRESS = 1
IFA_LOCAL = 2
IFA_FLAGS = 0x8
IFA_PROTO = 11
IFA_F_SECONDARY = 0x1
IFA_F_STABLE_PRIVACY = 0x0800
IFAPROT_KERNEL_LL = 2  # Linux 5.18

# <linux/if_tunnel.h>
GRE_KEY = 0x2000

# <linux/if.h>, <linux/sockios.h>, <linux/ethtool.h>, <linux/if_tun.h>, <linux/sched.h>
IFF_UP = 0x1
IFF_MULTICAST = 0x1000
SIOCGIFFLAGS = 0x8913
SIOCETHTOOL = 0x8946
IFF_LOOPBACK = 0x8
IFF_RUNNING = 0x40
IFF_POINTOPOINT = 0x10
IFF_NOARP = 0x80
ETHTOOL_GLINK = 0x0A
ETHTOOL_GFLAGS = 0x25
ETH_FLAG_LRO = 0x8000
CLONE_NEWNET = 0x40000000
TUNGETIFF = 0x800454D2

# <linux/netfilter.h>, <linux/netfilter_ipv4/ip_tables.h>
NF_INET_LOCAL_OUT = 3
NF_INET_POST_ROUTING = 4
NF_DROP = 0
IPT_SO_GET_INFO = 64

# <linux/xfrm.h>
XFRM_MSG_GETSA = 0x12
XFRM_MSG_GETPOLICY = 0x15
XFRMA_TMPL = 5
XFRM_POLICY_OUT = 1
XFRM_POLICY_IN = 0
XFRM_POLICY_BLOCK = 1
