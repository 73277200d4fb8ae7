/* The order in which frames wait for their turn: small frames of quiet flows first, as with
 * fq_codel (RFC 8290 §4.1) but without queues: flows are told apart only among the frames that
 * wait. The order within a flow never changes. No system call, no Python. Twin:
 * gred/dataplane/pure_flows.py.
 */
#include "codec.h"

enum { SPARSE_AT_MOST = 4, QUANTUM = 1514 };

struct flow {
    uint32_t hosts; /* both ends, whatever the protocol */
    uint32_t whole; /* equal to hosts: a part of a packet, which may be of any flow between them */
    bool pure_ack;  /* a bare TCP acknowledgment: nobody waits for it, it belongs to a stream */
};

static bool hides_its_flow(const struct view *view)
{
    if (view->version != 6)
        return view->fragment;
    switch (view->protocol) {
    case IPV6_HOP_BY_HOP:
    case IPV6_ROUTING:
    case IPV6_FRAGMENT:
    case IPV6_AUTHENTICATION:
    case IPV6_DESTINATION_OPTIONS:
        return true;
    default:
        return false;
    }
}

/* View the IP packet in a frame, if there is one; return what the frame says its protocol is. */
static uint16_t view_packet(struct view *view, uint32_t flags)
{
    uint16_t type = 0;

    if (flags & ETHERNET) {
        if (view->length < ETHERNET_HEADER)
            return 0;
        view_ethernet(view);
        return load16(view->frame + 12);
    }
    if (flags & PACKET_INFO) {
        type = load16(view->frame - 2);
        if (type != PROTOCOL_IPV4 && type != PROTOCOL_IPV6)
            return type;
    }
    if (view->length >= IPV4_HEADER && view->frame[0] >> 4 == 4 && (view->frame[0] & 15) >= 5)
        view_ip(view, 0, 4);
    else if (view->length >= IPV6_HEADER && view->frame[0] >> 4 == 6)
        view_ip(view, 0, 6);
    return type;
}

static bool is_bare_acknowledgment(const uint8_t *tcp, size_t length)
{
    return length >= TCP_HEADER && (size_t)(tcp[12] >> 4) * 4 == length &&
           !(tcp[TCP_FLAGS] & (TCP_FIN | TCP_SYN | TCP_RST | TCP_PSH | TCP_URG));
}

static struct flow flow_of(uint8_t *frame, size_t length, uint32_t flags)
{
    struct view view = {.frame = frame, .length = length};
    uint16_t type = view_packet(&view, flags);
    struct flow flow = {.hosts = MIX_SEED};
    uint32_t words[8] = {type};
    size_t count = 1;

    if (view.version) {
        count = view.version == 4 ? 2 : 8;
        memcpy(words, frame + view.ip + (view.version == 4 ? 12 : 8), count * sizeof *words);
    }
    for (size_t i = 0; i < count; i++)
        flow.hosts = mix(flow.hosts, words[i]);
    if (hides_its_flow(&view)) {
        flow.whole = flow.hosts;
        return flow;
    }
    flow.whole = mix(flow.hosts, view.protocol);
    size_t transport = view.ip + ip_header_length(&view);
    if (view.version && (view.protocol == IP_TCP || view.protocol == IP_UDP) &&
        transport <= length && length - transport >= sizeof *words) {
        memcpy(words, frame + transport, sizeof *words);
        flow.whole = mix(flow.whole, words[0]);
        flow.pure_ack = view.protocol == IP_TCP &&
                        is_bare_acknowledgment(frame + transport, length - transport);
    }
    return flow;
}

/* May frame *i* go in front of all but the sparse? */
static bool is_sparse(const struct frame *frames, size_t sparse, size_t i, struct flow flow)
{
    size_t bytes = frames[i].length;

    if (sparse >= SPARSE_AT_MOST || flow.whole == flow.hosts || flow.pure_ack)
        return false;
    for (size_t k = 0; k < sparse; k++)
        if (frames[k].flow == flow.whole)
            bytes += frames[k].length;
    if (bytes > QUANTUM)
        return false;
    for (size_t k = sparse; k < i; k++)
        if (frames[k].flow == flow.whole || frames[k].flow == flow.hosts)
            return false;
    return true;
}

size_t order_frames(uint8_t *arena, struct frame *frames, size_t sparse, size_t waiting,
                    size_t count, const struct tunnel_record *record)
{
    for (size_t i = waiting; i < count; i++) {
        struct flow flow = flow_of(arena + frames[i].offset, frames[i].length, record->flags);
        frames[i].flow = flow.whole;
        if (!is_sparse(frames, sparse, i, flow))
            continue;
        struct frame frame = frames[i];
        memmove(frames + sparse + 1, frames + sparse, (i - sparse) * sizeof *frames);
        frames[sparse++] = frame;
    }
    return sparse;
}
