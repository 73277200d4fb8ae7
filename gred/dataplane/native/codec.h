/* The codec, without Python: what codec_module.c calls. No system call, no allocation. */
#ifndef GRED_CODEC_H
#define GRED_CODEC_H

#include "packet.h"

/* GRE flags word. RFC 2784 §2.1, RFC 2890 §2, RFC 1701. */
enum {
    GRE_CHECKSUM = 0x8000,
    GRE_ROUTING = 0x4000,
    GRE_KEY = 0x2000,
    GRE_SEQUENCE = 0x1000,
    GRE_RESERVED = 0x0c00, /* bits 4 and 5: a receiver must discard (RFC 2784 §2.3) */
    GRE_VERSION = 0x0007,
};

/* Set DF outside? The kernel's rule: ip_tunnel_xmit(). */
static inline bool outer_dont_fragment(const struct tunnel_record *record,
                                       const struct frame *frame, const struct view *view)
{
    if (frame->fragmentable)
        return false;
    if (record->flags & DONT_FRAGMENT)
        return true;
    return !(record->flags & IGNORE_DONT_FRAGMENT) && view->version == 4 && view->dont_fragment;
}

/* The largest inner packet that a tunnel takes, in bytes. */
static inline size_t packet_limit(const struct tunnel_record *record)
{
    return record->mtu < record->path_mtu ? record->mtu : record->path_mtu;
}

/* The largest inner packet that the path of a frame carries, in bytes. */
static inline size_t path_limit(const struct tunnel_record *record, const struct frame *frame)
{
    return frame->path_mtu && frame->path_mtu < record->path_mtu ? frame->path_mtu
                                                                 : record->path_mtu;
}

struct egress {
    uint8_t *arena;
    struct frame *frames;
    struct datagram *datagrams;
    size_t datagram_capacity;
    size_t headers_begin, headers_end;
};

struct egress_result {
    size_t datagrams;
    size_t next;
    size_t refused;
};

/* Contract: _codec.pyi. The caller has checked that every offset lies inside the buffers. */
void encapsulate(const struct egress *egress, size_t first, size_t count,
                 const struct tunnel_record *record, struct tx_state *state,
                 struct egress_result *result);

/* Contract: _codec.pyi. *record* is that of the tunnel the frames were read from. */
size_t order_frames(uint8_t *arena, struct frame *frames, size_t sparse, size_t waiting,
                    size_t count, const struct tunnel_record *record);

/* What tunnels with many remotes have: peers.c. The mask has been checked, the rows have not. */
struct peer_table {
    struct peer_header *header;
    struct peer *slots;
};

struct destination_table {
    const struct destination *rows;
    size_t count;
};

/* One call of spread_datagrams(): from what is left of *next* to *first* and behind it. */
struct spread {
    struct datagram *datagrams;
    size_t next, copy, count;
    size_t first, capacity;
};

/* One call of find_unlearned_source(). *now* and *hold* in seconds. */
struct hearing {
    const uint8_t *arena;
    const struct received *received;
    size_t first, count;
    uint32_t tunnel;
    uint32_t now, hold;
};

/* Contracts: _codec.pyi. */
size_t route_frames(const uint8_t *arena, struct frame *frames, size_t count, size_t limit,
                    const struct peer_table *peers, const struct destination_table *destinations);
size_t spread_datagrams(struct spread *spread, const struct destination_table *destinations,
                        struct tx_state *state);
size_t find_learners(const struct received *received, size_t count,
                     const struct tunnel_record *tunnels, size_t tunnel_count, uint32_t *found,
                     size_t capacity);
size_t find_unlearned_source(const struct hearing *hearing, const struct peer_table *peers,
                             const struct destination_table *destinations);

struct ingress {
    uint8_t *arena;
    struct received *received;
    const struct tunnel_record *tunnels;
    struct rx_state *states;
    const int32_t *descriptors;
    size_t tunnel_count; /* rows of all three */
    const struct lookup_header *lookup;
    size_t lookup_entries;
    const struct source_range *sources;
    size_t source_count;
    struct tun_write *tun_writes;
    size_t tun_writes_capacity;
    struct piece *pieces;
    size_t piece_capacity;
    uint8_t *headers; /* of segments that are cut here, and vnet headers without room elsewhere */
    size_t headers_length;
    uint32_t now; /* milliseconds of any clock that does not go back; it may wrap */
};

struct ingress_result {
    size_t frames;
    size_t refused;
};

/* Contract: _codec.pyi. The caller has checked that every offset lies inside the buffers. */
void decapsulate(const struct ingress *ingress, size_t count, struct ingress_result *result);

/* Does *tunnel*, which checks sources, take the IP packet *view*? */
bool source_is_allowed(const struct ingress *ingress, uint32_t tunnel, const struct view *view);

/* Is a packet with this sequence number in order? For tunnels with INPUT_SEQUENCE. */
enum drop_reason check_number(struct rx_state *state, uint32_t number, uint32_t now);

/* What coalescing and writing share within one call of decapsulate. */
enum { RUN_SLOTS = 16, RUN_UDP_PACKETS = 64 };

struct run {
    bool open;
    bool merged;  /* a member came merged from the NIC: segment boundaries are lost */
    bool checked; /* the first member's checksum is known to be right, or partial */
    bool fixed_id;
    uint8_t gathered; /* PSH and FIN of the members */
    uint32_t tun_write;
    struct view first;
    size_t size;
    size_t ip_length; /* IP packet, all members */
    uint32_t next_sequence;
    uint32_t tunnel;
};

struct emission {
    const struct ingress *in;
    size_t tun_writes;
    size_t pieces;
    size_t headers;
    struct run runs[RUN_SLOTS];
};

/* Queue the decapsulated packet *view* for its tunnel; false when there is no room left. */
bool emit(struct emission *emission, uint32_t tunnel, struct view *view);

/* Close all runs. */
void emit_end(struct emission *emission);

#endif
