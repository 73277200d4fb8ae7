/* The memory that the codec, the I/O and Python share: records and tables in plain buffers.
 *
 * Native byte order and alignment unless a field says "wire". The twin of this file is layout.py;
 * a test reads both and compares every field and every number. No code that moves a packet belongs
 * here.
 */
#ifndef GRED_LAYOUT_H
#define GRED_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

/* Why a packet was discarded: gred/wire/drop.py, in the same order, as far
 * as the codec counts them. */
enum drop_reason {
    DROP_NONE,
    DROP_TRUNCATED,
    DROP_BAD_VERSION,
    DROP_ROUTING,
    DROP_RESERVED_BITS,
    DROP_UNKNOWN_PROTOCOL,
    DROP_NO_TUNNEL,
    DROP_KEY_MISMATCH,
    DROP_CSUM_ERR,
    DROP_CSUM_MISSING,
    DROP_CSUM_UNEXPECTED,
    DROP_OUT_OF_SEQ,
    DROP_SEQ_MISSING,
    DROP_BAD_INNER,
    DROP_ECN_ERR,
    DROP_NO_REMOTE,
    DROP_DEAD_LOOP,
    DROP_TOO_BIG,
    DROP_NO_ROUTE,
    DROP_NO_BUFS,
    DROP_DENIED,
    DROP_DEVICE_DOWN,
    DROP_OTHER,
    DROP_PPTP,
    DROP_WCCP,
    DROP_MPLS,
    DROP_ERSPAN,
    DROP_KEEPALIVE,
    DROP_EOIP,
    DROP_RX_OVERRUN,
    DROP_FOREIGN,
    DROP_SPOOFED,
    DROP_REASON_COUNT
};

enum { DROP_COUNTERS = 32 }; /* room for reasons to come */

/* Bits of tunnel_record.flags. */
enum tunnel_flag {
    OUTPUT_KEY = 1u << 0,
    OUTPUT_CHECKSUM = 1u << 1,
    OUTPUT_SEQUENCE = 1u << 2,
    INPUT_KEY = 1u << 3,
    INPUT_CHECKSUM_REQUIRED = 1u << 4,
    INPUT_CHECKSUM_REFUSED = 1u << 5,
    INPUT_SEQUENCE = 1u << 6,
    TTL_INHERIT = 1u << 7,
    TOS_INHERIT = 1u << 8,
    DONT_FRAGMENT = 1u << 9,         /* set DF outside, whatever the inner packet says */
    IGNORE_DONT_FRAGMENT = 1u << 10, /* else: do not copy the inner DF either */
    BLOCKED = 1u << 11,              /* sending stopped: the route leads into the tunnel itself */
    NO_REMOTE = 1u << 12,            /* nothing to send to */
    ETHERNET = 1u << 13,             /* a TAP device: frames start at the destination MAC */
    WRITE_TSO = 1u << 14,            /* the device takes TCP super-packets */
    WRITE_USO = 1u << 15,            /* the device takes UDP super-packets */
    CLAMP_MSS = 1u << 16,            /* lower the MSS of TCP handshakes to what the path takes */
    PACKET_INFO = 1u << 17,    /* frames are preceded by struct tun_pi, not by a vnet header */
    LEARNS = 1u << 18,         /* its datagrams tell which remote an inner address is behind */
    ECHOES = 1u << 19,         /* echo requests are sent for it, whose answers are not delivered */
    CHECKS_SOURCES = 1u << 20, /* it takes what comes from some inner sources, and nothing else */
    LABELS_FLOWS = 1u << 21,   /* each inner flow has an outer IPv6 flow label of its own */
};

/* What a tunnel is told to be. Written when it is configured, read by every worker. Record 0
 * belongs to no tunnel. What changes with each packet is elsewhere: a worker that sends has a table
 * of struct tx_state, one that receives has a table of struct rx_state and one of the descriptors
 * that it writes to, in all of them the same row for the same tunnel. Who reads counters sums. */
struct tunnel_record {
    uint32_t flags;
    uint32_t input_key;  /* host order */
    uint32_t output_key; /* host order */
    uint32_t mtu;        /* of the interface, bytes */
    uint32_t path_mtu;   /* largest inner packet that the path carries, bytes */
    uint8_t ttl;         /* 1..255 unless TTL_INHERIT */
    uint8_t tos;         /* DSCP and, overwritten by the inner packet's, ECN */
    uint16_t protocol;   /* one more protocol type that a PACKET_INFO device carries */
    uint8_t vnet_header; /* length of struct virtio_net_hdr on this device: 0 or 10 */
    uint8_t family;      /* of the outer header: 4 or 6 */
    uint16_t echo;       /* identifier of these */
    uint8_t inner[4];    /* IPv4 address of the interface; zero: none */
    uint16_t port;       /* UDP port of the other end; 0: the transport is no UDP */
    uint16_t reserved;
    uint32_t flow_label; /* host order; 0: none. LABELS_FLOWS: what the labels are made with */
    uint8_t local[16];   /* wire; IPv4 in the first four bytes; zero: any */
    uint8_t remote[16];  /* wire; IPv4 in the first four bytes; zero: any */
};

/* What a worker has sent of a tunnel. */
struct tx_state {
    uint32_t output_next; /* sequence number of the next packet sent */
    uint32_t reserved_a;
    uint64_t tx_packets;
    uint64_t tx_bytes; /* inner bytes */
    uint64_t tx_drops[DROP_COUNTERS];
    uint64_t reserved_b[5];
};

/* What a worker has received of a tunnel; row 0 counts what could not be attributed. Of sequence
 * numbers see sequence.c; times are milliseconds. */
struct rx_state {
    uint32_t input_next;   /* sequence number expected next */
    uint32_t input_seen;   /* 0: nothing received yet, any number is right */
    uint32_t old_run;      /* evidence of a restart: old numbers in a row */
    uint32_t old_next;     /* the number that would make the run longer */
    uint32_t input_time;   /* of the last packet that was accepted */
    uint32_t input_mark;   /* the number that was expected at mark_time */
    uint32_t mark_time;    /* moved about once a second */
    uint32_t input_passed; /* what is older than this was passed so long ago that it is not late */
    uint32_t life_time;    /* of the first packet since the peer began anew */
    uint32_t first_seen;   /* bit n: number n was accepted since then */
    uint32_t has_former;   /* 0: the life before has no packets under way any more */
    uint32_t former_next;  /* the number that was expected next in the life before */
    uint64_t rx_packets;
    uint64_t rx_bytes;   /* inner bytes */
    uint64_t rx_resyncs; /* times the sequence window was moved to a restarted peer */
    uint64_t rx_lost;    /* sequence numbers that were skipped */
    uint64_t rx_drops[DROP_COUNTERS];
    uint64_t reserved[6];
};

/* Egress: one frame read from the TUN. The vnet header, if the device has one, lies right before
 * offset; at least FRAME_HEADROOM bytes before offset are free for the GRE header. */
struct frame {
    uint32_t offset;
    uint32_t length;
    uint32_t done; /* payload bytes of a super-packet that have left as segments */
    uint32_t verdict;
    uint32_t destination; /* index of a struct destination; NO_DESTINATION: nobody is known */
    uint32_t flow;        /* hash of what is to stay in order */
    uint16_t path_mtu;    /* as of its struct destination; 0: as the record says */
    uint16_t fragmentable;
};

enum { FRAME_HEADROOM = 64, PACKET_INFO_LENGTH = 4 };
#define NO_DESTINATION UINT32_MAX

/* A tunnel with many remotes: which destination an inner network is behind. A header, then mask + 1
 * slots, open addressing with linear probing; asked for each prefix length that there is, the
 * longest first. */
struct peer_header {
    uint32_t mask;          /* number of slots - 1; a power of two less one */
    uint32_t seed;          /* what hashes begin with */
    uint32_t refused;       /* datagrams whose remote claimed a peer that another one keeps */
    uint32_t refused_last;  /* the last of them: index of its struct received */
    uint64_t lengths[2][3]; /* of IPv4, of IPv6. Bit n: there are networks of n bits */
};

struct peer {
    uint8_t state;  /* enum peer_state; 0: the slot is empty */
    uint8_t family; /* of the network: 4 or 6 */
    uint8_t prefix_length;
    uint8_t reserved;
    uint32_t destination;
    uint32_t seen; /* learned: when its remote was last heard, seconds of the caller's clock */
    uint32_t reserved_b;
    uint8_t network[16]; /* wire; IPv4 in the first four bytes */
};

enum peer_state { PEER_CONFIGURED = 1, PEER_LEARNED = 2 };

/* Egress: one outer packet without its delivery header, in at most two pieces. */
struct datagram {
    uint32_t head_offset; /* GRE header, and inner headers or the whole inner packet */
    uint32_t head_length;
    uint32_t body_offset; /* payload of a segment, in the frame it was read into */
    uint32_t body_length; /* 0: none */
    uint8_t tos;
    uint8_t ttl;
    uint8_t dont_fragment;
    uint8_t reserved;
    uint32_t destination; /* index of a struct destination */
    uint32_t frame;       /* index of the struct frame it came from */
    uint32_t inner_length;
    uint32_t flow;       /* of that frame */
    uint32_t flow_label; /* IPv6, host order; 0: none */
};

/* Egress: where datagrams go. */
struct destination {
    uint32_t family;    /* 4 or 6 */
    uint32_t interface; /* index of the device to leave through; 0: as routed */
    uint8_t local[16];  /* wire; zero: as routed */
    uint8_t remote[16]; /* wire */
    uint32_t copies;    /* n: stands for the n destinations behind it, each of which gets a copy */
    uint32_t path_mtu; /* largest inner packet that the path there carries; 0: as the record says */
    uint32_t fragmentable; /* not 0: outer packets go without Don't Fragment */
    uint32_t
        sent_interval;     /* when something was sent last: SENT_INTERVALs of the monotonic clock */
    uint16_t sent_longest; /* the longest that was sent then and that routers do not fragment, */
    uint16_t sent_before;  /* and in the interval before that one; without delivery header */
    uint16_t port;         /* UDP, host order; 0: the transport is no UDP */
    uint16_t reserved;
};

/* Seconds. An error is about what was sent in this interval or the one before: it comes back within
 * a round trip, and the shorter of the two is longer than that. */
enum { SENT_INTERVAL = 5 };

/* Egress: how the kernel sent a probe packet, for others to follow (bypass.c). The transmit path
 * cache of a tunnel has one entry, or PATHS where its flows have labels of their own, by which
 * routers and this host may choose between paths; all zero: nothing is known. */
struct path_entry {
    uint64_t until;    /* nanoseconds of the monotonic clock: what is known holds no longer */
    uint64_t probes;   /* datagrams that were to show a path */
    uint64_t negative; /* of them, those that showed none */
    uint64_t followed; /* datagrams that went behind them */
    uint32_t destination;
    uint32_t size;       /* of the probe packet: who follows is no longer */
    uint32_t flow_label; /* IPv6, host order */
    int32_t interface;   /* index of the device that it left through */
    uint32_t reserved;
    uint8_t tos;
    uint8_t ttl;
    uint8_t address_length; /* 6: Ethernet; 0: the device has no such header */
    uint8_t header_length;  /* of the delivery header; 0: a negative entry, others cannot follow */
    uint8_t address[8];     /* wire; of the next hop */
    uint8_t header[48];     /* wire; as the last datagram had it */
};

enum { PATHS = 16 };

/* What an IPv4 sender puts into outer headers unless told otherwise; whoever opens one sets it so.
 */
enum { SOCKET_TTL = 64, SOCKET_TOS = 0 };

/* What carries GRE: part of what a datagram is looked up by. */
enum transport {
    TRANSPORT_IP = 0,  /* IP protocol 47 */
    TRANSPORT_UDP = 1, /* GRE-in-UDP, RFC 8086 */
};

/* Ingress: one datagram from the underlay. Whoever receives it fills all down to the verdict, and
 * source and destination; decapsulation fills the rest. The GRE header is outer_length bytes behind
 * offset. At least FRAME_HEADROOM bytes before offset are free. */
struct received {
    uint32_t offset;
    uint32_t length;
    uint8_t family;       /* of the outer header: 4 or 6 */
    uint8_t transport;    /* enum transport */
    uint8_t outer_length; /* bytes of outer header in the buffer; 0: the kernel took it off */
    uint8_t tos;
    uint8_t ttl;
    uint8_t verdict;   /* enum drop_reason; not 0 before decapsulation: no good as it arrived */
    uint16_t protocol; /* protocol type, host order */
    uint32_t tunnel;   /* index of a tunnel record; 0: none */
    uint32_t inner_offset;
    uint32_t inner_length;
    uint32_t key;       /* host order; 0 without a key */
    uint8_t source[16]; /* wire; IPv4 in the first four bytes */
    uint8_t destination[16];
};

/* Ingress: one frame to write, as a chain of pieces. */
struct tun_write {
    uint32_t tunnel;
    int32_t fd;
    uint32_t first_piece;
    uint32_t last_piece;
    uint32_t pieces;
    uint32_t length;  /* bytes, vnet header included */
    uint32_t packets; /* inner packets in it */
    int32_t error;    /* errno of the write; 0: written */
};

struct piece {
    uint32_t offset;
    uint32_t length;
    uint32_t next;      /* index of the next piece; UINT32_MAX: the last */
    uint32_t is_header; /* 0: it lies in the arena of what was received; else among the headers */
};

/* The lookup table: a header, then mask + 1 entries, open addressing with linear probing. */
struct lookup_header {
    uint32_t mask;   /* number of entries - 1; a power of two less one */
    uint32_t stages; /* bit s: entries of precedence stage s exist */
    uint32_t reserved[2];
};

/* Precedence, first match wins; as ip_tunnel_lookup() of the kernel. */
enum lookup_stage {
    STAGE_BOTH = 0,   /* local and remote given */
    STAGE_REMOTE = 1, /* remote only */
    STAGE_LOCAL = 2,  /* local only */
    STAGE_NEITHER = 3,
    STAGE_COUNT = 4
};

enum lookup_kind {
    KIND_NO_KEY = 0,         /* packets without a key */
    KIND_KEY = 1,            /* packets with this key */
    KIND_SOME = 2,           /* not a tunnel to deliver to: tells that these addresses have one */
    KIND_FOREIGN_NO_KEY = 3, /* the first two again, of another receiver on this host */
    KIND_FOREIGN_KEY = 4,
};

struct lookup_entry {
    uint32_t tunnel; /* index of a tunnel record; 0: the entry is empty */
    uint32_t key;    /* host order; 0 unless KIND_KEY */
    uint8_t family;
    uint8_t kind;
    uint8_t transport; /* enum transport */
    uint8_t reserved_a;
    uint32_t reserved_b;
    uint8_t local[16];
    uint8_t remote[16];
};

/* Ingress: inner sources that tunnels with CHECKS_SOURCES take. Rows in the order of memcmp(), and
 * none overlaps another. A key: record, IP version, address padded with zero, all as on the wire.
 */
enum { SOURCE_KEY = 24 };

struct source_range {
    uint8_t first[SOURCE_KEY];
    uint8_t last[SOURCE_KEY];
};

#endif
