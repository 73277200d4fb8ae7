/* Egress: frames from a TUN become datagrams. RFC 2784, RFC 2890; ECN as RFC 6040 §4.1.
 * No system call, no Python, no allocation. Twin: gred/dataplane/pure_encapsulate.py.
 */
#include "codec.h"

/* What no kernel cuts: UDP_MAX_SEGMENTS, as virtio_net_hdr_to_skb() has it, and TCP_MIN_GSO_SIZE,
 * the least that TCP leaves for data beside its options. Else one frame would be 65,000 packets. */
enum { UDP_SEGMENT_LIMIT = 128, TCP_SEGMENT_LEAST = 8 };

/* What one frame turned out to be. */
struct plan {
    struct cut cut; /* cut.view always; the rest only for a super-packet */
    bool super;
    uint16_t protocol_type;
    struct vnet_header vnet;
};

static enum drop_reason view_frame(const struct tunnel_record *record, struct plan *plan)
{
    struct view *view = &plan->cut.view;
    const uint8_t *frame = view->frame;

    if (record->flags & ETHERNET) {
        if (view->length < ETHERNET_HEADER)
            return DROP_TRUNCATED;
        plan->protocol_type = PROTOCOL_ETHERNET;
        view_ethernet(view);
        return DROP_NONE;
    }
    if (view->length < 1)
        return DROP_TRUNCATED;
    if (record->flags & PACKET_INFO) {
        plan->protocol_type = load16(frame - 2);
        if (plan->protocol_type == record->protocol)
            return DROP_NONE;
        if (plan->protocol_type != PROTOCOL_IPV4 && plan->protocol_type != PROTOCOL_IPV6)
            return DROP_UNKNOWN_PROTOCOL;
    }
    switch (frame[0] >> 4) {
    case 4:
        if (view->length < IPV4_HEADER || (frame[0] & 15) < 5 ||
            view->length < (size_t)(frame[0] & 15) * 4)
            return DROP_TRUNCATED;
        plan->protocol_type = PROTOCOL_IPV4;
        view_ip(view, 0, 4);
        return DROP_NONE;
    case 6:
        if (view->length < IPV6_HEADER)
            return DROP_TRUNCATED;
        plan->protocol_type = PROTOCOL_IPV6;
        view_ip(view, 0, 6);
        return DROP_NONE;
    default:
        return DROP_UNKNOWN_PROTOCOL;
    }
}

static bool goes_to_port(const struct view *view, uint16_t port)
{
    size_t header = view->ip + ip_header_length(view);

    return view->protocol == IP_UDP && !view->fragment && view->length - header >= UDP_HEADER &&
           load16(view->frame + header + 2) == port;
}

/* Would this inner packet, itself GRE between the tunnel's own ends, come back for ever? */
static bool enters_itself(const struct tunnel_record *record, const struct view *view)
{
    static const uint8_t any[16];
    size_t length = view->version == 4 ? 4 : 16;
    const uint8_t *source = view->frame + (view->version == 4 ? 12 : 8);

    if (view->version != record->family || record->flags & ETHERNET)
        return false;
    if (record->port ? !goes_to_port(view, record->port) : view->protocol != IP_GRE)
        return false;
    return !memcmp(source + length, record->remote, length) &&
           (!memcmp(record->local, any, 16) || !memcmp(source, record->local, length));
}

/* Read the vnet header; make *plan* a super-packet if it is one. */
static enum drop_reason plan_super(struct plan *plan)
{
    struct cut *cut = &plan->cut;
    struct view *view = &cut->view;
    size_t start = plan->vnet.checksum_start;
    uint8_t type = plan->vnet.gso_type & (uint8_t)~GSO_ECN;

    if (type == GSO_NONE)
        return DROP_NONE;
    if (type == GSO_TCPV4 || type == GSO_TCPV6)
        cut->protocol = IP_TCP;
    else if (type == GSO_UDP)
        cut->protocol = IP_UDP;
    else
        return DROP_BAD_INNER;
    if (!(plan->vnet.flags & VNET_NEEDS_CSUM) || plan->vnet.gso_size == 0 || view->version == 0)
        return DROP_BAD_INNER;
    /* Extension headers are multiples of eight bytes (RFC 8200 §4). */
    if (view->version == 4 ? start != view->ip + ip_header_length(view)
                           : start < view->ip + IPV6_HEADER || (start - view->ip) % 8)
        return DROP_BAD_INNER;
    size_t header = cut->protocol == IP_TCP ? TCP_HEADER : UDP_HEADER;
    if (start > view->length || view->length - start < header)
        return DROP_BAD_INNER;
    if (cut->protocol == IP_TCP) {
        header = (size_t)(view->frame[start + 12] >> 4) * 4;
        if (header < TCP_HEADER || view->length - start < header)
            return DROP_BAD_INNER;
    }
    view->transport = start;
    view->payload = start + header;
    if (view->payload == view->length)
        return DROP_NONE; /* headers only: nothing to cut */
    cut->size = plan->vnet.gso_size;
    cut->total = view->length - view->payload;
    if (cut->protocol == IP_UDP ? cut->total > cut->size * UDP_SEGMENT_LIMIT
                                : cut->size < TCP_SEGMENT_LEAST)
        return DROP_BAD_INNER;
    cut->pseudo = pseudo_sum(view, cut->protocol);
    plan->super = true;
    return DROP_NONE;
}

/* Finish a checksum that the stack left to hardware. */
static enum drop_reason complete_checksum(const struct plan *plan)
{
    const struct view *view = &plan->cut.view;
    size_t start = plan->vnet.checksum_start;
    size_t field = start + plan->vnet.checksum_offset;

    if (!(plan->vnet.flags & VNET_NEEDS_CSUM))
        return DROP_NONE;
    if (view->length < 2 || start > view->length || field > view->length - 2)
        return DROP_BAD_INNER;
    store_checksum(view->frame + field, sum_bytes(view->frame + start, view->length - start));
    if (plan->vnet.checksum_offset == UDP_CHECKSUM && word16(view->frame + field) == 0)
        memset(view->frame + field, 0xff, 2);
    return DROP_NONE;
}

static enum drop_reason plan_frame(const struct tunnel_record *record, const struct frame *frame,
                                   struct plan *plan)
{
    enum drop_reason reason;
    struct view *view = &plan->cut.view;

    if (record->flags & BLOCKED)
        return DROP_DEAD_LOOP;
    if (record->flags & NO_REMOTE || frame->destination == NO_DESTINATION)
        return DROP_NO_REMOTE;
    if ((reason = view_frame(record, plan)))
        return reason;
    if (enters_itself(record, view))
        return DROP_DEAD_LOOP;
    if (record->vnet_header) {
        memcpy(&plan->vnet, view->frame - VNET_HEADER, VNET_HEADER);
        if ((reason = plan_super(plan)))
            return reason;
    }
    size_t size = view->length;
    if (plan->super && view->payload + plan->cut.size < size)
        size = view->payload + plan->cut.size;
    if (record->flags & ETHERNET)
        size -= ETHERNET_HEADER;
    if (size > path_limit(record, frame) && outer_dont_fragment(record, frame, view))
        return DROP_TOO_BIG;
    if (record->vnet_header && !plan->super && (reason = complete_checksum(plan)))
        return reason;
    if (record->flags & CLAMP_MSS && !plan->super && view->version) {
        find_transport(view);
        size_t limit = path_limit(record, frame);
        clamp_mss(view, limit < record->mtu ? limit : record->mtu);
    }
    return DROP_NONE;
}

static size_t gre_header_length(uint32_t flags)
{
    return 4 + (flags & OUTPUT_CHECKSUM ? 4 : 0) + (flags & OUTPUT_KEY ? 4 : 0) +
           (flags & OUTPUT_SEQUENCE ? 4 : 0);
}

/* Write the GRE header at *gre*; *inner_sum* is the sum of what follows it. RFC 2890 §2. */
static void write_gre(const struct tunnel_record *record, struct tx_state *state,
                      uint16_t protocol_type, uint8_t *gre, uint64_t inner_sum)
{
    uint8_t *field = gre + 4;
    uint16_t flags = 0;

    if (record->flags & OUTPUT_CHECKSUM) {
        flags |= GRE_CHECKSUM;
        store32(field, 0);
        field += 4;
    }
    if (record->flags & OUTPUT_KEY) {
        flags |= GRE_KEY;
        store32(field, record->output_key);
        field += 4;
    }
    if (record->flags & OUTPUT_SEQUENCE) {
        flags |= GRE_SEQUENCE;
        store32(field, state->output_next++);
        field += 4;
    }
    store16(gre, flags);
    store16(gre + 2, protocol_type);
    if (record->flags & OUTPUT_CHECKSUM)
        store_checksum(gre + 4, sum_bytes(gre, (size_t)(field - gre)) + inner_sum);
}

/* RFC 6438 §3: never 0, one for all packets of an inner flow, and told apart from those of others.
 */
static uint32_t label_of(const struct tunnel_record *record, const struct frame *frame)
{
    uint32_t label;

    if (!(record->flags & LABELS_FLOWS))
        return record->flow_label;
    label = mix(record->flow_label, frame->flow) >> 12;
    return label ? label : 1;
}

static void fill_datagram(const struct tunnel_record *record, struct tx_state *state,
                          const struct view *view, struct datagram *datagram,
                          const struct frame *frame, size_t index)
{
    uint8_t outer_tos = record->flags & TOS_INHERIT ? view->tos : record->tos;

    /* RFC 6040 §4.1, normal mode: the outer ECN field is a copy of the inner one. */
    datagram->tos = (uint8_t)((outer_tos & ~3) | (view->tos & 3));
    datagram->ttl = record->ttl;
    if (record->flags & TTL_INHERIT) {
        datagram->ttl = view->version ? view->ttl : 64;
        if (datagram->ttl == 0)
            datagram->ttl = 1;
    }
    datagram->dont_fragment = outer_dont_fragment(record, frame, view);
    datagram->reserved = 0;
    datagram->destination = frame->destination;
    datagram->frame = (uint32_t)index;
    datagram->flow = frame->flow;
    datagram->flow_label = label_of(record, frame);
    state->tx_packets++;
    state->tx_bytes += datagram->inner_length;
}

static size_t round_up_64(size_t n)
{
    return (n + 63) & ~(size_t)63;
}

void encapsulate(const struct egress *egress, size_t first, size_t count,
                 const struct tunnel_record *record, struct tx_state *state,
                 struct egress_result *result)
{
    size_t gre_length = gre_header_length(record->flags);
    size_t headers = round_up_64(egress->headers_begin);
    size_t space = headers < egress->headers_end ? egress->headers_end - headers : 0;

    *result = (struct egress_result){.next = first};
    for (; result->next < count; result->next++) {
        struct frame *frame = &egress->frames[result->next];
        struct plan plan = {
            .cut.view = {.frame = egress->arena + frame->offset, .length = frame->length}};
        const struct view *view = &plan.cut.view;

        /* Asked first: planning a frame completes its checksum, which must not happen twice. */
        if (result->datagrams == egress->datagram_capacity)
            return;
        frame->verdict = plan_frame(record, frame, &plan);
        /* Headers that the empty space does not hold would be waited for without end. */
        if (!frame->verdict && plan.super && round_up_64(gre_length + view->payload) > space)
            frame->verdict = DROP_BAD_INNER;
        if (frame->verdict) {
            state->tx_drops[frame->verdict]++;
            result->refused++;
            continue;
        }
        if (!plan.super) {
            struct datagram *datagram = &egress->datagrams[result->datagrams++];
            uint8_t *gre = view->frame - gre_length;
            uint64_t sum =
                record->flags & OUTPUT_CHECKSUM ? sum_bytes(view->frame, view->length) : 0;
            write_gre(record, state, plan.protocol_type, gre, sum);
            datagram->head_offset = (uint32_t)(frame->offset - gre_length);
            datagram->head_length = (uint32_t)(gre_length + view->length);
            datagram->body_offset = 0;
            datagram->body_length = 0;
            datagram->inner_length = frame->length;
            fill_datagram(record, state, view, datagram, frame, result->next);
            continue;
        }
        size_t head_length = gre_length + view->payload;
        while (frame->done < plan.cut.total) {
            if (result->datagrams == egress->datagram_capacity || headers > egress->headers_end ||
                egress->headers_end - headers < round_up_64(head_length))
                return;
            struct datagram *datagram = &egress->datagrams[result->datagrams++];
            size_t left = plan.cut.total - frame->done;
            size_t take = left < plan.cut.size ? left : plan.cut.size;
            uint8_t *gre = egress->arena + headers;
            uint64_t sum = cut_segment(&plan.cut, frame->done, take, gre + gre_length);
            if (record->flags & OUTPUT_CHECKSUM)
                sum += sum_bytes(gre + gre_length, view->payload);
            write_gre(record, state, plan.protocol_type, gre, sum);
            datagram->head_offset = (uint32_t)headers;
            datagram->head_length = (uint32_t)head_length;
            datagram->body_offset = (uint32_t)(frame->offset + view->payload + frame->done);
            datagram->body_length = (uint32_t)take;
            datagram->inner_length = (uint32_t)(view->payload + take);
            fill_datagram(record, state, view, datagram, frame, result->next);
            frame->done += (uint32_t)take;
            headers += round_up_64(head_length);
        }
    }
}
