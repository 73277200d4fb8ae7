/* Ingress: datagrams from the underlay become frames. A ladder of refusals, then one line that says
 * it is ours. RFC 2784 §2.3, RFC 2890 §2, RFC 6040 §4.2; look-up as ip_tunnel_lookup() of the
 * kernel. No system call, no Python, no allocation. Twins: gred/dataplane/pure_decapsulate.py
 * and pure_lookup.py.
 */
#include "codec.h"

enum { WCCP_HEADER = 4 }; /* the redirect header of WCCP version 2 */
enum { ECHO_REPLY = 0, ECHO_REPLY6 = 129 };
enum { ECHO_LEAST = 12, ECHO_MARK = 0x67726564 }; /* bytes of ICMP to the end of the mark; "gred" */

/* A GRE header and what is behind it. */
struct gre {
    uint8_t *start;
    size_t length; /* GRE header and payload */
    size_t header;
    uint16_t flags;
    uint16_t protocol;
    uint32_t key;
    uint32_t sequence;
    bool crowded; /* datagrams that the kernel merged lie next to each other */
};

/* Where GRE begins the transport has said, with all that is known of the outer header. */
static enum drop_reason pass_outer(const struct ingress *in, const struct received *received,
                                   struct gre *gre)
{
    if (received->verdict)
        return (enum drop_reason)received->verdict;
    if (received->outer_length > received->length)
        return DROP_TRUNCATED;
    gre->start = in->arena + received->offset + received->outer_length;
    gre->length = received->length - received->outer_length;
    gre->crowded = received->transport == TRANSPORT_UDP;
    return DROP_NONE;
}

static size_t gre_length(uint16_t flags)
{
    return 4 + (flags & GRE_CHECKSUM ? 4 : 0) + (flags & GRE_KEY ? 4 : 0) +
           (flags & GRE_SEQUENCE ? 4 : 0);
}

static enum drop_reason read_gre(struct gre *gre)
{
    if (gre->length < 4)
        return DROP_TRUNCATED;
    gre->flags = load16(gre->start);
    gre->protocol = load16(gre->start + 2);
    if ((gre->flags & GRE_VERSION) == 1 && gre->protocol == PROTOCOL_PPP)
        return DROP_PPTP;
    if ((gre->flags & GRE_VERSION) == 1 && gre->protocol == PROTOCOL_EOIP)
        return DROP_EOIP;
    if (gre->flags & GRE_VERSION)
        return DROP_BAD_VERSION;
    if (gre->flags & GRE_ROUTING)
        return DROP_ROUTING;
    if (gre->flags & GRE_RESERVED)
        return DROP_RESERVED_BITS;
    gre->header = gre_length(gre->flags);
    if (gre->length < gre->header)
        return DROP_TRUNCATED;
    size_t at = 4;
    if (gre->flags & GRE_CHECKSUM)
        at += 4;
    if (gre->flags & GRE_KEY) {
        gre->key = load32(gre->start + at);
        at += 4;
    }
    if (gre->flags & GRE_SEQUENCE)
        gre->sequence = load32(gre->start + at);
    return DROP_NONE;
}

static uint32_t probe(const struct ingress *in, const struct lookup_entry *wanted)
{
    const struct lookup_entry *entries = (const struct lookup_entry *)(in->lookup + 1);
    uint32_t mask = in->lookup->mask;
    uint32_t hash = MIX_SEED;
    uint32_t words[10];

    memcpy(words, wanted->local, 16);
    memcpy(words + 4, wanted->remote, 16);
    words[8] = wanted->key;
    words[9] = wanted->family | (uint32_t)wanted->kind << 8 | (uint32_t)wanted->transport << 16;
    for (size_t i = 0; i < 10; i++)
        hash = mix(hash, words[i]);
    for (uint32_t step = 0; step <= mask; step++) {
        const struct lookup_entry *entry = &entries[(hash + step) & mask];
        if (entry->tunnel == 0)
            return 0;
        if (entry->key == wanted->key && entry->family == wanted->family &&
            entry->kind == wanted->kind && entry->transport == wanted->transport &&
            !memcmp(entry->local, wanted->local, 16) && !memcmp(entry->remote, wanted->remote, 16))
            return entry->tunnel;
    }
    return 0;
}

static uint32_t look_up_kind(const struct ingress *in, const struct received *received,
                             uint8_t kind, uint32_t key)
{
    for (unsigned stage = 0; stage < STAGE_COUNT; stage++) {
        struct lookup_entry wanted = {
            .key = key, .family = received->family, .kind = kind, .transport = received->transport};
        if (!(in->lookup->stages & 1u << stage))
            continue;
        if (stage == STAGE_BOTH || stage == STAGE_LOCAL)
            memcpy(wanted.local, received->destination, 16);
        if (stage == STAGE_BOTH || stage == STAGE_REMOTE)
            memcpy(wanted.remote, received->source, 16);
        uint32_t tunnel = probe(in, &wanted);
        if (tunnel && tunnel < in->tunnel_count)
            return tunnel;
    }
    return 0;
}

static enum drop_reason look_up(const struct ingress *in, struct received *received,
                                const struct gre *gre)
{
    bool keyed = gre->flags & GRE_KEY;

    received->tunnel = look_up_kind(in, received, keyed ? KIND_KEY : KIND_NO_KEY, gre->key);
    if (received->tunnel)
        return DROP_NONE;
    received->tunnel = look_up_kind(in, received, KIND_SOME, 0);
    if (!received->tunnel)
        return DROP_NO_TUNNEL;
    if (!look_up_kind(in, received, keyed ? KIND_FOREIGN_KEY : KIND_FOREIGN_NO_KEY, gre->key))
        return DROP_KEY_MISMATCH;
    received->tunnel = 0;
    return DROP_FOREIGN;
}

/* Check the inner IP header against the protocol type and the length, and cut what trails. */
static enum drop_reason read_ip(struct view *view, size_t offset, uint8_t version)
{
    const uint8_t *ip = view->frame + offset;
    size_t available = view->length - offset;
    size_t length;

    if (available < (version == 4 ? IPV4_HEADER : IPV6_HEADER))
        return DROP_TRUNCATED;
    if (ip[0] >> 4 != version)
        return DROP_BAD_INNER;
    if (version == 4) {
        size_t header = (size_t)(ip[0] & 15) * 4;
        length = load16(ip + 2);
        if (header < IPV4_HEADER || length < header)
            return DROP_BAD_INNER;
    } else {
        length = IPV6_HEADER + (size_t)load16(ip + 4);
        if (length == IPV6_HEADER && ip[6] == IPV6_HOP_BY_HOP)
            return DROP_BAD_INNER; /* a jumbogram (RFC 2675) fits no datagram */
    }
    if (length > available)
        return DROP_BAD_INNER;
    view_ip(view, offset, version);
    view->length = offset + length;
    return DROP_NONE;
}

/* What a protocol type is that this tunnel does not carry. */
static enum drop_reason name_protocol(uint16_t protocol)
{
    switch (protocol) {
    case PROTOCOL_KEEPALIVE:
        return DROP_KEEPALIVE;
    case PROTOCOL_WCCP:
        return DROP_WCCP;
    case PROTOCOL_MPLS:
    case PROTOCOL_MPLS_MULTICAST:
        return DROP_MPLS;
    case PROTOCOL_ERSPAN_2:
    case PROTOCOL_ERSPAN_3:
        return DROP_ERSPAN;
    default:
        return DROP_UNKNOWN_PROTOCOL;
    }
}

/* What a router redirects by WCCP is an IP packet, in version 2 behind a header of four bytes; as
 * gre_parse_header() of the kernel. Only where all flags are zero. */
static enum drop_reason open_redirected(const struct tunnel_record *record,
                                        struct received *received, struct gre *gre)
{
    if (gre->protocol != PROTOCOL_WCCP || gre->flags || record->flags & ETHERNET ||
        (record->flags & PACKET_INFO && record->protocol == PROTOCOL_WCCP))
        return DROP_NONE;
    if (gre->length == gre->header)
        return DROP_TRUNCATED;
    if (gre->start[gre->header] >> 4 != 4)
        gre->header += WCCP_HEADER;
    if (gre->length < gre->header)
        return DROP_TRUNCATED;
    gre->protocol = received->family == 6 ? PROTOCOL_IPV6 : PROTOCOL_IPV4;
    received->protocol = gre->protocol;
    return DROP_NONE;
}

/* Is this a keepalive: an answer that we are to send back, GRE without content, from this end or to
 * the other? Both, but that behind a NAT either end may know itself by another address; some mean
 * the ends inside the tunnel. Delivered, it would be a packet that claims our own address.
 * wire/keepalive.py has the forms. */
static bool is_keepalive(const struct tunnel_record *record, const struct received *received,
                         const struct view *view)
{
    static const uint8_t none[4];
    const uint8_t *ip = view->frame;

    if (!view->version || view->ip || view->protocol != IP_GRE || view->fragment)
        return false;
    size_t header = ip_header_length(view), left = view->length - header;
    size_t length = view->version == 4 ? 4 : 16;
    const uint8_t *source = ip + (view->version == 4 ? 12 : 8);
    bool outside =
        view->version == received->family && (!memcmp(source, received->destination, length) ||
                                              !memcmp(source + length, received->source, length));
    bool inside =
        view->version == 4 && memcmp(record->inner, none, 4) && !memcmp(source, record->inner, 4);
    if (left < 4 || !(outside || inside))
        return false;
    uint16_t flags = load16(ip + header), protocol = load16(ip + header + 2);
    if (flags & GRE_VERSION)
        return false;
    return protocol == PROTOCOL_KEEPALIVE ||
           (view->version == 6 && protocol == PROTOCOL_IPV6 && left == gre_length(flags));
}

/* The answer to an echo request of our own, which has the tunnel's identifier and says so in the
 * first bytes of its data. Of one that was fragmented the first part is enough. wire/echo.py */
static bool is_echo_reply(const struct tunnel_record *record, const struct view *view)
{
    if (!view->version || view->ip)
        return false;
    const uint8_t *ip = view->frame;
    const uint8_t *icmp = ip + ip_header_length(view);
    size_t left = view->length - ip_header_length(view);
    bool four = view->version == 4;
    if (view->protocol != (four ? IP_ICMP : IP_ICMPV6) || (four && load16(ip + 6) & 0x1fff))
        return false;
    return left >= ECHO_LEAST && icmp[0] == (four ? ECHO_REPLY : ECHO_REPLY6) && !icmp[1] &&
           load16(icmp + 4) == record->echo && load32(icmp + 8) == ECHO_MARK;
}

static enum drop_reason read_inner(const struct tunnel_record *record, const struct gre *gre,
                                   struct view *view)
{
    enum drop_reason reason;

    *view = (struct view){.frame = gre->start + gre->header,
                          .length = gre->length - gre->header,
                          .crowded = gre->crowded};
    if (record->flags & ETHERNET) {
        if (gre->protocol != PROTOCOL_ETHERNET)
            return name_protocol(gre->protocol);
        if (view->length < ETHERNET_HEADER)
            return DROP_TRUNCATED;
        /* A switch does not judge what it carries: a malformed packet in a frame passes, and one
         * with padding behind it is not looked at for coalescing. Its flow is unknown, like a
         * fragment's: it ends the runs of its tunnel, so that no later packet overtakes it. */
        size_t length = view->length;
        size_t left = length - ETHERNET_HEADER;
        uint16_t type = load16(view->frame + 12);
        uint8_t version = type == PROTOCOL_IPV4 ? 4 : type == PROTOCOL_IPV6 ? 6 : 0;
        if (!version || left < (version == 4 ? IPV4_HEADER : IPV6_HEADER) ||
            view->frame[ETHERNET_HEADER] >> 4 != version)
            return DROP_NONE;
        view_ip(view, ETHERNET_HEADER, version);
        if (read_ip(view, ETHERNET_HEADER, version) || view->length != length) {
            view->length = length;
            view->fragment = true;
            return DROP_NONE;
        }
    } else if (record->flags & PACKET_INFO && gre->protocol == record->protocol) {
        return DROP_NONE;
    } else if (gre->protocol == PROTOCOL_IPV4) {
        if ((reason = read_ip(view, 0, 4)))
            return reason;
    } else if (gre->protocol == PROTOCOL_IPV6) {
        if ((reason = read_ip(view, 0, 6)))
            return reason;
    } else {
        return name_protocol(gre->protocol);
    }
    find_transport(view);
    return DROP_NONE;
}

/* What this tunnel does not carry may be a request for an answer all the same: who sends Ethernet
 * asks with a bare IP packet, and Huawei with a protocol type of its own. */
static bool is_bare_keepalive(const struct tunnel_record *record, const struct received *received,
                              const struct gre *gre)
{
    struct view view = {.frame = gre->start + gre->header, .length = gre->length - gre->header};
    uint8_t version = gre->protocol == PROTOCOL_IPV6 ? 6 : 4;

    if (gre->protocol != PROTOCOL_IPV4 && gre->protocol != PROTOCOL_IPV6 &&
        gre->protocol != PROTOCOL_HUAWEI)
        return false;
    if (read_ip(&view, 0, version))
        return false;
    find_transport(&view);
    return is_keepalive(record, received, &view);
}

static enum drop_reason check_checksum(const struct tunnel_record *record, const struct gre *gre)
{
    if (!(gre->flags & GRE_CHECKSUM))
        return record->flags & INPUT_CHECKSUM_REQUIRED ? DROP_CSUM_MISSING : DROP_NONE;
    if (record->flags & INPUT_CHECKSUM_REFUSED)
        return DROP_CSUM_UNEXPECTED;
    if (fold(sum_bytes(gre->start, gre->length)) == 0xffff)
        return DROP_NONE;
    /* Receive offload verifies the checksum of each packet, merges, and leaves the first packet's
     * field: it cannot be right any more. Such a packet is known by its unfinished inner checksum.
     */
    struct view view;
    if (!read_inner(record, gre, &view) && view.transport && checksum_is_partial(&view))
        return DROP_NONE;
    return DROP_CSUM_ERR;
}

/* RFC 6040 §4.2, figure 4, as the kernel's INET_ECN_decapsulate(). */
static enum drop_reason propagate_ecn(uint8_t outer_tos, struct view *view)
{
    enum { NOT_ECT = 0, ECT_1 = 1, ECT_0 = 2, CE = 3 };
    uint8_t outer = outer_tos & 3;
    uint8_t inner = view->tos & 3;
    uint8_t *ip = view->frame + view->ip;

    if (view->version == 0)
        return DROP_NONE;
    if (inner == NOT_ECT)
        return outer == CE ? DROP_ECN_ERR : DROP_NONE;
    if (inner == CE || !(outer == CE || (outer == ECT_1 && inner == ECT_0)))
        return DROP_NONE;
    view->tos = (uint8_t)((view->tos & ~3) | outer);
    if (view->version == 6) {
        ip[1] = (uint8_t)((ip[1] & 0xcf) | outer << 4);
        return DROP_NONE;
    }
    /* RFC 1624, equation 3. */
    uint16_t before = word16(ip);
    ip[1] = view->tos;
    store_checksum(ip + 10, (uint64_t)(uint16_t)~word16(ip + 10) + (uint16_t)~before + word16(ip));
    return DROP_NONE;
}

static enum drop_reason check_sequence(const struct tunnel_record *record, struct rx_state *state,
                                       const struct gre *gre, uint32_t now)
{
    if (!(record->flags & INPUT_SEQUENCE))
        return DROP_NONE;
    if (!(gre->flags & GRE_SEQUENCE))
        return DROP_SEQ_MISSING;
    return check_number(state, gre->sequence, now);
}

static enum drop_reason admit(const struct ingress *in, struct received *received,
                              struct view *view)
{
    struct gre gre = {0};
    enum drop_reason reason;

    received->tunnel = 0;
    received->protocol = 0;
    received->key = 0;
    received->inner_offset = 0;
    received->inner_length = 0;
    if ((reason = pass_outer(in, received, &gre)) || (reason = read_gre(&gre)))
        return reason;
    received->protocol = gre.protocol;
    received->key = gre.key;
    if ((reason = look_up(in, received, &gre)))
        return reason;
    const struct tunnel_record *record = &in->tunnels[received->tunnel];
    received->inner_offset = (uint32_t)(gre.start + gre.header - in->arena);
    /* The answer to a keepalive has what our request said, not what this tunnel demands. */
    if (gre.protocol == PROTOCOL_KEEPALIVE)
        return DROP_KEEPALIVE;
    if ((reason = open_redirected(record, received, &gre)) ||
        (reason = check_checksum(record, &gre)))
        return reason;
    if ((reason = read_inner(record, &gre, view))) {
        if (reason != DROP_UNKNOWN_PROTOCOL || !is_bare_keepalive(record, received, &gre))
            return reason;
        check_sequence(record, &in->states[received->tunnel], &gre, in->now);
        return DROP_KEEPALIVE;
    }
    received->inner_offset = (uint32_t)(view->frame - in->arena);
    received->inner_length = (uint32_t)view->length;
    if (is_keepalive(record, received, view) ||
        (record->flags & ECHOES && is_echo_reply(record, view))) {
        /* It has its number, and none is missing. */
        check_sequence(record, &in->states[received->tunnel], &gre, in->now);
        return DROP_KEEPALIVE;
    }
    if ((reason = propagate_ecn(received->tos, view)))
        return reason;
    if ((reason = check_sequence(record, &in->states[received->tunnel], &gre, in->now)))
        return reason;
    /* Last, so that none of the other end's numbers is missing. What is no IP has no source. */
    if (record->flags & CHECKS_SOURCES && !(record->flags & ETHERNET) && view->version &&
        !source_is_allowed(in, received->tunnel, view))
        return DROP_SPOOFED;
    return DROP_NONE;
}

void decapsulate(const struct ingress *in, size_t count, struct ingress_result *result)
{
    struct emission emission = {.in = in};

    *result = (struct ingress_result){0};
    for (size_t i = 0; i < count; i++) {
        struct received *received = &in->received[i];
        struct view view;
        enum drop_reason reason = admit(in, received, &view);
        const struct tunnel_record *record = &in->tunnels[received->tunnel];
        struct rx_state *state = &in->states[received->tunnel];
        if (!reason && record->flags & CLAMP_MSS)
            clamp_mss(&view, packet_limit(record));
        if (!reason && !emit(&emission, received->tunnel, &view))
            reason = DROP_NO_BUFS;
        received->verdict = (uint8_t)reason;
        if (reason) {
            state->rx_drops[reason]++;
            result->refused++;
        } else {
            state->rx_packets++;
            state->rx_bytes += received->inner_length;
        }
    }
    emit_end(&emission);
    result->frames = emission.tun_writes;
}
