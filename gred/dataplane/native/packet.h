/* Views of IP packets and the cutting of super-packets. Pure. Twins: gred/wire/ip.py,
 * and in gred/dataplane pure_inner.py, pure_segment.py and pure_clamp.py.
 */
#ifndef GRED_PACKET_H
#define GRED_PACKET_H

#include "bytes.h"
#include "layout.h"

/* EtherTypes that gred carries (IEEE 802 numbers; RFC 2784 §2.4, RFC 7676 §3, RFC 1701). */
enum {
    PROTOCOL_IPV4 = 0x0800,
    PROTOCOL_IPV6 = 0x86dd,
    PROTOCOL_ETHERNET = 0x6558, /* Transparent Ethernet Bridging */
    PROTOCOL_VLAN = 0x8100,
    PROTOCOL_QINQ = 0x88a8,
    PROTOCOL_MPLS = 0x8847,
    PROTOCOL_MPLS_MULTICAST = 0x8848,
    PROTOCOL_WCCP = 0x883e,
    PROTOCOL_ERSPAN_2 = 0x88be,
    PROTOCOL_ERSPAN_3 = 0x22eb,
    PROTOCOL_KEEPALIVE = 0,
    PROTOCOL_HUAWEI = 0x0004, /* of a keepalive, where others have that of IPv4 */
    PROTOCOL_PPP = 0x880b,    /* with version 1: RFC 2637 */
    PROTOCOL_EOIP = 0x6400,   /* with version 1: MikroTik's Ethernet over IP */
};

enum { IP_ICMP = 1, IP_TCP = 6, IP_UDP = 17, IP_GRE = 47, IP_ICMPV6 = 58 };
/* IPv6 extension headers (RFC 8200 §4). */
enum {
    IPV6_HOP_BY_HOP = 0,
    IPV6_ROUTING = 43,
    IPV6_FRAGMENT = 44,
    IPV6_AUTHENTICATION = 51,
    IPV6_DESTINATION_OPTIONS = 60,
};
enum { ETHERNET_HEADER = 14, IPV4_HEADER = 20, IPV6_HEADER = 40, TCP_HEADER = 20, UDP_HEADER = 8 };
enum { TCP_CHECKSUM = 16, UDP_CHECKSUM = 6 }; /* offsets in the header */
enum { TCP_FLAGS = 13 };
enum {
    TCP_FIN = 0x01,
    TCP_SYN = 0x02,
    TCP_RST = 0x04,
    TCP_PSH = 0x08,
    TCP_ACK = 0x10,
    TCP_URG = 0x20,
    TCP_CWR = 0x80,
};
enum { IPV4_DF = 0x4000, IPV4_FRAGMENT = 0x3fff /* MF and the offset */ };

/* struct virtio_net_hdr, native byte order (TUNSETVNETLE is not used). */
struct vnet_header {
    uint8_t flags;
    uint8_t gso_type;
    uint16_t header_length;
    uint16_t gso_size;
    uint16_t checksum_start;
    uint16_t checksum_offset;
};
enum { VNET_HEADER = 10, VNET_NEEDS_CSUM = 1 };
enum { GSO_NONE = 0, GSO_TCPV4 = 1, GSO_TCPV6 = 4, GSO_UDP = 5, GSO_ECN = 0x80 };

/* A frame: where its headers are. Offsets are from the start of the frame; version 0 is not IP,
 * transport 0: no readable, unfragmented TCP or UDP header. */
struct view {
    uint8_t *frame;
    size_t length;
    size_t ip;        /* offset of the IP header */
    size_t transport; /* offset of the TCP or UDP header */
    size_t payload;   /* offset of what follows that header */
    uint8_t version;
    uint8_t protocol; /* IPv4 protocol, IPv6 next header */
    uint8_t tos;
    uint8_t ttl;
    bool dont_fragment;
    bool fragment;
    bool crowded; /* what lies before the frame belongs to another, but for its own GRE header */
};

static inline uint8_t ipv6_traffic_class(const uint8_t *ip)
{
    return (uint8_t)((ip[0] << 4) | (ip[1] >> 4));
}

/* Fill the IP half of *view* from a header that is known to be complete. */
static inline void view_ip(struct view *view, size_t offset, uint8_t version)
{
    const uint8_t *ip = view->frame + offset;

    view->ip = offset;
    view->version = version;
    if (version == 4) {
        uint16_t fragment = load16(ip + 6);
        view->tos = ip[1];
        view->ttl = ip[8];
        view->protocol = ip[9];
        view->dont_fragment = fragment & IPV4_DF;
        view->fragment = fragment & IPV4_FRAGMENT;
    } else {
        view->tos = ipv6_traffic_class(ip);
        view->ttl = ip[7];
        view->protocol = ip[6];
        view->dont_fragment = false;
        view->fragment = view->protocol == IPV6_FRAGMENT;
    }
}

/* Fill *view* from a frame that begins with a MAC header and up to two VLAN tags. */
void view_ethernet(struct view *view);

static inline size_t ip_header_length(const struct view *view)
{
    return view->version == 4 ? (size_t)(view->frame[view->ip] & 15) * 4 : IPV6_HEADER;
}

/* Sum of the pseudo-header without the length (RFC 9293 §3.1, RFC 8200 §8.1). */
static inline uint64_t pseudo_sum(const struct view *view, uint8_t protocol)
{
    const uint8_t *ip = view->frame + view->ip;
    uint64_t addresses = view->version == 4 ? sum_bytes(ip + 12, 8) : sum_bytes(ip + 8, 32);
    return addresses + word_of(protocol);
}

static inline size_t transport_checksum_offset(uint8_t protocol)
{
    return protocol == IP_TCP ? TCP_CHECKSUM : UDP_CHECKSUM;
}

/* How a super-packet is cut. */
struct cut {
    struct view view; /* transport and payload are set */
    uint8_t protocol; /* IP_TCP or IP_UDP */
    size_t size;      /* payload bytes of a full segment */
    size_t total;     /* payload bytes in all */
    uint64_t pseudo;
};

/* Write the headers of the segment that begins *done* payload bytes into the packet, *take* bytes
 * long, to *head* (view.payload bytes). Return the sum of the payload: its only walk. */
uint64_t cut_segment(const struct cut *cut, size_t done, size_t take, uint8_t *head);

/* Does the checksum field of TCP or UDP hold the bare pseudo-header sum, as the kernel leaves it in
 * a packet that hardware was to finish or that receive offload has merged? */
bool checksum_is_partial(const struct view *view);

/* Lower the MSS option of a TCP handshake to what an IP packet of *limit* bytes can carry. The
 * checksum follows, unless it is still the bare pseudo-header sum. The transport header must have
 * been found. */
void clamp_mss(const struct view *view, size_t limit);

/* Find the TCP or UDP header of *view*, if it is complete and the packet is no fragment. */
void find_transport(struct view *view);

/* Is the TCP or UDP checksum right? */
bool checksum_is_right(const struct view *view);

#endif
