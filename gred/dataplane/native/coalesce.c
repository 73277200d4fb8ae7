/* Ingress, second half: decapsulated packets become frames to write. Consecutive TCP segments or
 * UDP datagrams of one flow leave as one super-packet, under the rules of the kernel's GRO
 * (tcp_gro_receive(), inet_gro_receive()); the order within a flow never changes, because a packet
 * that cannot join its flow's run closes it. No system call, no Python, no allocation.
 * Twin: gred/dataplane/pure_coalesce.py; what it writes is in pure_emit.py there.
 */
#include "codec.h"

enum { IP_LENGTH_LIMIT = 65535, LINE = 64 };

static const struct tunnel_record *record_of(const struct emission *emission, uint32_t tunnel)
{
    return &emission->in->tunnels[tunnel];
}

static const uint8_t *ip_of(const struct view *view)
{
    return view->frame + view->ip;
}

static const uint8_t *transport_of(const struct view *view)
{
    return view->frame + view->transport;
}

static size_t payload_length(const struct view *view)
{
    return view->length - view->payload;
}

static uint8_t gso_type(const struct view *view)
{
    if (view->protocol == IP_UDP)
        return GSO_UDP;
    uint8_t type = view->version == 4 ? GSO_TCPV4 : GSO_TCPV6;
    return transport_of(view)[TCP_FLAGS] & TCP_CWR ? type | GSO_ECN : type;
}

/* The payload of a full segment of a packet that the NIC merged is not told: what fits the tunnel.
 */
static size_t segment_size(const struct tunnel_record *record, const struct view *view)
{
    size_t headers = view->payload - view->ip;
    return record->mtu > headers ? record->mtu - headers : 0;
}

static struct piece *new_piece(struct emission *emission, struct tun_write *tun_write,
                               size_t offset, size_t length, bool is_header)
{
    uint32_t index = (uint32_t)emission->pieces++;
    struct piece *piece = &emission->in->pieces[index];

    *piece = (struct piece){(uint32_t)offset, (uint32_t)length, UINT32_MAX, is_header};
    if (tun_write->pieces++)
        emission->in->pieces[tun_write->last_piece].next = index;
    else
        tun_write->first_piece = index;
    tun_write->last_piece = index;
    tun_write->length += (uint32_t)length;
    return piece;
}

static bool has_room(const struct emission *emission, size_t tun_writes, size_t pieces)
{
    return emission->in->tun_writes_capacity - emission->tun_writes >= tun_writes &&
           emission->in->piece_capacity - emission->pieces >= pieces;
}

static struct tun_write *new_tun_write(struct emission *emission, uint32_t tunnel)
{
    struct tun_write *tun_write = &emission->in->tun_writes[emission->tun_writes++];
    *tun_write =
        (struct tun_write){.tunnel = tunnel, .fd = emission->in->descriptors[tunnel], .packets = 1};
    return tun_write;
}

/* Where the vnet header of a frame is: before its packet, or where there is no room among the
 * headers, as its first piece. */
static uint8_t *vnet_of(const struct emission *emission, const struct tun_write *tun_write)
{
    const struct piece *first = &emission->in->pieces[tun_write->first_piece];
    return (first->is_header ? emission->in->headers : emission->in->arena) + first->offset;
}

/* The vnet header that tells the kernel to finish the checksum, and to cut when *size* is not 0. */
static struct vnet_header unfinished(const struct view *view, size_t size)
{
    struct vnet_header vnet = {
        .flags = VNET_NEEDS_CSUM,
        .checksum_start = (uint16_t)view->transport,
        .checksum_offset = (uint16_t)transport_checksum_offset(view->protocol),
    };
    if (size) {
        vnet.gso_type = gso_type(view);
        vnet.gso_size = (uint16_t)size;
        vnet.header_length = (uint16_t)view->payload;
    }
    return vnet;
}

/* --- runs ------------------------------------------------------------------------------------- */

static void close_run(struct emission *emission, struct run *run)
{
    if (!run->open)
        return;
    run->open = false;

    struct tun_write *tun_write = &emission->in->tun_writes[run->tun_write];
    struct view *first = &run->first;
    uint8_t *ip = first->frame + first->ip;
    uint8_t *transport = first->frame + first->transport;
    size_t transport_length = run->ip_length - (first->transport - first->ip);

    if (tun_write->packets == 1)
        return;
    if (first->version == 4) {
        store16(ip + 2, (uint16_t)run->ip_length);
        store16(ip + 10, 0);
        store_checksum(ip + 10, sum_bytes(ip, ip_header_length(first)));
    } else {
        store16(ip + 4, (uint16_t)(run->ip_length - IPV6_HEADER));
    }
    if (first->protocol == IP_TCP)
        transport[TCP_FLAGS] |= run->gathered;
    else
        store16(transport + 4, (uint16_t)transport_length);
    uint16_t partial =
        fold(pseudo_sum(first, first->protocol) + word_of((uint16_t)transport_length));
    memcpy(transport + transport_checksum_offset(first->protocol), &partial, sizeof partial);
    struct vnet_header vnet = unfinished(first, run->size);
    memcpy(vnet_of(emission, tun_write), &vnet, VNET_HEADER);
}

void emit_end(struct emission *emission)
{
    for (size_t i = 0; i < RUN_SLOTS; i++)
        close_run(emission, &emission->runs[i]);
}

static void close_runs_of(struct emission *emission, uint32_t tunnel)
{
    for (size_t i = 0; i < RUN_SLOTS; i++)
        if (emission->runs[i].tunnel == tunnel)
            close_run(emission, &emission->runs[i]);
}

static struct run *run_slot(struct emission *emission, uint32_t tunnel, const struct view *view)
{
    const uint8_t *ip = ip_of(view);
    uint32_t words[10] = {0};
    uint32_t hash = MIX_SEED;

    if (view->version == 4) {
        memcpy(words, ip + 12, 4);
        memcpy(words + 4, ip + 16, 4);
    } else {
        memcpy(words, ip + 8, 32);
    }
    memcpy(words + 8, transport_of(view), 4);
    words[9] = tunnel | (uint32_t)view->protocol << 24;
    for (size_t i = 0; i < 10; i++)
        hash = mix(hash, words[i]);
    return &emission->runs[hash & (RUN_SLOTS - 1)];
}

static bool same_flow(const struct run *run, uint32_t tunnel, const struct view *view)
{
    const struct view *first = &run->first;

    if (!run->open || run->tunnel != tunnel || first->version != view->version ||
        first->protocol != view->protocol ||
        memcmp(transport_of(first), transport_of(view), 4) != 0)
        return false;
    return view->version == 4 ? !memcmp(ip_of(first) + 12, ip_of(view) + 12, 8)
                              : !memcmp(ip_of(first) + 8, ip_of(view) + 8, 32);
}

static bool is_candidate(const struct tunnel_record *record, const struct view *view)
{
    const uint8_t *transport = transport_of(view);

    if (payload_length(view) == 0 ||
        view->transport - view->ip != (size_t)(view->version == 4 ? IPV4_HEADER : IPV6_HEADER))
        return false;
    if (view->protocol == IP_TCP)
        return record->flags & WRITE_TSO &&
               (transport[TCP_FLAGS] & ~(TCP_PSH | TCP_FIN | TCP_CWR)) == TCP_ACK;
    return record->flags & WRITE_USO && word16(transport + UDP_CHECKSUM) != 0 &&
           load16(transport + 4) == view->length - view->transport;
}

/* The IP headers agree in all that segmentation copies from the first to the others. */
static bool same_ip(struct run *run, const struct view *view, uint32_t members)
{
    const uint8_t *a = ip_of(&run->first);
    const uint8_t *b = ip_of(view);

    if (run->first.ip != view->ip || memcmp(run->first.frame, view->frame, view->ip) != 0)
        return false; /* MAC header */
    if (view->version == 6)
        return !memcmp(a, b, 4) && a[7] == b[7];
    if (a[1] != b[1] || a[8] != b[8] || run->first.dont_fragment != view->dont_fragment)
        return false;
    if (run->merged)
        return true;
    uint16_t first_id = load16(a + 4), id = load16(b + 4);
    if (members == 1 && view->dont_fragment)
        run->fixed_id = id == first_id;
    return id == (run->fixed_id ? first_id : (uint16_t)(first_id + members));
}

static bool same_tcp(const struct run *run, const struct view *view)
{
    const uint8_t *a = transport_of(&run->first);
    const uint8_t *b = transport_of(view);
    size_t header = view->payload - view->transport;

    return header == run->first.payload - run->first.transport && !memcmp(a + 8, b + 8, 5) &&
           !(b[TCP_FLAGS] & TCP_CWR) && !memcmp(a + 14, b + 14, 2) &&
           !memcmp(a + TCP_HEADER, b + TCP_HEADER, header - TCP_HEADER) &&
           load32(b + 4) == run->next_sequence;
}

static bool join(struct emission *emission, struct run *run, const struct view *view, bool merged)
{
    struct tun_write *tun_write = &emission->in->tun_writes[run->tun_write];
    size_t payload = payload_length(view);
    bool tcp = view->protocol == IP_TCP;

    if (merged ? !run->merged || segment_size(record_of(emission, run->tunnel), view) != run->size
               : payload > run->size)
        return false;
    if (run->ip_length + payload > IP_LENGTH_LIMIT || !has_room(emission, 0, 1) ||
        !same_ip(run, view, tun_write->packets))
        return false;
    if (tcp ? !same_tcp(run, view) : tun_write->packets >= RUN_UDP_PACKETS)
        return false;
    /* What is written as a super-packet is trusted by the kernel: no segment that was damaged on
     * the way may become part of one. */
    if (!run->checked && !checksum_is_right(&run->first))
        return false;
    run->checked = true;
    if (!merged && !checksum_is_partial(view) && !checksum_is_right(view))
        return false;
    new_piece(emission, tun_write, (size_t)(view->frame - emission->in->arena) + view->payload,
              payload, false);
    tun_write->packets++;
    run->ip_length += payload;
    if (tcp) {
        uint8_t ends = transport_of(view)[TCP_FLAGS] & (TCP_PSH | TCP_FIN);
        run->next_sequence += (uint32_t)payload;
        run->gathered |= ends;
        if (ends)
            close_run(emission, run);
    }
    if (run->open && !run->merged && payload < run->size)
        close_run(emission, run);
    return true;
}

static void open_run(struct emission *emission, struct run *run, uint32_t tunnel,
                     const struct view *view, size_t size, bool partial, bool merged)
{
    if (view->protocol == IP_TCP && transport_of(view)[TCP_FLAGS] & (TCP_PSH | TCP_FIN))
        return;
    close_run(emission, run);
    *run = (struct run){
        .open = true,
        .merged = merged,
        .checked = partial,
        .tun_write = (uint32_t)emission->tun_writes - 1,
        .first = *view,
        .size = size,
        .ip_length = view->length - view->ip,
        .tunnel = tunnel,
    };
    if (view->protocol == IP_TCP)
        run->next_sequence = load32(transport_of(view) + 4) + (uint32_t)payload_length(view);
}

/* --- writing ---------------------------------------------------------------------------------- */

/* What stands before a frame: nothing, a vnet header that asks for nothing, or the protocol type.
 */
static size_t write_prefix(const struct tunnel_record *record, const struct view *view, uint8_t *at)
{
    if (!(record->flags & PACKET_INFO)) {
        memset(at, 0, record->vnet_header);
        return record->vnet_header;
    }
    store16(at, 0);
    store16(at + 2, view->version == 4   ? PROTOCOL_IPV4
                    : view->version == 6 ? PROTOCOL_IPV6
                                         : record->protocol);
    return PACKET_INFO_LENGTH;
}

static size_t prefix_length(const struct tunnel_record *record)
{
    return record->flags & PACKET_INFO ? PACKET_INFO_LENGTH : record->vnet_header;
}

/* For a device that takes no super-packets: cut what the NIC merged. All of it, or nothing. */
static bool emit_cut(struct emission *emission, uint32_t tunnel, struct view *view, size_t size)
{
    const struct tunnel_record *record = record_of(emission, tunnel);
    size_t prefix = prefix_length(record);
    size_t offset = (size_t)(view->frame - emission->in->arena);
    struct cut cut = {.view = *view,
                      .protocol = IP_TCP,
                      .size = size,
                      .total = payload_length(view),
                      .pseudo = pseudo_sum(view, IP_TCP)};
    size_t segments = (cut.total + size - 1) / size;
    size_t head = prefix + view->payload;
    size_t step = (head + LINE - 1) & ~(size_t)(LINE - 1);
    size_t at = emission->headers;

    if (!has_room(emission, segments, 2 * segments) || at > emission->in->headers_length ||
        (emission->in->headers_length - at) / step < segments)
        return false;
    for (size_t done = 0; done < cut.total; done += size, at += step) {
        size_t take = cut.total - done < size ? cut.total - done : size;
        struct tun_write *tun_write = new_tun_write(emission, tunnel);
        write_prefix(record, view, emission->in->headers + at);
        cut_segment(&cut, done, take, emission->in->headers + at + prefix);
        new_piece(emission, tun_write, at, head, true);
        new_piece(emission, tun_write, offset + view->payload + done, take, false);
    }
    emission->headers = at;
    return true;
}

/* For a device without a vnet header: a packet must be finished. */
static bool emit_plain(struct emission *emission, uint32_t tunnel, struct view *view, bool partial)
{
    const struct tunnel_record *record = record_of(emission, tunnel);
    size_t prefix = prefix_length(record);
    size_t offset = (size_t)(view->frame - emission->in->arena) - prefix;

    if (!has_room(emission, 1, 1))
        return false;
    write_prefix(record, view, view->frame - prefix);
    if (partial) {
        uint8_t *field = view->frame + view->transport + transport_checksum_offset(view->protocol);
        store_checksum(field, sum_bytes(transport_of(view), view->length - view->transport));
        if (view->protocol == IP_UDP && word16(field) == 0)
            memset(field, 0xff, 2);
    }
    new_piece(emission, new_tun_write(emission, tunnel), offset, prefix + view->length, false);
    return true;
}

static bool emit_behind_vnet(struct emission *emission, uint32_t tunnel, const struct view *view,
                             const struct vnet_header *vnet)
{
    size_t offset = (size_t)(view->frame - emission->in->arena);

    if (!view->crowded) {
        if (!has_room(emission, 1, 1))
            return false;
        memcpy(view->frame - VNET_HEADER, vnet, VNET_HEADER);
        new_piece(emission, new_tun_write(emission, tunnel), offset - VNET_HEADER,
                  view->length + VNET_HEADER, false);
        return true;
    }
    size_t at = emission->headers;
    if (!has_room(emission, 1, 2) || at > emission->in->headers_length ||
        emission->in->headers_length - at < LINE)
        return false;
    memcpy(emission->in->headers + at, vnet, VNET_HEADER);
    struct tun_write *tun_write = new_tun_write(emission, tunnel);
    new_piece(emission, tun_write, at, VNET_HEADER, true);
    new_piece(emission, tun_write, offset, view->length, false);
    emission->headers = at + LINE;
    return true;
}

bool emit(struct emission *emission, uint32_t tunnel, struct view *view)
{
    const struct tunnel_record *record = record_of(emission, tunnel);
    bool partial = view->transport && checksum_is_partial(view);
    size_t size = view->transport ? payload_length(view) : 0;
    bool merged = false;
    struct run *run = NULL;

    if (partial && view->protocol == IP_TCP) {
        size_t estimate = segment_size(record, view);
        merged = estimate && size > estimate;
        if (merged)
            size = estimate;
    }
    if (merged && !(record->vnet_header && record->flags & WRITE_TSO))
        return emit_cut(emission, tunnel, view, size);
    if (!record->vnet_header)
        return emit_plain(emission, tunnel, view, partial);
    if (view->fragment)
        close_runs_of(emission, tunnel);
    if (view->transport) {
        run = run_slot(emission, tunnel, view);
        bool candidate = is_candidate(record, view);
        if (same_flow(run, tunnel, view)) {
            if (candidate && join(emission, run, view, merged))
                return true;
            close_run(emission, run);
        }
        if (!candidate)
            run = NULL;
    }
    struct vnet_header vnet = {0};
    if (partial)
        vnet = unfinished(view, merged ? size : 0);
    if (!emit_behind_vnet(emission, tunnel, view, &vnet))
        return false;
    if (run)
        open_run(emission, run, tunnel, view, size, partial, merged);
    return true;
}
